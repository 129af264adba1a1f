package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A harness makes one kind of sink pass the suite.
type harness struct {
	name string
	// sink makes a sink on an empty place, and a place to read it back from.
	sink func(t *testing.T) (Sink, place)
	// history is true for a sink that holds several snapshots at a time.
	history bool
	// expect is how the sink holds a record when that is not byte for byte.
	expect func(record string) string
	// breaks are ways to make writing fail; see breakage.
	breaks map[string]breakage
	// behind makes a sink whose connections pass a proxy; nil without a
	// server.
	behind func(t *testing.T) (Sink, place, *faultproxy.Proxy)
	// commit is what the client sends last, see faultproxy.Fault.CutReplyTo.
	commit string
	// child names a new empty place for a job.
	child func(t *testing.T) (sink, dir string)
	// memory bounds the peak of a process that stores a million records.
	memory int64
	// serial is true for a sink that is set up by variables.
	serial bool
}

// A place is where a sink stores.
type place interface {
	// latest returns the newest snapshot's records for the stream and tenancy
	// of h, in any order; all returns those of every snapshot. Both are nil
	// when there is nothing.
	latest(t *testing.T, h snapshot.Header) []string
	all(t *testing.T, h snapshot.Header) []string
}

// A breakage tries to write s where it must fail. It returns the error's text,
// "" for none, and whether it was ErrRefused. Afterwards all is well again.
type breakage struct {
	refused bool
	write   func(t *testing.T, p place, s *snapshot.Snapshot) (problem string, refused bool)
}

// harnesses are the sinks that pass the suite.
var harnesses = []harness{fileHarness("json"), fileHarness("ndjson.zst"), parquetHarness(), duckHarness(), postgresHarness("json"), postgresHarness("jsonb"), s3Harness("json"), s3Harness("ndjson.zst")}

func TestSinks(t *testing.T) {
	for _, h := range harnesses {
		t.Run(h.name, func(t *testing.T) {
			if !h.serial {
				t.Parallel()
			}
			t.Run("whole", h.testWhole)
			t.Run("twice is once", h.testTwice)
			t.Run("newer and other", h.testNewer)
			t.Run("empty", h.testEmpty)
			t.Run("awkward content", h.testAwkward)
			t.Run("damaged", h.testDamaged)
			t.Run("cancelled", h.testCancelled)
			t.Run("old or new", h.testOldOrNew)
			t.Run("check", h.testCheck)
			if h.behind != nil {
				t.Run("dead server", h.testDead)
				t.Run("cut midway", h.testCutMidway)
				t.Run("answer lost", h.testAnswerLost)
				t.Run("slow server", h.testSlow)
				t.Run("hanging server", h.testHanging)
			}
			for name, b := range h.breaks {
				t.Run(name, func(t *testing.T) { h.testBreakage(t, b) })
			}
		})
	}
}

func (h harness) testWhole(t *testing.T) {
	sink, place := h.sink(t)
	s := sealed(t, header(1), numbered(1, 5000)...)
	write(t, sink, s)
	h.wantLatest(t, place, s)
	if err := sink.Close(); err != nil {
		t.Error(err)
	}
}

func (h harness) testTwice(t *testing.T) {
	sink, place := h.sink(t)
	s := sealed(t, header(1), numbered(1, 3000)...)
	write(t, sink, s, s)
	h.wantLatest(t, place, s)
	h.wantAll(t, place, s)
}

func (h harness) testNewer(t *testing.T) {
	sink, place := h.sink(t)
	other := header(3)
	other.Tenancy = "o'ther \"quoted\"; drop"
	otherStream := header(4)
	otherStream.Stream = `Tag-with "quotes"' and spaces`
	first, second := sealed(t, header(1), numbered(1, 10)...), sealed(t, header(2), numbered(2, 20)...)
	third, fourth := sealed(t, other, numbered(3, 30)...), sealed(t, otherStream, numbered(4, 40)...)
	write(t, sink, first, third, fourth, second)
	h.wantLatest(t, place, second)
	h.wantLatest(t, place, third)
	h.wantLatest(t, place, fourth)
	h.wantAll(t, place, first, second)
	if h.history {
		write(t, sink, first)
		h.wantLatest(t, place, second)
	}
}

