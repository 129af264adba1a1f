package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// Recover implements [state.Backend].
func (s *State) Recover(ctx context.Context, collector, tenancy string, p state.Policy, streams ...string) (state.RecoverResult, error) {
	r := &recovery{State: s, collector: collector, tenancy: tenancy, streams: streams, policy: p}
	for _, step := range []func(context.Context) error{r.removeSpools, r.recordUnknown, r.endInterruptedRuns, r.dropLost} {
		if err := step(ctx); err != nil {
			return r.found, fmt.Errorf("recover: %w", err)
		}
	}
	s.files.EmptyTrash()
	return r.found, nil
}

// A recovery is one call of Recover.
type recovery struct {
	*State
	collector string
	tenancy   string
	streams   []string // empty for all of the collector's
	policy    state.Policy
	found     state.RecoverResult
}

// covers reports whether the recovery is for a stream of a collector and tenancy.
func (r *recovery) covers(collector, stream, tenancy string) bool {
	return collector == r.collector && tenancy == r.tenancy && (len(r.streams) == 0 || slices.Contains(r.streams, stream))
}

// rows returns the SQL condition, with its arguments, for the rows s of snapshots that the
// recovery covers. It has the streams, by which the database finds rows without reading those
// of other tenancies.
func (r *recovery) rows() (where string, args []any) {
	where, args = "s.collector = $1 AND s.tenancy = $2", []any{r.collector, r.tenancy}
	if len(r.streams) == 0 {
		return where, args
	}
	marks := make([]string, len(r.streams))
	for i, stream := range r.streams {
		args = append(args, stream)
		marks[i] = fmt.Sprintf("$%d", len(args))
	}
	return where + " AND s.stream IN (" + strings.Join(marks, ", ") + ")", args
}

// coversSpool reports whether the recovery is for the stream of an unfinished
// snapshot in the collector's spool.
func (r *recovery) coversSpool(name string) bool {
	if !strings.Contains(name, "~") { // an earlier version, which ran one tenancy at a time
		isOf := func(stream string) bool { return strings.HasPrefix(name, FileName(stream)+"-") }
		return len(r.streams) == 0 || slices.ContainsFunc(r.streams, isOf)
	}
	if len(r.streams) == 0 {
		return strings.Contains(name, "~"+FileName(r.tenancy)+"~")
	}
	isOf := func(stream string) bool { return strings.HasPrefix(name, spoolPrefix(stream, r.tenancy)) }
	return slices.ContainsFunc(r.streams, isOf)
}

// removeSpools removes the unfinished snapshots.
func (r *recovery) removeSpools(context.Context) error {
	dir := filepath.Join(r.dir, "spool", FileName(r.collector))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !r.coversSpool(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		r.found.Spools++
	}
	return nil
}

