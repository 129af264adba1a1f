package run

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
)

// TestTotalsNeverDecrease checks the totals while an extraction runs, when it starts over,
// when it has ended, and while another one runs.
func TestTotalsNeverDecrease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a ActiveRuns
		assertTotals := func(when string, want Totals) {
			t.Helper()
			if diff := cmp.Diff(want, a.Totals("okta", "okta_users")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		begin := func(stream string) (*collector.Stats, func()) {
			r := &ActiveRun{Collector: "okta", Stream: stream, Stats: new(collector.Stats)}
			return r.Stats, a.addRun(r)
		}
		assertTotals("before the first run", Totals{})
		stats, end := begin("okta_users")
		_, endOther := begin("okta_groups")
		stats.CountRequest("GET /a", 1)
		stats.CountResponse(429)
		endWait := stats.BeginWait(collector.Wait{Until: time.Now().Add(time.Hour), RateLimit: true})
		time.Sleep(time.Minute)
		assertTotals("during a wait", Totals{Statuses: [6]int64{4: 1}, Waited: time.Minute})
		time.Sleep(time.Minute)
		endWait()
		stats.CountRequest("GET /a", 2)
		stats.CountResponse(200)
		stats.CountBatch(5, 100)
		stats.ResetBatches()
		want := Totals{Statuses: [6]int64{2: 1, 4: 1}, Retries: 1, Waited: 2 * time.Minute}
		assertTotals("when the extraction starts over", want)
		end()
		endOther()
		assertTotals("after the run", want)
		again, end := begin("okta_users")
		again.CountResponse(200)
		want.Statuses[2]++
		assertTotals("during the next run", want)
		end()
		assertTotals("after the next run", want)
	})
}

// TestTotalsOfARun checks that the totals of a run stay when it has ended.
func TestTotalsOfARun(t *testing.T) {
	r := newRunner(t)
	r.Run(t.Context(), newJob("okta", func(ctx context.Context, out collector.Output) error {
		collector.StatsFrom(ctx).CountResponse(200)
		return extractOne(ctx, out)
	}), "test")
	if got := r.Active.Totals("okta", "okta").Statuses[2]; got != 1 {
		t.Errorf("%d responses", got)
	}
}
