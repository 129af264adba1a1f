package shared

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/collectord/collectord/pkg/state/database"
)

// NodeInfo is what a service says about itself.
type NodeInfo struct {
	// Version is that of the program.
	Version string
	// Settings is a sum of its settings, which is equal where they are.
	Settings string
	// Capacity is how many tasks it runs at once; 0 for none.
	Capacity int
	// Draining reports whether it stops, and takes no more tasks.
	Draining bool
}

// A Node is a process that uses a shared state, or did until it was killed.
type Node struct {
	NodeInfo
	// ID identifies the process, and Name is its CLUSTER_NODE.
	ID, Name string
	PID      int64
	Command  string
	Started  time.Time
	// Beat is when it last said that it is alive, and Alive whether that is recent.
	Beat  time.Time
	Alive bool
	// Service reports whether it is a service, and Leads whether it is the one that leads.
	Service, Leads bool
	// Tasks is the number of tasks that it runs or is to run.
	Tasks int
	// Locks is the number of its locks besides that of the service: one for each stream that
	// it collects, delivers or restores, and for each tenancy that it works for.
	Locks int
}

// Look opens the tables of a state for its processes, its tasks and its pauses, and for nothing
// else: it needs no bucket, and this process is not one of those that Nodes returns. It creates
// and migrates nothing. The error wraps state.ErrOlder when the tables are older than this
// program, and fs.ErrNotExist when there are none.
func Look(ctx context.Context, o Options) (*State, error) {
	e, err := openEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := e.checkSchema(ctx); err != nil {
		return nil, errors.Join(e.explainOpen(err), e.db.Close())
	}
	return newState("", e, newNode(e, o), o), nil
}

// Nodes returns the processes that use the state, those that are alive first, ordered by name.
// Those that were killed are listed for a day.
func (s *State) Nodes(ctx context.Context) ([]Node, error) {
	return s.engine.listNodes(ctx, s.node.lease)
}

// Describe says what this process is, at once and with each beat. An error means that the others
// know it after the next beat that succeeds.
func (s *State) Describe(ctx context.Context, about NodeInfo) error {
	s.node.mu.Lock()
	s.node.about = about
	s.node.mu.Unlock()
	return s.node.beat(ctx)
}

// NodeID identifies this process.
func (s *State) NodeID() string { return s.node.id }

func (e *engine) listNodes(ctx context.Context, lease time.Duration) (nodes []Node, err error) {
	rows, err := e.db.QueryContext(ctx, `SELECT n.id, n.name, n.pid, n.command, n.service, n.started, n.expires - $1::bigint * interval '1 millisecond',
			n.expires > clock_timestamp(), coalesce(bool_or(l.name = 'service'), FALSE), count(l.name) FILTER (WHERE l.name <> 'service'),
			n.version, n.settings, n.capacity, n.draining,
			(SELECT count(*) FROM `+e.name("tasks")+` t WHERE t.node = n.id AND t.state IN ('due', 'running'))
		FROM `+e.name("nodes")+` n LEFT JOIN `+e.name("leases")+` l ON l.node = n.id
		GROUP BY n.id ORDER BY n.expires > clock_timestamp() DESC, n.name, n.started`, lease.Milliseconds())
	if err != nil {
		return nil, e.explainOpen(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n Node
		if err := rows.Scan(&n.ID, &n.Name, &n.PID, &n.Command, &n.Service, &n.Started, &n.Beat, &n.Alive, &n.Leads, &n.Locks,
			&n.Version, &n.Settings, &n.Capacity, &n.Draining, &n.Tasks); err != nil {
			return nil, fmt.Errorf("read the processes: %w", err)
		}
		nodes = append(nodes, n)
	}
	return nodes, rows.Err()
}

// StateName describes what the process does: leader, follower, stopping, command, or silent when
// it does not respond any more.
func (n Node) StateName() string {
	switch {
	case !n.Alive:
		return "silent"
	case n.Draining:
		return "stopping"
	case n.Leads:
		return "leader"
	case n.Service:
		return "follower"
	}
	return "command"
}

// A Pause is why no task begins.
type Pause struct {
	Since time.Time // zero when tasks begin
	By    string
}

// Pause keeps tasks from beginning until Resume. Those that run go on.
func (s *State) Pause(ctx context.Context, by string) error {
	return s.setPause(ctx, `paused = coalesce(paused, clock_timestamp()), paused_by = $1`, by)
}

// Resume ends a pause.
func (s *State) Resume(ctx context.Context) error {
	return s.setPause(ctx, `paused = NULL, paused_by = $1`, "")
}

func (s *State) setPause(ctx context.Context, set, by string) error {
	err := s.engine.Transaction(ctx, func(tx database.DB) error {
		_, err := tx.ExecContext(ctx, `UPDATE `+s.engine.name("version")+` SET `+set, by)
		return err
	})
	if err != nil {
		return fmt.Errorf("pause or resume: %w", err)
	}
	return nil
}

// ReadPause returns whether tasks begin.
func (s *State) ReadPause(ctx context.Context) (p Pause, err error) {
	var since sql.NullTime
	err = s.engine.db.QueryRowContext(ctx, `SELECT paused, paused_by FROM `+s.engine.name("version")).Scan(&since, &p.By)
	if err != nil {
		return p, fmt.Errorf("read whether the services are paused: %w", s.engine.Explain(err))
	}
	p.Since = since.Time.UTC()
	return p, nil
}

// Exists reports whether the database has a state, of any version.
func Exists(ctx context.Context, o Options) (exists bool, err error) {
	e, err := openEngine(ctx, o)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, e.db.Close()) }()
	_, err = e.readVersion(ctx, e.db)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, e.explainOpen(err)
	}
	return true, nil
}
