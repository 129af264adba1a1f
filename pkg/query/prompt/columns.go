package prompt

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/query"
)

// columnLoader reads the columns of streams, each once for a snapshot. Its methods are
// called by one goroutine.
type columnLoader struct {
	// load returns the columns of a stream.
	load func(ctx context.Context, stream string) ([]query.Column, error)
	// loads has what was or is being read, by upload id.
	loads map[string]*columnLoad
	all   sync.WaitGroup
}

// A columnLoad is the columns of a snapshot that are being read, or were.
type columnLoad struct {
	cancel context.CancelFunc
	done   chan struct{}
	// columns and err are set when done is closed.
	columns []query.Column
	err     error
}

func newColumnLoader(load func(ctx context.Context, stream string) ([]query.Column, error)) *columnLoader {
	return &columnLoader{load: load, loads: map[string]*columnLoad{}}
}

// start returns what reads the columns of a stream, and starts it unless it is there. What
// failed is read again.
func (c *columnLoader) start(stream query.StreamData) *columnLoad {
	if known := c.loads[stream.UploadID]; known != nil && !known.hasFailed() {
		return known
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &columnLoad{cancel: cancel, done: make(chan struct{})}
	c.loads[stream.UploadID] = l
	c.all.Go(func() {
		defer cancel()
		l.columns, l.err = c.load(ctx, stream.Stream)
		close(l.done)
	})
	return l
}

// hasFailed reports whether the columns could not be read.
func (c *columnLoad) hasFailed() bool {
	select {
	case <-c.done:
		return c.err != nil
	default:
		return false
	}
}

// read returns the columns of a stream when they have been read.
func (c *columnLoader) read(ctx context.Context, stream query.StreamData) ([]query.Column, error) {
	l := c.start(stream)
	select {
	case <-l.done:
		return l.columns, l.err
	case <-ctx.Done():
		l.cancel()
		return nil, context.Cause(ctx)
	}
}

// readFor returns the columns of a stream, and whether they are still being read after a
// time. That goes on, so that a later call has them.
func (c *columnLoader) readFor(most time.Duration, stream query.StreamData) (columns []query.Column, pending bool) {
	l := c.start(stream)
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.columns, false // a query would show the error
	case <-timer.C:
		return nil, true
	}
}

// stop ends what is being read, and waits for that. What was read stays.
func (c *columnLoader) stop() {
	for _, l := range c.loads {
		l.cancel()
	}
	c.all.Wait()
	maps.DeleteFunc(c.loads, func(_ string, l *columnLoad) bool { return l.hasFailed() })
}

// completionTime bounds how long a completion waits for the columns of a stream.
const completionTime = 3 * time.Second

// completionColumns returns the columns of a stream, if they are there in time.
func (s *session) completionColumns(name string) []query.Column {
	i := slices.IndexFunc(s.streams, func(stream query.StreamData) bool { return stream.Stream == name })
	if i < 0 {
		return nil
	}
	wait := completionTime
	if len(s.unread) > 0 { // one wait is enough
		wait = 0
	}
	columns, pending := s.columns.readFor(wait, s.streams[i])
	if pending && !slices.Contains(s.unread, name) {
		s.unread = append(s.unread, name)
	}
	return columns
}
