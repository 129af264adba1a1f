package storetest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

func (h Harness) testWhole(t *testing.T) {
	sink, p := h.New(t)
	s := Seal(t, Header(1), Numbered(1, 5000)...)
	Write(t, sink, s)
	h.assertLatest(t, p, s)
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
}

func (h Harness) testTwice(t *testing.T) {
	sink, p := h.New(t)
	s := Seal(t, Header(1), Numbered(1, 3000)...)
	Write(t, sink, s, s)
	h.assertLatest(t, p, s)
	h.assertAll(t, p, s)
}

// testRefill stores the newest snapshot again in a refill, which adds nothing twice.
func (h Harness) testRefill(t *testing.T) {
	sink, p := h.New(t)
	first, second := Seal(t, Header(1), Numbered(1, 10)...), Seal(t, Header(2), Numbered(2, 20)...)
	Write(t, sink, first, second)
	for range 2 {
		if err := sink.Write(store.WithRefill(t.Context()), second); err != nil {
			t.Fatal(err)
		}
	}
	h.assertLatest(t, p, second)
	h.assertAll(t, p, first, second)
}

func (h Harness) testNewer(t *testing.T) {
	sink, p := h.New(t)
	other := Header(3)
	other.Tenancy = "o'ther \"quoted\"; drop"
	otherStream := Header(4)
	otherStream.Stream = `Tag-with "quotes"' and spaces`
	first, second := Seal(t, Header(1), Numbered(1, 10)...), Seal(t, Header(2), Numbered(2, 20)...)
	third, fourth := Seal(t, other, Numbered(3, 30)...), Seal(t, otherStream, Numbered(4, 40)...)
	Write(t, sink, first, third, fourth, second)
	h.assertLatest(t, p, second)
	h.assertLatest(t, p, third)
	h.assertLatest(t, p, fourth)
	h.assertAll(t, p, first, second)
	if h.KeepsHistory {
		Write(t, sink, first)
		h.assertLatest(t, p, second)
	}
}

func (h Harness) testEmpty(t *testing.T) {
	sink, p := h.New(t)
	empty := Seal(t, Header(1))
	Write(t, sink, empty, empty)
	if got := p.Latest(t, Header(1)); len(got) != 0 {
		t.Errorf("an empty snapshot reads %q", got)
	}
	full := Seal(t, Header(2), Numbered(2, 5)...)
	Write(t, sink, full)
	h.assertLatest(t, p, full)
	Write(t, sink, Seal(t, Header(3)))
	if got := p.Latest(t, Header(3)); len(got) != 0 {
		t.Errorf("after an empty snapshot the newest reads %q", got)
	}
}

func (h Harness) testAwkward(t *testing.T) {
	sink, p := h.New(t)
	huge := `{"huge":"` + strings.Repeat("0123456789abcdef", 512<<10) + `"}` // 8 MiB
	s := Seal(t, Header(1), append(slices.Clone(Awkward), huge)...)
	Write(t, sink, s)
	h.assertLatest(t, p, s)
}

// testLarge stores records of nearly the largest size beside a small one; with the race
// detector they are smaller.
func (h Harness) testLarge(t *testing.T) {
	sink, p := h.New(t)
	s := Seal(t, Header(1), `{"n":1,"text":"`+strings.Repeat("x", large*33/63)+`"}`, `{"n":2}`, `{"n":3,"text":"`+strings.Repeat("y", large)+`"}`)
	Write(t, sink, s)
	h.assertLatest(t, p, s)
}

