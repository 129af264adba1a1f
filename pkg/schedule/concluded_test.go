package schedule_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/schedule"
)

// TestConcluded: a result is final when no retry follows, be it that they are
// used up, that the next tick is earlier or that they cannot help.
func TestConcluded(t *testing.T) {
	t.Parallel()
	inWorld(t, "2026-11-24 23:59", "UTC", func(w *world) {
		w.settings.CatchUp, w.settings.Retries = false, 2
		var told []string
		w.concluded = func(results []schedule.Result) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range results {
				told = append(told, fmt.Sprintf("%s %s %s", w.inner().Format("15:04"), r.Stream, r.Outcome))
			}
		}
		fail := func(err error) func(context.Context, int) error {
			return func(context.Context, int) error { return err }
		}
		once := func(_ context.Context, nth int) error {
			if nth == 0 {
				return errVendor
			}
			return nil
		}
		w.start(
			w.plan("broken", "0 0 * * *", fail(errVendor)),
			w.plan("shaky", "1 0 * * *", once),
			w.plan("refused", "2 0 * * *", fail(collector.ErrRefused)),
			w.plan("often", "*/12 * * * *", fail(errVendor)),
		)
		w.until("2026-11-25 00:18")
		w.stop()
		want := []string{
			"00:02 refused_things failed", "00:05 often_things failed", "00:06 shaky_things success",
			"00:15 broken_things failed", "00:17 often_things failed",
		}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("concluded (-want +got):\n%s", diff)
		}
	})
}