func (h harness) testEmpty(t *testing.T) {
	sink, place := h.sink(t)
	empty := sealed(t, header(1))
	write(t, sink, empty, empty)
	if got := place.latest(t, header(1)); len(got) != 0 {
		t.Errorf("an empty snapshot reads %q", got)
	}
	full := sealed(t, header(2), numbered(2, 5)...)
	write(t, sink, full)
	h.wantLatest(t, place, full)
	write(t, sink, sealed(t, header(3)))
	if got := place.latest(t, header(3)); len(got) != 0 {
		t.Errorf("after an empty snapshot the newest reads %q", got)
	}
}

// awkward are records that something on the way could change or reject.
var awkward = []string{
	`{}`,
	`{"nul":"\u0000","sep":"` + "\u2028\u2029" + `","html":"<a href='x'>&amp;</a>","slash":"\/"}`,
	`{"lone":"\ud800","low":"\udfff x","pair":"\ud83d\ude00","fake":"\\ud800"}`,
	`{"twice":1,"twice":2,"Twice":3}`,
	`{"huge":1e400,"tiny":1e-400,"int":1234567890123456789,"big":123456789012345678901234567890,"zero":-0,"one":1.0,"exp":1E+2}`,
	`{ "spaces" : [ 1 , { } ,	null ] }`,
	`{"":{"":[]},"quote\"d":"back\\slash","é":"日本語 😀"}`,
	`{"_tenancy":"theirs","_upload_id":"x","sql":"'; DROP TABLE t; --","line":"a\nb\r\tc"}`,
	`{"deep":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
}

func (h harness) testAwkward(t *testing.T) {
	sink, place := h.sink(t)
	huge := `{"huge":"` + strings.Repeat("0123456789abcdef", 512<<10) + `"}` // 8 MiB
	s := sealed(t, header(1), append(slices.Clone(awkward), huge)...)
	write(t, sink, s)
	h.wantLatest(t, place, s)
}

func (h harness) testDamaged(t *testing.T) {
	sink, place := h.sink(t)
	good := sealed(t, header(1), numbered(1, 100)...)
	write(t, sink, good)
	bad := sealed(t, header(2), numbered(2, 5000)...)
	text, err := os.ReadFile(bad.Path())
	if err != nil {
		t.Fatal(err)
	}
	// All records are there, and then again.
	if err := os.WriteFile(bad.Path(), slices.Concat(text, text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(t.Context(), bad); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v", err)
	}
	h.wantLatest(t, place, good)
	h.wantAll(t, place, good)
}

func (h harness) testCancelled(t *testing.T) {
	sink, place := h.sink(t)
	good := sealed(t, header(1), numbered(1, 100)...)
	write(t, sink, good)
	next := sealed(t, header(2), numbered(2, 4000)...)
	// Ended before it starts, and by what is read third, a record or a block of
	// the four that there are.
	before, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"before": before, "midway": endingAfter(t.Context(), 2)} {
		if err := sink.Write(ctx, next); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled %s: %v", name, err)
		}
		h.wantLatest(t, place, good)
		h.wantAll(t, place, good)
	}
	write(t, sink, next)
	h.wantLatest(t, place, next)
}

// An endingContext ends when it was asked for its end a number of times: a
// snapshot's reader asks for every record or block.
type endingContext struct {
	context.Context
	left atomic.Int64
}

func endingAfter(ctx context.Context, asked int64) *endingContext {
	c := &endingContext{Context: ctx}
	c.left.Store(asked)
	return c
}

func (c *endingContext) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

func (h harness) testOldOrNew(t *testing.T) {
	sink, place := h.sink(t)
	snapshots := []*snapshot.Snapshot{sealed(t, header(1), numbered(1, 2000)...), sealed(t, header(2), numbered(2, 3000)...)}
	write(t, sink, snapshots[0])
	done := make(chan error, 1)
	go func() { done <- sink.Write(t.Context(), snapshots[1]) }()
	for reads := 0; ; reads++ {
		got := len(place.latest(t, header(1)))
		if got != 2000 && got != 3000 {
			t.Fatalf("a reader sees %d records", got)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			h.wantLatest(t, place, snapshots[1])
			return
		default:
		}
	}
}

func (h harness) testCheck(t *testing.T) {
	sink, place := h.sink(t)
	if err := sink.Check(t.Context()); err != nil {
		t.Error(err)
	}
	s := sealed(t, header(1), numbered(1, 3)...)
	write(t, sink, s)
	if err := sink.Check(t.Context()); err != nil {
		t.Error(err)
	}
	h.wantAll(t, place, s)
}

func (h harness) testBreakage(t *testing.T, b breakage) {
	sink, place := h.sink(t)
	old := sealed(t, header(1), numbered(1, 100)...)
	write(t, sink, old)
	next := many(t)
	problem, refused := b.write(t, place, next)
	if problem == "" || refused != b.refused {
		t.Errorf("problem %q, refused %t", problem, refused)
	}
	t.Log(problem)
	h.wantLatest(t, place, old)
	h.wantAll(t, place, old)
	write(t, sink, next)
	h.wantLatest(t, place, next)
}

func (h harness) wantLatest(t *testing.T, p place, s *snapshot.Snapshot) {
	t.Helper()
	h.want(t, "the newest", p.latest(t, s.Header), s)
}

// wantAll checks that there is all of the snapshots, of one stream and
// tenancy, and no more; of the last one where the sink holds only one.
func (h harness) wantAll(t *testing.T, p place, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	if !h.history {
		snapshots = snapshots[len(snapshots)-1:]
	}
	h.want(t, "all", p.all(t, snapshots[0].Header), snapshots...)
}

func (h harness) want(t *testing.T, what string, got []string, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	var want []string
	for _, s := range snapshots {
		for _, record := range records(t, s) {
			if h.expect != nil {
				record = h.expect(record)
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

func write(t *testing.T, sink Sink, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		if err := sink.Write(t.Context(), s); err != nil {
			t.Fatalf("write %s: %v", s.UploadID, err)
		}
	}
}

// header is that of the n-th run.
func header(n int) snapshot.Header {
	return snapshot.Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "default",
		UploadID:        fmt.Sprintf("00000000-0000-4000-8000-%012d", n),
		UploadTimestamp: time.Date(2026, 1, 1, 12, n, 0, 0, time.UTC),
	}
}

// numbered makes n different records.
func numbered(run, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"run":%d,"n":%d,"name":"user %d"}`, run, i, i)
	}
	return list
}

