package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/testserver"
)

const (
	tenancy = "default"
	// chaosShare is the part of the time in which the daemon is killed. In the
	// rest of the time one process keeps running, so that its leaks add up.
	chaosShare = 0.6
	// waitLimit is the limit of each wait for an event that must happen. It is longer
	// than RUN_TIMEOUT and a run after that, which waits for a vendor's limit.
	waitLimit = 4 * time.Minute
)

// A soak is one run of the soak test.
type soak struct {
	opts       options
	ctx        context.Context
	dir        string
	kept       bool
	began      time.Time
	quiet      time.Time // when everything was delivered and no alert was left
	faults     *tally    // counts by kind of fault
	events     *events
	violations *findings

	vendors      *vendors
	destinations *destinations
	disk         *stateDisk
	daemon       *daemon
	reloads      *reloads
	prometheus   *prometheus
	watch        *watch
	alerts       []explainedAlert
	lastScrape   scrape // the last one before the end
}

func newSoak(ctx context.Context, o options) (_ *soak, err error) {
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.binary); err != nil {
		return nil, fmt.Errorf("%w: run `make build`", err)
	}
	dir, err := os.MkdirTemp("", "collectord-soak-*")
	if err != nil {
		return nil, err
	}
	s := &soak{opts: o, ctx: ctx, dir: dir, faults: newTally(), events: &events{}, violations: &findings{}}
	// Postgres does not run as root and has its directory there.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	for _, sub := range []string{"tmp", "servers"} {
		if err := os.Mkdir(s.file(sub), 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.setClock(0); err != nil {
		return nil, err
	}
	if s.vendors, err = newVendors(s); err != nil {
		return nil, err
	}
	if s.destinations, err = newDestinations(ctx, s); err != nil {
		s.cleanUp()
		return nil, err
	}
	if s.disk, err = newStateDisk(s); err != nil {
		s.cleanUp()
		return nil, err
	}
	s.daemon, err = newDaemon(s)
	s.reloads = &reloads{s: s, random: s.newRandom(2)}
	s.prometheus = newPrometheus(s)
	s.watch = newWatch(s)
	return s, err
}

func (s *soak) file(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// newRandom returns a random source for one part of the soak, so that no part
// depends on the speed of another.
func (s *soak) newRandom(part uint64) *rand.Rand { return rand.New(rand.NewPCG(s.opts.seed, part)) }

// keepEvidence keeps the directory for inspection.
func (s *soak) keepEvidence() {
	s.kept = true
	testserver.Keep()
}

func (s *soak) cleanUp() {
	if s.prometheus != nil {
		s.prometheus.kill()
	}
	if s.daemon != nil {
		s.daemon.ensureEnded()
	}
	if s.destinations != nil {
		s.destinations.closeProxies()
	}
	s.vendors.sim.Close()
	if s.kept && s.disk != nil && s.disk.mounted {
		fmt.Fprintln(os.Stderr, "soak: the state is in memory; when you have read it: umount", s.file("state"))
	}
	if !s.kept {
		testserver.Stop()
		var err error
		if s.disk != nil {
			err = s.disk.unmount()
		}
		if err := errors.Join(err, os.RemoveAll(s.dir)); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
		}
	}
}

// runSoak injects faults for the configured time, drains the queues, and
// returns the violations. It fails if the soak could not be carried out.
func (s *soak) runSoak() ([]string, error) {
	if err := s.runWithFaults(); err != nil {
		return nil, err
	}
	s.logProgress("no more faults; waiting until everything is delivered")
	if err := s.drainAndStop(); err != nil {
		return nil, err
	}
	s.logProgress("reading the results")
	e, err := s.gatherEvidence()
	if err != nil {
		return nil, err
	}
	return s.checkEvidence(e), nil
}

// logProgress prints the elapsed time and a message.
func (s *soak) logProgress(what string) {
	fmt.Printf("soak: %v: %s\n", time.Since(s.began).Round(time.Second), what)
}

