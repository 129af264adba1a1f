package state

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

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Recovered is what a process that died had left behind.
type Recovered struct {
	// Spools are half snapshots that were removed.
	Spools int
	// Completed are runs whose snapshot was sealed and is now recorded.
	Completed []Commitment
	// Reclaimed are snapshots that the database had lost.
	Reclaimed []Commitment
	// Interrupted are runs that had no snapshot yet.
	Interrupted int64
	// Lost are snapshots that cannot be used: their folder is gone, damaged or
	// unreadable.
	Lost []error
}

// Log reports what was found, if anything.
func (r Recovered) Log(log *zap.Logger) {
	if r.Interrupted > 0 || r.Spools > 0 {
		log.Warn("an earlier run was cut off; its extraction starts again, but for the kept chunks of an export job", zap.Int64("streams", r.Interrupted), zap.Int("half_snapshots_removed", r.Spools))
	}
	for _, c := range r.Completed {
		log.Info("completed a run that was cut off after its snapshot was sealed",
			zap.String("stream", c.Info.Stream), zap.String("upload_id", c.Info.UploadID), zap.String("outcome", string(c.Outcome)))
	}
	for _, c := range r.Reclaimed {
		log.Warn("took a snapshot into the database, which did not know it",
			zap.String("stream", c.Info.Stream), zap.String("upload_id", c.Info.UploadID), zap.String("outcome", string(c.Outcome)))
	}
	for _, err := range r.Lost {
		log.Error("a snapshot in the state folder cannot be used", zap.Error(err))
	}
}

// Recover completes or clears away what earlier processes left when they died,
// as far as it is the collector's. A snapshot that was sealed and not recorded
// is recorded as its run would have done; one of a run that failed goes. A
// snapshot that cannot be used is taken off the queues, so that it does not
// hold up those behind it, and the newest usable one of the stream takes its
// place as the last-known one. The caller holds the collector's lock.
func (s *State) Recover(ctx context.Context, collector string, p Policy) (Recovered, error) {
	var found Recovered
	steps := []func(context.Context, string, Policy, *Recovered) error{s.removeSpools, s.settleFolders, s.interrupt, s.forgetLost}
	for _, step := range steps {
		if err := step(ctx, collector, p, &found); err != nil {
			return found, fmt.Errorf("recover: %w", err)
		}
	}
	s.emptyTrash()
	return found, nil
}

func (s *State) removeSpools(_ context.Context, collector string, _ Policy, found *Recovered) error {
	dir := filepath.Join(s.dir, "spool", fileName(collector))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
		found.Spools++
	}
	return nil
}

// interrupt ends the runs that had no snapshot yet.
func (s *State) interrupt(ctx context.Context, collector string, _ Policy, found *Recovered) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		rows, err := queryAll(ctx, tx, scanID, `SELECT id FROM runs WHERE collector = ? AND outcome = ''`, collector)
		if err != nil {
			return err
		}
		for _, id := range rows {
			if err := s.end(ctx, tx, RunID(id), Interrupted, "the process ended before the run did", Figures{}); err != nil {
				return err
			}
		}
		found.Interrupted = int64(len(rows))
		return nil
	})
}

// settleFolders deals with the folders that the database does not know, oldest
// first.
func (s *State) settleFolders(ctx context.Context, collector string, p Policy, found *Recovered) error {
	// The folders are listed before the rows: one that is recorded meanwhile is
	// not among the former.
	dirs, err := fs.Glob(os.DirFS(s.dir), "snapshots/*/*/*")
	if err != nil {
		return err
	}
	rows, err := queryAll(ctx, s.db, scanText, `SELECT dir FROM snapshots`)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(rows))
	for _, dir := range rows {
		known[dir] = true
	}
	slices.SortFunc(dirs, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	for _, dir := range dirs {
		dir = filepath.FromSlash(dir)
		if known[dir] {
			continue
		}
		if err := s.settle(ctx, dir, collector, p, found); err != nil {
			return err
		}
	}
	return nil
}

