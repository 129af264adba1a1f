package shared

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// lead lets a node lead, and returns its tasks.
func (t testNode) lead() *Tasks {
	t.T.Helper()
	t.AfterOwnerDied(func() error { _, err := t.Locks.LockService(); return err })
	return t.tasks()
}

func (t testNode) tasks() *Tasks { return t.Backend.(*State).Tasks() }

// newTick returns the task of the nth tick of okta.
func newTick(n int) state.Task {
	return state.Task{
		ID: uuid.NewString(), Tenancy: "acme", Collector: "okta", Streams: []string{"okta_users", "okta_groups"}, Trigger: "schedule",
		Schedule: "@hourly", Tick: statetest.Day.Add(time.Duration(n) * time.Hour), State: state.TaskDue,
	}
}

// record records tasks.
func record(t *testing.T, tasks *Tasks, all ...state.Task) {
	t.Helper()
	if err := tasks.Record(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

// noHandOut tells no process of a task.
func noHandOut(context.Context, *sql.Tx) error { return nil }

// assign assigns a task to a node, which takes it.
func assign(t *testing.T, leader *Tasks, id string, to testNode) state.Task {
	t.Helper()
	assigned, err := leader.Assign(t.Context(), id, to.id, noHandOut)
	if err != nil || !assigned {
		t.Fatalf("assigned %v, error %v", assigned, err)
	}
	task, taken, err := to.tasks().Take(t.Context(), id)
	if err != nil || !taken {
		t.Fatalf("taken %v, error %v", taken, err)
	}
	return task
}

// readTask returns a task.
func readTask(t *testing.T, tasks *Tasks, id string) state.Task {
	t.Helper()
	all, err := tasks.Read(t.Context(), []string{id})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(task state.Task) bool { return task.ID == id })
	if i < 0 {
		t.Fatalf("task %s is missing", id)
	}
	return all[i]
}

// A task goes from its tick to its results.
func TestTask(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	tasks := a.lead()
	want := newTick(1)
	record(t, tasks, want)
	got := readTask(t, b.tasks(), want.ID)
	want.Attempt = 1
	statetest.AssertEqual(t, "recorded", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	task := assign(t, tasks, want.ID, b)
	if task.State != state.TaskRunning || task.Takes != 1 || task.Started.IsZero() || task.Assigned.IsZero() {
		t.Errorf("taken: %+v", task)
	}
	cancelled, err := b.tasks().NoteProgress(t.Context(), task, json.RawMessage(`{"n":1}`))
	if err != nil || cancelled != "" {
		t.Errorf("progress: %q, %v", cancelled, err)
	}
	got = readTask(t, tasks, want.ID)
	if string(got.Progress) != `{"n":1}` || got.NodeName != "node-b" || !got.NodeAlive || got.NodeDraining {
		t.Errorf("running: %+v", got)
	}
	if n, err := a.tasks().Cancel(t.Context(), "", "okta", "cancelled by a test"); n != 1 || err != nil {
		t.Errorf("cancel: %d, %v", n, err)
	}
	if cancelled, err = b.tasks().NoteProgress(t.Context(), task, nil); err != nil || cancelled != "cancelled by a test" {
		t.Errorf("progress after Cancel: %q, %v", cancelled, err)
	}
	if err := b.tasks().Finish(t.Context(), task, state.TaskFailed, json.RawMessage(`[]`), "why"); err != nil {
		t.Fatal(err)
	}
	got = readTask(t, tasks, want.ID)
	if got.State != state.TaskFailed || got.Reason != "why" || string(got.Results) != "[]" || got.Ended.IsZero() || got.Progress != nil {
		t.Errorf("ended: %+v", got)
	}
	if err := b.tasks().Finish(t.Context(), task, state.TaskDone, nil, ""); !errors.Is(err, state.ErrLost) {
		t.Errorf("ended twice: %v", err)
	}
	open, err := tasks.Unfinished(t.Context(), "acme")
	if err != nil || len(open) != 0 {
		t.Errorf("unfinished: %+v, %v", open, err)
	}
}

// A tick has one task, whoever records it, and only the leader does.
func TestTickIsRecordedOnce(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	if err := b.tasks().Record(t.Context(), []state.Task{newTick(1)}); !errors.Is(err, state.ErrLost) {
		t.Errorf("a node that does not lead: error %v", err)
	}
	first, second := newTick(1), newTick(1)
	record(t, a.lead(), first)
	record(t, a.tasks(), first, newTick(2))
	other := newTick(1)
	other.Schedule = "@daily"
	record(t, a.tasks(), second, other)
	a.stopBeats()
	tasks := b.lead()
	record(t, tasks, newTick(2), newTick(3))
	open, err := tasks.Unfinished(t.Context(), "acme")
	var ticks []string
	for _, task := range open {
		ticks = append(ticks, task.Schedule+task.Tick.Format(" 15"))
	}
	slices.Sort(ticks)
	if err != nil || fmt.Sprint(ticks) != "[@daily 07 @hourly 07 @hourly 08 @hourly 09]" {
		t.Errorf("ticks %v, %v", ticks, err)
	}
	statetest.AssertEqual(t, "the first of the tick", readTask(t, tasks, first.ID).ID, first.ID)
	if err := a.tasks().Record(t.Context(), []state.Task{newTick(9)}); !errors.Is(err, state.ErrLost) {
		t.Errorf("the leader before: error %v", err)
	}
	if _, err := a.tasks().Assign(t.Context(), first.ID, a.id, noHandOut); !errors.Is(err, state.ErrLost) {
		t.Errorf("the leader before assigns: error %v", err)
	}
	last, err := tasks.LastTicks(t.Context(), "acme")
	if err != nil || len(last) != 2 || last[0].Schedule != "@daily" || !last[1].Tick.Equal(newTick(3).Tick) {
		t.Errorf("last ticks %+v, %v", last, err)
	}
}

// The task of a process that dies is another one's, and what the first one does then is refused.
func TestTaskOfDeadNode(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	tasks := a.lead()
	due := newTick(1)
	record(t, tasks, due)
	lost := assign(t, tasks, due.ID, b)
	if changed, err := tasks.GiveBack(t.Context(), lost, 3); changed || err != nil {
		t.Errorf("a node that is alive: changed %v, error %v", changed, err)
	}
	b.stopBeats()
	for attempt := 2; attempt <= 4; attempt++ {
		waitUntil(t, "the task is due again", func() bool {
			changed, err := tasks.GiveBack(t.Context(), lost, 3)
			return changed && err == nil
		})
		got := readTask(t, tasks, due.ID)
		if attempt == 4 {
			if got.State != state.TaskFailed || got.Reason == "" || got.Ended.IsZero() {
				t.Errorf("after three attempts: %+v", got)
			}
			break
		}
		if got.State != state.TaskDue || got.Attempt != attempt || got.Node != "" {
			t.Errorf("attempt %d: %+v", attempt, got)
		}
		if err := b.tasks().Finish(t.Context(), lost, state.TaskDone, nil, ""); !errors.Is(err, state.ErrLost) {
			t.Errorf("the process before ends the task: %v", err)
		}
		if _, err := b.tasks().NoteProgress(t.Context(), lost, nil); !errors.Is(err, state.ErrLost) {
			t.Errorf("progress of the process before: %v", err)
		}
		next := assign(t, tasks, due.ID, b) // as if it took it just before it died
		if !next.Started.Equal(lost.Started) || next.Takes != attempt {
			t.Errorf("attempt %d: started %v, takes %d, want %v", attempt, next.Started, next.Takes, lost.Started)
		}
		lost = next
	}
}

// A task that its process returns is due again, and this is no attempt.
func TestTaskIsReturned(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	tasks := a.lead()
	due := newTick(1)
	record(t, tasks, due)
	task := assign(t, tasks, due.ID, b)
	if err := b.tasks().Return(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if got := readTask(t, tasks, due.ID); got.State != state.TaskDue || got.Attempt != 1 || !got.Assigned.IsZero() {
		t.Errorf("returned: %+v", got)
	}
	if again := assign(t, tasks, due.ID, a); again.Takes != 2 {
		t.Errorf("taken again: %+v", again)
	}
	if err := b.tasks().Return(t.Context(), task); !errors.Is(err, state.ErrLost) {
		t.Errorf("returned twice: %v", err)
	}
}

// A person's request is a task that the leader assigns. One that is cancelled before does not begin.
func TestTaskIsRequested(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	tasks := a.lead()
	wanted := newTick(1)
	wanted.Schedule, wanted.Trigger = "", "manual"
	if err := b.tasks().Request(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	statetest.AssertEqual(t, "state", readTask(t, tasks, wanted.ID).State, state.TaskRequested)
	if _, err := b.tasks().Cancel(t.Context(), "acme", "", "no more"); err != nil {
		t.Fatal(err)
	}
	if assigned, err := tasks.Assign(t.Context(), wanted.ID, b.id, noHandOut); !assigned || err != nil {
		t.Errorf("assigned %v, %v", assigned, err)
	}
	if _, taken, err := b.tasks().Take(t.Context(), wanted.ID); taken || err != nil {
		t.Errorf("a cancelled task: taken %v, %v", taken, err)
	}
	if err := tasks.End(t.Context(), wanted.ID, state.TaskFailed, "no more"); err != nil {
		t.Fatal(err)
	}
	if got := readTask(t, tasks, wanted.ID); got.State != state.TaskFailed || got.Cancelled != "no more" || got.Reason != "no more" {
		t.Errorf("ended: %+v", got)
	}
	if _, taken, err := a.tasks().Take(t.Context(), "unknown"); taken || err != nil {
		t.Errorf("an unknown task: taken %v, %v", taken, err)
	}
}

// Old tasks are deleted, but not the newest of a schedule, and those of a tenancy with it.
func TestTasksAreDeleted(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a := p.openNode(t, "node-a")
	tasks := a.lead()
	var all []state.Task
	for n := range 3 {
		task := newTick(n)
		task.State = state.TaskMissed
		all = append(all, task)
	}
	manual, open := newTick(0), newTick(4)
	manual.Schedule, manual.State, open.Schedule = "", state.TaskSkipped, "open"
	record(t, tasks, append(all, manual, open)...)
	a.RequireNoError(a.Sweep(t.Context(), time.Hour))
	count := func() int { return len(a.QueryTexts(`SELECT id FROM ` + a.engine.name("tasks"))) }
	statetest.AssertEqual(t, "tasks after an hour", count(), 5)
	a.RequireNoError(tasks.deleteBefore(t.Context(), time.Now().Add(time.Hour)))
	statetest.AssertEqual(t, "tasks", count(), 2)
	last, err := tasks.LastTicks(t.Context(), "acme")
	a.RequireNoError(err)
	statetest.AssertEqual(t, "schedules", len(last), 2)
	a.RequireNoError(a.ForgetTenancy(t.Context(), "acme"))
	statetest.AssertEqual(t, "tasks of a tenancy that is forgotten", count(), 0)
}

// A pause is seen by all, and begins once.
func TestPause(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	read := func() Pause {
		pause, err := b.Backend.(*State).ReadPause(t.Context())
		b.RequireNoError(err)
		return pause
	}
	if pause := read(); !pause.Since.IsZero() {
		t.Errorf("before: %+v", pause)
	}
	a.RequireNoError(a.Backend.(*State).Pause(t.Context(), "a person"))
	first := read()
	if first.Since.IsZero() || first.By != "a person" {
		t.Errorf("paused: %+v", first)
	}
	a.RequireNoError(a.Backend.(*State).Pause(t.Context(), "another"))
	if again := read(); !again.Since.Equal(first.Since) {
		t.Errorf("paused again: %+v, before %+v", again, first)
	}
	a.RequireNoError(b.Backend.(*State).Resume(t.Context()))
	if pause := read(); !pause.Since.IsZero() {
		t.Errorf("resumed: %+v", pause)
	}
}

// A service says what it is, and how many tasks it has.
func TestNodeIsDescribed(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	want := NodeInfo{Version: "1.2.3", Settings: "sum", Capacity: 8}
	b.RequireNoError(b.Backend.(*State).Describe(t.Context(), want))
	tasks := a.lead()
	due := newTick(1)
	record(t, tasks, due)
	assign(t, tasks, due.ID, b)
	nodes, err := a.Backend.(*State).Nodes(t.Context())
	a.RequireNoError(err)
	if len(nodes) != 2 || !nodes[0].Leads || nodes[1].Leads || nodes[1].NodeInfo != want || nodes[1].Tasks != 1 || nodes[0].Tasks != 0 {
		t.Errorf("nodes %+v", nodes)
	}
}