// runWithFaults runs the daemon while vendors and destinations fail.
func (s *soak) runWithFaults() error {
	if err := s.daemon.startProcess(); err != nil {
		return err
	}
	if err := s.prometheus.start(s.opts.root); err != nil {
		return err
	}
	s.began = time.Now()
	chaos, end := s.began.Add(time.Duration(chaosShare*float64(s.opts.time))), s.began.Add(s.opts.time)
	ctx, stop := context.WithCancel(s.ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	parts := []func(context.Context){
		s.prometheus.waitForScrape, s.watch.takeSamples, s.watch.requestPages, s.vendors.injectFaults, s.destinations.injectFaults, s.postRuns,
	}
	for _, part := range parts {
		all.Go(func() { part(ctx) })
	}
	if err := s.disturbDaemon(ctx, chaos, end); err != nil {
		return err
	}
	return s.waitForAllFaults(ctx)
}

// pace returns the mean pause between two disturbances of the daemon.
func (s *soak) pace() time.Duration { return min(20*time.Second, s.opts.time/10) }

// disturbDaemon kills, stops and reloads the daemon until chaos, and only
// reloads it from then until end. Before each reload the disk of the state is full
// for a while. In a long soak S3 is down from chaos on until the alert about it fires.
func (s *soak) disturbDaemon(ctx context.Context, chaos, end time.Time) error {
	random, pace := s.newRandom(1), s.pace()
	var outage chan error // of S3, while it is down
	// On a slow machine each kind of disturbance still occurs.
	for i := 0; time.Now().Before(end) || i <= len(disturbances) || outage != nil || !s.watch.hasEnoughSamples(); i++ {
		select {
		case err := <-outage:
			if outage = nil; err != nil {
				return err
			}
		default:
		}
		if !sleepContext(ctx, pace/2+time.Duration(random.Int64N(int64(pace)))) {
			return context.Cause(s.ctx)
		}
		if in := s.daemon.current(); in == nil || in.hasEnded() {
			return errDaemonEnded
		}
		if time.Now().Before(chaos) || i < len(disturbances) {
			if err := disturbances[i%len(disturbances)](s); err != nil {
				return err
			}
			continue
		}
		if s.watch.steadySince(time.Now()) && s.opts.time >= longFrom {
			outage = make(chan error, 1)
			go func() { outage <- s.destinations.stopS3UntilAlert(ctx) }()
		}
		if err := errors.Join(s.disk.fillFor(pace/2), s.reloads.sendReload()); err != nil {
			return err
		}
	}
	return nil
}

// disturbances are what happens to the daemon, one after the other.
var disturbances = []func(*soak) error{
	func(s *soak) error { return s.restart((*daemon).killProcess, s.startWithBlockedDirectory) },
	func(s *soak) error { return s.restart((*daemon).killProcess, s.startAfterAlert) },
	func(s *soak) error { return s.restart((*daemon).stopProcess, s.daemon.startProcess) },
	func(s *soak) error { return errors.Join(s.disk.fillFor(2*time.Second), s.reloads.sendReload()) },
	(*soak).jumpClock,
	func(s *soak) error { return s.reloads.sendReload() },
	func(s *soak) error { return s.reloads.sendReload() },
}

// restart stops the daemon, changes the data of the vendors while it is not running,
// and starts it again.
func (s *soak) restart(stop func(*daemon) error, start func() error) error {
	if err := stop(s.daemon); err != nil {
		return err
	}
	for _, name := range vendorNames {
		s.vendors.changeCounts(name)
	}
	return start()
}

// startAfterAlert starts the daemon. In a long soak it waits before that, once, until
// the alert fires that it is down.
func (s *soak) startAfterAlert() error {
	if s.opts.time >= longFrom && s.faults.counts()[longDownFault] == 0 {
		if err := s.prometheus.requireFiring("CollectordDown", ""); err != nil {
			return err
		}
		s.faults.count(longDownFault, 1)
	}
	return s.daemon.startProcess()
}

// startWithBlockedDirectory starts the daemon while the directory of the files
// cannot be written, and restores the directory afterwards.
func (s *soak) startWithBlockedDirectory() error {
	began, source, away := time.Now(), s.file("source"), s.file("source.away")
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(source, away), os.WriteFile(source, nil, 0o600)); err != nil {
		return err
	}
	err := s.daemon.startProcess()
	sleepContext(s.ctx, 2*time.Second)
	s.faults.count(fileFault, 1)
	s.events.record(fileFault, "file", began, time.Now())
	return errors.Join(err, os.Remove(source), os.Rename(away, source))
}

// postRuns starts runs of the collectors that have no schedule, each time with
// new data. A collector that is off must not start.
func (s *soak) postRuns(ctx context.Context) {
	pace := min(4*time.Second, s.opts.time/20)
	for sleepContext(ctx, pace) {
		for _, name := range apiVendors {
			in := s.daemon.current()
			if in == nil || in.stopping.Load() {
				continue
			}
			off, changes := s.daemon.collectorState(name)
			if running, err := in.isCollectorRunning(ctx, name); err != nil || running {
				continue
			}
			want := http.StatusAccepted
			if off {
				want = http.StatusNotFound
			} else {
				s.vendors.changeCounts(name)
			}
			status, err := in.postAPI(ctx, "/api/v1/collectors/"+name+"/run")
			_, after := s.daemon.collectorState(name)
			if err == nil && status != want && !in.stopping.Load() && changes%2 == 0 && after == changes {
				s.violations.addf("POST run of %s: status %d, want %d", name, status, want)
			}
		}
	}
}

// waitForAllFaults waits until every kind of fault has occurred.
func (s *soak) waitForAllFaults(ctx context.Context) error {
	limit := time.Now().Add(waitLimit)
	for {
		missing := s.faults.missingKinds(s.requiredFaultKinds())
		if len(missing) == 0 {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("these faults never occurred, so they were not tested: %s", strings.Join(missing, ", "))
		}
		if !sleepContext(ctx, 200*time.Millisecond) {
			return context.Cause(s.ctx)
		}
	}
}

// sleepContext waits for d. It returns false if ctx is done first.
func sleepContext(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitUntil calls done until it returns true or waitLimit has passed. name
// describes the event in errors.
func waitUntil(ctx context.Context, name string, done func() (bool, error)) error {
	limit := time.Now().Add(waitLimit)
	for {
		ok, err := done()
		if ok {
			return err
		}
		if time.Now().After(limit) {
			return errors.Join(fmt.Errorf("%s: not within %v", name, waitLimit), err)
		}
		if !sleepContext(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}
