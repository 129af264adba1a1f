// Package systemd talks to the service manager: it reports the state of the
// service, keeps its watchdog satisfied, and gives log lines the priorities of the
// journal.
package systemd

import (
	"fmt"
	"strings"
	"sync"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// A Notifier reports the state of the service to systemd. All methods do nothing
// when systemd does not run the program. They are safe for concurrent use.
type Notifier struct {
	log      *zap.Logger
	watchdog time.Duration

	mu         sync.Mutex
	lastStatus string
	failed     bool // a failure has been logged
}

// NewNotifier returns a Notifier for the environment that systemd has set.
func NewNotifier(log *zap.Logger) *Notifier {
	n := &Notifier{log: log}
	watchdog, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("WATCHDOG_USEC is invalid; the watchdog is not notified", zap.Error(err))
		return n
	}
	n.watchdog = watchdog
	return n
}

// WatchdogTimeout returns the time without a heartbeat after which systemd
// restarts the service; 0 when there is no watchdog.
func (n *Notifier) WatchdogTimeout() time.Duration { return n.watchdog }

func (n *Notifier) send(lines ...string) {
	_, err := sdnotify.SdNotify(false, strings.Join(lines, "\n"))
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil && !n.failed {
		n.failed = true
		n.log.Warn("notifying systemd", zap.Error(err))
	}
}

// Ready reports that the service is ready, or that a reload has ended. The status
// is the line that systemctl status shows.
func (n *Notifier) Ready(status string) {
	n.send(sdnotify.SdNotifyReady, "STATUS="+status)
}

// Heartbeat notifies the watchdog and updates the status when it has changed.
func (n *Notifier) Heartbeat(status string) {
	var lines []string
	if n.watchdog > 0 {
		lines = append(lines, sdnotify.SdNotifyWatchdog)
	}
	n.mu.Lock()
	if status != n.lastStatus {
		n.lastStatus = status
		lines = append(lines, "STATUS="+status)
	}
	n.mu.Unlock()
	if len(lines) > 0 {
		n.send(lines...)
	}
}

// Reloading reports that the service is reloading its settings; Ready ends that.
func (n *Notifier) Reloading() {
	n.send(sdnotify.SdNotifyReloading, sdnotify.SdNotifyMonotonicUsec())
}

const (
	// startExtension is how much more time a start asks for at once, and extendEvery
	// how often it does.
	startExtension = time.Minute
	extendEvery    = 15 * time.Second
)

// Starting sets the status and extends the timeout of the start until the returned
// function is called, which may be more than once.
func (n *Notifier) Starting(status string) (started func()) {
	n.send("STATUS="+status, extendTimeout(startExtension))
	done := make(chan struct{})
	var extending sync.WaitGroup
	extending.Go(func() {
		tick := time.NewTicker(extendEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				n.send(extendTimeout(startExtension))
			}
		}
	})
	return sync.OnceFunc(func() {
		close(done)
		extending.Wait()
	})
}

// Status sets the line that systemctl status shows.
func (n *Notifier) Status(status string) { n.send("STATUS=" + status) }

// shutdownTime is the time that the shutdown takes after the grace period: for
// cancelled runs, deliveries and the database.
const shutdownTime = 30 * time.Second

// Stopping reports that the service is stopping and may take the grace period for
// it. It notifies the watchdog until the returned function is called.
func (n *Notifier) Stopping(grace time.Duration) (stopped func()) {
	n.send(sdnotify.SdNotifyStopping, "STATUS=stopping", extendTimeout(grace+shutdownTime))
	if n.watchdog == 0 {
		return func() {}
	}
	done := make(chan struct{})
	deadline := time.Now().Add(grace + shutdownTime)
	go func() {
		tick := time.NewTicker(n.watchdog / 3)
		defer tick.Stop()
		for time.Now().Before(deadline) {
			select {
			case <-done:
				return
			case <-tick.C:
				n.send(sdnotify.SdNotifyWatchdog)
			}
		}
	}()
	return func() { close(done) }
}

func extendTimeout(more time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", more.Microseconds())
}
