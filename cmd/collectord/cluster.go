package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

// A noLock is the lock of a service that no other process could lead.
type noLock struct{}

func (noLock) Unlock() error { return nil }

func (noLock) Lost() <-chan struct{} { return nil }

// joinCluster joins the services that share the state, if it is shared.
func (d *daemon) joinCluster(ctx context.Context) (err error) {
	own := d.base.sharedState()
	if own == nil {
		return nil
	}
	d.cluster, err = cluster.Open(ctx, cluster.Options{
		State: own, Lease: d.base.settings.Cluster.Lease, Redact: d.base.redactor.Redact, Log: d.log,
		Execute: d.executeTask, Progress: d.taskProgress, Requested: d.runTask, HasTenancy: func(name string) bool { return d.findTenant(name) != nil }, Credentials: d.credentialsOf,
		Capacity: func(n int, paused bool) { d.slots.SetMax(n); d.slots.Pause(paused) },
	})
	if err != nil {
		return classifyStateError(err)
	}
	d.metrics.Cluster = d.cluster
	return nil
}

// startCluster begins to take tasks.
func (d *daemon) startCluster(ctx context.Context) error {
	if d.cluster == nil {
		return nil
	}
	return classifyStateError(d.cluster.Start(ctx, d.describeNode()))
}

// describeNode returns what the other services know about this one. Its settings are equal to
// theirs if the same runs would collect the same data into the same destinations, and all expect
// a response within the same time.
func (d *daemon) describeNode() shared.NodeInfo {
	sum := sha256.New()
	fmt.Fprintln(sum, version, d.sharedSettings().Cluster.Lease)
	for _, t := range d.listTenants() {
		t.mu.Lock()
		fmt.Fprintln(sum, t.tenancyName(), config.Sum(t.assembly.inForce()))
		for _, job := range t.parts.jobs {
			fmt.Fprintln(sum, job.Collector.Name, strings.Join(job.StreamNames(), " "))
		}
		t.mu.Unlock()
	}
	return shared.NodeInfo{Version: version, Settings: hex.EncodeToString(sum.Sum(nil))[:16], Capacity: max(1, d.sharedSettings().Run.MaxParallel)}
}

// describeToCluster tells the other services what this one is after a reload.
func (d *daemon) describeToCluster(ctx context.Context) {
	if err := d.cluster.Describe(ctx, d.describeNode()); err != nil {
		d.log.Warn("the other services do not know the reloaded settings yet", zap.Error(err))
	}
}

// leaveCluster takes no more tasks, and returns those to the other services that do not end
// within SHUTDOWN_GRACE.
func (d *daemon) leaveCluster() {
	if d.cluster == nil {
		return
	}
	grace := d.sharedSettings().Schedule.Grace
	cause := fmt.Errorf("%w: SHUTDOWN_GRACE, %v, is over", schedule.ErrStopping, grace)
	ctx, cancel := context.WithTimeoutCause(d.signals.forced, grace, cause)
	defer cancel()
	d.cluster.Stop(ctx)
}

// endTasks ends the tasks of a tenancy whose file is gone, and waits for those of this process.
func (d *daemon) endTasks(tenancy string) {
	if d.cluster == nil {
		return
	}
	grace, cancel := context.WithTimeout(context.Background(), d.sharedSettings().Schedule.Grace)
	defer cancel()
	if err := d.cluster.EndTenancy(grace, tenancy, errRemoved.Error()); err != nil {
		d.log.Warn("runs of a tenancy that has ended go on", zap.String("tenancy", tenancy), zap.Error(err))
	}
}

