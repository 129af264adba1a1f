package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
)

// TestExportJobsOfRuns checks after which runs the export job and its chunk are kept for
// the next run.
func TestExportJobsOfRuns(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(ctx context.Context, out collector.ResumableOutput) error // the end of the first extraction
		outcome state.Outcome
		want    string // the job that the next run finds
	}{
		{name: "success", end: func(context.Context, collector.ResumableOutput) error { return nil }, outcome: state.Success},
		{
			name: "failure", end: func(context.Context, collector.ResumableOutput) error { return errors.New("503 Service Unavailable") },
			outcome: state.Failed, want: "job 1",
		},
		{
			name: "refused", end: func(context.Context, collector.ResumableOutput) error { return collector.ErrRefused },
			outcome: state.Failed, want: "job 1",
		},
		{
			name:    "disk full",
			end:     func(context.Context, collector.ResumableOutput) error { return fmt.Errorf("write: %w", syscall.ENOSPC) },
			outcome: state.Failed,
		},
		{
			name: "useless job",
			end: func(_ context.Context, out collector.ResumableOutput) error {
				return errors.Join(errors.New("export job: 1 chunk failed"), out.DropJob())
			},
			outcome: state.Failed,
		},
		{name: "panic", end: func(context.Context, collector.ResumableOutput) error { panic("a mistake") }, outcome: state.Failed, want: "job 1"},
		{
			name: "time limit", end: func(ctx context.Context, _ collector.ResumableOutput) error { <-ctx.Done(); return context.Cause(ctx) },
			outcome: state.Timeout, want: "job 1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRunner(t)
				var found string
				var reused bool
				first := true
				job := newJob("tenable", func(ctx context.Context, out collector.Output) (err error) {
					resumable := out.(collector.ResumableOutput)
					if found, err = resumable.FindJob("filters"); err != nil {
						return err
					}
					if err := resumable.BeginJob("filters", "job 1"); err != nil {
						return err
					}
					if reused, err = resumable.ReuseChunk(ctx, "1"); err != nil || reused {
						return err
					}
					if err := extractOne(ctx, resumable.SaveChunk("1")); err != nil || !first {
						return err
					}
					first = false
					return tc.end(ctx, resumable)
				})
				if result := r.Run(t.Context(), job, "test")[0]; result.Outcome != tc.outcome {
					t.Fatalf("outcome %s, error %v, want %s", result.Outcome, result.Err, tc.outcome)
				}
				time.Sleep(5 * time.Minute)
				result := r.Run(t.Context(), job, "test")[0]
				if result.Outcome != state.Success || result.Records != 1 {
					t.Errorf("the next run has the outcome %s, %d records, error %v", result.Outcome, result.Records, result.Err)
				}
				if found != tc.want || reused != (tc.want != "") {
					t.Errorf("the next run found %q and reused its chunk: %v, want %q", found, reused, tc.want)
				}
			})
		})
	}
}

// TestRetryTimeOfRuns checks the retry time of the extraction.
func TestRetryTimeOfRuns(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{0: collector.DefaultRetryTime, 7 * time.Minute: 7 * time.Minute} {
		r := newRunner(t)
		r.RetryTime = set
		var got time.Duration
		r.Run(t.Context(), newJob("okta", func(ctx context.Context, out collector.Output) error {
			got = collector.RetryTime(ctx)
			return extractOne(ctx, out)
		}), "test")
		if got != want {
			t.Errorf("RetryTime %v: the extraction has %v, want %v", set, got, want)
		}
	}
}

// TestFullDiskIsNamed: the error of a run that a full disk ends names the directory.
func TestFullDiskIsNamed(t *testing.T) {
	r := newRunner(t)
	full := fmt.Errorf("spool: %w", syscall.ENOSPC)
	result := r.Run(t.Context(), newJob("okta", func(context.Context, collector.Output) error { return full }), "test")[0]
	want := full.Error() + ": the disk of " + r.State.Dir() + " (STATE_DIR) is full: free space there"
	if result.Outcome != state.Failed || !errors.Is(result.Err, syscall.ENOSPC) || !strings.HasPrefix(result.Err.Error(), want) {
		t.Errorf("outcome %s, error %v, want %q", result.Outcome, result.Err, want)
	}
}
