package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// Kinds of reloads.
const (
	reloadFault      = "daemon: SIGHUP"
	badReloadFault   = "daemon: SIGHUP with bad settings"
	withdrawnFirst   = "key rotated: the old one withdrawn before the reload"
	withdrawnLater   = "key rotated: the old one withdrawn after the reload"
	switchedOffFault = "collector and stream switched off"
	switchedOnFault  = "collector and stream switched on again"
	// reloadKinds is the number of kinds of reloads, see sendReload.
	reloadKinds = 4
)

// keyVariables are the variables with the keys that are rotated.
var keyVariables = map[string]string{
	"azure_entra": "AZURE_CLIENT_SECRET", "crowdstrike": "FALCON_SECRET", "github": "GITHUB_TOKEN", "intune": "INTUNE_CLIENT_SECRET", "knowbe4": "KNOWBE4_TOKEN",
	"mde": "MDE_CLIENT_SECRET", "nvd": "NVD_API_KEY", "okta": "OKTA_TOKEN", "snyk": "SNYK_TOKEN", "tenable": "TIO_SECRET_KEY",
}

// keyedVendors are the vendors with a key.
var keyedVendors = slices.Sorted(maps.Keys(keyVariables))

// scheduleSeconds are the usual intervals of the collectors with a schedule.
var scheduleSeconds = map[string]int{
	"crowdstrike": 6, "github": 7, "okta": 3, "snyk": 5,
	"azure_entra": 20, "cisa_kev": 9, "domains": 12, "endoflife": 13, "epss": 11, "intune": 19, "mde": 15, "nvd": 14, "osv": 12,
}

// settings are those that the file .env has, which a reload reads.
type settings struct {
	keys       map[string]string // by vendor
	collectors string            // COLLECTORS
	off        []string          // the streams that it leaves out
	seconds    map[string]int    // the intervals of the schedules, by vendor
	parallel   string
	retryWait  string
}

// text returns the content of the file.
func (s *settings) text() string {
	lines := []string{
		"SCHEDULE=off", "SCHEDULE_RETRY=0", "MAX_PARALLEL_RUNS=" + s.parallel, "STORE_RETRY_MAX_WAIT=" + s.retryWait, "COLLECTORS=" + s.collectors,
	}
	for vendor, key := range s.keys {
		lines = append(lines, keyVariables[vendor]+"="+key)
	}
	for vendor := range s.seconds {
		lines = append(lines, "SCHEDULE_"+strings.ToUpper(vendor)+"="+s.schedule(vendor))
	}
	return strings.Join(lines, "\n") + "\n"
}

// schedule returns the schedule of a vendor's streams.
func (s *settings) schedule(vendor string) string {
	if n := s.seconds[vendor]; n > 0 {
		return fmt.Sprintf("@every %ds", n)
	}
	return "off"
}

// A rotation is the replacement of a key in the settings.
type rotation struct {
	vendor, old         string
	withdrawn, reloaded time.Time
}

// A switching is the time in which streams were off.
type switching struct {
	streams  []string
	off, on  time.Time
	hadFiles []string // paths of the streams' files at the beginning
}

// reloads changes the settings of the daemon while it runs.
type reloads struct {
	s         *soak
	random    *rand.Rand
	n         int
	rotations []rotation
	switches  []switching // the last one has no end while streams are off
}

// sendReload changes the settings and sends SIGHUP. Three of four reloads rotate a key,
// one of these with another setting that is not valid, and one switches streams off, which
// the next one switches on again.
func (r *reloads) sendReload() error {
	r.n++
	d := r.s.daemon
	changed := d.settings.clone()
	changed.parallel = fmt.Sprint(5 + r.n%3)
	changed.retryWait = fmt.Sprintf("%ds", 2+r.n/2%2)
	for vendor := range changed.seconds {
		changed.seconds[vendor] = scheduleSeconds[vendor] + r.random.IntN(2)
	}
	switch r.n % reloadKinds {
	case 1:
		return r.rotateKey(changed, true)
	case 2:
		return r.reloadBadSettings(changed)
	case 3:
		return r.switchOff(changed)
	}
	return r.switchOn(changed)
}

// rotateKey replaces the key of a vendor. The vendor withdraws the old one before the
// reload or after it.
func (r *reloads) rotateKey(changed settings, before bool) error {
	vendor := keyedVendors[r.random.IntN(len(keyedVendors))]
	host := r.s.vendors.sim.Host(vendor)
	one := rotation{vendor: vendor, old: changed.keys[vendor]}
	next := fmt.Sprintf("soak-key-%s-%04d", vendor, r.n)
	r.s.daemon.addSecret(next)
	changed.keys[vendor] = next
	host.AcceptKey(next)
	withdraw := func() {
		one.withdrawn = time.Now()
		host.WithdrawKey(one.old)
	}
	kind := withdrawnLater
	if before {
		kind = withdrawnFirst
		withdraw()
		sleepContext(r.s.ctx, r.s.pace()/2)
	}
	if err := r.s.daemon.applySettings(changed); err != nil {
		return err
	}
	one.reloaded = time.Now()
	if !before {
		sleepContext(r.s.ctx, r.s.pace()/4)
		withdraw()
	}
	r.rotations = append(r.rotations, one)
	r.s.events.record(withdrawnEvent, vendor, one.withdrawn, time.Now())
	r.s.faults.count(kind, 1)
	return nil
}