func (h Harness) testDamaged(t *testing.T) {
	sink, p := h.New(t)
	good := Seal(t, Header(1), Numbered(1, 100)...)
	Write(t, sink, good)
	bad := Seal(t, Header(2), Numbered(2, 5000)...)
	text, err := os.ReadFile(bad.Path())
	if err != nil {
		t.Fatal(err)
	}
	// The file has all records twice.
	if err := os.WriteFile(bad.Path(), slices.Concat(text, text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(t.Context(), bad); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v", err)
	}
	h.assertLatest(t, p, good)
	h.assertAll(t, p, good)
}

func (h Harness) testCancelled(t *testing.T) {
	sink, p := h.New(t)
	good := Seal(t, Header(1), Numbered(1, 100)...)
	Write(t, sink, good)
	next := Seal(t, Header(2), Numbered(2, 4000)...)
	// The context ends before the write, and at the third record or block that
	// the write reads.
	before, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"before": before, "midway": endingAfter(t.Context(), 2)} {
		if err := sink.Write(ctx, next); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled %s: %v", name, err)
		}
		h.assertLatest(t, p, good)
		h.assertAll(t, p, good)
	}
	Write(t, sink, next)
	h.assertLatest(t, p, next)
}

// An endingContext ends after Err was called a number of times. A snapshot's reader
// calls it for every record or block.
type endingContext struct {
	context.Context
	left atomic.Int64
}

func endingAfter(ctx context.Context, calls int64) *endingContext {
	c := &endingContext{Context: ctx}
	c.left.Store(calls)
	return c
}

func (e *endingContext) Err() error {
	if e.left.Add(-1) < 0 {
		return context.Canceled
	}
	return e.Context.Err()
}

func (h Harness) testOldOrNew(t *testing.T) {
	sink, p := h.New(t)
	snapshots := []*snapshot.Snapshot{Seal(t, Header(1), Numbered(1, 2000)...), Seal(t, Header(2), Numbered(2, 3000)...)}
	Write(t, sink, snapshots[0])
	done := make(chan error, 1)
	go func() { done <- sink.Write(t.Context(), snapshots[1]) }()
	for reads := 0; ; reads++ {
		got := len(p.Latest(t, Header(1)))
		if got != 2000 && got != 3000 {
			t.Fatalf("a reader sees %d records", got)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			h.assertLatest(t, p, snapshots[1])
			return
		default:
		}
	}
}

func (h Harness) testCheck(t *testing.T) {
	sink, p := h.New(t)
	if err := sink.Check(t.Context()); err != nil {
		t.Error(err)
	}
	s := Seal(t, Header(1), Numbered(1, 3)...)
	Write(t, sink, s)
	if err := sink.Check(t.Context()); err != nil {
		t.Error(err)
	}
	h.assertAll(t, p, s)
}

func (h Harness) testBreakage(t *testing.T, b Breakage) {
	sink, p := h.New(t)
	old := Seal(t, Header(1), Numbered(1, 100)...)
	Write(t, sink, old)
	next := SealMany(t)
	problem, refused := b.Write(t, p, next)
	if problem == "" || refused != b.Refused {
		t.Errorf("problem %q, refused %t", problem, refused)
	}
	t.Log(problem)
	h.assertLatest(t, p, old)
	h.assertAll(t, p, old)
	Write(t, sink, next)
	h.assertLatest(t, p, next)
}

// assertLatest checks that the newest snapshot in the place is s.
func (h Harness) assertLatest(t *testing.T, p Place, s *snapshot.Snapshot) {
	t.Helper()
	h.AssertRecords(t, "the newest", p.Latest(t, s.Header), s)
}

// assertAll checks that the place holds exactly the snapshots, which are of one stream
// and tenancy, or the last of them if the sink holds only one.
func (h Harness) assertAll(t *testing.T, p Place, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	if !h.KeepsHistory {
		snapshots = snapshots[len(snapshots)-1:]
	}
	h.AssertRecords(t, "all", p.All(t, snapshots[0].Header), snapshots...)
}

// AssertRecords checks that got are the records of the snapshots, in any order. what
// names them in messages.
func (h Harness) AssertRecords(t *testing.T, what string, got []string, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	var want []string
	for _, s := range snapshots {
		for _, record := range ReadRecords(t, s) {
			if h.Expect != nil {
				record = h.Expect(record)
			}
			want = append(want, record)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(got) != len(want) {
		t.Errorf("%s: %d records, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: record %.300q, want %.300q", what, got[i], want[i])
			return
		}
	}
}
