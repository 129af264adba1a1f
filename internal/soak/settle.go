package main

import (
	"errors"
	"fmt"
	"time"
)

// idle is how the daemon stands when it has nothing to do.
type idle struct{ files, goroutines, children, postgres int }

// Slack between two idle moments: a connection that is kept for a while, the
// runtime's own goroutines.
const (
	slackFiles      = 4
	slackGoroutines = 8
)

// settle ends all trouble, waits until nothing is queued, has every collector
// run once more, twice, and stops the daemon.
func (s *soak) settle() error {
	s.vendors.behave()
	s.dest.behave()
	if err := s.daemon.settings("", false); err != nil {
		return err
	}
	in := s.daemon.current()
	if in == nil {
		return errors.New("the daemon does not run any more")
	}
	if err := in.hangUp(s.ctx, true); err != nil {
		return err
	}
	if err := s.drained(in); err != nil {
		return err
	}
	first, err := s.round(in)
	if err != nil {
		return err
	}
	// What is kept for a while after work, such as a connection, may still go.
	grown := ""
	second, err := s.round(in)
	if err != nil {
		return err
	}
	err = await(s.ctx, "idle", func() (bool, error) {
		grown = second.above(first)
		if grown == "" {
			return true, nil
		}
		second, err = s.idleNow(in)
		return false, err
	})
	if s.ctx.Err() != nil {
		return err
	}
	if grown != "" {
		s.seen.add("leaked between two rounds of all collectors without faults: %s", grown)
	}
	if second.children > 0 {
		s.seen.add("the daemon has %d children", second.children)
	}
	if err := s.postgresIsFree(); err != nil {
		return err
	}
	if s.last, err = in.metrics(s.ctx); err != nil {
		return err
	}
	return s.daemon.stop()
}

// drained waits until no collector runs and nothing is queued.
func (s *soak) drained(in *instance) error {
	retried := time.Time{}
	return await(s.ctx, "all deliveries", func() (bool, error) {
		if in.gone() {
			return true, errGone
		}
		if running, err := in.running(s.ctx, ""); err != nil || running {
			return false, err
		}
		n, err := in.queued(s.ctx)
		if err != nil || n == 0 {
			return err == nil, err
		}
		if time.Since(retried) > 5*time.Second {
			retried = time.Now()
			if _, err := in.post(s.ctx, "/api/v1/deliveries/retry"); err != nil {
				return false, err
			}
		}
		return false, fmt.Errorf("%d are queued", n)
	})
}

// round runs every collector without faults and returns how the daemon stands
// afterwards.
func (s *soak) round(in *instance) (idle, error) {
	for _, name := range vendorNames {
		s.vendors.usual(name)
		status, err := in.post(s.ctx, "/api/v1/collectors/"+name+"/run")
		if err != nil || status != 202 {
			return idle{}, fmt.Errorf("POST run of %s: status %d: %w", name, status, err)
		}
	}
	if err := s.drained(in); err != nil {
		return idle{}, err
	}
	return s.idleNow(in)
}

func (s *soak) idleNow(in *instance) (idle, error) {
	m, err := s.watch.sample(s.ctx, in)
	return idle{m.files, m.goroutines, m.children, m.postgres}, err
}

// above says in what i stands above an earlier moment; "" when in nothing.
func (i idle) above(before idle) string {
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

// postgresIsFree looks for what the daemon holds in Postgres while idle.
func (s *soak) postgresIsFree() error {
	conn, err := s.dest.connect(s.ctx)
	if err != nil {
		return err
	}
	defer conn.Close(s.ctx)
	for what, query := range map[string]string{
		"transactions that idle": `SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'`,
		"advisory locks":         `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`,
		"temporary tables":       `SELECT count(*) FROM pg_class WHERE relpersistence = 't'`,
		"prepared transactions":  `SELECT count(*) FROM pg_prepared_xacts`,
	} {
		n := 0
		if err := conn.QueryRow(s.ctx, query).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			s.seen.add("Postgres: %d %s are left", n, what)
		}
	}
	return nil
}
