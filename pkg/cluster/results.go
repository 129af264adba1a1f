package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A result is a run.Result as one process passes it on to another.
type result struct {
	Stream      string          `json:"stream"`
	Outcome     state.Outcome   `json:"outcome"`
	Err         *taskError      `json:"error,omitempty"`
	UploadID    string          `json:"upload_id"`
	Records     int64           `json:"records"`
	Bytes       int64           `json:"bytes"`
	Duration    time.Duration   `json:"duration_ns"`
	Requests    int64           `json:"requests"`
	Retries     int64           `json:"retries"`
	Waited      time.Duration   `json:"rate_limit_wait_ns"`
	Renamed     int64           `json:"renamed_members"`
	Repaired    int64           `json:"repaired_utf8"`
	Doubts      snapshot.Doubts `json:"doubts,omitempty"`
	LastRecords int64           `json:"last_records"`
	Skipped     []string        `json:"skipped,omitempty"`
	Deliveries  int             `json:"deliveries"`
}

// encodeResults returns results for another process. redact removes secrets from errors.
func encodeResults(results []run.Result, redact func(string) string) (json.RawMessage, error) {
	all := make([]result, 0, len(results))
	for _, r := range results {
		all = append(all, result{
			r.Stream, r.Outcome, newTaskError(r.Err, redact), r.UploadID, r.Records, r.Bytes, r.Duration, r.Requests, r.Retries, r.RateLimitWait,
			r.RenamedMembers, r.RepairedUTF8, r.Doubts, r.LastRecords, r.Skipped, r.DeliveryCount,
		})
	}
	return json.Marshal(all)
}

// decodeResults returns the results of a task that has ended. Streams without one, because no
// process could finish the task, have failed for its reason.
func decodeResults(task state.Task) ([]run.Result, error) {
	var all []result
	if len(task.Results) > 0 {
		if err := json.Unmarshal(task.Results, &all); err != nil {
			return nil, fmt.Errorf("results of task %s: %w", task.ID, err)
		}
	}
	byStream := map[string]bool{}
	var results []run.Result
	for _, r := range all {
		byStream[r.Stream] = true
		one := run.Result{
			Collector: task.Collector, Stream: r.Stream, Outcome: r.Outcome, UploadID: r.UploadID, Records: r.Records, Bytes: r.Bytes,
			Duration: r.Duration, Requests: r.Requests, Retries: r.Retries, RateLimitWait: r.Waited, RenamedMembers: r.Renamed, RepairedUTF8: r.Repaired,
			Doubts: r.Doubts, LastRecords: r.LastRecords, Skipped: r.Skipped, DeliveryCount: r.Deliveries,
		}
		if r.Err != nil {
			one.Err = r.Err
		}
		results = append(results, one)
	}
	if task.State == state.TaskDone { // earlier processes have collected the others
		return results, nil
	}
	for _, stream := range task.Streams {
		if !byStream[stream] {
			results = append(results, run.Result{Collector: task.Collector, Stream: stream, Outcome: endOf(task), Err: errors.New(task.Reason)})
		}
	}
	return results, nil
}

// endOf returns the outcome of the streams of a task that ended without results.
func endOf(task state.Task) state.Outcome {
	if task.Cancelled != "" {
		return state.Cancelled
	}
	return state.Interrupted
}

// stateOf returns how a task with the results has ended, and why.
func stateOf(results []run.Result) (as state.TaskState, reason string) {
	skipped := 0
	for _, r := range results {
		switch {
		case r.Outcome == state.Skipped:
			skipped++
		case !r.Outcome.IsSuccess() && r.Outcome != state.Held:
			reason = r.Stream + ": " + string(r.Outcome)
			if r.Err != nil {
				reason = r.Stream + ": " + r.Err.Error()
			}
			return state.TaskFailed, reason
		}
	}
	if skipped > 0 && skipped == len(results) {
		return state.TaskSkipped, results[0].Err.Error()
	}
	return state.TaskDone, ""
}

// errorKinds are the errors that make a difference to who receives results.
var errorKinds = map[string]error{
	"refused": collector.ErrRefused, "forbidden": collector.ErrForbidden, "locked": state.ErrLocked, "lost": state.ErrLost,
}

// A taskError is the error of a run in another process.
type taskError struct {
	Text  string   `json:"text"`
	Kinds []string `json:"kinds,omitempty"`
	// Until is when the vendor asks to be called again; zero for no request.
	Until time.Time `json:"postponed_until,omitzero"`
}

func newTaskError(err error, redact func(string) string) *taskError {
	if err == nil {
		return nil
	}
	e := &taskError{Text: redact(err.Error())}
	for kind, is := range errorKinds {
		if errors.Is(err, is) {
			e.Kinds = append(e.Kinds, kind)
		}
	}
	if at, asked := collector.PostponedUntil(err); asked {
		e.Until = at
	}
	return e
}

func (e *taskError) Error() string { return e.Text }

// Unwrap returns the errors that the error wrapped in the other process.
func (e *taskError) Unwrap() (all []error) {
	for _, kind := range e.Kinds {
		if is := errorKinds[kind]; is != nil {
			all = append(all, is)
		}
	}
	if !e.Until.IsZero() {
		all = append(all, postponed{e.Until})
	}
	return all
}

// postponed is a [collector.PostponedError].
type postponed struct{ until time.Time }

func (p postponed) Error() string {
	return "the vendor asks to wait until " + p.until.UTC().Format(time.RFC3339)
}
func (p postponed) PostponedUntil() time.Time { return p.until }
