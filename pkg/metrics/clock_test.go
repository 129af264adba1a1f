package metrics

import (
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// TestDeliveriesFromTheFuture checks that deliveries that were recorded with a clock that
// was ahead do not hide later ones: the alert about a failing destination compares these
// times.
func TestDeliveriesFromTheFuture(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newFixture(t, dir).addSuccess()
	ahead, err := local.Open(t.Context(), dir, local.Options{Now: func() time.Time { return noon.AddDate(1, 0, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := ahead.Queue.Next(t.Context(), "acme")
	if err != nil || len(queue) != 2 {
		t.Fatal(queue, err)
	}
	err = errors.Join(ahead.Queue.MarkDelivered(t.Context(), queue[0]),
		ahead.Queue.ScheduleRetry(t.Context(), queue[1], errors.New("no such bucket"), state.Transient, noon), ahead.Close())
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, dir)
	f.assertLines(f.scrape(),
		`collectord_sink_last_success_timestamp_seconds{sink="file",tenancy="acme"} 0`,
		`collectord_sink_last_failure_timestamp_seconds{sink="s3",tenancy="acme"} 0`)
	if err := f.state.Queue.ScheduleRetry(t.Context(), queue[1], errors.New("no such bucket"), state.Transient, noon); err != nil {
		t.Fatal(err)
	}
	f.assertLines(f.scrape(), `collectord_sink_last_failure_timestamp_seconds{sink="s3",tenancy="acme"} 1.7723664e+09`)
}
