// Package cluster shares the runs of collectors among the services that use one state. One of
// them leads: its schedulers plan the runs as tasks, and it chooses the service that executes
// each. Which tasks there are, and who has them, is in the database; River tells a service of
// its tasks.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

// Options are what a Cluster needs.
type Options struct {
	State *shared.State
	// Lease is CLUSTER_LEASE.
	Lease time.Duration
	// Execute executes a task in this process, and returns the results of its streams.
	Execute func(ctx context.Context, task state.Task) []run.Result
	// Progress returns what the streams of a task do that this process executes.
	Progress func(task state.Task) []StreamProgress
	// Requested is called by the leader with a task that a person has asked for in another
	// process. It reports whether a scheduler has it now.
	Requested func(task state.Task) bool
	// HasTenancy reports whether the schedulers of this process have a tenancy.
	HasTenancy func(name string) bool
	// Capacity is called by the leader with the number of tasks that all services may have in
	// progress, and whether none may begin.
	Capacity func(n int, paused bool)
	// Credentials returns what identifies the rate limits of a collector. Collectors with one
	// in common run in the same process.
	Credentials func(tenancy, collector string) []string
	// Redact removes secrets from errors.
	Redact func(string) string
	Log    *zap.Logger
}

// StreamProgress is what the run of one stream does.
type StreamProgress struct {
	Stream   string             `json:"stream"`
	Started  time.Time          `json:"started"`
	Progress collector.Progress `json:"progress"`
}

// A Cluster is this process among the services that share a state.
type Cluster struct {
	Options
	tasks    *shared.Tasks
	handOuts *handOuts

	work    context.Context // of the tasks that this process executes
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	mu        sync.Mutex
	about     shared.NodeInfo
	leader    *leader
	view      View
	tenancies map[string]*sync.WaitGroup // the tasks in progress by their tenancy

	takeovers, refused atomic.Int64
}

var _ schedule.Cluster = (*Cluster)(nil)

// Open joins the services that share a state. The process takes no tasks before Start.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{Options: o, tasks: o.State.Tasks(), tenancies: map[string]*sync.WaitGroup{}}
	c.work, c.cancel = context.WithCancelCause(context.Background())
	var err error
	c.handOuts, err = openHandOuts(ctx, o.State.DB(), o.State.Schema(), o.State.NodeID(), max(o.Lease/10, 50*time.Millisecond), c.take)
	if err != nil {
		return nil, o.State.ExplainOpen(err)
	}
	return c, nil
}

// Start begins to take tasks, as a service with a version, settings and a capacity.
func (c *Cluster) Start(ctx context.Context, about shared.NodeInfo) error {
	if err := c.Describe(ctx, about); err != nil {
		return err
	}
	if err := c.handOuts.begin(ctx); err != nil {
		return c.State.ExplainOpen(err)
	}
	return nil
}

// Describe replaces what the other services know about this one.
func (c *Cluster) Describe(ctx context.Context, about shared.NodeInfo) error {
	c.mu.Lock()
	about.Draining = c.about.Draining
	c.about = about
	c.mu.Unlock()
	return c.State.Describe(ctx, about)
}

// Stop takes no more tasks, and waits for those in progress. When ctx ends, it cancels them and
// returns them to the others.
func (c *Cluster) Stop(ctx context.Context) {
	c.mu.Lock()
	c.about.Draining = true
	about := c.about
	c.mu.Unlock()
	quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := c.State.Describe(quick, about); err != nil {
		c.Log.Warn("the other services do not know yet that this one stops", zap.Error(err))
	}
	if err := c.handOuts.stop(quick); err != nil {
		c.Log.Warn("ending the hand-out of tasks", zap.Error(err))
	}
	ended := make(chan struct{})
	go func() { c.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		c.cancel(fmt.Errorf("%w: %w", errStopping, context.Cause(ctx)))
		<-ended
	}
	c.cancel(errStopping)
}

// stopTimeout bounds what a process that stops tells the others.
const stopTimeout = 5 * time.Second

// errStopping is the cause of the end of tasks when the process stops.
var errStopping = errors.New("this process stops, and another one runs the task")

// take begins a task that River has told this process of.
func (c *Cluster) take(ctx context.Context, id string) error {
	c.mu.Lock()
	isDraining := c.about.Draining
	if !isDraining {
		c.running.Add(1)
	}
	c.mu.Unlock()
	if isDraining {
		return nil // the leader gives it to another one
	}
	task, taken, err := c.tasks.Take(ctx, id)
	if err != nil || !taken {
		c.running.Done()
		return err
	}
	c.tenancy(task.Tenancy).Go(func() {
		defer c.running.Done()
		c.execute(task)
	})
	return nil
}

// tenancy counts the tasks in progress of a tenancy.
func (c *Cluster) tenancy(name string) *sync.WaitGroup {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenancies[name] == nil {
		c.tenancies[name] = &sync.WaitGroup{}
	}
	return c.tenancies[name]
}

// EndTenancy ends the tasks of a tenancy: if this process leads, it cancels those that have not
// ended when grace ends. It waits until this process executes none.
func (c *Cluster) EndTenancy(grace context.Context, tenancy, reason string) (err error) {
	if c.Leads() {
		c.waitForTenancy(grace, tenancy)
		_, err = c.tasks.Cancel(context.WithoutCancel(grace), tenancy, "", reason)
	}
	c.tenancy(tenancy).Wait()
	return err
}

