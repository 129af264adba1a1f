package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Run is one row of the history.
type Run struct {
	ID                         RunID
	Collector, Stream, Tenancy string
	UploadID, Trigger          string
	Started, Ended             time.Time // Ended is zero while it runs
	Outcome                    Outcome   // "" while it runs
	Err                        string
	Figures
}

// Runs returns the newest runs first, at most limit; of all streams when
// stream is "".
func (s *State) Runs(ctx context.Context, stream string, limit int) ([]Run, error) {
	return s.runs(ctx, "?1 = '' OR stream = ?1", stream, limit)
}

// RunsOf returns the newest runs of a tenancy first, at most limit; of all its
// streams when stream is "".
func (s *State) RunsOf(ctx context.Context, stream, tenancy string, limit int) ([]Run, error) {
	if stream == "" {
		return s.runs(ctx, "tenancy = ?", tenancy, limit)
	}
	return s.runs(ctx, "stream = ? AND tenancy = ?", stream, tenancy, limit)
}

// runs returns the newest runs for which where holds. The last of args is the
// most that there may be.
func (s *State) runs(ctx context.Context, where string, args ...any) ([]Run, error) {
	runs, err := queryAll(ctx, s.db, func(rows *sql.Rows) (r Run, err error) {
		var started, ended, limited int64
		err = rows.Scan(&r.ID, &r.Collector, &r.Stream, &r.Tenancy, &r.UploadID, &r.Trigger, &started, &ended, &r.Outcome, &r.Err,
			&r.Records, &r.Bytes, &r.Pages, &r.Requests, &r.Retries, &limited)
		r.Started, r.Ended, r.RateLimitWait = fromMillis(started), fromMillis(ended), time.Duration(limited)*time.Millisecond
		return r, err
	}, `SELECT id, collector, stream, tenancy, upload_id, cause, started, ended, outcome, error, records, bytes, pages, requests, retries, limited
		FROM runs WHERE `+where+` ORDER BY id DESC LIMIT ?`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return runs, nil
}

// A StreamStatus is how a stream stands.
type StreamStatus struct {
	Collector, Stream, Tenancy string
	// Last is the newest run, the one that runs now included and those that
	// were skipped left out; zero when the history has none.
	Last Run
	// LastSuccess is when a run last ended with the vendor's whole answer, an
	// empty one included; zero for never.
	LastSuccess time.Time
	// LastFailure is when a run last ended otherwise, with FailureErr; a skipped
	// one is none.
	LastFailure time.Time
	FailureErr  string
	// Taken is when the last-known data was taken; zero when there is none.
	Taken   time.Time
	Records int64
	Source  Source
	// Held tells that a snapshot waits for Accept.
	Held bool
	// Queued is how many deliveries wait.
	Queued int
}

// Streams returns the status of every stream that was ever run or restored.
func (s *State) Streams(ctx context.Context) ([]StreamStatus, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (st StreamStatus, err error) {
		var started, ended, limited, success, failure, taken int64
		err = rows.Scan(&st.Collector, &st.Stream, &st.Tenancy,
			&st.Last.ID, &st.Last.Collector, &st.Last.Stream, &st.Last.Tenancy, &st.Last.UploadID, &st.Last.Trigger,
			&started, &ended, &st.Last.Outcome, &st.Last.Err, &st.Last.Records, &st.Last.Bytes, &st.Last.Pages,
			&st.Last.Requests, &st.Last.Retries, &limited,
			&success, &failure, &st.FailureErr, &taken, &st.Records, &st.Source, &st.Held, &st.Queued)
		st.Last.Started, st.Last.Ended = fromMillis(started), fromMillis(ended)
		st.Last.RateLimitWait = time.Duration(limited) * time.Millisecond
		st.LastSuccess, st.LastFailure, st.Taken = fromMillis(success), fromMillis(failure), fromMillis(taken)
		return st, err
	}, streamsQuery)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return all, nil
}

// streamsQuery takes the last success and failure from counters, which
// outlive the history.
const streamsQuery = `
WITH streams AS (
	SELECT collector, stream, tenancy FROM counters
	UNION SELECT collector, stream, tenancy FROM runs WHERE outcome = ''
	UNION SELECT collector, stream, tenancy FROM snapshots),
failures AS (
	SELECT collector, stream, tenancy, max(last_run) AS run, ended, error FROM counters
	WHERE outcome NOT IN ('success', 'empty', 'skipped') GROUP BY collector, stream, tenancy),
successes AS (
	SELECT collector, stream, tenancy, max(ended) AS ended FROM counters
	WHERE outcome IN ('success', 'empty') GROUP BY collector, stream, tenancy),
queues AS (
	SELECT q.collector, q.stream, q.tenancy, count(*) AS n
	FROM deliveries d JOIN snapshots q ON q.id = d.snapshot GROUP BY q.collector, q.stream, q.tenancy)
SELECT n.collector, n.stream, n.tenancy,
	coalesce(r.id, 0), coalesce(r.collector, ''), coalesce(r.stream, ''), coalesce(r.tenancy, ''), coalesce(r.upload_id, ''), coalesce(r.cause, ''),
	coalesce(r.started, 0), coalesce(r.ended, 0), coalesce(r.outcome, ''), coalesce(r.error, ''), coalesce(r.records, 0), coalesce(r.bytes, 0),
	coalesce(r.pages, 0), coalesce(r.requests, 0), coalesce(r.retries, 0), coalesce(r.limited, 0),
	coalesce(g.ended, 0), coalesce(f.ended, 0), coalesce(f.error, ''),
	coalesce(s.taken, 0), coalesce(s.records, 0), coalesce(s.source, ''),
	EXISTS (SELECT 1 FROM snapshots h WHERE h.held AND h.stream = n.stream AND h.tenancy = n.tenancy AND h.id > coalesce(s.id, 0)),
	coalesce(q.n, 0)
FROM streams n
LEFT JOIN runs r ON r.id = (SELECT max(id) FROM runs WHERE stream = n.stream AND tenancy = n.tenancy AND collector = n.collector AND outcome <> 'skipped')
LEFT JOIN successes g USING (collector, stream, tenancy)
LEFT JOIN failures f USING (collector, stream, tenancy)
LEFT JOIN queues q USING (collector, stream, tenancy)
LEFT JOIN last_known l ON l.stream = n.stream AND l.tenancy = n.tenancy
LEFT JOIN snapshots s ON s.id = l.snapshot AND s.collector = n.collector
ORDER BY n.collector, n.stream, n.tenancy`

// A Count is how many runs of a stream ended in one way, over all time.
type Count struct {
	Collector, Stream, Tenancy string
	Outcome                    Outcome
	Runs                       int64
	LastEnded                  time.Time
}

// Counts returns the counts of every stream and outcome that has occurred.
// Unlike the history they are never swept.
func (s *State) Counts(ctx context.Context) ([]Count, error) {
	all, err := queryAll(ctx, s.db, func(rows *sql.Rows) (c Count, err error) {
		var ended int64
		err = rows.Scan(&c.Collector, &c.Stream, &c.Tenancy, &c.Outcome, &c.Runs, &ended)
		c.LastEnded = fromMillis(ended)
		return c, err
	}, `SELECT collector, stream, tenancy, outcome, runs, ended FROM counters ORDER BY collector, stream, tenancy, outcome`)
	if err != nil {
		return nil, fmt.Errorf("read the counts: %w", err)
	}
	return all, nil
}
