package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	// rest one process lives on, so that what it leaks adds up.
	chaosShare = 0.6
	// patience bounds each wait for something that must come.
	patience = 2 * time.Minute
)

// A soak is one run of everything.
type soak struct {
	opts   options
	ctx    context.Context
	dir    string
	kept   bool
	began  time.Time
	faults *tally // faults by kind
	seen   *findings

	vendors *vendors
	dest    *destinations
	daemon  *daemon
	watch   *watch
	last    scrape // the last one before the end
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
	s := &soak{opts: o, ctx: ctx, dir: dir, faults: newTally(), seen: &findings{}}
	// Postgres, which is not root, has its folder in it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	for _, sub := range []string{"tmp", "servers"} {
		if err := os.Mkdir(s.file(sub), 0o755); err != nil {
			return nil, err
		}
	}
	if s.vendors, err = newVendors(o.seed, s.faults); err != nil {
		return nil, err
	}
	if s.dest, err = newDestinations(ctx, s); err != nil {
		s.close()
		return nil, err
	}
	s.daemon, err = newDaemon(s)
	s.watch = newWatch(s)
	return s, err
}

func (s *soak) file(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// chance is a source of chance of its own for each part, so that none depends
// on the pace of another.
func (s *soak) chance(part uint64) *rand.Rand { return rand.New(rand.NewPCG(s.opts.seed, part)) }

// keep leaves the folder and all in it for a look.
func (s *soak) keep() {
	s.kept = true
	testserver.Keep()
}

func (s *soak) close() {
	if s.daemon != nil {
		s.daemon.end()
	}
	if s.dest != nil {
		s.dest.close()
	}
	s.vendors.sim.Close()
	if !s.kept {
		testserver.Stop()
		if err := os.RemoveAll(s.dir); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
		}
	}
}

// soak makes trouble for the time wanted, lets everything settle, and returns
// the violations. The error says why it could not be carried out.
func (s *soak) soak() ([]string, error) {
	if err := s.trouble(); err != nil {
		return nil, err
	}
	s.say("the trouble is over; waiting until all is delivered")
	if err := s.settle(); err != nil {
		return nil, err
	}
	s.say("reading what there is")
	e, err := s.gather()
	if err != nil {
		return nil, err
	}
	return s.check(e), nil
}

// say tells how far it is.
func (s *soak) say(what string) {
	fmt.Printf("soak: %v: %s\n", time.Since(s.began).Round(time.Second), what)
}

// trouble runs the daemon while everything around it fails.
func (s *soak) trouble() error {
	if err := s.daemon.start(); err != nil {
		return err
	}
	s.began = time.Now()
	chaos, end := s.began.Add(time.Duration(chaosShare*float64(s.opts.time))), s.began.Add(s.opts.time)
	ctx, stop := context.WithCancel(s.ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, part := range []func(context.Context){s.watch.measure, s.watch.scrapes, s.vendors.misbehave, s.dest.misbehave, s.post} {
		all.Go(func() { part(ctx) })
	}
	if err := s.upsets(ctx, chaos, end); err != nil {
		return err
	}
	return s.untilAllStruck(ctx)
}

// upsets kills, stops and reloads the daemon until chaos ends, and from then
// on to the end only reloads it.
func (s *soak) upsets(ctx context.Context, chaos, end time.Time) error {
	random := s.chance(1)
	pace := min(20*time.Second, s.opts.time/10)
	for i := 0; time.Now().Before(end); i++ {
		if !pause(ctx, pace/2+time.Duration(random.Int64N(int64(pace)))) {
			return context.Cause(s.ctx)
		}
		if in := s.daemon.current(); in == nil || in.gone() {
			return errGone
		}
		if time.Now().After(chaos) {
			s.watch.steadySince(chaos)
			if err := s.daemon.reload(); err != nil {
				return err
			}
			continue
		}
		if err := s.upset(i); err != nil {
			return err
		}
	}
	return nil
}

// upset ends the daemon one way or the other, changes what the vendors have
// while nobody reads it, and starts the daemon again.
func (s *soak) upset(i int) error {
	var err error
	switch i % 4 {
	case 2:
		err = s.daemon.stop()
	case 3:
		return s.daemon.reload()
	default:
		err = s.daemon.kill()
	}
	if err != nil {
		return err
	}
	for _, name := range vendorNames {
		s.vendors.change(name)
	}
	if i%4 == 0 {
		return s.blockedFolder()
	}
	return s.daemon.start()
}

// blockedFolder starts the daemon while the folder of the files cannot be
// written, and gives it back.
func (s *soak) blockedFolder() error {
	source, away := s.file("source"), s.file("source.away")
	if err := os.MkdirAll(source, 0o755); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(source, away), os.WriteFile(source, nil, 0o600)); err != nil {
		return err
	}
	err := s.daemon.start()
	pause(s.ctx, 2*time.Second)
	s.faults.add("file: no folder", 1)
	return errors.Join(err, os.Remove(source), os.Rename(away, source))
}

// post starts the collectors that have no schedule, each time with other data.
func (s *soak) post(ctx context.Context) {
	pace := min(4*time.Second, s.opts.time/20)
	for pause(ctx, pace) {
		for _, name := range posted {
			in := s.daemon.current()
			if in == nil || in.leaving.Load() {
				continue
			}
			if running, err := in.running(ctx, name); err != nil || running {
				continue
			}
			s.vendors.change(name)
			status, err := in.post(ctx, "/api/v1/collectors/"+name+"/run")
			if err == nil && status != 202 && !in.leaving.Load() {
				s.seen.add("POST run of %s: status %d, want 202", name, status)
			}
		}
	}
}

// untilAllStruck goes on until every kind of fault has struck.
func (s *soak) untilAllStruck(ctx context.Context) error {
	limit := time.Now().Add(patience)
	for {
		missing := s.faults.missing(allKinds())
		if len(missing) == 0 {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("these faults never struck, so that nothing is known of them: %s", strings.Join(missing, ", "))
		}
		if !pause(ctx, 200*time.Millisecond) {
			return context.Cause(s.ctx)
		}
	}
}

// pause waits, and returns false when ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await asks until done says yes; what is the name of what is awaited.
func await(ctx context.Context, what string, done func() (bool, error)) error {
	limit := time.Now().Add(patience)
	for {
		ok, err := done()
		if ok {
			return err
		}
		if time.Now().After(limit) {
			return errors.Join(fmt.Errorf("%s: not within %v", what, patience), err)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}
