// Package database has the rules of a state: what a run, a delivery, a restore or a person's
// decision changes, in which transaction. They are the same wherever the state is kept; an
// [Engine], [Files] and a [Locker] are what differs.
//
// The statements are understood by SQLite and Postgres. The files of a snapshot are put in
// place first; then one transaction adds it to the database. After a crash between the two,
// Recover completes the transaction where the files are on this machine; elsewhere they are
// garbage.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// An Engine is a database with the tables of a state.
type Engine interface {
	// Transaction calls do in one transaction, which it commits when do returns nil and
	// rolls back otherwise. Transactions run one after another, also those of other
	// processes: do sees all that an earlier one has written.
	Transaction(ctx context.Context, do func(DB) error) error
	// UrgentTransaction is Transaction for work that leads to free space, or that records
	// why there is none: when the disk is full, it uses space that is kept for it.
	UrgentTransaction(ctx context.Context, do func(DB) error) error
	// Explain adds to an error of the database what to do about it.
	Explain(err error) error
	// NextSnapshotID returns an SQL expression for an id that is larger than those of all
	// snapshots.
	NextSnapshotID() string
	// Maintain does the housekeeping of the database.
	Maintain(ctx context.Context) error
}

// Files keep sealed snapshots, each at a place. The names of places are compared by their
// last element, which begins with the time of the snapshot.
type Files interface {
	// Seal seals w at a new place. After an error nothing is there.
	Seal(ctx context.Context, w *snapshot.Writer) (sealed *snapshot.Snapshot, place string, err error)
	// Stage prepares a new place for a snapshot that is sealed in the spool, and Place puts
	// it there. Place is called in a transaction, and Stage before it.
	Stage(ctx context.Context, sealed *snapshot.Snapshot, source state.Source) (place string, err error)
	Place(sealed *snapshot.Snapshot, place string) error
	// Unstage gives up a place from Stage at which no snapshot was recorded.
	Unstage(place string) error
	// Open opens the snapshot at a place. snapshot.IsUnusable reports true for the error
	// when it is missing or damaged.
	Open(ctx context.Context, place string) (*snapshot.Snapshot, error)
	// OpenVerified is Open, and checks the sum of the records.
	OpenVerified(ctx context.Context, place string) (*snapshot.Snapshot, error)
	// Check returns what Open would return for the snapshot, without reading its records.
	Check(ctx context.Context, place string) (snapshot.Info, error)
	// List returns the places on this machine at which snapshots of streams of a tenancy
	// are; without streams those of all. They may be missing in the database after a crash.
	List(streams []string, tenancy string) (places []string, err error)
	// Discard makes a place empty: at once, or when EmptyTrash is called. It may be called
	// in a transaction that deletes the snapshot's row. An empty place is no error.
	Discard(place string) error
	// EmptyTrash frees the space of what was discarded. It logs errors; what it leaves, a
	// later call frees.
	EmptyTrash()
}

// A Locker acquires named locks.
type Locker interface {
	// Acquire acquires a lock. It does not wait: when another owner has it, the error wraps
	// state.ErrLocked and says which work that owner does.
	Acquire(name, work string) (state.Lock, error)
	// HoldTenancy acquires a lock that any number may hold, unless LockTenancy was called.
	HoldTenancy(tenancy string) (state.Lock, error)
	// LockTenancy acquires the locks of everything that works for a tenancy. It does not
	// wait: the error wraps state.ErrLocked.
	LockTenancy(tenancy string) (unlock func() error, err error)
	// RemoveLocks removes what is left of the locks of a tenancy. The caller holds those of
	// LockTenancy.
	RemoveLocks(tenancy string) error
	// Fence returns an error, in the transaction, when a lock was lost that this process
	// acquired.
	Fence(ctx context.Context, tx DB, name string) error
}

// Parts are what a State consists of.
type Parts struct {
	// Dir is the directory of this machine in which snapshots are written.
	Dir    string
	DB     DB
	Engine Engine
	Files  Files
	Locker Locker
	Now    func() time.Time
	Log    *zap.Logger
	// Redact removes secrets from the texts of errors; nil means that they have none.
	Redact func(string) string
}

// core is what the parts of a State share.
type core struct {
	dir    string
	db     DB
	engine Engine
	files  Files
	locker Locker
	now    func() time.Time
	log    *zap.Logger
	redact func(string) string
}

// A State has the methods of a [state.Backend], except for Interrupt and Close.
type State struct {
	*core
	Runs      *Runs
	Snapshots *Snapshots
	Queue     *Queue
	Locks     *Locks
}

