package shared

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// A held is a lease of this process. It implements [state.Lock].
type held struct {
	node        *node
	name, token string
	lost        chan struct{}
}

// Unlock implements [state.Lock]. When the database does not respond, the lease is released
// later.
func (h *held) Unlock() error {
	n := h.node
	n.mu.Lock()
	if n.held[h.name] == h {
		delete(n.held, h.name)
	}
	n.mu.Unlock()
	if err := n.deleteLease(context.Background(), h.name, h.token); err != nil {
		n.mu.Lock()
		n.unreleased[h.token] = h.name
		n.mu.Unlock()
	}
	return nil
}

// Lost implements [state.Lock].
func (h *held) Lost() <-chan struct{} { return h.lost }

// Acquire implements [database.Locker]. The lease of a node that is not alive is taken over. A
// process that has just started waits until it may do so, which is at most one lease.
func (n *node) Acquire(name, work string) (state.Lock, error) {
	if n.engine.readOnly {
		return nil, fmt.Errorf("lock: %w", errReadOnly)
	}
	lock, err := n.tryAcquire(name, work)
	for attempt := 1; attempt <= lockRepeats && err != nil && isPassing(err); attempt++ {
		time.Sleep(repeatWaits.Wait(attempt))
		lock, err = n.tryAcquire(name, work)
	}
	var silent *silentError
	if errors.As(err, &silent) && n.waitUntilSteady() {
		return n.tryAcquire(name, work)
	}
	return lock, err
}

// lockRepeats is how often the acquiring of a lock is repeated that failed because of the
// connection: a server that has failed over leaves up to maxConnections that cannot be used.
const lockRepeats = maxConnections