// recordUnknown records or discards the snapshots that the database does not have, oldest
// first.
func (r *recovery) recordUnknown(ctx context.Context) error {
	// The places are listed before the rows are read, so that one that is recorded meanwhile
	// has its row.
	places, err := r.files.List(r.streams, r.tenancy)
	if err != nil {
		return err
	}
	query, args := `SELECT s.dir FROM snapshots s`, []any(nil)
	if len(r.streams) > 0 { // otherwise the places are those of all collectors and tenancies
		var where string
		where, args = r.rows()
		query += ` WHERE ` + where
	}
	rows, err := queryAll(ctx, r.db, scanText, query, args...)
	if err != nil {
		return err
	}
	recorded := make(map[string]bool, len(rows))
	for _, place := range rows {
		recorded[place] = true
	}
	slices.SortFunc(places, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	for _, place := range places {
		if recorded[place] {
			continue
		}
		if err := r.recordUnknownPlace(ctx, place); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) recordUnknownPlace(ctx context.Context, place string) error {
	if strings.HasSuffix(place, RestoredSuffix) {
		return r.removeUnrecordedRestore(ctx, place)
	}
	run, err := r.findRun(ctx, place)
	switch {
	case err != nil:
		return err
	case run == nil:
		return r.reclaim(ctx, place)
	case !r.covers(run.Collector, run.Stream, run.Tenancy):
		return nil
	case run.Outcome != "":
		return r.files.Discard(place) // the run failed after sealing
	}
	sealed, err := r.Snapshots.openVerified(ctx, place)
	if snapshot.IsUnusable(err) {
		r.found.Lost = append(r.found.Lost, err)
		return r.files.Discard(place) // the run ends as interrupted
	}
	if err != nil {
		return err
	}
	done, err := r.Runs.recordSnapshot(ctx, run.ID, sealed, place, state.RunStats{Records: sealed.Records, Bytes: sealed.Bytes, Doubts: sealed.Doubts}, r.policy)
	if err != nil {
		return err
	}
	done.Skipped = r.Queue.trimQueues(ctx, sealed.Stream, sealed.Tenancy, r.policy)
	r.found.Completed = append(r.found.Completed, done)
	return nil
}

// removeUnrecordedRestore removes a restored snapshot unless the database has
// it. Restore moves and records a snapshot in one transaction, so that none can
// be between the two during this transaction.
func (r *recovery) removeUnrecordedRestore(ctx context.Context, place string) error {
	return r.inTransaction(ctx, func(tx DB) error {
		rows, err := queryAll(ctx, tx, scanID, `SELECT id FROM snapshots WHERE dir = $1`, place)
		if err != nil || len(rows) > 0 {
			return err
		}
		return r.files.Discard(place)
	})
}

// findRun returns the run that created the snapshot at a place; nil when the history does
// not have it.
func (r *recovery) findRun(ctx context.Context, place string) (*state.Run, error) {
	name := filepath.Base(place)
	if len(name) <= len(StampLayout) {
		return nil, nil
	}
	uploadID, err := url.PathUnescape(name[len(StampLayout)+1:])
	if err != nil {
		return nil, nil
	}
	runs, err := queryAll(ctx, r.db, func(rows *sql.Rows) (run state.Run, err error) {
		return run, rows.Scan(&run.ID, &run.Collector, &run.Stream, &run.Tenancy, &run.Outcome)
	}, `SELECT id, collector, stream, tenancy, outcome FROM runs WHERE upload_id = $1`, uploadID)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if StreamPlace(run.Stream, run.Tenancy) == filepath.Dir(place) {
			return &run, nil
		}
	}
	return nil, nil
}

// reclaim adds a snapshot that the database has lost. It is delivered to all
// destinations, since it is not known which of them have it; a second delivery
// changes nothing.
func (r *recovery) reclaim(ctx context.Context, place string) error {
	sealed, err := r.files.Open(ctx, place)
	if err == nil && !r.covers(sealed.Collector, sealed.Stream, sealed.Tenancy) {
		return nil
	}
	if err == nil {
		var stale bool
		err = r.db.QueryRowContext(ctx,
			`SELECT EXISTS (SELECT 1 FROM snapshots WHERE stream = $1 AND tenancy = $2 AND upload_id = $3)
			 OR EXISTS (SELECT 1 FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = $1 AND l.tenancy = $2 AND s.taken >= $4 AND s.taken <= $5)`,
			sealed.Stream, sealed.Tenancy, sealed.UploadID, toMillis(sealed.UploadTimestamp), toMillis(r.now().Add(snapshot.MaxClockSkew))).Scan(&stale)
		if err != nil {
			return err
		}
		if stale { // its row was swept, or it was replaced by a restored one
			return r.files.Discard(place)
		}
		if err = sealed.Verify(ctx); snapshot.IsUnusable(err) {
			r.found.Lost = append(r.found.Lost, err)
			return r.files.Discard(place)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process has removed it
		return nil
	case snapshot.IsUnusable(err): // its collector is unknown: the directory stays for inspection
		r.found.Lost = append(r.found.Lost, err)
		return nil
	case err != nil:
		return err
	}
	done, err := r.Runs.recordSnapshot(ctx, 0, sealed, place, state.RunStats{}, r.policy)
	if err != nil {
		return err
	}
	done.Skipped = r.Queue.trimQueues(ctx, sealed.Stream, sealed.Tenancy, r.policy)
	r.found.Reclaimed = append(r.found.Reclaimed, done)
	return nil
}

// endInterruptedRuns ends the runs that have no snapshot.
func (r *recovery) endInterruptedRuns(ctx context.Context) error {
	// Usually there are none, and a transaction would wait for those of others.
	var isAny bool
	err := r.db.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT 1 FROM runs WHERE collector = $1 AND tenancy = $2 AND outcome = '')`, r.collector, r.tenancy).Scan(&isAny)
	if err != nil || !isAny {
		return err
	}
	return r.inTransaction(ctx, func(tx DB) error {
		open, err := queryAll(ctx, tx, func(rows *sql.Rows) (run state.Run, err error) {
			return run, rows.Scan(&run.ID, &run.Stream)
		}, `SELECT id, stream FROM runs WHERE collector = $1 AND tenancy = $2 AND outcome = ''`, r.collector, r.tenancy)
		if err != nil {
			return err
		}
		r.found.Interrupted = 0
		for _, run := range open {
			if !r.covers(r.collector, run.Stream, r.tenancy) {
				continue
			}
			if err := r.Runs.endRun(ctx, tx, run.ID, state.Interrupted, "the process ended before the run did", state.RunStats{}); err != nil {
				return err
			}
			r.found.Interrupted++
		}
		return nil
	})
}

// dropLost drops the last-known and queued snapshots that cannot be opened.
func (r *recovery) dropLost(ctx context.Context) error {
	type snapshotRow struct {
		id                     int64
		place, stream, tenancy string
	}
	where, args := r.rows()
	rows, err := queryAll(ctx, r.db, func(rows *sql.Rows) (row snapshotRow, err error) {
		err = rows.Scan(&row.id, &row.place, &row.stream, &row.tenancy)
		return row, err
	}, `SELECT s.id, s.dir, s.stream, s.tenancy FROM snapshots s WHERE `+where+` AND `+inUse, args...)
	if err != nil {
		return err
	}
	for _, row := range rows {
		_, err := r.files.Check(ctx, row.place)
		if err == nil {
			continue
		}
		if !snapshot.IsUnusable(err) {
			r.found.Lost = append(r.found.Lost, fmt.Errorf("%s: %w", row.stream, err))
			continue
		}
		sinks, e := r.Snapshots.dropUnusable(ctx, row.id)
		if e != nil {
			return e
		}
		if len(sinks) > 0 {
			err = fmt.Errorf("%w: it is not delivered to %s", err, strings.Join(sinks, ", "))
		}
		r.found.Lost = append(r.found.Lost, fmt.Errorf("%s: %w", row.stream, err))
		r.Snapshots.sweepStream(ctx, row.stream, row.tenancy)
	}
	return nil
}
