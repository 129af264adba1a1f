package run

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// newRunner returns a Runner over an empty state directory. Its snapshots are queued for
// the destination "file".
func newRunner(t *testing.T) *Runner {
	t.Helper()
	st, err := local.Open(t.Context(), filepath.Join(t.TempDir(), "state"), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Runner{
		State: st, Tenancy: "acme", Policy: state.Policy{Sinks: []string{"file"}},
		Timeout: time.Hour, IdleTimeout: time.Hour, Parallel: 1, Active: &ActiveRuns{}, Log: zap.NewNop(),
	}
}

// extractOne is an extraction of one record.
func extractOne(_ context.Context, out collector.Output) error {
	b := out.NewBatch()
	defer b.Discard()
	if err := b.Append([]byte(`{"n":1}`)); err != nil {
		return err
	}
	return b.Commit()
}

// newJob returns a job of a collector with one stream, which has the collector's name.
func newJob(name string, extract func(context.Context, collector.Output) error) Job {
	return Job{Collector: &collector.Collector{Name: name, Streams: []collector.Stream{{Name: name, Extract: extract}}}}
}

// TestVendorPanicFailsOnlyItsStream checks that a bug in the code of a stream fails that
// stream alone.
func TestVendorPanicFailsOnlyItsStream(t *testing.T) {
	r := newRunner(t)
	results := r.Run(t.Context(), Job{Collector: &collector.Collector{Name: "okta", Streams: []collector.Stream{
		{Name: "okta_groups", Extract: func(context.Context, collector.Output) error { panic("a mistake in the vendor's code") }},
		{Name: "okta_users", Extract: extractOne},
	}}}, "test")
	err := results[0].Err
	if results[0].Outcome != state.Failed || err == nil || !strings.Contains(err.Error(), "a mistake in the vendor's code") {
		t.Errorf("result of the stream that panics: %+v", results[0])
	}
	if results[1].Outcome != state.Success || results[1].Records != 1 {
		t.Errorf("result of the other stream: %+v", results[1])
	}
}

// TestRunSealsAndReports checks what a successful run leaves behind and which callbacks it calls.
func TestRunSealsAndReports(t *testing.T) {
	r := newRunner(t)
	sealed := 0
	var ended []Result
	r.OnSealed = func() { sealed++ }
	r.OnEnded = func(result Result) { ended = append(ended, result) }
	results := r.Run(t.Context(), newJob("okta", extractOne), "test")
	if len(results) != 1 || !results[0].OK() || results[0].Outcome != state.Success || results[0].DeliveryCount != 1 {
		t.Errorf("results: %+v", results)
	}
	if diff := cmp.Diff(results, ended); diff != "" || sealed != 1 {
		t.Errorf("OnSealed was called %d times; OnEnded (-want +got):\n%s", sealed, diff)
	}
	queue, err := r.State.Queue.List(t.Context())
	if err != nil || len(queue) != 1 || queue[0].UploadID != results[0].UploadID {
		t.Errorf("queue: %+v, error: %v", queue, err)
	}
	if active := r.Active.List(); len(active) != 0 {
		t.Errorf("%d runs are still active", len(active))
	}
}

// TestRunDoesNotWaitForALock checks that a stream that another process collects is
// skipped, and that the other streams of its collector run meanwhile.
func TestRunDoesNotWaitForALock(t *testing.T) {
	r := newRunner(t)
	lock, err := r.State.Locks.LockStream("okta_users", r.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	okta := Job{Collector: &collector.Collector{Name: "okta", Streams: []collector.Stream{
		{Name: "okta_users", Extract: extractOne}, {Name: "okta_groups", Extract: extractOne},
	}}}
	results := r.Run(t.Context(), okta, "test")
	if len(results) != 2 || results[0].Outcome != state.Skipped || !errors.Is(results[0].Err, state.ErrLocked) {
		t.Errorf("results: %+v", results)
	}
	if results[1].Stream != "okta_groups" || results[1].Outcome != state.Success {
		t.Errorf("result of the stream that is not locked: %+v", results[1])
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestRunKeepsTheSpoolOfAnotherStream checks that a run of one stream leaves a run of
// another stream of the same collector alone that is in progress.
func TestRunKeepsTheSpoolOfAnotherStream(t *testing.T) {
	r := newRunner(t)
	half, proceed := make(chan struct{}), make(chan struct{})
	slow := func(_ context.Context, out collector.Output) error {
		if err := extractOne(t.Context(), out); err != nil {
			return err
		}
		close(half)
		<-proceed
		return extractOne(t.Context(), out)
	}
	okta := &collector.Collector{Name: "okta", Streams: []collector.Stream{
		{Name: "okta_users", Extract: slow}, {Name: "okta_groups", Extract: extractOne},
	}}
	users := make(chan []Result)
	go func() { users <- r.Run(t.Context(), Job{Collector: okta, Streams: []string{"okta_users"}}, "test") }()
	<-half
	groups := r.Run(t.Context(), Job{Collector: okta, Streams: []string{"okta_groups"}}, "test")
	close(proceed)
	for _, results := range [][]Result{groups, <-users} {
		if len(results) != 1 || results[0].Outcome != state.Success || results[0].Err != nil {
			t.Errorf("results: %+v", results)
		}
	}
	runs, err := r.State.Runs.List(t.Context(), "okta_users", 10)
	if err != nil || len(runs) != 1 || runs[0].Outcome != state.Success || runs[0].Records != 2 {
		t.Errorf("history of the slow stream: %+v, %v", runs, err)
	}
}

// TestRunAll checks that each collector waits until it may run, that results have
// the order of the jobs, and that a collector that has not started is cancelled.
func TestRunAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t)
		slots := make(chan struct{}, 2)
		acquire := func(ctx context.Context, _ string) (release func(), err error) {
			select {
			case slots <- struct{}{}:
				return func() { <-slots }, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		var mu sync.Mutex
		peak := 0
		slow := func(ctx context.Context, out collector.Output) error {
			mu.Lock()
			peak = max(peak, len(r.Active.List()))
			mu.Unlock()
			select {
			case <-time.After(time.Minute):
				return extractOne(ctx, out)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		jobs := []Job{newJob("a", slow), newJob("b", slow), newJob("c", slow), newJob("d", slow)}
		outcomes := func(results []Result) (all []string) {
			for _, result := range results {
				all = append(all, result.Collector+" "+string(result.Outcome))
			}
			return all
		}
		want := []string{"a success", "b success", "c success", "d success"}
		if diff := cmp.Diff(want, outcomes(r.RunAll(t.Context(), jobs, "test", acquire))); diff != "" || peak != 2 {
			t.Errorf("at most %d ran at once, want 2; outcomes (-want +got):\n%s", peak, diff)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		want = []string{"a cancelled", "b cancelled", "c cancelled", "d cancelled"}
		if diff := cmp.Diff(want, outcomes(r.RunAll(ctx, jobs, "test", acquire))); diff != "" {
			t.Errorf("after a cancellation: outcomes (-want +got):\n%s", diff)
		}
	})
}

// TestTimeouts checks which limit ends an extraction that does not return, and when.
func TestTimeouts(t *testing.T) {
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for _, tc := range []struct {
		name          string
		timeout, idle time.Duration
		extract       func(ctx context.Context, stats *collector.Stats) error
		wantAfter     time.Duration
		wantError     string
	}{
		{
			name: "nothing received", timeout: time.Hour, idle: 10 * time.Minute, wantAfter: 10 * time.Minute,
			wantError: "(RUN_IDLE_TIMEOUT); stuck at: GET /users",
			extract: func(ctx context.Context, stats *collector.Stats) error {
				stats.CountRequest("GET /users", 1)
				return hang(ctx)
			},
		},
		{
			name: "records received after a while", timeout: time.Hour, idle: 10 * time.Minute, wantAfter: 15 * time.Minute,
			wantError: "RUN_IDLE_TIMEOUT",
			extract: func(ctx context.Context, stats *collector.Stats) error {
				time.Sleep(5 * time.Minute)
				stats.CountBatch(1, 10)
				return hang(ctx)
			},
		},
		{
			name: "received all the time", timeout: time.Hour, idle: 10 * time.Minute, wantAfter: time.Hour,
			wantError: "the run took longer than RUN_TIMEOUT, 1h0m0s",
			extract: func(ctx context.Context, stats *collector.Stats) error {
				for ctx.Err() == nil {
					stats.CountBatch(1, 10)
					select {
					case <-ctx.Done():
					case <-time.After(time.Minute):
					}
				}
				return context.Cause(ctx)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRunner(t)
				r.Timeout, r.IdleTimeout = tc.timeout, tc.idle
				extract := func(ctx context.Context, _ collector.Output) error {
					return tc.extract(ctx, r.Active.List()[0].Stats)
				}
				result := r.Run(t.Context(), newJob("okta", extract), "test")[0]
				if result.Outcome != state.Timeout || result.Err == nil || !strings.Contains(result.Err.Error(), tc.wantError) {
					t.Errorf("outcome %s, error %v, want a timeout with %q", result.Outcome, result.Err, tc.wantError)
				}
				if late := result.Duration - tc.wantAfter; late < 0 || late > tc.idle/10 {
					t.Errorf("the run ended after %v, want %v", result.Duration, tc.wantAfter)
				}
			})
		})
	}
}

func TestJobStreamNames(t *testing.T) {
	c := &collector.Collector{Name: "okta", Streams: []collector.Stream{{Name: "okta_groups"}, {Name: "okta_users"}}}
	for _, tc := range []struct {
		name    string
		streams []string
		want    []string
	}{
		{name: "all", streams: nil, want: []string{"okta_groups", "okta_users"}},
		{name: "one", streams: []string{"okta_users"}, want: []string{"okta_users"}},
		{name: "in the collector's order", streams: []string{"okta_users", "okta_groups"}, want: []string{"okta_groups", "okta_users"}},
		{name: "unknown", streams: []string{"okta_devices"}, want: nil},
	} {
		if diff := cmp.Diff(tc.want, Job{Collector: c, Streams: tc.streams}.StreamNames()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