// padded makes n records of about 500 bytes that do not compress away.
func padded(run, n int) []string {
	r := rand.New(rand.NewPCG(1, uint64(run)))
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`{"run":%d,"n":%d,"pad":"%x"}`, run, i, random(r))
	}
	return list
}

func random(r *rand.Rand) []byte {
	b := make([]byte, 200)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// many is a snapshot that takes a while: 6,000 records of 450 bytes.
func many(t *testing.T) *snapshot.Snapshot { return sealed(t, header(2), padded(2, 6000)...) }

// sealed seals a snapshot that the user of a child process can read.
func sealed(t *testing.T, h snapshot.Header, list ...string) *snapshot.Snapshot {
	t.Helper()
	return sealedFrom(t, h, slices.Values(list))
}

func sealedFrom(t *testing.T, h snapshot.Header, list iter.Seq[string]) *snapshot.Snapshot {
	t.Helper()
	dir := t.TempDir()
	w, err := snapshot.Create(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	p := w.Page()
	for record := range list {
		if err := p.Append([]byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := w.Seal(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Chmod(filepath.Join(s.Dir(), e.Name()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// records returns the records of s as they are stored.
func records(t *testing.T, s *snapshot.Snapshot) []string {
	t.Helper()
	r, err := s.Reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var list []string
	for {
		record, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(record) {
			t.Fatalf("%.100q is no JSON", record)
		}
		list = append(list, string(record))
	}
}