// badParallel is a value of MAX_PARALLEL_RUNS that is not valid.
const badParallel = "many"

// reloadBadSettings rotates a key together with a setting that is not valid, and waits
// until the alert about that fires.
func (r *reloads) reloadBadSettings(changed settings) error {
	changed.parallel = badParallel
	if err := r.rotateKey(changed, true); err != nil {
		return err
	}
	if err := r.s.prometheus.requireFiring("CollectordReloadFailed", ""); err != nil {
		return err
	}
	return r.s.daemon.writeSettings(r.s.daemon.settings) // it would not start with the invalid one
}

// switchOff excludes a collector, and a stream of another one.
func (r *reloads) switchOff(changed settings) error {
	vendor := vendorNames[r.random.IntN(len(vendorNames))]
	one := switching{streams: slices.Clone(streamsByVendor[vendor])}
	names := []string{vendor}
	for _, other := range r.random.Perm(len(vendorNames)) {
		streams := streamsByVendor[vendorNames[other]]
		if vendorNames[other] == vendor || len(streams) == 1 {
			continue
		}
		stream := streams[r.random.IntN(len(streams))]
		one.streams, names = append(one.streams, stream), append(names, stream)
		break
	}
	changed.off = one.streams
	changed.collectors = "-" + strings.Join(names, ",-")
	if r.random.IntN(2) == 0 { // the same with the names of those that are on
		changed.collectors = strings.Join(slices.DeleteFunc(allStreams(), func(stream string) bool {
			return slices.Contains(one.streams, stream)
		}), ",")
	}
	for _, stream := range one.streams {
		if path := r.s.file("source", stream, tenancy+".json"); hasContent(path) {
			one.hadFiles = append(one.hadFiles, path)
		}
	}
	if err := r.s.daemon.applySettings(changed); err != nil {
		return err
	}
	one.off = time.Now()
	r.switches = append(r.switches, one)
	r.s.faults.count(switchedOffFault, 1)
	return nil
}

// switchOn switches everything on again and rotates a key.
func (r *reloads) switchOn(changed settings) error {
	r.endSwitching()
	changed.collectors, changed.off = "", nil
	if err := r.rotateKey(changed, false); err != nil {
		return err
	}
	r.s.faults.count(switchedOnFault, 1)
	return nil
}

// endSwitching records that the streams that are off may run from now on, and checks
// that what was stored has stayed.
func (r *reloads) endSwitching() {
	if len(r.switches) == 0 || !r.switches[len(r.switches)-1].on.IsZero() {
		return
	}
	last := &r.switches[len(r.switches)-1]
	last.on = time.Now()
	for _, stream := range last.streams {
		r.s.events.record(offEvent, stream, last.off, last.on)
	}
	for _, path := range last.hadFiles {
		if !hasContent(path) {
			r.s.violations.addf("%s is gone, although its stream was only switched off", path)
		}
	}
}

func hasContent(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// clone returns a copy.
func (s *settings) clone() settings {
	c := *s
	c.keys, c.seconds = maps.Clone(s.keys), maps.Clone(s.seconds)
	return c
}

// writeSettings writes the file of settings that a start and a reload read.
func (d *daemon) writeSettings(s settings) error {
	return os.WriteFile(d.s.file(".env"), []byte(s.text()), 0o600)
}

// applySettings makes the daemon reload settings, and checks that they are in force. An
// invalid one must be reported and stay as it was.
func (d *daemon) applySettings(changed settings) error {
	bad, began := changed.parallel == badParallel, time.Now()
	in := d.current()
	if in == nil {
		return errors.New("the daemon is not running")
	}
	if err := d.writeSettings(changed); err != nil {
		return err
	}
	d.countChange()
	defer d.countChange()
	if err := in.reloadSettings(d.s.ctx, !bad); err != nil {
		return err
	}
	kind := reloadFault
	if bad {
		kind, d.badSince, changed.parallel = badReloadFault, began, d.settings.parallel
	} else {
		d.endBadSettings()
	}
	d.s.faults.count(kind, 1)
	d.mu.Lock()
	d.settings = changed
	d.mu.Unlock()
	return d.checkInForce(d.s.ctx, in)
}

// checkInForce checks that the daemon has the schedules and the streams of the
// settings.
func (d *daemon) checkInForce(ctx context.Context, in *instance) error {
	streams, err := in.streamStatuses(ctx)
	if err != nil {
		return err
	}
	seen := map[string]streamStatus{}
	for _, one := range streams {
		seen[one.Stream] = one
	}
	for _, vendor := range vendorNames {
		for _, stream := range streamsByVendor[vendor] {
			got, want := seen[stream], !slices.Contains(d.settings.off, stream)
			if got.On != want {
				d.s.violations.addf("%s: after a reload with COLLECTORS=%s it is on: %v, want %v", stream, d.settings.collectors, got.On, want)
			} else if want && got.Schedule != d.settings.schedule(vendor) {
				d.s.violations.addf("%s: after a reload its schedule is %q, want %q", stream, got.Schedule, d.settings.schedule(vendor))
			}
		}
	}
	return nil
}
