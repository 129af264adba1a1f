package shared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// A Node is a process that uses a shared state, or did until it was killed.
type Node struct {
	// Name is its CLUSTER_NODE.
	Name    string
	PID     int64
	Command string
	Started time.Time
	// Beat is when it last said that it is alive, and Alive whether that is recent.
	Beat  time.Time
	Alive bool
	// Service reports whether it is a service, and Active whether it is the active one.
	Service, Active bool
	// Locks is the number of its locks besides that of the service: one for each stream that
	// it collects, delivers or restores, and for each tenancy that it works for.
	Locks int
}

// ListNodes returns the processes that use a state, those that are alive first, ordered by name.
// Those that were killed are listed for a day. The error wraps fs.ErrNotExist when there is no
// state.
func ListNodes(ctx context.Context, o Options) (nodes []Node, err error) {
	e, err := openEngine(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.db.Close()) }()
	if err := e.checkSchema(ctx); err != nil {
		return nil, e.explainOpen(err)
	}
	rows, err := e.db.QueryContext(ctx, `SELECT n.name, n.pid, n.command, n.service, n.started, n.expires - $1::bigint * interval '1 millisecond',
			n.expires > clock_timestamp(), coalesce(bool_or(l.name = 'service'), FALSE), count(l.name) FILTER (WHERE l.name <> 'service')
		FROM `+e.name("nodes")+` n LEFT JOIN `+e.name("leases")+` l ON l.node = n.id
		GROUP BY n.id ORDER BY n.expires > clock_timestamp() DESC, n.name, n.started`, o.Lease.Milliseconds())
	if err != nil {
		return nil, e.explainOpen(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n Node
		if err := rows.Scan(&n.Name, &n.PID, &n.Command, &n.Service, &n.Started, &n.Beat, &n.Alive, &n.Active, &n.Locks); err != nil {
			return nil, fmt.Errorf("read the processes: %w", err)
		}
		nodes = append(nodes, n)
	}
	return nodes, rows.Err()
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
