package cluster

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

const (
	// maxAttempts is how many processes may die that run a task; then it has failed.
	maxAttempts = 3
	// credentialPause is how long the limits of a credential stay where they were last used.
	credentialPause = time.Minute
)

// A leader gives tasks to services while this process leads.
type leader struct {
	*Cluster
	wake chan struct{}

	mu      sync.Mutex
	waiters map[string]chan state.Task // who waits for the end of a task, by its id

	// What follows is only the loop's.
	nodes     []shared.Node
	nodesRead time.Time
	cleaned   time.Time       // when clean was tried last
	requested map[string]bool // the tasks that a scheduler has, of those asked for elsewhere
	used      map[string]use  // by the credential; nil before those of earlier leaders are read
}

// A use is when and where the limits of a credential were last used.
type use struct {
	node string
	at   time.Time
}

// Lead gives tasks to services until ctx ends, and returns the function that waits for that. The
// caller holds the lock of the service.
func (c *Cluster) Lead(ctx context.Context) (wait func()) {
	l := &leader{Cluster: c, wake: make(chan struct{}, 1), waiters: map[string]chan state.Task{}, requested: map[string]bool{}}
	c.mu.Lock()
	c.leader = l
	c.mu.Unlock()
	var loop sync.WaitGroup
	loop.Go(func() {
		for ctx.Err() == nil {
			timer := time.NewTimer(l.iterate(ctx))
			select {
			case <-ctx.Done():
			case <-l.wake:
			case <-timer.C:
			}
			timer.Stop()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.leader = nil
	})
	return loop.Wait
}

// currentLeader returns the leader that this process is; nil when another one leads.
func (c *Cluster) currentLeader() *leader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader
}

// wakeLeader makes the loop of the leader iterate, if this process leads.
func (c *Cluster) wakeLeader() {
	l := c.currentLeader()
	if l == nil {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// ExecuteTask implements [schedule.Cluster]: it has a task executed by one of the services, and
// returns the results. ended is false when ctx ends before: another leader then has the task.
func (c *Cluster) ExecuteTask(ctx context.Context, task state.Task) (results []run.Result, ended bool) {
	l := c.currentLeader()
	if l == nil {
		return nil, false
	}
	end := make(chan state.Task, 1)
	l.mu.Lock()
	l.waiters[task.ID] = end
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiters, task.ID)
		l.mu.Unlock()
	}()
	c.wakeLeader()
	select {
	case task = <-end:
	case <-ctx.Done():
		return nil, false
	}
	results, err := decodeResults(task)
	if err != nil {
		results = run.Failures(task.Collector, task.Streams, err)
	}
	return results, true
}

// iterate looks at all tasks once, and returns how long the loop may sleep.
func (l *leader) iterate(ctx context.Context) time.Duration {
	idle, busy := l.Lease/10, max(l.Lease/20, 20*time.Millisecond)
	awaited := l.awaited()
	tasks, err := l.tasks.Read(ctx, awaited)
	if err == nil {
		err = l.readNodes(ctx)
	}
	if err == nil {
		err = l.readUses(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.noteView(func(v *View) { v.Err = err })
			l.Log.Warn("the tasks of the services cannot be read; it is tried again", zap.Duration("in", idle), zap.Error(err))
		}
		return idle
	}
	l.endLost(awaited, tasks)
	l.noteUses(tasks)
	open := 0
	for i := range tasks {
		if tasks[i].State.IsOpen() {
			open++
		}
		l.handle(ctx, &tasks[i], tasks)
	}
	l.publish(tasks)
	l.clean(ctx)
	if open == 0 {
		return idle
	}
	return busy
}

// clean removes from time to time what River has left.
func (l *leader) clean(ctx context.Context) {
	if time.Since(l.cleaned) < cleanInterval {
		return
	}
	l.cleaned = time.Now()
	if err := l.handOuts.clean(ctx); err != nil && ctx.Err() == nil {
		l.Log.Warn("it is tried again", zap.Duration("in", cleanInterval), zap.Error(err))
	}
}

// endLost ends the waiting for tasks that are not in the database: a failover has lost them, or
// another process had the same tick.
func (l *leader) endLost(awaited []string, tasks []state.Task) {
	known := map[string]bool{}
	for _, t := range tasks {
		known[t.ID] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range awaited {
		if end := l.waiters[id]; end != nil && !known[id] {
			l.Log.Warn("a planned run is not in the database, and does not take place", zap.String("task", id))
			tell(end, state.Task{ID: id, State: state.TaskDone})
		}
	}
}

// tell tells who waits for the end of a task, once.
func tell(end chan state.Task, task state.Task) {
	select {
	case end <- task:
	default:
	}
}

// awaited returns the ids of the tasks whose end someone waits for.
func (l *leader) awaited() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, len(l.waiters))
	for id := range l.waiters {
		ids = append(ids, id)
	}
	return ids
}

// readNodes reads the services from time to time, and says how much they can do.
func (l *leader) readNodes(ctx context.Context) error {
	if time.Since(l.nodesRead) < l.Lease/4 {
		return nil
	}
	nodes, err := l.State.Nodes(ctx)
	if err != nil {
		return err
	}
	pause, err := l.State.ReadPause(ctx)
	if err != nil {
		return err
	}
	l.nodes, l.nodesRead = nodes, time.Now()
	capacity := 0
	for _, n := range nodes {
		if l.canWork(n) {
			capacity += n.Capacity
		}
	}
	l.Capacity(capacity, !pause.Since.IsZero())
	l.noteView(func(v *View) { v.Nodes, v.Pause = nodes, pause })
	return nil
}

