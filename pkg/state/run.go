package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// An Outcome is how a run of a stream ended.
type Outcome string

// The outcomes.
const (
	Success     Outcome = "success"     // a new snapshot is the last-known one
	Empty       Outcome = "empty"       // the vendor has no records
	Held        Outcome = "held"        // far fewer records than before: waits for Accept
	Failed      Outcome = "failed"      // an error
	Timeout     Outcome = "timeout"     // the run took or idled too long
	Cancelled   Outcome = "cancelled"   // collectord was told to stop
	Skipped     Outcome = "skipped"     // another run of the same was under way
	Interrupted Outcome = "interrupted" // the process died
)

// Outcomes are all of them.
var Outcomes = []Outcome{Success, Empty, Held, Failed, Timeout, Cancelled, Skipped, Interrupted}

// A RunID names a run in the history.
type RunID int64

// Start says which run begins.
type Start struct {
	snapshot.Header
	// Trigger says why it runs, such as "once".
	Trigger string
	Started time.Time
}

// Figures are what a run did.
type Figures struct {
	Records, Bytes, Pages, Requests, Retries int64
	// RateLimitWait is the time spent waiting because the vendor limits its
	// rate.
	RateLimitWait time.Duration
}

// Policy says what becomes of a sealed snapshot.
type Policy struct {
	// Sinks are the names of the destinations that get it.
	Sinks []string
	// StoreEmpty lets a snapshot without records take the place of one that
	// has some.
	StoreEmpty bool
	// GuardDropPercent holds a snapshot back that has fewer than so many
	// percent of the last-known one's records; 0 holds none.
	GuardDropPercent int
}

// Begin notes that a run begins.
func (s *State) Begin(ctx context.Context, r Start) (RunID, error) {
	result, err := s.db.ExecContext(ctx,
		`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started) VALUES (?, ?, ?, ?, ?, ?)`,
		r.Collector, r.Stream, r.Tenancy, r.UploadID, r.Trigger, toMillis(r.Started))
	if err != nil {
		return 0, fmt.Errorf("note the run: %w", err)
	}
	id, err := result.LastInsertId()
	if err != nil {
		return 0, fmt.Errorf("note the run: %w", err)
	}
	return RunID(id), nil
}

// Fail notes how a run ended that has no new snapshot.
func (s *State) Fail(ctx context.Context, id RunID, outcome Outcome, cause error, f Figures) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		return s.end(ctx, tx, id, outcome, cause.Error(), f)
	})
	if err != nil {
		return fmt.Errorf("note the run's end: %w", err)
	}
	return nil
}

// Skip notes a run that did not begin, and why.
func (s *State) Skip(ctx context.Context, r Start, cause error) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx,
			`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started) VALUES (?, ?, ?, ?, ?, ?)`,
			r.Collector, r.Stream, r.Tenancy, r.UploadID, r.Trigger, toMillis(r.Started))
		if err != nil {
			return err
		}
		id, err := result.LastInsertId()
		if err != nil {
			return err
		}
		return s.end(ctx, tx, RunID(id), Skipped, cause.Error(), Figures{})
	})
	if err != nil {
		return fmt.Errorf("note the skipped run: %w", err)
	}
	return nil
}

