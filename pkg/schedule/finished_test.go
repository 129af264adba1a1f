package schedule_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
)

// TestOnFinished checks that a result is reported when no retry follows: because the retries
// are used up, because the next tick is earlier, or because a retry cannot help.
func TestOnFinished(t *testing.T) {
	t.Parallel()
	withFixture(t, "2026-11-24 23:59", "UTC", func(f *fixture) {
		f.settings.CatchUp, f.settings.Retries = false, 2
		var reported []string
		f.onFinished = func(results []run.Result) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, r := range results {
				reported = append(reported, fmt.Sprintf("%s %s %s", f.nowLocked().Format("15:04"), r.Stream, r.Outcome))
			}
		}
		failing := func(err error) func(context.Context, int) error {
			return func(context.Context, int) error { return err }
		}
		failingOnce := func(_ context.Context, nth int) error {
			if nth == 0 {
				return errVendor
			}
			return nil
		}
		f.startScheduler(
			f.plan("broken", "0 0 * * *", failing(errVendor)),
			f.plan("shaky", "1 0 * * *", failingOnce),
			f.plan("refused", "2 0 * * *", failing(collector.ErrRefused)),
			f.plan("often", "*/12 * * * *", failing(errVendor)),
		)
		f.sleepUntil("2026-11-25 00:18")
		f.stop()
		want := []string{
			"00:02 refused_things failed", "00:05 often_things failed", "00:06 shaky_things success",
			"00:15 broken_things failed", "00:17 often_things failed",
		}
		if diff := cmp.Diff(want, reported); diff != "" {
			t.Errorf("reported results (-want +got):\n%s", diff)
		}
	})
}