// settle deals with one of them.
func (s *State) settle(ctx context.Context, dir, collector string, p Policy, found *Recovered) error {
	if strings.HasSuffix(dir, restoredSuffix) {
		return s.dropLeftover(ctx, dir)
	}
	run, err := s.runOf(ctx, dir)
	switch {
	case err != nil:
		return err
	case run == nil:
		return s.reclaim(ctx, dir, collector, p, found)
	case run.Collector != collector:
		return nil
	case run.Outcome != "":
		return s.discard(dir) // the run failed after sealing
	}
	sealed, err := s.verified(ctx, dir)
	if unusable(err) {
		found.Lost = append(found.Lost, err)
		return s.discard(dir) // the run ends as interrupted
	}
	if err != nil {
		return err
	}
	done, err := s.record(ctx, run.ID, sealed, dir, Figures{Records: sealed.Records, Bytes: sealed.Bytes}, p)
	if err != nil {
		return err
	}
	found.Completed = append(found.Completed, done)
	return nil
}

// dropLeftover discards a restored snapshot that was not recorded. Restore
// moves it and records it within one transaction, so that none is under way
// within this one.
func (s *State) dropLeftover(ctx context.Context, dir string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		rows, err := queryAll(ctx, tx, scanID, `SELECT id FROM snapshots WHERE dir = ?`, dir)
		if err != nil || len(rows) > 0 {
			return err
		}
		return s.discard(dir)
	})
}

// runOf returns the run that made a folder; nil when the history has none.
func (s *State) runOf(ctx context.Context, dir string) (*Run, error) {
	name := filepath.Base(dir)
	if len(name) <= len(stampLayout) {
		return nil, nil
	}
	uploadID, err := url.PathUnescape(name[len(stampLayout)+1:])
	if err != nil {
		return nil, nil
	}
	runs, err := queryAll(ctx, s.db, func(rows *sql.Rows) (r Run, err error) {
		return r, rows.Scan(&r.ID, &r.Collector, &r.Stream, &r.Tenancy, &r.Outcome)
	}, `SELECT id, collector, stream, tenancy, outcome FROM runs WHERE upload_id = ?`, uploadID)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		if parent(r.Stream, r.Tenancy) == filepath.Dir(dir) {
			return &r, nil
		}
	}
	return nil, nil
}

// reclaim takes in a snapshot of a database that was lost. Where it was
// delivered is not known, so it is delivered again, which changes nothing.
func (s *State) reclaim(ctx context.Context, dir, collector string, p Policy, found *Recovered) error {
	sealed, err := snapshot.Open(filepath.Join(s.dir, dir))
	if err == nil && sealed.Collector != collector {
		return nil
	}
	if err == nil {
		var stale bool
		err = s.db.QueryRowContext(ctx,
			`SELECT EXISTS (SELECT 1 FROM snapshots WHERE stream = ?1 AND tenancy = ?2 AND upload_id = ?3)
			 OR EXISTS (SELECT 1 FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = ?1 AND l.tenancy = ?2 AND s.taken >= ?4)`,
			sealed.Stream, sealed.Tenancy, sealed.UploadID, toMillis(sealed.UploadTimestamp)).Scan(&stale)
		if err != nil {
			return err
		}
		if stale { // it was swept, or replaced by a restored one
			return s.discard(dir)
		}
		if err = sealed.Verify(ctx); unusable(err) {
			found.Lost = append(found.Lost, err)
			return s.discard(dir)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // another process has dealt with it
		return nil
	case unusable(err): // whose it is cannot be read: it stays for somebody to look at
		found.Lost = append(found.Lost, err)
		return nil
	case err != nil:
		return err
	}
	done, err := s.record(ctx, 0, sealed, dir, Figures{}, p)
	if err != nil {
		return err
	}
	found.Reclaimed = append(found.Reclaimed, done)
	return nil
}

// verified opens the snapshot in dir and checks its sum.
func (s *State) verified(ctx context.Context, dir string) (*snapshot.Snapshot, error) {
	sealed, err := snapshot.Open(filepath.Join(s.dir, dir))
	if err != nil {
		return nil, err
	}
	return sealed, sealed.Verify(ctx)
}

// unusable tells that a snapshot is gone or damaged for good; other errors may
// pass.
func unusable(err error) bool {
	return errors.Is(err, snapshot.ErrDamaged) || errors.Is(err, fs.ErrNotExist)
}
