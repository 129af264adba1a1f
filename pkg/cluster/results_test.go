package cluster

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// postponedUntil is an error of a vendor that asks to wait.
type postponedUntil struct{ time.Time }

func (p postponedUntil) Error() string             { return "429" }
func (p postponedUntil) PostponedUntil() time.Time { return p.Time }

// Results arrive as they were sent, without secrets, and with the errors that make a difference.
func TestResultsArrive(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	sent := []run.Result{
		{Collector: "okta", Stream: "okta_users", Outcome: state.Success, UploadID: "id", Records: 1, Bytes: 2, Duration: 3, Requests: 4, Retries: 5,
			RateLimitWait: 6, RenamedMembers: 7, RepairedUTF8: 8, LastRecords: 9, Skipped: []string{"s3"}, DeliveryCount: 10, Doubts: snapshot.Doubts{}},
		{Collector: "okta", Stream: "okta_groups", Outcome: state.Failed,
			Err: fmt.Errorf("token=5512: %w: %w", collector.ErrRefused, errors.Join(state.ErrLocked, postponedUntil{at}))},
	}
	encoded, err := encodeResults(sent, func(text string) string { return strings.ReplaceAll(text, "5512", "***") })
	if err != nil || strings.Contains(string(encoded), "5512") {
		t.Fatalf("%s, %v", encoded, err)
	}
	task := state.Task{Collector: "okta", Streams: []string{"okta_users", "okta_groups", "okta_apps"}, State: state.TaskFailed, Results: encoded, Reason: "died"}
	got, err := decodeResults(task)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	got[0].Doubts = sent[0].Doubts
	if !reflect.DeepEqual(got[0], sent[0]) {
		t.Errorf("got %+v\nwant %+v", got[0], sent[0])
	}
	failure := got[1].Err
	until, asked := collector.PostponedUntil(failure)
	if !errors.Is(failure, collector.ErrRefused) || !errors.Is(failure, state.ErrLocked) || errors.Is(failure, collector.ErrForbidden) || !asked || !until.Equal(at) {
		t.Errorf("error %v, postponed until %v", failure, until)
	}
	if failure.Error() == "" || !strings.HasPrefix(failure.Error(), "token=***: ") {
		t.Errorf("text %q", failure)
	}
	if got[2].Stream != "okta_apps" || got[2].Outcome != state.Interrupted || got[2].Err.Error() != "died" {
		t.Errorf("the stream without a result: %+v", got[2])
	}
	task.State = state.TaskDone
	if got, err = decodeResults(task); err != nil || len(got) != 2 {
		t.Errorf("a task that is done: %+v, %v", got, err)
	}
	task.Results = []byte("{")
	if _, err = decodeResults(task); err == nil {
		t.Error("no error for results that are no JSON")
	}
}

func TestStateOf(t *testing.T) {
	failure := errors.New("why")
	for _, tc := range []struct {
		outcomes []state.Outcome
		want     state.TaskState
		reason   string
	}{
		{nil, state.TaskDone, ""},
		{[]state.Outcome{state.Success, state.Empty, state.Held, state.Unchanged}, state.TaskDone, ""},
		{[]state.Outcome{state.Success, state.Timeout}, state.TaskFailed, "s: why"},
		{[]state.Outcome{state.Success, state.Skipped}, state.TaskDone, ""},
		{[]state.Outcome{state.Skipped, state.Skipped}, state.TaskSkipped, "why"},
	} {
		var results []run.Result
		for _, o := range tc.outcomes {
			results = append(results, run.Result{Stream: "s", Outcome: o, Err: failure})
		}
		if as, reason := stateOf(results); as != tc.want || reason != tc.reason {
			t.Errorf("%v: %s %q, want %s %q", tc.outcomes, as, reason, tc.want, tc.reason)
		}
	}
}