// New returns the State of p.
func New(p Parts) *State {
	c := &core{dir: p.Dir, db: p.DB, engine: p.Engine, files: p.Files, locker: p.Locker, now: p.Now, log: p.Log, redact: p.Redact}
	snapshots := &Snapshots{c}
	return &State{core: c, Runs: &Runs{core: c, snapshots: snapshots, begun: map[state.RunID]state.RunStart{}}, Snapshots: snapshots, Queue: &Queue{c, snapshots}, Locks: &Locks{c}}
}

// With returns the state with the parts of s, of which backend has all else.
func (s *State) With(backend state.Backend) *state.State {
	return &state.State{Runs: s.Runs, Snapshots: s.Snapshots, Queue: s.Queue, Locks: s.Locks, Backend: backend}
}

// Dir implements [state.Backend].
func (s *State) Dir() string { return s.dir }

// inTransaction calls do in one transaction.
func (c *core) inTransaction(ctx context.Context, do func(DB) error) error {
	return c.engine.Transaction(ctx, do)
}

// inUrgentTransaction is inTransaction for work that leads to free space, or that records why
// there is none.
func (c *core) inUrgentTransaction(ctx context.Context, do func(DB) error) error {
	return c.engine.UrgentTransaction(ctx, do)
}

// directory returns the directory of this machine.
func (c *core) directory() Directory { return Directory{Path: c.dir, Log: c.log} }

// discard discards a directory of this machine, relative to the state directory.
func (c *core) discard(dir string) error { return c.directory().Discard(dir) }

// fence returns an error when the lock of the stream of h was lost.
func (c *core) fence(ctx context.Context, tx DB, h snapshot.Header) error {
	return c.locker.Fence(ctx, tx, streamLock(h.Stream, h.Tenancy))
}

// Sweep implements [state.Backend].
func (s *State) Sweep(ctx context.Context, keep time.Duration) error {
	if err := s.Runs.deleteBefore(ctx, s.now().Add(-keep)); err != nil {
		return err
	}
	if err := s.Queue.deleteUndeliveredBefore(ctx, s.now().Add(-keep)); err != nil {
		return err
	}
	if err := s.Snapshots.sweepUnneeded(ctx); err != nil {
		return err
	}
	s.directory().removeProbes()
	return errors.Join(s.sweepRestores(), s.Snapshots.sweepChunks(), s.engine.Maintain(ctx))
}

// Streams implements [state.Backend].
func (s *State) Streams(ctx context.Context) ([]state.StreamStatus, error) {
	return s.readStreams(ctx, allStreamsQuery)
}

// TenancyStreams implements [state.Backend].
func (s *State) TenancyStreams(ctx context.Context, tenancy string) ([]state.StreamStatus, error) {
	return s.readStreams(ctx, tenancyStreamsQuery, tenancy)
}

