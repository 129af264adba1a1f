package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A Source is a backend that was opened for TakeOver.
type Source interface {
	state.Backend
	// TakeOverState returns the state, which no process uses, and which is not changed.
	TakeOverState() *State
}

// TakeOver implements [state.Backend].
func (s *State) TakeOver(ctx context.Context, other *state.State, tenancy string) (result state.TakeOverResult, err error) {
	source, ok := other.Backend.(Source)
	if !ok {
		return result, errors.New("take over: the other state was not opened for this")
	}
	from := source.TakeOverState()
	hold, err := s.Locks.HoldTenancy(tenancy)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, hold.Unlock()) }()
	streams, err := queryAll(ctx, from.db, scanText, `SELECT stream FROM counters WHERE tenancy = $1
		UNION SELECT stream FROM runs WHERE tenancy = $1 UNION SELECT stream FROM snapshots WHERE tenancy = $1 ORDER BY stream`, tenancy)
	if err != nil {
		return result, fmt.Errorf("read the other state: %w", err)
	}
	for _, stream := range streams {
		one, err := s.takeStream(ctx, from, stream, tenancy)
		if err != nil {
			return result, fmt.Errorf("take over %s: %w", stream, err)
		}
		result.Streams = append(result.Streams, one)
		Reached("stream taken")
	}
	if err := s.takeRest(ctx, from, tenancy, &result); err != nil {
		return result, fmt.Errorf("take over notes and controls: %w", err)
	}
	return result, nil
}

// A takeover is the takeover of one stream.
type takeover struct {
	*State
	from            *State
	stream, tenancy string
	result          state.TakenStream
	collector       string
	last, held      *takenCopy // nil for none
	past            state.History
}

// A takenCopy is a verified copy of a snapshot of the other state.
type takenCopy struct {
	place  string              // where it is to be
	sealed *snapshot.Snapshot  // in the spool
	info   state.LastKnownInfo // zero for one that is held
}

func (s *State) takeStream(ctx context.Context, from *State, stream, tenancy string) (result state.TakenStream, err error) {
	t := &takeover{State: s, from: from, stream: stream, tenancy: tenancy,
		result: state.TakenStream{Stream: stream, Snapshot: state.TakenNone, Held: state.TakenNone}}
	for _, acquire := range []func(stream, tenancy string) (state.Lock, error){s.Locks.LockStream, s.Locks.LockRestore} {
		lock, err := acquire(stream, tenancy)
		if err != nil {
			return result, err
		}
		defer func() { err = errors.Join(err, lock.Unlock()) }()
	}
	spool := s.Snapshots.restoreSpool(snapshot.Header{Stream: stream, Tenancy: tenancy})
	if err := os.RemoveAll(spool); err != nil { // from a process that died
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(spool)) }()
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return result, err
	}
	if err := t.copySnapshots(ctx, spool); err != nil {
		return result, err
	}
	if t.past, err = from.Runs.History(ctx, stream, tenancy, math.MaxInt32); err != nil {
		return result, err
	}
	Reached("stream copied")
	if err := t.record(ctx); err != nil {
		return result, err
	}
	Reached("stream recorded")
	s.Snapshots.sweepStream(ctx, stream, tenancy)
	t.result.Jobs, err = t.takeChunks(spool)
	return t.result, err
}

// copySnapshots copies the last-known snapshot of the other state, and the one that waits
// for Accept there, into the spool.
func (t *takeover) copySnapshots(ctx context.Context, spool string) error {
	place, info, err := t.from.Snapshots.lastKnownPlace(ctx, t.stream, t.tenancy)
	if err == nil {
		t.last, t.result.Snapshot, err = t.copySnapshot(ctx, place, filepath.Join(spool, "last"), info)
	}
	if err != nil && !errors.Is(err, state.ErrNoSnapshot) {
		return err
	}
	_, place, err = findHeld(ctx, t.from.db, t.stream, t.tenancy)
	if err == nil {
		t.held, t.result.Held, err = t.copySnapshot(ctx, place, filepath.Join(spool, "held"), state.LastKnownInfo{})
	}
	if errors.Is(err, state.ErrNoSnapshot) {
		err = nil
	}
	if err != nil {
		return err
	}
	return t.findCollector(ctx)
}

