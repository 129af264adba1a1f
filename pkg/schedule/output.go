package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
)

// output passes what an extraction brings to the spool and counts it.
type output struct {
	w     *snapshot.Writer
	stats *collector.Stats
}

func (o *output) Page() collector.Page { return &page{Page: o.w.Page(), stats: o.stats} }

func (o *output) Reset() error {
	o.stats.StartOver()
	return o.w.Reset()
}

type page struct {
	*snapshot.Page
	stats *collector.Stats
}

func (p *page) Commit() error {
	records, bytes := p.Size()
	if err := p.Page.Commit(); err != nil {
		return err
	}
	p.stats.Keep(records, bytes)
	return nil
}

// errDone ends the watch over an extraction that has ended itself.
var errDone = errors.New("done")

// watch returns a context that ends when nothing arrives for longer than
// idle. A wait that the vendor asked for is no idleness. stop ends the watch.
func watch(ctx context.Context, stats *collector.Stats, idle time.Duration) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	began := time.Now()
	go func() {
		tick := time.NewTicker(max(idle/20, 10*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				n := stats.Read()
				since := began
				for _, t := range []time.Time{n.Active, n.WaitUntil} {
					if t.After(since) {
						since = t
					}
				}
				if now.Sub(since) > idle {
					cancel(fmt.Errorf("%w for %v (RUN_IDLE_TIMEOUT); stuck at: %s", collector.ErrIdle, idle, n.Step))
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(errDone) }
}
