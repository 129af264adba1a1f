package main

import (
	"fmt"
	"slices"
	"time"
)

// idleState is the resource use of the daemon while it is idle.
type idleState struct{ files, goroutines, children, postgres int }

// Slack between two idle states, for a connection that is kept open for a while
// and for goroutines of the runtime.
const (
	slackFiles      = 4
	slackGoroutines = 8
)

// drainAndStop removes all faults, waits until nothing is queued, runs every
// collector twice more, and stops the daemon.
func (s *soak) drainAndStop() error {
	s.destinations.clearFaults()
	last := s.daemon.settings.clone()
	last.seconds, last.collectors, last.off = nil, "", nil
	s.reloads.endSwitching()
	if err := s.daemon.applySettings(last); err != nil {
		return err
	}
	in := s.daemon.current()
	if err := s.waitUntilDrained(in); err != nil {
		return err
	}
	s.logProgress("everything is delivered; running all collectors twice")
	first, err := s.runAllCollectors(in, vendorNames)
	if err != nil {
		return err
	}
	// Resources that are kept for a while after work, such as a connection, may
	// still be released.
	grown := ""
	withoutFeeds := slices.DeleteFunc(slices.Clone(vendorNames), isFeed)
	second, err := s.runAllCollectors(in, withoutFeeds)
	if err != nil {
		return err
	}
	err = waitUntil(s.ctx, "idle", func() (bool, error) {
		grown = second.growthSince(first)
		if grown == "" {
			return true, nil
		}
		second, err = s.measureIdle(in)
		return false, err
	})
	if s.ctx.Err() != nil {
		return err
	}
	if grown != "" {
		s.violations.addf("leaked between two runs of all collectors without faults: %s", grown)
	}
	if second.children > 0 {
		s.violations.addf("the daemon has %d children", second.children)
	}
	if err := s.checkPostgresIdle(); err != nil {
		return err
	}
	if s.lastScrape, err = in.scrapeMetrics(s.ctx); err != nil {
		return err
	}
	s.logProgress("waiting until no alert is left")
	s.prometheus.requireQuiet()
	s.quiet = time.Now()
	return s.daemon.stopProcess()
}

// waitUntilDrained waits until no collector is running and nothing is queued.
func (s *soak) waitUntilDrained(in *instance) error {
	retried := time.Time{}
	return waitUntil(s.ctx, "all deliveries", func() (bool, error) {
		if in.hasEnded() {
			return true, errDaemonEnded
		}
		if running, err := in.isCollectorRunning(s.ctx, ""); err != nil || running {
			return false, err
		}
		n, err := in.queuedDeliveries(s.ctx)
		if err != nil || n == 0 {
			return err == nil, err
		}
		if time.Since(retried) > 5*time.Second {
			retried = time.Now()
			if _, err := in.postAPI(s.ctx, "/api/v1/deliveries/retry"); err != nil {
				return false, err
			}
		}
		return false, fmt.Errorf("%d deliveries are queued", n)
	})
}

// runAllCollectors runs every collector without faults, those of changed with new data,
// and returns the idle state afterwards.
func (s *soak) runAllCollectors(in *instance, changed []string) (idleState, error) {
	for _, name := range vendorNames {
		if slices.Contains(changed, name) {
			s.vendors.setUsualCounts(name)
		}
		status, err := in.postAPI(s.ctx, "/api/v1/collectors/"+name+"/run")
		if err != nil || status != 202 {
			return idleState{}, fmt.Errorf("POST run of %s: status %d: %w", name, status, err)
		}
	}
	if err := s.waitUntilDrained(in); err != nil {
		return idleState{}, err
	}
	return s.measureIdle(in)
}

func (s *soak) measureIdle(in *instance) (idleState, error) {
	m, err := s.watch.takeSample(s.ctx, in)
	return idleState{files: m.files, goroutines: m.goroutines, children: m.children, postgres: m.postgres}, err
}

// growthSince describes what has grown beyond the slack since an earlier state.
// It returns "" if nothing has.
func (i idleState) growthSince(before idleState) string {
	switch {
	case i.files > before.files+slackFiles:
		return fmt.Sprintf("%d open files, %d before", i.files, before.files)
	case i.goroutines > before.goroutines+slackGoroutines:
		return fmt.Sprintf("%d goroutines, %d before", i.goroutines, before.goroutines)
	case i.postgres > 0:
		return fmt.Sprintf("%d connections to Postgres", i.postgres)
	}
	return ""
}

// checkPostgresIdle checks that the idle daemon holds nothing in Postgres.
func (s *soak) checkPostgresIdle() error {
	conn, err := s.destinations.connectDirectly(s.ctx)
	if err != nil {
		return err
	}
	defer conn.Close(s.ctx)
	for what, query := range map[string]string{
		"idle transactions":     `SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'`,
		"advisory locks":        `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`,
		"temporary tables":      `SELECT count(*) FROM pg_class WHERE relpersistence = 't'`,
		"prepared transactions": `SELECT count(*) FROM pg_prepared_xacts`,
	} {
		n := 0
		if err := conn.QueryRow(s.ctx, query).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			s.violations.addf("Postgres: %d %s are left", n, what)
		}
	}
	return nil
}
