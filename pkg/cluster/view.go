package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

// A View is what a process knows of the services and their tasks. It must not be changed.
type View struct {
	// Read is when it was read; zero before.
	Read  time.Time
	Nodes []shared.Node
	// Tasks are those that have not ended.
	Tasks []state.Task
	Pause shared.Pause
	// Err is why it could not be read again; nil if it could.
	Err error
}

// View returns what this process knew last. Its Err is also set when the database has not
// responded for CLUSTER_LEASE.
func (c *Cluster) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.view
	if age := time.Since(v.Read); v.Err == nil && !v.Read.IsZero() && age > c.Lease && !c.about.Draining {
		v.Err = fmt.Errorf("the database has not responded for %v", age.Round(time.Second))
	}
	return v
}

func (c *Cluster) noteView(change func(*View)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.view)
}

// publish makes the tasks that have not ended those of the view.
func (l *leader) publish(tasks []state.Task) {
	open := slices.DeleteFunc(slices.Clone(tasks), func(t state.Task) bool { return !t.State.IsOpen() })
	l.noteView(func(v *View) { v.Read, v.Tasks, v.Err = time.Now(), open, nil })
}

// Leader returns the service that leads; nil when none that responds does.
func (v View) Leader() *shared.Node {
	for i := range v.Nodes {
		if n := &v.Nodes[i]; n.Leads && n.Alive {
			return n
		}
	}
	return nil
}

// Differs reports whether a service receives no tasks because its settings or its version are
// not those of the one that leads.
func (v View) Differs(n shared.Node) bool {
	leader := v.Leader()
	return leader != nil && n.Service && n.Alive && !n.Draining && n.Settings != leader.Settings
}

// Read reads the services of a state and their tasks.
func Read(ctx context.Context, s *shared.State) (v View, err error) {
	if v.Tasks, err = s.Tasks().Read(ctx, nil); err != nil {
		return v, err
	}
	if v.Nodes, err = s.Nodes(ctx); err != nil {
		return v, err
	}
	v.Pause, err = s.ReadPause(ctx)
	v.Read = time.Now()
	return v, err
}

// Follow reads the services and their tasks while another one leads.
func (c *Cluster) Follow(ctx context.Context) error {
	read, err := Read(ctx, c.State)
	c.noteView(func(v *View) {
		if v.Err = err; err == nil {
			*v = read
		}
	})
	return err
}

// Leads reports whether this process leads.
func (c *Cluster) Leads() bool { return c.currentLeader() != nil }

// NodeID identifies this process among the nodes of the view.
func (c *Cluster) NodeID() string { return c.State.NodeID() }

// CancelTasks asks for the end of the tasks of a collector of a tenancy, whichever service has
// them. It returns how many there are that have not ended.
func (c *Cluster) CancelTasks(ctx context.Context, tenancy, collector, by string) (n int64, err error) {
	defer c.wakeLeader()
	return c.tasks.Cancel(ctx, tenancy, collector, CancelReason(by))
}

// CancelReason returns the reason of a task that a person has cancelled.
func CancelReason(by string) string { return "cancelled by " + by }

// Pause keeps tasks from beginning in all services until Resume.
func (c *Cluster) Pause(ctx context.Context, by string) error { return c.State.Pause(ctx, by) }

// Resume ends a pause.
func (c *Cluster) Resume(ctx context.Context) error { return c.State.Resume(ctx) }

// ReadProgress returns what the streams of a task do, as its process has recorded it.
func ReadProgress(task state.Task, log *zap.Logger) (streams []StreamProgress) {
	if len(task.Progress) == 0 {
		return nil
	}
	if err := json.Unmarshal(task.Progress, &streams); err != nil {
		log.Debug("the progress of a task cannot be read", zap.String("task", task.ID), zap.Error(err))
	}
	return streams
}
