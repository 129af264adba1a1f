package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/schedule"
)

// systemd is the service manager, when there is one: all calls do nothing
// otherwise.
type systemd struct {
	log *zap.Logger
	// watchdog is how long the manager waits for a sign of life; 0 for ever.
	watchdog time.Duration

	mu     sync.Mutex
	status string // the last one sent
	failed bool   // it was logged that nobody listens
}

func newSystemd(log *zap.Logger) *systemd {
	s := &systemd{log: log}
	watchdog, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("WATCHDOG_USEC cannot be read; the watchdog is not fed", zap.Error(err))
		return s
	}
	s.watchdog = watchdog
	return s
}

func (s *systemd) send(lines ...string) {
	_, err := sdnotify.SdNotify(false, strings.Join(lines, "\n"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.failed {
		s.failed = true
		s.log.Warn("telling systemd", zap.Error(err))
	}
}

// ready tells that the daemon is, and what it will do next.
func (s *systemd) ready(standings []schedule.Standing) {
	s.send(sdnotify.SdNotifyReady, "STATUS="+statusText(standings, time.Now()))
}

// round tells that the scheduler's loop went round.
func (s *systemd) round(standings []schedule.Standing) {
	var lines []string
	if s.watchdog > 0 {
		lines = append(lines, sdnotify.SdNotifyWatchdog)
	}
	status := statusText(standings, time.Now())
	s.mu.Lock()
	if status != s.status {
		s.status = status
		lines = append(lines, "STATUS="+status)
	}
	s.mu.Unlock()
	if len(lines) > 0 {
		s.send(lines...)
	}
}

// reloading tells that the settings are read anew; ready ends it.
func (s *systemd) reloading() {
	s.send(sdnotify.SdNotifyReloading, sdnotify.SdNotifyMonotonicUsec())
}

// starting asks for more time until ready, such as for a restore.
func (s *systemd) starting(status string, more time.Duration) {
	s.send("STATUS="+status, extend(more))
}

// endTime is what ending takes beyond the grace: cancelled runs, deliveries
// and the database.
const endTime = 30 * time.Second

// stopping tells that running work has the grace to end, and feeds the
// watchdog, which the scheduler no longer does, until the func is called.
func (s *systemd) stopping(grace time.Duration) (stopped func()) {
	s.send(sdnotify.SdNotifyStopping, "STATUS=stopping", extend(grace+endTime))
	if s.watchdog == 0 {
		return func() {}
	}
	done := make(chan struct{})
	deadline := time.Now().Add(grace + endTime)
	go func() {
		tick := time.NewTicker(s.watchdog / 3)
		defer tick.Stop()
		for time.Now().Before(deadline) {
			select {
			case <-done:
				return
			case <-tick.C:
				s.send(sdnotify.SdNotifyWatchdog)
			}
		}
	}()
	return func() { close(done) }
}

func extend(more time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", more.Microseconds())
}

// statusText is the one line that systemctl status shows.
func statusText(standings []schedule.Standing, now time.Time) string {
	words := []string{fmt.Sprintf("%d collectors", len(standings))}
	if len(standings) == 1 {
		words[0] = "1 collector"
	}
	var running []string
	var next schedule.Standing
	for _, st := range standings {
		if st.Running {
			running = append(running, st.Collector)
		}
		if !st.Next.IsZero() && (next.Next.IsZero() || st.Next.Before(next.Next)) {
			next = st
		}
	}
	if len(running) > 0 {
		words = append(words, "running "+strings.Join(running, " "))
	}
	switch at := next.Next; {
	case at.IsZero():
		words = append(words, "none scheduled")
	case at.Sub(now) < 24*time.Hour:
		words = append(words, "next "+next.Collector+" "+at.Format("15:04"))
	default:
		words = append(words, "next "+next.Collector+" "+at.Format("Jan 2 15:04"))
	}
	return strings.Join(words, ", ")
}
