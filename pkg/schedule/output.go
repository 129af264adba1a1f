package schedule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// output passes what an extraction brings to the spool and counts it.
type output struct {
	w     *snapshot.Writer
	stats *collector.Stats
	kept  *state.Kept
	log   *zap.Logger
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

// output is a collector.Keeper.
var _ collector.Keeper = (*output)(nil)

func (o *output) Kept(asked string) (string, error) { return o.kept.Find(asked) }

func (o *output) Begin(asked, job string) error {
	pages, err := o.kept.Begin(asked, job)
	if pages > 0 {
		o.log.Info("continuing an export job that was cut off", zap.String("job", job), zap.Int("chunks_kept", pages))
	}
	return err
}

func (o *output) Carry(ctx context.Context, key string) (bool, error) {
	records, bytes, err := o.kept.CarryTo(ctx, o.w, key)
	if state.Unkept(err) {
		if !errors.Is(err, fs.ErrNotExist) {
			o.log.Warn("a kept chunk cannot be used; it is fetched again", zap.String("chunk", key), zap.Error(err))
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o.stats.Keep(records, bytes)
	return true, nil
}

func (o *output) Keep(key string) collector.Output { return &keeping{o, o.kept.Path(key)} }

// keeping is the output of one page that is kept in dir.
type keeping struct {
	*output
	dir string
}

func (k *keeping) Page() collector.Page {
	return &keptPage{page{Page: k.w.Page(), stats: k.stats}, k.dir}
}

type keptPage struct {
	page
	dir string
}

func (p *keptPage) Commit() error {
	records, bytes := p.Size()
	if err := p.CommitAs(p.dir); err != nil {
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