// waitForTenancy waits until no task of a tenancy runs, or ctx ends.
func (c *Cluster) waitForTenancy(ctx context.Context, tenancy string) {
	for ctx.Err() == nil {
		open, err := c.tasks.Unfinished(ctx, tenancy)
		runs := func(t state.Task) bool { return t.State == state.TaskRunning }
		if err == nil && !slices.ContainsFunc(open, runs) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.Lease / 10):
		}
	}
}

// execute executes a task and records its end.
func (c *Cluster) execute(task state.Task) {
	log := c.Log.With(zap.String("collector", task.Collector), zap.String("tenancy", task.Tenancy), zap.String("task", task.ID))
	ctx, cancel := context.WithCancelCause(c.work)
	watching, stopWatching := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { c.watch(watching, task, cancel) })
	results := c.Execute(ctx, task)
	stopWatching()
	watch.Wait()
	// It is another process's then, from the beginning: neither is a failure of the run.
	isReturned := hasLost(results) || c.work.Err() != nil && hasCancelled(results)
	if hasFullDisk(results) && task.Takes < maxAttempts && c.hasOthers() {
		isReturned = true
		log.Warn("the disk of STATE_DIR has no space for a task; another service runs it")
	}
	cancel(nil)
	for {
		err := c.finish(task, results, isReturned)
		if err == nil {
			break
		}
		if errors.Is(err, state.ErrLost) {
			c.refused.Add(1)
			log.Warn("the results of a task do not count", zap.Error(err))
			break
		}
		if c.work.Err() != nil { // the leader gives the task to another process when this one has ended
			log.Error("the end of a task was not recorded", zap.Error(err))
			break
		}
		log.Error("the end of a task was not recorded; it is tried again", zap.Duration("in", c.Lease), zap.Error(err))
		select {
		case <-c.work.Done():
		case <-time.After(c.Lease):
		}
	}
	c.wakeLeader()
}

// finish records the results of a task, or returns it to the other services.
func (c *Cluster) finish(task state.Task, results []run.Result, isReturned bool) error {
	if isReturned {
		return c.tasks.Return(context.Background(), task)
	}
	encoded, err := encodeResults(results, c.Redact)
	if err != nil {
		return err
	}
	as, reason := stateOf(results)
	return c.tasks.Finish(context.Background(), task, as, encoded, reason)
}

// hasCancelled reports whether a stream was cancelled.
func hasCancelled(results []run.Result) bool {
	return slices.ContainsFunc(results, func(r run.Result) bool { return r.Outcome == state.Cancelled })
}

// hasLost reports whether the lock of a stream was lost, because this process did not run for a
// while or could not reach the database.
func hasLost(results []run.Result) bool {
	return slices.ContainsFunc(results, func(r run.Result) bool { return errors.Is(r.Err, state.ErrLost) })
}

// hasFullDisk reports whether a stream failed because the disk of this machine is full.
func hasFullDisk(results []run.Result) bool {
	return slices.ContainsFunc(results, func(r run.Result) bool { return run.IsDiskFull(r.Err) })
}

// hasOthers reports whether there is another service to which the leader may give tasks, as far as
// this one knows.
func (c *Cluster) hasOthers() bool {
	return slices.ContainsFunc(c.View().Nodes, func(n shared.Node) bool { return n.ID != c.State.NodeID() && c.canWork(n) })
}

// canWork reports whether a service may have tasks: one whose settings differ from those of this
// one may lack a collector, or collect something else.
func (c *Cluster) canWork(n shared.Node) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.Service && n.Alive && !n.Draining && n.Capacity > 0 && n.Settings == c.about.Settings
}

// errCancelled is the cause of the end of a task that a person has cancelled.
var errCancelled = errors.New("cancelled")

// watch records the progress of a task until ctx ends. It cancels one that a person has cancelled,
// or that is another process's by now.
func (c *Cluster) watch(ctx context.Context, task state.Task, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(c.Lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		progress, err := json.Marshal(c.Progress(task))
		if err != nil {
			progress = nil // it is only shown
		}
		cancelled, err := c.tasks.NoteProgress(ctx, task, progress)
		switch {
		case errors.Is(err, state.ErrLost):
			cancel(err)
			return
		case cancelled != "":
			cancel(fmt.Errorf("%w: %s", errCancelled, cancelled))
			return
		}
	}
}

// Counts are what has happened in this process.
type Counts struct {
	// Takeovers counts the tasks of processes that died, which this one has given to others
	// as the leader. Refused counts the tasks of this process whose results did not count.
	Takeovers, Refused int64
}

// Counts returns the counts of this process.
func (c *Cluster) Counts() Counts { return Counts{c.takeovers.Load(), c.refused.Load()} }

// Record implements [schedule.Cluster].
func (c *Cluster) Record(ctx context.Context, tasks []state.Task) error {
	return c.tasks.Record(ctx, tasks)
}

// Request implements [schedule.Cluster].
func (c *Cluster) Request(ctx context.Context, task state.Task) error {
	return c.tasks.Request(ctx, task)
}

// End implements [schedule.Cluster].
func (c *Cluster) End(ctx context.Context, id string, as state.TaskState, reason string) error {
	return c.tasks.End(ctx, id, as, reason)
}

// LastTicks implements [schedule.Cluster].
func (c *Cluster) LastTicks(ctx context.Context, tenancy string) ([]state.Task, error) {
	return c.tasks.LastTicks(ctx, tenancy)
}

// Unfinished implements [schedule.Cluster].
func (c *Cluster) Unfinished(ctx context.Context, tenancy string) ([]state.Task, error) {
	return c.tasks.Unfinished(ctx, tenancy)
}
