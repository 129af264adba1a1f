// Package local keeps a state in one directory, for the processes of one machine:
//
//	collectord.db                             an SQLite database
//	snapshots/<stream>/<tenancy>/<id>/        sealed snapshots
//	spool/<collector>/                        snapshots being written
//	spool/.restore/                           snapshots being restored from a backup
//	spool/.trash-*                            directories being removed
//	spool/.scratch-*                          temporary files of destinations
//	kept/<stream>/<tenancy>/<job>/<chunk>/    chunks of interrupted export jobs
//	locks/                                    lock files, which name their owners
//	reserve                                   room for the database when the disk is full
//	instance-id                               a random text that identifies the directory
//
// A snapshot's directory is created first; then one transaction adds it to the
// database. After a crash between the two, Recover completes the transaction.
// Recover rebuilds a lost database from the directories in the same way.
package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/systemd"
	"github.com/collectord/collectord/pkg/state"
)

// Options are the settings of a State. The zero value is the default.
type Options struct {
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
	// Log receives a warning when a directory that is not needed any more could
	// not be removed. It costs disk space until the next attempt succeeds.
	Log *zap.Logger
}

// A State is an open state directory. It implements [state.Backend].
type State struct {
	*core
	Runs      *Runs
	Snapshots *Snapshots
	Queue     *Queue
	Locks     *Locks
}

// with returns the state of which s has the parts and backend all else.
func (s *State) with(backend state.Backend) *state.State {
	return &state.State{Runs: s.Runs, Snapshots: s.Snapshots, Queue: s.Queue, Locks: s.Locks, Backend: backend}
}

// newState returns the State over c.
func newState(c *core) *State {
	snapshots := &Snapshots{c}
	return &State{core: c, Runs: &Runs{c, snapshots}, Snapshots: snapshots, Queue: &Queue{c, snapshots}, Locks: &Locks{c}}
}

// Open opens the state in dir and creates it when it is missing.
func Open(ctx context.Context, dir string, o Options) (*state.State, error) {
	s, err := openDirectory(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	return s.with(s), nil
}

// openDirectory is Open.
func openDirectory(ctx context.Context, dir string, o Options) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	if err := createLayout(dir); err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("STATE_DIR: %w: %w: want a directory, not a file", state.ErrUnusable, err)
		}
		if sandbox := systemd.SandboxAdvice(err); sandbox != "" {
			return nil, fmt.Errorf("STATE_DIR: %w: %s, or unset STATE_DIR", err, sandbox)
		}
		return nil, fmt.Errorf("STATE_DIR: %w: %w", err, errUnwritable)
	}
	c := &core{dir: dir, now: o.Now, log: o.Log}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = zap.NewNop()
	}
	if err := createInstance(dir); err != nil {
		c.log.Warn("the state directory cannot be identified, and SCHEDULE_JITTER has no effect; the next start tries again", zap.Error(err))
	}
	err = c.openDatabase(ctx)
	if IsDiskFull(err) && c.releaseReserve() {
		err = c.openDatabase(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %s: %w", filepath.Join(dir, databaseName), err)
	}
	c.keepReserve()
	return newState(c), nil
}

// Dir implements [state.Backend].
func (s *State) Dir() string { return s.dir }

// Close implements [state.Backend].
func (s *State) Close() error {
	err := s.db.Close()
	if s.temp != "" {
		err = errors.Join(err, os.RemoveAll(s.temp))
	}
	if err != nil {
		return fmt.Errorf("close state: %w", err)
	}
	return nil
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
	s.keepReserve()
	return errors.Join(s.sweepRestores(), s.Snapshots.sweepChunks(), s.shrinkDatabase(ctx))
}

// Streams implements [state.Backend].
func (s *State) Streams(ctx context.Context) ([]state.StreamStatus, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (st state.StreamStatus, err error) {
		var started, ended, limited, success, failure, firstFailure, taken, checked int64
		err = rows.Scan(&st.Collector, &st.Stream, &st.Tenancy,
			&st.Last.ID, &st.Last.Collector, &st.Last.Stream, &st.Last.Tenancy, &st.Last.UploadID, &st.Last.Trigger,
			&started, &ended, &st.Last.Outcome, &st.Last.Err, &st.Last.Records, &st.Last.Bytes, &st.Last.Pages,
			&st.Last.Requests, &st.Last.Retries, &limited, doubtsColumn{&st.Last.Doubts},
			&success, &failure, &st.FailureErr, &firstFailure, &taken, &checked, &st.Records, &st.Source, doubtsColumn{&st.Doubts}, &st.Held, &st.Queued)
		st.Last.Started, st.Last.Ended = fromMillis(started), fromMillis(ended)
		st.Last.RateLimitWait = time.Duration(limited) * time.Millisecond
		st.LastSuccess, st.LastFailure, st.Taken = fromMillis(success), fromMillis(failure), fromMillis(taken)
		st.FirstFailure, st.Checked = fromMillis(firstFailure), fromMillis(checked)
		return st, err
	}, streamsQuery)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return all, nil
}

// streamsQuery reads the last success and failure from counters, which outlive
// the history.
const streamsQuery = `
WITH streams AS (
	SELECT collector, stream, tenancy FROM counters
	UNION SELECT collector, stream, tenancy FROM runs WHERE outcome = ''
	UNION SELECT collector, stream, tenancy FROM snapshots),
failures AS (
	SELECT collector, stream, tenancy, ended, error FROM (
		SELECT c.*, row_number() OVER (PARTITION BY collector, stream, tenancy ORDER BY last_run DESC, ended DESC) AS place
		FROM counters c WHERE outcome NOT IN ('success', 'unchanged', 'empty', 'skipped')) ranked WHERE place = 1),
successes AS (
	SELECT collector, stream, tenancy, ended, last_run AS run FROM (
		SELECT c.*, row_number() OVER (PARTITION BY collector, stream, tenancy ORDER BY last_run DESC, ended DESC) AS place
		FROM counters c WHERE outcome IN ('success', 'unchanged', 'empty')) ranked WHERE place = 1),
queues AS (
	SELECT q.collector, q.stream, q.tenancy, count(*) AS n
	FROM deliveries d JOIN snapshots q ON q.id = d.snapshot GROUP BY q.collector, q.stream, q.tenancy)
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
	coalesce(q.n, 0)
FROM streams n
LEFT JOIN runs r ON r.id = (SELECT max(id) FROM runs WHERE stream = n.stream AND tenancy = n.tenancy AND collector = n.collector AND outcome <> 'skipped')
LEFT JOIN successes g USING (collector, stream, tenancy)
LEFT JOIN runs u ON u.id = g.run
LEFT JOIN failures f USING (collector, stream, tenancy)
LEFT JOIN queues q USING (collector, stream, tenancy)
LEFT JOIN last_known l ON l.stream = n.stream AND l.tenancy = n.tenancy
LEFT JOIN snapshots s ON s.id = l.snapshot AND s.collector = n.collector
ORDER BY n.collector, n.stream, n.tenancy`