// end completes a run's row and counts it, unless it has ended already.
func (s *State) end(ctx context.Context, tx *sql.Tx, id RunID, outcome Outcome, text string, f Figures) error {
	result, err := tx.ExecContext(ctx,
		`UPDATE runs SET ended = ?, outcome = ?, error = ?, records = ?, bytes = ?, pages = ?, requests = ?, retries = ?, limited = ?
		 WHERE id = ? AND outcome = ''`,
		toMillis(s.now()), outcome, clip(text), f.Records, f.Bytes, f.Pages, f.Requests, f.Retries, f.RateLimitWait.Milliseconds(), id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO counters (collector, stream, tenancy, outcome, runs, last_run, ended, error)
		 SELECT collector, stream, tenancy, outcome, 1, id, ended, error FROM runs WHERE id = ?
		 ON CONFLICT DO UPDATE SET runs = runs + 1, last_run = excluded.last_run, ended = excluded.ended, error = excluded.error`, id)
	return err
}

// ErrSpoolFull means that undelivered snapshots take all the disk that they
// may take.
var ErrSpoolFull = errors.New("spool is full")

// Spool starts a snapshot, unless the undelivered ones take more than max
// bytes already. The caller holds the collector's lock.
func (s *State) Spool(ctx context.Context, h snapshot.Header, max int64) (*snapshot.Writer, error) {
	var queued int64
	var behind sql.NullString
	err := s.db.QueryRowContext(ctx,
		`SELECT (SELECT coalesce(sum(spool_bytes), 0) FROM snapshots WHERE id IN (SELECT snapshot FROM deliveries)),
		        (SELECT group_concat(sink, ', ') FROM (SELECT DISTINCT sink FROM deliveries ORDER BY sink))`).Scan(&queued, &behind)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if queued > max {
		return nil, fmt.Errorf("%w: undelivered snapshots take %d bytes, STORE_SPOOL_MAX allows %d: it has room again when these have caught up: %s", ErrSpoolFull, queued, max, behind.String)
	}
	dir := filepath.Join(s.dir, "spool", fileName(h.Collector))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return snapshot.Create(filepath.Join(dir, fileName(h.Stream+"-"+h.UploadID)), h)
}

// A Commitment is what became of a run's records.
type Commitment struct {
	Outcome Outcome
	// Info describes the snapshot.
	Info snapshot.Info
	// LastRecords is how many records the last-known snapshot had before.
	LastRecords int64
	// Queued is how many deliveries were queued.
	Queued int
}

// Commit seals w and, in one transaction, ends the run, makes the snapshot the
// last-known one, and queues a delivery for each sink; or records it as empty
// or held, where policy says so. The caller holds the collector's lock. After
// an error nothing has changed, and the caller calls Fail and aborts w.
func (s *State) Commit(ctx context.Context, id RunID, w *snapshot.Writer, f Figures, p Policy) (Commitment, error) {
	dir := folder(w.Read().Header)
	if err := mkdirs(s.dir, filepath.Dir(dir)); err != nil {
		return Commitment{}, fmt.Errorf("seal snapshot: %w", err)
	}
	sealed, err := w.Seal(filepath.Join(s.dir, dir))
	if err != nil {
		// It may have its place already, with nothing but the last sync undone.
		return Commitment{}, errors.Join(err, s.discard(dir))
	}
	reached("sealed")
	done, err := s.record(ctx, id, sealed, dir, f, p)
	if err != nil {
		// A commit that reports an error may have happened all the same. If not,
		// the folder must not look like that of a run which was cut off; when
		// nobody can tell, it stays and Recover settles it.
		known, e := s.known(context.WithoutCancel(ctx), dir)
		if e == nil && !known {
			e = s.discard(dir)
		}
		if !known {
			return Commitment{}, errors.Join(err, e)
		}
	}
	reached("recorded")
	s.sweepStream(ctx, sealed.Stream, sealed.Tenancy)
	return done, nil
}

// reached is called between the steps that a crash may part; tests end the
// process there.
var reached = func(string) {}

// useless tells an empty answer that changes nothing: its snapshot would be
// known and stored nowhere.
func useless(records, last int64, p Policy) bool {
	return records == 0 && last > 0 && !p.StoreEmpty
}

// record makes the sealed snapshot in dir known, or discards it when it is an
// empty one that nothing needs.
func (s *State) record(ctx context.Context, id RunID, sealed *snapshot.Snapshot, dir string, f Figures, p Policy) (Commitment, error) {
	done := Commitment{Info: sealed.Info}
	err := s.transact(ctx, func(tx *sql.Tx) (err error) {
		if done.LastRecords, err = lastRecords(ctx, tx, sealed.Stream, sealed.Tenancy); err != nil {
			return err
		}
		var text string
		done.Outcome, text = judge(sealed.Records, done.LastRecords, p)
		if useless(sealed.Records, done.LastRecords, p) {
			err = s.discard(dir)
		} else {
			done.Queued, err = s.keep(ctx, tx, sealed, dir, done.Outcome == Held, p)
		}
		if err != nil {
			return err
		}
		reached("recording")
		return s.end(ctx, tx, id, done.Outcome, text, f)
	})
	if err != nil {
		return done, fmt.Errorf("record the snapshot: %w", err)
	}
	return done, nil
}

// judge names the outcome of a run whose snapshot has so many records while
// the last-known one has last, and says why when it is held.
func judge(records, last int64, p Policy) (Outcome, string) {
	switch {
	case records == 0:
		return Empty, ""
	case records*100 < last*int64(p.GuardDropPercent):
		return Held, fmt.Sprintf("%d records, the last-known snapshot has %d, and GUARD_DROP holds what has less than %d%% of it", records, last, p.GuardDropPercent)
	}
	return Success, ""
}

// lastRecords is how many records the last-known snapshot has; 0 without one.
func lastRecords(ctx context.Context, tx *sql.Tx, stream, tenancy string) (n int64, err error) {
	err = tx.QueryRowContext(ctx,
		`SELECT s.records FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = ? AND l.tenancy = ?`,
		stream, tenancy).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// known tells whether the database has a snapshot in dir.
func (s *State) known(ctx context.Context, dir string) (known bool, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE dir = ?)`, dir).Scan(&known)
	return known, err
}

// keep adds a collected snapshot and, unless it is held, makes it the
// last-known one.
func (s *State) keep(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string, held bool, p Policy) (queued int, err error) {
	row, err := s.insertSnapshot(ctx, tx, sealed, dir, Collected, held)
	if err != nil || held {
		return 0, err
	}
	return s.promote(ctx, tx, row, p)
}

// insertSnapshot adds a sealed snapshot and returns its row.
func (s *State) insertSnapshot(ctx context.Context, tx *sql.Tx, sealed *snapshot.Snapshot, dir string, source Source, held bool) (int64, error) {
	result, err := tx.ExecContext(ctx,
		`INSERT INTO snapshots (collector, stream, tenancy, upload_id, taken, records, bytes, spool_bytes, dir, source, held, added)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		sealed.Collector, sealed.Stream, sealed.Tenancy, sealed.UploadID, toMillis(sealed.UploadTimestamp),
		sealed.Records, sealed.Bytes, sealed.SpoolBytes, dir, source, held, toMillis(s.now()))
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// promote makes a snapshot the last-known one and queues its deliveries.
func (s *State) promote(ctx context.Context, tx *sql.Tx, row int64, p Policy) (queued int, err error) {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO last_known (stream, tenancy, snapshot, since) SELECT stream, tenancy, id, ? FROM snapshots WHERE id = ?
		 ON CONFLICT DO UPDATE SET snapshot = excluded.snapshot, since = excluded.since`, toMillis(s.now()), row); err != nil {
		return 0, err
	}
	var records int64
	if err := tx.QueryRowContext(ctx, `SELECT records FROM snapshots WHERE id = ?`, row).Scan(&records); err != nil {
		return 0, err
	}
	if records == 0 && !p.StoreEmpty {
		return 0, nil
	}
	for _, sink := range p.Sinks {
		result, err := tx.ExecContext(ctx,
			`INSERT INTO deliveries (snapshot, sink, queued) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, row, sink, toMillis(s.now()))
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		queued += int(n)
	}
	return queued, nil
}