// findTenant returns the tenant of a tenancy; nil for none.
func (d *daemon) findTenant(name string) *tenant {
	all := d.listTenants()
	if i := slices.IndexFunc(all, func(t *tenant) bool { return t.tenancyName() == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// executeTask executes a task in this process.
func (d *daemon) executeTask(ctx context.Context, task state.Task) []run.Result {
	if t := d.findTenant(task.Tenancy); t != nil {
		return t.scheduler.ExecuteHere(ctx, task)
	}
	return run.Failures(task.Collector, task.Streams, fmt.Errorf("this service has no tenancy %q", task.Tenancy))
}

// runTask queues the run of a task that a person has asked for in another process.
func (d *daemon) runTask(task state.Task) bool {
	t := d.findTenant(task.Tenancy)
	return t != nil && t.scheduler.RunTask(task)
}

// taskProgress returns what the streams of a task do in this process.
func (d *daemon) taskProgress(task state.Task) (streams []cluster.StreamProgress) {
	t := d.findTenant(task.Tenancy)
	if t == nil {
		return nil
	}
	for _, r := range t.active.List() {
		if r.Collector == task.Collector && slices.Contains(task.Streams, r.Stream) {
			streams = append(streams, cluster.StreamProgress{Stream: r.Stream, Started: r.Started, Progress: r.Progress()})
		}
	}
	return streams
}

// credentialsOf returns what identifies the rate limits of a collector.
func (d *daemon) credentialsOf(tenancy, collector string) []string {
	t := d.findTenant(tenancy)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, job := range t.parts.jobs {
		if job.Collector.Name == collector {
			return job.Collector.Credentials
		}
	}
	return nil
}

// runsElsewhere returns the extractions of the tenancy that other services execute.
func (t *tenant) runsElsewhere() (runs []*run.ActiveRun) {
	if t.cluster == nil {
		return nil
	}
	for _, task := range t.cluster.View().Tasks {
		if task.Tenancy != t.tenancyName() || task.Node == t.cluster.State.NodeID() {
			continue
		}
		for _, s := range cluster.ReadProgress(task, t.log) {
			runs = append(runs, &run.ActiveRun{Collector: task.Collector, Stream: s.Stream, Started: s.Started, Node: task.NodeName, Recorded: s.Progress})
		}
	}
	return runs
}

// isFollowing reports whether another service leads.
func (d *daemon) isFollowing() bool { return errors.Is(d.Ready(), state.ErrStandby) }

// lead waits until no other service leads, and returns a context that ends when another one may.
// Until then this process executes tasks and serves HTTP. The lock is nil when ctx ends before.
func (d *daemon) lead(ctx context.Context, started func()) (context.Context, state.Lock, error) {
	if d.cluster == nil {
		return ctx, noLock{}, nil
	}
	lock, waited := d.follow(ctx, started)
	if lock == nil {
		return ctx, nil, nil
	}
	if waited {
		d.log.Info("this process leads now")
	}
	for _, t := range d.listTenants() {
		t.scheduler.EndStandby()
	}
	d.setNotReady(errStarting)
	leading, _ := state.WithLock(ctx, lock, "leading the service") // ends with ctx
	wait := d.cluster.Lead(leading)
	d.background.Go(wait)
	return leading, lock, nil
}

// follow waits for the lock of the service, and reports whether another process had it. The lock
// is nil when ctx ends before.
func (d *daemon) follow(ctx context.Context, started func()) (lock state.Lock, waited bool) {
	for {
		lock, err := d.state.Locks.LockService()
		if err == nil {
			return lock, waited
		}
		if !waited {
			d.log.Info("another service leads; this one executes tasks", zap.Error(err))
			started()
			d.systemd.Ready("following")
		}
		waited = true
		d.standBy(ctx, err)
		select {
		case <-ctx.Done():
			return nil, waited
		case <-time.After(d.sharedSettings().Cluster.Lease / 4):
		}
	}
}

// standBy records why this process does not lead, the error of LockService, and shows what the
// others do.
func (d *daemon) standBy(ctx context.Context, err error) {
	if !errors.Is(err, state.ErrLocked) {
		err = fmt.Errorf("the shared state does not respond: %w", err)
	}
	err = fmt.Errorf("%w: %w", state.ErrStandby, err)
	d.setNotReady(err)
	d.systemd.Heartbeat(err.Error())
	_ = d.cluster.Follow(ctx) // the view has the error
	tasks := d.cluster.View().Tasks
	for _, t := range d.listTenants() {
		t.scheduler.StandBy(err)
		t.scheduler.Follow(tasks)
	}
}