// handle does what one task needs. all are the tasks that have not ended.
func (l *leader) handle(ctx context.Context, task *state.Task, all []state.Task) {
	l.mu.Lock()
	end := l.waiters[task.ID]
	l.mu.Unlock()
	var err error
	switch {
	case !task.State.IsOpen():
		if end != nil {
			tell(end, *task)
		}
		delete(l.requested, task.ID)
	case task.Cancelled != "" && task.State != state.TaskRunning:
		err = l.tasks.End(ctx, task.ID, state.TaskFailed, task.Cancelled)
	case task.State != state.TaskRunning && !l.HasTenancy(task.Tenancy):
		err = l.tasks.End(ctx, task.ID, state.TaskFailed, "the tenancy is not in the settings of the service that leads")
	case task.State == state.TaskRequested && end == nil && !l.requested[task.ID]:
		if l.requested[task.ID] = l.Requested(*task); !l.requested[task.ID] {
			err = l.tasks.End(ctx, task.ID, state.TaskFailed, "no such collector or stream is on, or it runs already")
		}
	case task.State == state.TaskRunning && !task.NodeAlive:
		err = l.takeOver(ctx, *task)
	case task.State != state.TaskRunning && end != nil && l.needsNode(*task):
		err = l.assign(ctx, task, all)
	}
	if err != nil && ctx.Err() == nil {
		l.Log.Warn("a task waits", zap.String("collector", task.Collector), zap.String("tenancy", task.Tenancy), zap.Error(err))
	}
}

// takeOver makes a task due again whose process does not respond.
func (l *leader) takeOver(ctx context.Context, task state.Task) error {
	changed, err := l.tasks.GiveBack(ctx, task, maxAttempts)
	if err == nil && changed {
		l.takeovers.Add(1)
		l.Log.Warn("the process that ran a task does not respond any more; another one runs it", zap.String("collector", task.Collector),
			zap.String("tenancy", task.Tenancy), zap.String("node", task.NodeName), zap.Int("attempt", task.Attempt))
		l.wakeLeader()
	}
	return err
}

// needsNode reports whether a task that waits has no service, or one that does not take it.
func (l *leader) needsNode(task state.Task) bool {
	return task.Node == "" || !task.NodeAlive || task.NodeDraining || l.State.ServerTime().Sub(task.Assigned) > l.Lease
}

// assign gives a task to a service, if one is free.
func (l *leader) assign(ctx context.Context, task *state.Task, all []state.Task) error {
	node := l.choose(*task, all)
	if node == nil {
		return nil
	}
	assigned, err := l.tasks.Assign(ctx, task.ID, node.ID, func(ctx context.Context, tx *sql.Tx) error {
		return l.handOuts.tell(ctx, tx, node.ID, task.ID)
	})
	if err != nil || !assigned {
		return err
	}
	task.Node, task.NodeAlive, task.State = node.ID, true, state.TaskDue // for the next choices
	l.noteUses([]state.Task{*task})
	return nil
}

// choose returns the service for a task: the one that uses its credentials, otherwise the one with
// the smallest share of its capacity in use; nil when none is free.
func (l *leader) choose(task state.Task, all []state.Task) *shared.Node {
	load := map[string]int{}
	for _, t := range all {
		if t.State.IsOpen() && t.ID != task.ID && t.Node != "" {
			load[t.Node]++
		}
	}
	var free []*shared.Node
	for i := range l.nodes {
		n := &l.nodes[i]
		if !l.canWork(*n) {
			continue
		}
		if n.ID != task.Node && l.usesCredential(n.ID, task) {
			return n
		}
		if load[n.ID] < n.Capacity {
			free = append(free, n)
		}
	}
	if len(free) == 0 {
		return nil
	}
	share := func(n *shared.Node) float64 {
		if n.ID == task.Node { // it did not take the task when it had it, or has returned it
			return 1
		}
		return float64(load[n.ID]) / float64(n.Capacity)
	}
	return slices.MinFunc(free, func(a, b *shared.Node) int { return cmp.Compare(share(a), share(b)) })
}

// readUses reads once where the limits of credentials were used while other processes led.
func (l *leader) readUses(ctx context.Context) error {
	if l.used != nil {
		return nil
	}
	ended, err := l.tasks.EndedWithin(ctx, credentialPause)
	if err != nil {
		return err
	}
	l.used = map[string]use{}
	for _, t := range ended {
		for _, credential := range l.Credentials(t.Tenancy, t.Collector) {
			l.used[credential] = use{t.Node, time.Now()}
		}
	}
	return nil
}

// noteUses notes where the limits of credentials are in use.
func (l *leader) noteUses(tasks []state.Task) {
	for _, t := range tasks {
		if t.Node == "" || !t.State.IsOpen() {
			continue
		}
		for _, credential := range l.Credentials(t.Tenancy, t.Collector) {
			l.used[credential] = use{t.Node, time.Now()}
		}
	}
	for credential, u := range l.used {
		if time.Since(u.at) > credentialPause {
			delete(l.used, credential)
		}
	}
}

// usesCredential reports whether a service uses the limits of a task's credentials, or did just now.
func (l *leader) usesCredential(node string, task state.Task) bool {
	for _, credential := range l.Credentials(task.Tenancy, task.Collector) {
		if l.used[credential].node == node {
			return true
		}
	}
	return false
}
