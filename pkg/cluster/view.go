package cluster

import (
	"context"
	"encoding/json"
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

// View returns what this process knew last.
func (c *Cluster) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
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

// Follow reads the services and their tasks while another one leads.
func (c *Cluster) Follow(ctx context.Context) error {
	tasks, err := c.tasks.Read(ctx, nil)
	var nodes []shared.Node
	if err == nil {
		nodes, err = c.State.Nodes(ctx)
	}
	var pause shared.Pause
	if err == nil {
		pause, err = c.State.ReadPause(ctx)
	}
	c.noteView(func(v *View) {
		if v.Err = err; err == nil {
			*v = View{Read: time.Now(), Nodes: nodes, Tasks: tasks, Pause: pause}
		}
	})
	return err
}

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
