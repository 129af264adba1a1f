package state

import (
	"encoding/json"
	"time"
)

// A Task is a run of streams of a collector that one of the services which share a state has
// planned, and that any of them executes. Every tick of a schedule has exactly one task.
type Task struct {
	// ID is a UUID.
	ID                 string
	Tenancy, Collector string
	Streams            []string
	// Trigger is what planned it, as in the history, such as "schedule".
	Trigger string
	// Schedule identifies the schedule of the streams; "" for a task without a tick.
	Schedule string
	// Tick is when it was due.
	Tick  time.Time
	State TaskState
	// Attempt is 1, and one more for each process that died while it ran the task. Takes counts
	// the processes that have begun it.
	Attempt, Takes int
	// Node identifies the process that has it; "" for none. NodeName is its name,
	// NodeAlive reports whether it says that it is alive, and NodeDraining whether it stops.
	Node, NodeName          string
	NodeAlive, NodeDraining bool
	// Assigned is when the node was chosen, Started when the first one began, and Ended when
	// the task ended; zero for not yet.
	Assigned, Started, Ended time.Time
	// Cancelled is why a person has asked for its end; "" if none has.
	Cancelled string
	// Progress is what the node says about it, and Results are its results.
	Progress, Results json.RawMessage
	// Reason says why it ended otherwise than done.
	Reason string
}

// Since returns when the task began, or for one that waits when it was due.
func (t Task) Since() time.Time {
	if t.State == TaskRunning {
		return t.Started
	}
	return t.Tick
}

// A TaskState is where a task is on its way.
type TaskState string

// The states of tasks.
const (
	TaskRequested TaskState = "requested" // by a person
	TaskDue       TaskState = "due"       // it waits for a slot or a node
	TaskRunning   TaskState = "running"
	TaskDone      TaskState = "done"    // every stream ended with the vendor's data, or is held
	TaskFailed    TaskState = "failed"  // a stream did not
	TaskSkipped   TaskState = "skipped" // the run before was queued or in progress
	TaskMissed    TaskState = "missed"  // a later one makes up for it
)

// IsOpen reports whether the task has not ended.
func (t TaskState) IsOpen() bool { return t == TaskRequested || t == TaskDue || t == TaskRunning }
