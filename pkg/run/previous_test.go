package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// appendRecords writes records to out in one batch.
func appendRecords(out collector.Output, records ...string) error {
	b := out.NewBatch()
	defer b.Discard()
	for _, r := range records {
		if err := b.Append([]byte(r)); err != nil {
			return err
		}
	}
	return b.Commit()
}

// runFeed runs the stream "feed" once and returns its result.
func runFeed(t *testing.T, r *Runner, extract func(ctx context.Context, out collector.PreviousOutput) error) Result {
	t.Helper()
	return r.Run(t.Context(), newJob("feed", func(ctx context.Context, out collector.Output) error {
		return extract(ctx, out.(collector.PreviousOutput))
	}), "test")[0]
}

// requireOutcome fails the test unless the result has the outcome.
func requireOutcome(t *testing.T, result Result, want state.Outcome) {
	t.Helper()
	if result.Outcome != want {
		t.Fatalf("outcome %s, error %v, want %s", result.Outcome, result.Err, want)
	}
}

// collectFeed collects a snapshot of two records with the note "etag 1".
func collectFeed(t *testing.T, r *Runner) Result {
	t.Helper()
	result := runFeed(t, r, func(_ context.Context, out collector.PreviousOutput) error {
		out.SetNote("selection", "etag 1")
		return appendRecords(out, `{"id":1}`, ` {"id": 2, "_tenancy":"theirs"} `)
	})
	requireOutcome(t, result, state.Success)
	return result
}

func checkUnchanged(ctx context.Context, out collector.PreviousOutput) error {
	if note := out.PreviousNote(ctx, "selection"); note != "etag 1" {
		return fmt.Errorf("the note is %q", note)
	}
	return fmt.Errorf("feed: %w", collector.ErrUnchanged)
}

// TestUnchangedRun checks what an extraction that returns ErrUnchanged leaves behind.
func TestUnchangedRun(t *testing.T) {
	r := newRunner(t)
	first := collectFeed(t, r)
	result := runFeed(t, r, func(ctx context.Context, out collector.PreviousOutput) error {
		if err := appendRecords(out, `{"id":3}`); err != nil {
			return err
		}
		return checkUnchanged(ctx, out)
	})
	requireOutcome(t, result, state.Unchanged)
	if !result.OK() || result.Records != 2 || result.DeliveryCount != 0 || result.RenamedMembers != 0 {
		t.Errorf("result: %+v", result)
	}
	sealed, info, err := r.State.Snapshots.LastKnown(t.Context(), "feed", "acme")
	if err != nil || sealed.UploadID != first.UploadID || info.Checked.IsZero() {
		t.Errorf("last-known snapshot %+v, %+v, error %v", sealed, info, err)
	}
	queue, err := r.State.Queue.List(t.Context())
	if err != nil || len(queue) != 1 || queue[0].UploadID != first.UploadID {
		t.Errorf("queue: %+v, error: %v", queue, err)
	}
	runs, err := r.State.Runs.List(t.Context(), "feed", 10)
	if err != nil || len(runs) != 2 || runs[0].Outcome != state.Unchanged || runs[0].Records != 2 || runs[0].Err != "" {
		t.Errorf("history: %+v, error: %v", runs, err)
	}
	requireOutcome(t, runFeed(t, r, checkUnchanged), state.Unchanged)
}

// TestUnchangedRunFindsLostCopies: a run without changes delivers the last-known snapshot
// again to destinations that have lost it, unless it is queued for them anyway.
func TestUnchangedRunFindsLostCopies(t *testing.T) {
	r := newRunner(t)
	first := collectFeed(t, r)
	var asked []string
	r.FindLost = func(h snapshot.Header) []string {
		asked = append(asked, h.Stream+" of "+h.Tenancy)
		return []string{"file", "other"}
	}
	woken := 0
	r.OnSealed = func() { woken++ }
	for _, wantQueued := range []int{1, 0} { // file has a delivery from the start
		result := runFeed(t, r, checkUnchanged)
		requireOutcome(t, result, state.Unchanged)
		if result.DeliveryCount != wantQueued {
			t.Errorf("%d deliveries were queued, want %d", result.DeliveryCount, wantQueued)
		}
	}
	queue, err := r.State.Queue.List(t.Context())
	if err != nil || len(queue) != 2 || queue[0].Sink != "file" || queue[0].Refill || queue[1].Sink != "other" || !queue[1].Refill || queue[1].UploadID != first.UploadID {
		t.Errorf("queue: %+v, error: %v", queue, err)
	}
	if woken != 1 || !slices.Equal(asked, []string{"feed of acme", "feed of acme"}) {
		t.Errorf("deliveries were woken %d times, asked about %v", woken, asked)
	}
}