// copySnapshot copies and verifies a snapshot of the other state, unless it is here already
// or cannot be used.
func (t *takeover) copySnapshot(ctx context.Context, place, to string, info state.LastKnownInfo) (*takenCopy, state.TakenSnapshot, error) {
	there, err := t.from.files.Open(ctx, place)
	if snapshot.IsUnusable(err) {
		return nil, state.TakenDamaged, nil
	}
	if err != nil {
		return nil, state.TakenNone, err
	}
	isLast := info != state.LastKnownInfo{}
	if isLast {
		t.result.Info = there.Info
	}
	var known bool
	if err := t.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM snapshots WHERE stream = $1 AND tenancy = $2 AND upload_id = $3)`,
		t.stream, t.tenancy, there.UploadID).Scan(&known); err != nil {
		return nil, state.TakenNone, err
	}
	if known {
		return nil, state.TakenThere, nil
	}
	if err := copyTree(to, there.Dir()); err != nil {
		return nil, state.TakenNone, err
	}
	sealed, err := snapshot.Open(to)
	if err == nil {
		err = sealed.Verify(ctx)
	}
	if snapshot.IsUnusable(err) {
		return nil, state.TakenDamaged, os.RemoveAll(to)
	}
	if err != nil {
		return nil, state.TakenNone, err
	}
	return &takenCopy{sealed: sealed, info: info}, state.TakenAdded, nil
}

// findCollector finds the collector of the stream in the other state.
func (t *takeover) findCollector(ctx context.Context) error {
	return t.from.db.QueryRowContext(ctx,
		`SELECT collector FROM (
			SELECT collector, id FROM runs WHERE stream = $1 AND tenancy = $2
			UNION ALL SELECT collector, 0 FROM snapshots WHERE stream = $1 AND tenancy = $2
			UNION ALL SELECT collector, -1 FROM counters WHERE stream = $1 AND tenancy = $2)
		 ORDER BY id DESC LIMIT 1`, t.stream, t.tenancy).Scan(&t.collector)
}

// record adds the copies, the history and the counts of the stream in one transaction.
func (t *takeover) record(ctx context.Context) error {
	if err := t.stage(ctx); err != nil {
		return err
	}
	err := t.inTransaction(ctx, func(tx DB) error {
		if err := t.recordLast(ctx, tx); err != nil {
			return err
		}
		if err := t.recordHeld(ctx, tx); err != nil {
			return err
		}
		h := snapshot.Header{Collector: t.collector, Stream: t.stream, Tenancy: t.tenancy}
		added, err := t.importHistory(ctx, tx, h, t.past)
		if added {
			t.result.Runs = len(t.past.Runs)
		}
		if err != nil {
			return err
		}
		Reached("recording stream")
		return nil
	})
	return errors.Join(err, t.unstage(err != nil))
}

// unstage gives up the places of the copies that were not added, or of all.
func (t *takeover) unstage(all bool) (err error) {
	if t.last != nil && (all || t.result.Snapshot != state.TakenAdded) {
		err = t.files.Unstage(t.last.place)
	}
	if t.held != nil && (all || t.result.Held != state.TakenAdded) {
		err = errors.Join(err, t.files.Unstage(t.held.place))
	}
	return err
}

// recordLast makes the copy of the last-known snapshot that of this state, unless there is
// a newer one.
func (t *takeover) recordLast(ctx context.Context, tx DB) error {
	if t.last == nil {
		return nil
	}
	sealed, info := t.last.sealed, t.last.info
	present, err := t.Snapshots.usableLastKnown(ctx, tx, sealed.Header)
	if err != nil {
		return err
	}
	if present != nil && !state.PrefersBackup(sealed.UploadTimestamp, sealed.Records, *present, t.now()) {
		t.result.Snapshot = state.TakenOlder
		return nil
	}
	row, err := t.addCopy(ctx, tx, t.last, info.Source, false)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO last_known (stream, tenancy, snapshot, since, checked, fallback) VALUES ($1, $2, $3, $4, $5, $6)
		 ON CONFLICT (stream, tenancy) DO UPDATE SET snapshot = excluded.snapshot, since = excluded.since, checked = excluded.checked, fallback = excluded.fallback`,
		t.stream, t.tenancy, row, toMillis(info.Since), toMillis(info.Checked), info.Fallback); err != nil {
		return err
	}
	return t.Snapshots.keepHeldNewest(ctx, tx, sealed.Header)
}

// recordHeld adds the copy of the snapshot that waits for Accept, unless the last-known one
// of this state is newer, or another one waits here.
func (t *takeover) recordHeld(ctx context.Context, tx DB) error {
	if t.held == nil {
		return nil
	}
	present, err := t.Snapshots.usableLastKnown(ctx, tx, t.held.sealed.Header)
	if err != nil {
		return err
	}
	_, _, err = findHeld(ctx, tx, t.stream, t.tenancy)
	if err != nil && !errors.Is(err, state.ErrNoSnapshot) {
		return err
	}
	if err == nil || present != nil && !t.held.sealed.UploadTimestamp.After(present.UploadTimestamp) {
		t.result.Held = state.TakenOlder
		return nil
	}
	_, err = t.addCopy(ctx, tx, t.held, state.Collected, true)
	return err
}

// stage prepares the places of the copies.
func (t *takeover) stage(ctx context.Context) (err error) {
	if t.last != nil {
		if t.last.place, err = t.files.Stage(ctx, t.last.sealed, t.last.info.Source); err != nil {
			return err
		}
	}
	if t.held != nil {
		t.held.place, err = t.files.Stage(ctx, t.held.sealed, state.Collected)
	}
	return err
}

