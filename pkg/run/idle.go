package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// errDone is the cause of a watched context whose extraction has ended.
var errDone = errors.New("done")

// watchIdle returns a context that is cancelled when the extraction receives nothing
// for longer than idle. A wait that the vendor asked for does not count as idle. The
// caller must call stop when the extraction has ended.
func watchIdle(ctx context.Context, stats *collector.Stats, idle time.Duration) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	began := time.Now()
	go func() {
		ticker := time.NewTicker(max(idle/20, 10*time.Millisecond))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				p := stats.Progress()
				since := began
				for _, t := range []time.Time{p.Active, p.WaitUntil} {
					if t.After(since) {
						since = t
					}
				}
				if now.Sub(since) > idle {
					cancel(fmt.Errorf("%w for %v (RUN_IDLE_TIMEOUT); stuck at: %s", collector.ErrIdle, idle, p.Step))
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(errDone) }
}
