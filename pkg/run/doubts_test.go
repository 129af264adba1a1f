package run

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// TestDoubtsAreRecorded checks where the doubts of successful and failed runs appear.
func TestDoubtsAreRecorded(t *testing.T) {
	doubts := snapshot.Doubts{{Text: "received fewer hosts than declared", Count: 3}, {Text: "applications without a finished scan", Count: 12}}
	addDoubts := func(ctx context.Context) {
		for _, d := range doubts {
			collector.StatsFrom(ctx).AddDoubt(d.Text, d.Count)
		}
	}
	for _, tc := range []struct {
		name    string
		extract func(context.Context, collector.Output) error
		outcome state.Outcome
		want    snapshot.Doubts
	}{
		{
			name: "success", outcome: state.Success, want: doubts,
			extract: func(ctx context.Context, out collector.Output) error {
				addDoubts(ctx)
				return extractOne(ctx, out)
			},
		},
		{
			name: "failure", outcome: state.Failed, want: doubts,
			extract: func(ctx context.Context, out collector.Output) error {
				addDoubts(ctx)
				return errors.New("no")
			},
		},
		{
			name: "success of an extraction that starts over", outcome: state.Success, want: nil,
			extract: func(ctx context.Context, out collector.Output) error {
				addDoubts(ctx)
				if err := out.Reset(); err != nil {
					return err
				}
				return extractOne(ctx, out)
			},
		},
		{name: "success without doubts", outcome: state.Success, want: nil, extract: extractOne},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRunner(t)
			core, logs := observer.New(zap.InfoLevel)
			r.Log = zap.New(core)
			result := r.Run(t.Context(), newJob("okta", tc.extract), "test")[0]
			if result.Outcome != tc.outcome {
				t.Errorf("outcome %s, error %v, want %s", result.Outcome, result.Err, tc.outcome)
			}
			history, err := r.State.Runs.List(t.Context(), "okta", 10)
			if err != nil || len(history) != 1 {
				t.Fatalf("history %+v, error %v", history, err)
			}
			for name, got := range map[string]snapshot.Doubts{"result": result.Doubts, "history": history[0].Doubts, "log": loggedDoubts(logs)} {
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			sealed, _, err := r.State.Snapshots.LastKnown(t.Context(), "okta", "acme")
			if tc.outcome == state.Success && (err != nil || !cmp.Equal(sealed.Doubts, tc.want)) {
				t.Errorf("the manifest has the doubts %v, want %v; error %v", sealed.Doubts, tc.want, err)
			}
			var total any
			if len(tc.want) > 0 {
				total = int64(15)
			}
			if got := resultLine(logs)["doubts"]; got != total {
				t.Errorf("the line of the stream has the doubts %v, want %v", got, total)
			}
		})
	}
}

// loggedDoubts returns the doubts of the warnings in a log.
func loggedDoubts(logs *observer.ObservedLogs) (doubts snapshot.Doubts) {
	for _, line := range logs.FilterMessage("a doubt about the data was accepted").All() {
		fields := line.ContextMap()
		if line.Level == zap.WarnLevel && fields["stream"] == "okta" {
			doubts = append(doubts, snapshot.Doubt{Text: fields["doubt"].(string), Count: fields["count"].(int64)})
		}
	}
	return doubts
}

// resultLine returns the fields of the line about the result of the stream.
func resultLine(logs *observer.ObservedLogs) map[string]any {
	for _, line := range logs.All() {
		if fields := line.ContextMap(); fields["outcome"] != nil {
			return fields
		}
	}
	return nil
}
