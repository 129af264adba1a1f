package metrics

import (
	"errors"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// Daemon is the part of the running program that the metrics of a tenancy are read from.
type Daemon interface {
	freshness.StatusSource
	// RunTotals returns what the extractions of a stream did in this process, the running
	// one included.
	RunTotals(collector, stream string) run.Totals
	// LastReload returns when the settings were last loaded, and the error if that failed.
	LastReload() (at time.Time, err error)
}

// TenancyOptions configure the metrics of a tenancy.
type TenancyOptions struct {
	Name   string
	Daemon Daemon
	// Sinks returns the names of the configured destinations.
	Sinks func() []string
	// Notifications returns the numbers of notifications; nil means none.
	Notifications func() notify.Counts
}

// streamKey identifies a stream by the name of its collector and its own.
type streamKey struct{ collector, stream string }

// A Tenancy has the metrics of a tenancy that the state does not have. Its methods may be
// called concurrently.
type Tenancy struct {
	TenancyOptions
	now func() time.Time

	mu       sync.Mutex
	refused  map[streamKey]bool           // whether the vendor refused the credentials
	skipped  map[streamKey]int64          // skipped runs
	restores map[streamKey]backup.Outcome // the outcome of the restore
}

func newTenancy(o TenancyOptions, now func() time.Time) *Tenancy {
	return &Tenancy{
		TenancyOptions: o, now: now,
		refused: map[streamKey]bool{}, skipped: map[streamKey]int64{}, restores: map[streamKey]backup.Outcome{},
	}
}

// RunEnded records a run that has ended. It is a run.Runner's OnEnded.
func (t *Tenancy) RunEnded(r run.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := streamKey{r.Collector, r.Stream}
	if r.Outcome == state.Skipped { // the state does not record it
		t.skipped[key]++
		return
	}
	t.refused[key] = errors.Is(r.Err, collector.ErrRefused)
}

// RestoreEnded records the outcome of the restore of a stream. It is for backup.Restorer.
func (t *Tenancy) RestoreEnded(r backup.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.restores[streamKey{r.Collector, r.Name}] = r.Outcome
}

// statusClasses are the names of the classes of run.Totals.Statuses.
var statusClasses = [6]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// publishProcess publishes the metrics that the process itself has.
func (t *Tenancy) publishProcess(publish publisher) {
	publishReload(t.Daemon.LastReload, publish)
	var n notify.Counts
	if t.Notifications != nil {
		n = t.Notifications()
	}
	publish(notifications, float64(n.Sent), "sent")
	publish(notifications, float64(n.Failed), "failed")
	publish(notifications, float64(n.Dropped), "dropped")
	publish(waitingNotifications, float64(n.Waiting))
	for _, s := range t.Daemon.Statuses() {
		publish(interval, s.Interval().Seconds(), s.Collector)
		publish(nextRun, timestamp(s.Next()), s.Collector)
		publish(missedTicks, float64(s.Missed), s.Collector)
		for _, stream := range s.Names() {
			totals := t.Daemon.RunTotals(s.Collector, stream)
			for i, class := range statusClasses {
				publish(requests, float64(totals.Statuses[i]), s.Collector, stream, class)
			}
			publish(requestRetries, float64(totals.Retries), s.Collector, stream)
			publish(rateLimitWait, totals.Waited.Seconds(), s.Collector, stream)
		}
	}
}

// publishState publishes the metrics that are read from the state.
func (t *Tenancy) publishState(v tenancyValues, publish publisher) {
	t.publishStreams(v, publish)
	t.publishSinks(v, publish)
	publishControls(v.controls, publish)
}
