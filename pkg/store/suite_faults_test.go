package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
)

// TestMillionRecords stores a million records in a process of its own for each
// kind of sink and looks at its largest size.
func TestMillionRecords(t *testing.T) {
	const n = million
	s := sealedFrom(t, header(1), func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf(`{"n":%d}`, i)) {
				return
			}
		}
	})
	for _, h := range harnesses {
		if h.name == "file.ndjson.zst" || h.name == "postgres.jsonb" || h.name == "s3.ndjson.zst" {
			continue // as its sister
		}
		t.Run(h.name, func(t *testing.T) {
			sink, dir := h.child(t)
			problem, _, peak := job{Sink: sink, Dir: dir, Snapshots: []string{s.Dir()}}.run(t)
			t.Logf("%d records of %d bytes with %d MB", n, s.Bytes/n, peak>>20)
			if problem != "" || peak > h.memory {
				t.Errorf("peak %d MB, limit %d MB: %s", peak>>20, h.memory>>20, problem)
			}
		})
	}
}

// fails writes s and checks that it is worth repeating and that readers see
// the old snapshot only.
func (h harness) fails(t *testing.T, sink Sink, p place, s, old *snapshot.Snapshot) {
	t.Helper()
	retriable(t, sink.Write(t.Context(), s))
	h.wantLatest(t, p, old)
	h.wantAll(t, p, old)
}

// old makes a sink behind a proxy that has stored a snapshot.
func (h harness) old(t *testing.T) (Sink, place, *faultproxy.Proxy, *snapshot.Snapshot) {
	t.Helper()
	sink, p, proxy := h.behind(t)
	old := sealed(t, header(1), numbered(1, 10)...)
	write(t, sink, old)
	return sink, p, proxy, old
}

func (h harness) testDead(t *testing.T) {
	sink, p, proxy, old := h.old(t)
	next := sealed(t, header(2), numbered(2, 20)...)
	proxy.Set(faultproxy.Fault{Refuse: true})
	h.fails(t, sink, p, next, old)
	if err := sink.Check(t.Context()); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("Check: %v", err)
	}
	proxy.Set(faultproxy.Fault{})
	write(t, sink, next)
	h.wantLatest(t, p, next)
}

func (h harness) testCutMidway(t *testing.T) {
	sink, p, proxy, old := h.old(t)
	next := many(t)
	proxy.Set(faultproxy.Fault{CutUp: 300_000})
	h.fails(t, sink, p, next, old)
	if proxy.Fired() == 0 {
		t.Error("nothing was cut")
	}
	proxy.Set(faultproxy.Fault{})
	write(t, sink, next)
	h.wantLatest(t, p, next)
	h.wantAll(t, p, old, next)
}

// testAnswerLost has a server that stores the snapshot and cannot say so.
func (h harness) testAnswerLost(t *testing.T) {
	sink, p, proxy, old := h.old(t)
	next := sealed(t, header(2), numbered(2, 20)...)
	proxy.Set(faultproxy.Fault{CutReplyTo: h.commit})
	retriable(t, sink.Write(t.Context(), next))
	if proxy.Fired() == 0 {
		t.Error("no answer was lost")
	}
	// The server finishes on its own time; until then readers see the old one.
	if n := len(p.latest(t, next.Header)); n != 10 && n != 20 {
		t.Errorf("a reader sees %d records", n)
	}
	proxy.Set(faultproxy.Fault{})
	write(t, sink, next, next)
	h.wantLatest(t, p, next)
	h.wantAll(t, p, old, next)
}

func (h harness) testSlow(t *testing.T) {
	sink, p, proxy, old := h.old(t)
	next := sealed(t, header(2), numbered(2, 2000)...)
	proxy.Set(faultproxy.Fault{Latency: 10 * time.Millisecond})
	write(t, sink, next)
	h.wantLatest(t, p, next)
	h.wantAll(t, p, old, next)
}

// testHanging has a server that takes nothing any more: the end of the context
// ends the write.
func (h harness) testHanging(t *testing.T) {
	sink, p, proxy, old := h.old(t)
	next := many(t)
	for _, at := range []int64{1, 300_000} {
		proxy.Set(faultproxy.Fault{StallUp: at})
		stop := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(t.Context())
		met := proxy.Met()
		go func() {
			<-met
			proxy.Set(faultproxy.Fault{}) // what tidies up gets through
			cancel(stop)
		}()
		if err := sink.Write(ctx, next); !errors.Is(err, stop) {
			t.Errorf("stalled after %d bytes: err = %v", at, err)
		}
		cancel(nil)
		proxy.Cut()
		h.wantLatest(t, p, old)
		h.wantAll(t, p, old)
	}
	write(t, sink, next)
	h.wantLatest(t, p, next)
}
