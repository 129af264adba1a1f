package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// assertFails writes s and checks that the error is worth repeating and that readers
// see the old snapshot only.
func (h Harness) assertFails(t *testing.T, sink store.Sink, p Place, s, old *snapshot.Snapshot) {
	t.Helper()
	AssertRetriable(t, sink.Write(t.Context(), s))
	h.assertLatest(t, p, old)
	h.assertAll(t, p, old)
}

// newWithSnapshot returns a sink behind a proxy that has stored a snapshot.
func (h Harness) newWithSnapshot(t *testing.T) (store.Sink, Place, *faultproxy.Proxy, *snapshot.Snapshot) {
	t.Helper()
	sink, p, proxy := h.NewBehindProxy(t)
	old := Seal(t, Header(1), Numbered(1, 10)...)
	Write(t, sink, old)
	return sink, p, proxy, old
}

func (h Harness) testDeadServer(t *testing.T) {
	sink, p, proxy, old := h.newWithSnapshot(t)
	next := Seal(t, Header(2), Numbered(2, 20)...)
	proxy.Set(faultproxy.Fault{Refuse: true})
	h.assertFails(t, sink, p, next, old)
	if err := sink.Check(t.Context()); err == nil || errors.Is(err, store.ErrRefused) {
		t.Errorf("Check: %v", err)
	}
	proxy.Set(faultproxy.Fault{})
	Write(t, sink, next)
	h.assertLatest(t, p, next)
}

func (h Harness) testCutMidway(t *testing.T) {
	sink, p, proxy, old := h.newWithSnapshot(t)
	next := SealMany(t)
	proxy.Set(faultproxy.Fault{CutUp: 300_000})
	h.assertFails(t, sink, p, next, old)
	if proxy.Fired() == 0 {
		t.Error("nothing was cut")
	}
	proxy.Set(faultproxy.Fault{})
	Write(t, sink, next)
	h.assertLatest(t, p, next)
	h.assertAll(t, p, old, next)
}

// testResponseLost has a server that stores the snapshot, but whose response is lost.
func (h Harness) testResponseLost(t *testing.T) {
	sink, p, proxy, old := h.newWithSnapshot(t)
	next := Seal(t, Header(2), Numbered(2, 20)...)
	proxy.Set(faultproxy.Fault{CutReplyTo: h.CommitText})
	AssertRetriable(t, sink.Write(t.Context(), next))
	if proxy.Fired() == 0 {
		t.Error("no response was lost")
	}
	// The server may still be storing the snapshot; until it has, readers see the
	// old one.
	if n := len(p.Latest(t, next.Header)); n != 10 && n != 20 {
		t.Errorf("a reader sees %d records", n)
	}
	proxy.Set(faultproxy.Fault{})
	Write(t, sink, next, next)
	h.assertLatest(t, p, next)
	h.assertAll(t, p, old, next)
}

func (h Harness) testSlowServer(t *testing.T) {
	sink, p, proxy, old := h.newWithSnapshot(t)
	next := Seal(t, Header(2), Numbered(2, 2000)...)
	proxy.Set(faultproxy.Fault{Latency: 10 * time.Millisecond})
	Write(t, sink, next)
	h.assertLatest(t, p, next)
	h.assertAll(t, p, old, next)
}

// testHangingServer has a server that stops reading: the end of the context ends the
// write.
func (h Harness) testHangingServer(t *testing.T) {
	sink, p, proxy, old := h.newWithSnapshot(t)
	next := SealMany(t)
	for _, at := range []int64{1, 300_000} {
		proxy.Set(faultproxy.Fault{StallUp: at})
		stop := errors.New("stopped by the test")
		ctx, cancel := context.WithCancelCause(t.Context())
		met := proxy.Met()
		go func() {
			<-met
			proxy.Set(faultproxy.Fault{}) // lets the cleanup through
			cancel(stop)
		}()
		if err := sink.Write(ctx, next); !errors.Is(err, stop) {
			t.Errorf("stalled after %d bytes: err = %v", at, err)
		}
		cancel(nil)
		proxy.Cut()
		h.assertLatest(t, p, old)
		h.assertAll(t, p, old)
	}
	Write(t, sink, next)
	h.assertLatest(t, p, next)
}