// tryAcquire is Acquire without waiting. The error is a silentError when the lease is that of a
// node that is not alive, and this one may not take it over yet.
func (n *node) tryAcquire(name, work string) (state.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), n.engine.limits.command)
	defer cancel()
	n.releaseRest(ctx)
	h := &held{node: n, name: name, token: uuid.NewString(), lost: make(chan struct{})}
	isFree := `FALSE`
	if n.isSteady() {
		isFree = n.engine.isDead(`l.node`)
	}
	var acquired bool
	var before holder // as it was before the statement
	err := n.engine.db.QueryRowContext(ctx,
		`WITH acquired AS (INSERT INTO `+n.engine.name("leases")+` AS l (name, node, token, since) VALUES ($1, $2, $3, clock_timestamp())
			ON CONFLICT (name) DO UPDATE SET node = excluded.node, token = excluded.token, since = excluded.since WHERE `+isFree+`
			RETURNING token)
		 SELECT EXISTS (SELECT 1 FROM acquired), n.name, n.pid, n.command, l.since, n.expires < clock_timestamp()
		 FROM (SELECT 1) one LEFT JOIN `+n.engine.name("leases")+` l ON l.name = $1 LEFT JOIN `+n.engine.name("nodes")+` n ON n.id = l.node`,
		name, n.id, h.token).Scan(&acquired, &before.name, &before.pid, &before.command, &before.since, &before.silent)
	if err == nil && !acquired {
		return nil, before.refuse(work)
	}
	if err != nil {
		if !pgconn.SafeToRetry(err) {
			n.mu.Lock()
			n.unreleased[h.token] = name // it may have been acquired
			n.mu.Unlock()
		}
		return nil, fmt.Errorf("lock: %w", n.engine.Explain(err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[name] = h
	return h, nil
}

// waitUntilSteady waits until the node is steady, at most two leases, and reports whether it is.
func (n *node) waitUntilSteady() bool {
	deadline := time.Now().Add(2 * n.lease)
	for !n.isSteady() && n.isStarted() && time.Now().Before(deadline) {
		time.Sleep(n.lease / 20)
	}
	return n.isSteady()
}

// A silentError says that the holder of a lease is not alive.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// A holder is the process that has a lease; not valid when it is not known.
type holder struct {
	name, command sql.NullString
	pid           sql.NullInt64
	since         sql.NullTime
	silent        sql.NullBool // whether it is not alive
}

// refuse returns the error for a lease that another process has.
func (h holder) refuse(work string) error {
	if !h.name.Valid {
		return fmt.Errorf("%w: %s by another process", state.ErrLocked, work)
	}
	err := fmt.Errorf("%w: %s by process %d on %s since %s (%s)", state.ErrLocked, work, h.pid.Int64, h.name.String,
		h.since.Time.UTC().Format("2006-01-02 15:04:05 MST"), h.command.String)
	if h.silent.Bool {
		return &silentError{fmt.Errorf("%w, which does not respond any more: this process takes over when it has been connected for CLUSTER_LEASE", err)}
	}
	return err
}

// isDead returns the SQL condition for the id of a node that is not alive.
func (e *engine) isDead(id string) string {
	return `NOT EXISTS (SELECT 1 FROM ` + e.name("nodes") + ` WHERE id = ` + id + ` AND expires > clock_timestamp())`
}

// Fence implements [database.Locker].
func (n *node) Fence(ctx context.Context, tx database.DB, name string) error {
	n.mu.Lock()
	h := n.held[name]
	n.mu.Unlock()
	if h == nil {
		return fmt.Errorf("%w: %s", state.ErrLost, strings.ReplaceAll(name, "~", " "))
	}
	var found int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM `+n.engine.name("leases")+` WHERE name = $1 AND token = $2 FOR UPDATE`, name, h.token).Scan(&found)
	if isNoRow(err) {
		return fmt.Errorf("%w: %s: another process has taken over", state.ErrLost, strings.ReplaceAll(name, "~", " "))
	}
	return err
}

// The names of the leases of a tenancy: any number of processes hold the first, each with an
// end of its own, and one the second.
func holdName(tenancy string) string   { return "tenancy~" + database.FileName(tenancy) + "~" }
func forgetName(tenancy string) string { return "forget~" + database.FileName(tenancy) }

// HoldTenancy implements [database.Locker].
func (n *node) HoldTenancy(tenancy string) (lock state.Lock, err error) {
	lock, err = n.Acquire(holdName(tenancy)+uuid.NewString(), "")
	if err != nil {
		return nil, err
	}
	// Who locks the whole tenancy adds its lease first, and then looks for this one.
	taken, err := n.findLease(`name = $1`, forgetName(tenancy))
	if err == nil && taken != "" {
		err = fmt.Errorf("%w: the data of tenancy %s is being deleted, or imported elsewhere", state.ErrLocked, tenancy)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock, nil
}

// LockTenancy implements [database.Locker].
func (n *node) LockTenancy(tenancy string) (unlock func() error, err error) {
	lock, err := n.Acquire(forgetName(tenancy), "the data of tenancy "+tenancy+" is being deleted")
	if err != nil {
		return nil, err
	}
	work, err := n.findWork(tenancy)
	switch {
	case err != nil:
	case strings.HasPrefix(work, holdName(tenancy)):
		err = fmt.Errorf("%w: a service or a command works for tenancy %s: a service ends that by a reload when the file of the tenancy is gone", state.ErrLocked, tenancy)
	case work != "":
		err = fmt.Errorf("%w: work for tenancy %s is in progress (%s)", state.ErrLocked, tenancy, strings.ReplaceAll(work, "~", " "))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return lock.Unlock, nil
}

// findWork returns the name of a lease of something that works for a tenancy; "" for none.
// Names that end with the tenancy are those of its streams.
func (n *node) findWork(tenancy string) (name string, err error) {
	return n.findLease(`name <> $1 AND (starts_with(name, $2) OR right(name, length($3::text)) = $3)`,
		forgetName(tenancy), holdName(tenancy), "~"+database.FileName(tenancy))
}

// findLease returns the name of a lease of a living node for which the SQL condition where
// holds; "" for none.
func (n *node) findLease(where string, args ...any) (name string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), n.engine.limits.command)
	defer cancel()
	err = n.engine.db.QueryRowContext(ctx, `SELECT coalesce(max(name), '') FROM `+n.engine.name("leases")+` l
		WHERE (`+where+`) AND NOT `+n.engine.isDead(`l.node`), args...).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("lock: %w", n.engine.Explain(err))
	}
	return name, nil
}

// RemoveLocks implements [database.Locker]. A lease leaves nothing behind.
func (n *node) RemoveLocks(string) error { return nil }
