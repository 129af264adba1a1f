package storetest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// testOvertaken suspends a write at several moments, as that of a process that does not
// run for a while. Meanwhile a newer snapshot is stored: it stays.
func (h Harness) testOvertaken(t *testing.T) {
	for moment := 0; ; moment = max(1, 2*moment) {
		sink, p := h.New(t)
		first, old, newer := Seal(t, Header(1), Numbered(1, 10)...), Seal(t, Header(2), Numbered(2, 2000)...), Seal(t, Header(3), Numbered(3, 20)...)
		Write(t, sink, first)
		if !Overtake(t, sink, old, newer, moment) {
			if moment == 0 {
				t.Error("the write looks at its context never")
			}
			return
		}
		h.assertLatest(t, p, newer)
		h.assertAll(t, p, first, old, newer)
		if t.Failed() {
			t.Fatalf("the write was suspended at moment %d", moment)
		}
	}
}

// overtakeWait is how long Overtake waits for a write that may wait for the suspended one.
const overtakeWait = 300 * time.Millisecond

// Overtake begins to write the snapshot old and suspends that at a moment: the number of
// times that the write has looked at its context before. Then it writes the snapshot
// newer, and lets the first write go on when that is stored or waits for it. It reports
// whether the moment was reached.
func Overtake(t testing.TB, sink store.Sink, old, newer *snapshot.Snapshot, moment int) bool {
	t.Helper()
	ctx := &suspendedContext{Context: t.Context(), reached: make(chan struct{}), resume: make(chan struct{})}
	ctx.left.Store(int64(moment))
	slow, fast := make(chan error, 1), make(chan error, 1)
	go func() { slow <- sink.Write(ctx, old) }()
	select {
	case err := <-slow:
		if err != nil {
			t.Fatal(err)
		}
		return false
	case <-ctx.reached:
	}
	go func() { fast <- sink.Write(t.Context(), newer) }()
	var err error
	select {
	case err = <-fast:
		close(ctx.resume)
	case <-time.After(overtakeWait):
		close(ctx.resume)
		err = <-fast
	}
	if err != nil {
		t.Fatalf("the newer snapshot: %v", err)
	}
	if err := <-slow; err != nil {
		t.Fatalf("the suspended write: %v", err)
	}
	return true
}

// A suspendedContext suspends who looks at it after a number of looks. A snapshot's
// reader calls Err for every record or block, and clients call Done for every request.
type suspendedContext struct {
	context.Context
	left            atomic.Int64
	reached, resume chan struct{}
}

func (s *suspendedContext) suspend() {
	left := s.left.Add(-1)
	if left == -1 {
		close(s.reached)
	}
	if left < 0 {
		<-s.resume
	}
}

func (s *suspendedContext) Err() error {
	s.suspend()
	return s.Context.Err()
}

func (s *suspendedContext) Done() <-chan struct{} {
	s.suspend()
	return s.Context.Done()
}