// TestPreviousNote checks when an extraction receives the note of the last-known
// snapshot.
func TestPreviousNote(t *testing.T) {
	for _, tc := range []struct {
		name      string
		before    func(t *testing.T, r *Runner)
		selection string
		want      string
	}{
		{name: "no snapshot", before: func(*testing.T, *Runner) {}, selection: "selection", want: ""},
		{name: "same selection", before: func(t *testing.T, r *Runner) { collectFeed(t, r) }, selection: "selection", want: "etag 1"},
		{name: "other selection", before: func(t *testing.T, r *Runner) { collectFeed(t, r) }, selection: "other", want: ""},
		{
			name: "snapshot without a note", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				collectFeed(t, r)
				requireOutcome(t, runFeed(t, r, func(_ context.Context, out collector.PreviousOutput) error {
					return appendRecords(out, `{"id":1}`, `{"id":2}`)
				}), state.Success)
			},
		},
		{
			name: "note dropped by Reset", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				requireOutcome(t, runFeed(t, r, func(_ context.Context, out collector.PreviousOutput) error {
					out.SetNote("selection", "etag 1")
					return errors.Join(out.Reset(), appendRecords(out, `{"id":1}`))
				}), state.Success)
			},
		},
		{
			name: "note too long", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				requireOutcome(t, runFeed(t, r, func(_ context.Context, out collector.PreviousOutput) error {
					out.SetNote("selection", strings.Repeat("x", collector.MaxNote+1))
					return appendRecords(out, `{"id":1}`)
				}), state.Success)
			},
		},
		{
			name: "run that failed", selection: "selection", want: "etag 1",
			before: func(t *testing.T, r *Runner) {
				collectFeed(t, r)
				requireOutcome(t, runFeed(t, r, func(_ context.Context, out collector.PreviousOutput) error {
					out.SetNote("selection", "etag 2")
					return errors.New("503 Service Unavailable")
				}), state.Failed)
			},
		},
		{
			name: "damaged records", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				collectFeed(t, r)
				damageLastKnown(t, r, func(path string) error { return flipByte(path) })
			},
		},
		{
			name: "missing snapshot", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				collectFeed(t, r)
				damageLastKnown(t, r, os.Remove)
			},
		},
		{
			// The destinations have the newer snapshot, which must be replaced there.
			name: "older snapshot after the newest was lost", selection: "selection", want: "",
			before: func(t *testing.T, r *Runner) {
				collectFeed(t, r)
				collectFeed(t, r)
				damageLastKnown(t, r, os.Remove)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRunner(t)
			tc.before(t, r)
			got := "not called"
			runFeed(t, r, func(ctx context.Context, out collector.PreviousOutput) error {
				got = out.PreviousNote(ctx, tc.selection)
				if got == "" {
					return nil
				}
				return collector.ErrUnchanged
			})
			if got != tc.want {
				t.Errorf("note %q, want %q", got, tc.want)
			}
		})
	}
}

// damageLastKnown changes the records file of the last-known snapshot of "feed".
func damageLastKnown(t *testing.T, r *Runner, change func(path string) error) {
	t.Helper()
	sealed, _, err := r.State.Snapshots.LastKnown(t.Context(), "feed", "acme")
	if err == nil {
		err = change(sealed.Path())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipByte(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	content[len(content)/2] ^= 1
	return os.WriteFile(path, content, 0o600)
}

// TestUnchangedWithoutNote checks that a run fails whose extraction claims that nothing
// has changed since a snapshot that it does not know.
func TestUnchangedWithoutNote(t *testing.T) {
	for name, selection := range map[string]string{"not asked": "", "other selection": "other"} {
		r := newRunner(t)
		collectFeed(t, r)
		result := runFeed(t, r, func(ctx context.Context, out collector.PreviousOutput) error {
			if selection != "" {
				out.PreviousNote(ctx, selection)
			}
			return collector.ErrUnchanged
		})
		if result.Outcome != state.Failed || result.Err == nil {
			t.Errorf("%s: outcome %s, error %v, want a failure", name, result.Outcome, result.Err)
		}
	}
}

// TestUnchangedAfterReplacement checks that a run fails if a restore or a person makes
// another snapshot the last-known one while it asks the vendor.
func TestUnchangedAfterReplacement(t *testing.T) {
	r := newRunner(t)
	collectFeed(t, r)
	result := runFeed(t, r, func(ctx context.Context, out collector.PreviousOutput) error {
		err := checkUnchanged(ctx, out)
		h := snapshot.Header{Collector: "feed", Stream: "feed", Tenancy: "acme", UploadID: "other", UploadTimestamp: r.timeNow().UTC()}
		w, e := r.State.Snapshots.Spool(h)
		if e != nil {
			return e
		}
		id, e := r.State.Runs.Begin(ctx, state.RunStart{Header: h, Started: r.timeNow()})
		if e != nil {
			return e
		}
		if _, e := r.State.Runs.Commit(ctx, id, w, state.RunStats{}, state.Policy{StoreEmpty: true}); e != nil {
			return e
		}
		return err
	})
	if result.Outcome != state.Failed || !errors.Is(result.Err, state.ErrReplaced) {
		t.Errorf("outcome %s, error %v, want a failure because of the replacement", result.Outcome, result.Err)
	}
}

// TestEachPrevious checks that an extraction reads the records of the last-known snapshot
// as they were stored, and can store them again.
func TestEachPrevious(t *testing.T) {
	r := newRunner(t)
	collectFeed(t, r)
	want := []string{`{"id":1}`, `{"id": 2, "_vendor_tenancy":"theirs"}`}
	for range 3 {
		var got []string
		requireOutcome(t, runFeed(t, r, func(ctx context.Context, out collector.PreviousOutput) error {
			if err := out.EachPrevious(ctx, nil); err == nil {
				return errors.New("the records were passed on without a note")
			}
			out.SetNote("selection", out.PreviousNote(ctx, "selection"))
			return out.EachPrevious(ctx, func(record []byte) error {
				got = append(got, string(record))
				return appendRecords(out, string(record))
			})
		}), state.Success)
		if !slices.Equal(got, want) {
			t.Errorf("records %q, want %q", got, want)
		}
	}
}