// readStreams returns the result of a query of streamsQuery.
func (s *State) readStreams(ctx context.Context, query string, args ...any) ([]state.StreamStatus, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (st state.StreamStatus, err error) {
		var started, ended, limited, success, failure, firstFailure, taken, checked int64
		err = rows.Scan(&st.Collector, &st.Stream, &st.Tenancy,
			&st.Last.ID, &st.Last.Collector, &st.Last.Stream, &st.Last.Tenancy, &st.Last.UploadID, &st.Last.Trigger,
			&started, &ended, &st.Last.Outcome, &st.Last.Err, &st.Last.Records, &st.Last.Bytes, &st.Last.Pages,
			&st.Last.Requests, &st.Last.Retries, &limited, doubtsColumn{&st.Last.Doubts},
			&success, &failure, &st.FailureErr, &firstFailure, &taken, &checked, &st.Records, &st.Source, doubtsColumn{&st.Doubts}, &st.Held, &st.Queued, &st.Refused, &st.Retried)
		st.Last.Started, st.Last.Ended = fromMillis(started), fromMillis(ended)
		st.Last.RateLimitWait = time.Duration(limited) * time.Millisecond
		st.LastSuccess, st.LastFailure, st.Taken = fromMillis(success), fromMillis(failure), fromMillis(taken)
		st.FirstFailure, st.Checked = fromMillis(firstFailure), fromMillis(checked)
		return st, err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return all, nil
}

// allStreamsQuery selects all streams, and tenancyStreamsQuery those of the tenancy $1.
var allStreamsQuery, tenancyStreamsQuery = streamsQuery("TRUE"), streamsQuery("tenancy = $1")

// streamsQuery returns the statement for the streams of which condition is true. It reads the
// last success and failure from counters, which outlive the history. The condition is in each
// part, so that the statement reads no rows of others where an index allows it.
func streamsQuery(condition string) string {
	return strings.ReplaceAll(streamsTemplate, "{condition}", condition)
}

const streamsTemplate = `
WITH streams AS (
	SELECT collector, stream, tenancy FROM counters WHERE {condition}
	UNION SELECT collector, stream, tenancy FROM runs WHERE outcome = '' AND {condition}
	UNION SELECT collector, stream, tenancy FROM snapshots WHERE {condition}),
failures AS (
	SELECT collector, stream, tenancy, ended, error FROM (
		SELECT c.*, row_number() OVER (PARTITION BY collector, stream, tenancy ORDER BY last_run DESC, ended DESC) AS place
		FROM counters c WHERE {condition} AND outcome NOT IN ('success', 'unchanged', 'empty', 'skipped')) ranked WHERE place = 1),
successes AS (
	SELECT collector, stream, tenancy, ended, last_run AS run FROM (
		SELECT c.*, row_number() OVER (PARTITION BY collector, stream, tenancy ORDER BY last_run DESC, ended DESC) AS place
		FROM counters c WHERE {condition} AND outcome IN ('success', 'unchanged', 'empty')) ranked WHERE place = 1),
queues AS (
	SELECT q.collector, q.stream, q.tenancy, count(*) AS n,
		count(CASE WHEN d.class = 'refused' THEN 1 END) AS refused, count(CASE WHEN d.class <> 'refused' AND d.error <> '' THEN 1 END) AS retried
	FROM deliveries d JOIN snapshots q ON q.id = d.snapshot WHERE {condition} GROUP BY q.collector, q.stream, q.tenancy)
SELECT n.collector, n.stream, n.tenancy,
	coalesce(r.id, 0), coalesce(r.collector, ''), coalesce(r.stream, ''), coalesce(r.tenancy, ''), coalesce(r.upload_id, ''), coalesce(r.cause, ''),
	coalesce(r.started, 0), coalesce(r.ended, 0), coalesce(r.outcome, ''), coalesce(r.error, ''), coalesce(r.records, 0), coalesce(r.bytes, 0),
	coalesce(r.pages, 0), coalesce(r.requests, 0), coalesce(r.retries, 0), coalesce(r.limited, 0), coalesce(r.doubts, ''),
	coalesce(g.ended, 0), coalesce(f.ended, 0), coalesce(f.error, ''),
	CASE WHEN g.run IS NULL AND s.id IS NULL THEN coalesce((SELECT ended FROM runs
		WHERE stream = n.stream AND tenancy = n.tenancy AND collector = n.collector AND outcome IN ('failed', 'timeout') ORDER BY id LIMIT 1), 0) ELSE 0 END,
	coalesce(s.taken, 0), CASE WHEN s.id IS NULL THEN 0 ELSE l.checked END, coalesce(s.records, 0), coalesce(s.source, ''),
	CASE WHEN u.outcome <> 'unchanged' AND u.started >= coalesce(s.taken, 0) THEN u.doubts ELSE coalesce(s.doubts, '') END,
	EXISTS (SELECT 1 FROM snapshots h WHERE h.held AND h.stream = n.stream AND h.tenancy = n.tenancy AND h.id > coalesce(s.id, 0) AND h.taken > coalesce(l.checked, 0)),
	coalesce(q.n, 0), coalesce(q.refused, 0), coalesce(q.retried, 0)
FROM streams n
LEFT JOIN runs r ON r.id = (SELECT max(id) FROM runs WHERE stream = n.stream AND tenancy = n.tenancy AND collector = n.collector AND outcome <> 'skipped')
LEFT JOIN successes g ON g.collector = n.collector AND g.stream = n.stream AND g.tenancy = n.tenancy
LEFT JOIN runs u ON u.id = g.run
LEFT JOIN failures f ON f.collector = n.collector AND f.stream = n.stream AND f.tenancy = n.tenancy
LEFT JOIN queues q ON q.collector = n.collector AND q.stream = n.stream AND q.tenancy = n.tenancy
LEFT JOIN last_known l ON l.stream = n.stream AND l.tenancy = n.tenancy
LEFT JOIN snapshots s ON s.id = l.snapshot AND s.collector = n.collector
ORDER BY n.collector, n.stream, n.tenancy`