// addCopy puts a copy in its place and adds its row. After a crash before the commit, Recover
// adds the snapshot, or the next TakeOver replaces the files.
func (t *takeover) addCopy(ctx context.Context, tx DB, c *takenCopy, source state.Source, held bool) (int64, error) {
	if err := t.files.Place(c.sealed, c.place); err != nil {
		return 0, err
	}
	Reached("stream moved")
	return t.Snapshots.insertSnapshot(ctx, tx, c.sealed, c.place, source, held)
}

// takeChunks copies the export chunks of the other state, unless this one has some of the
// stream. It returns the number of jobs.
func (t *takeover) takeChunks(spool string) (jobs int, err error) {
	root := filepath.Join("kept", FileName(t.stream), FileName(t.tenancy))
	entries, err := os.ReadDir(filepath.Join(t.from.dir, root))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if present, _ := os.ReadDir(filepath.Join(t.dir, root)); len(present) > 0 {
		return 0, nil
	}
	staging := filepath.Join(spool, "kept")
	if err := copyTree(staging, filepath.Join(t.from.dir, root)); err != nil {
		return 0, err
	}
	if err := durable.MkdirBelow(t.dir, filepath.Dir(root), 0o700); err != nil {
		return 0, err
	}
	if err := os.Remove(filepath.Join(t.dir, root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	return len(entries), os.Rename(staging, filepath.Join(t.dir, root))
}

// copyTree copies a directory with its files to a new one, durably.
func copyTree(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		switch {
		case entry.IsDir():
			err = copyTree(target, source)
		case entry.Type().IsRegular():
			if err = durable.CopyFile(target, source); err == nil {
				err = syncFile(target)
			}
		}
		if err != nil {
			return err
		}
	}
	return durable.SyncDir(to)
}

// syncFile writes a file to the disk.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// takeRest adds what is not of one stream, in one transaction: rows of the other state whose
// keys this one has are left out.
func (s *State) takeRest(ctx context.Context, from *State, tenancy string, result *state.TakeOverResult) error {
	numbers := map[string]*int64{"notes": &result.Notes, "controls": &result.Controls, "control_days": &result.ControlDays}
	return s.inTransaction(ctx, func(tx DB) error {
		for _, table := range TenancyTables {
			where := table.Where
			switch table.Name {
			case "notes", "controls", "control_days", "stored":
			case "sinks": // one that lacks something receives the last-known data when it is registered
				where += ` AND sink NOT IN (SELECT d.sink FROM deliveries d JOIN snapshots s ON s.id = d.snapshot WHERE s.tenancy = $1)`
			case "undelivered":
				known, err := queryAll(ctx, tx, scanID, `SELECT 1 FROM undelivered WHERE tenancy = $1 LIMIT 1`, tenancy)
				if err != nil {
					return err
				}
				if len(known) > 0 {
					continue
				}
			default:
				continue
			}
			added, err := s.copyRows(ctx, tx, from.db, table.Name, where, tenancy)
			if err != nil {
				return err
			}
			if n := numbers[table.Name]; n != nil {
				*n = added
			}
		}
		return nil
	})
}

// rowNames returns the names of the columns that copyRows copies. The ids of undelivered are
// this state's own.
func rowNames(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "id" && slices.Contains(names, "outcome") })
}

// rowValues returns the values of a row that copyRows copies, with errors without secrets.
// SQLite has numbers for flags.
func (c *core) rowValues(names []string, values []any) []any {
	var row []any
	for i, name := range names {
		number, isNumber := values[i].(int64)
		text, isText := values[i].(string)
		switch {
		case name == "id" && slices.Contains(names, "outcome"):
		case name == "indicator" && isNumber:
			row = append(row, number != 0)
		case isText && (name == "error" || name == "problem"):
			row = append(row, c.withoutSecrets(text))
		default:
			row = append(row, values[i])
		}
	}
	return row
}

// copyRows adds the rows of a table for which the SQL condition where holds, without their
// ids, unless their key is there. It returns the number of those that were added.
func (c *core) copyRows(ctx context.Context, tx DB, from DB, table, where, tenancy string) (added int64, err error) {
	rows, err := from.QueryContext(ctx, `SELECT * FROM `+table+` WHERE `+where, tenancy)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	values, targets := make([]any, len(names)), make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	statement := insertInto(table, rowNames(names))
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return added, err
		}
		result, err := tx.ExecContext(ctx, statement, c.rowValues(names, values)...)
		if err != nil {
			return added, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return added, err
		}
		added += n
	}
	return added, rows.Err()
}

// insertInto returns the statement that adds a row unless its key is there.
func insertInto(table string, columns []string) string {
	text, marks := `INSERT INTO `+table+` (`, `) VALUES (`
	for i, name := range columns {
		if i > 0 {
			text, marks = text+", ", marks+", "
		}
		text, marks = text+`"`+name+`"`, marks+fmt.Sprintf("$%d", i+1)
	}
	return text + marks + `) ON CONFLICT DO NOTHING`
}
