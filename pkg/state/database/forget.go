package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/state"
)

// A TenancyTable is a table of the database with rows of tenancies, and the SQL condition for
// those of the tenancy $1.
type TenancyTable struct{ Name, Where string }

// TenancyTables are all tables with rows of tenancies. A table is before those that it refers
// to.
var TenancyTables = []TenancyTable{
	{"deliveries", "snapshot IN (SELECT id FROM snapshots WHERE tenancy = $1)"},
	{"last_known", "tenancy = $1"},
	{"snapshots", "tenancy = $1"},
	{"undelivered", "tenancy = $1"},
	{"stored", "tenancy = $1"},
	{"sinks", "tenancy = $1"},
	{"runs", "tenancy = $1"},
	{"counters", "tenancy = $1"},
	{"controls", "tenancy = $1"},
	{"control_days", "tenancy = $1"},
	{"notes", "tenancy = $1"},
}

// Tenancies implements [state.Backend].
func (s *State) Tenancies(ctx context.Context) (all []state.TenancyUsage, err error) {
	names, err := queryAll(ctx, s.db, scanText, `SELECT tenancy FROM snapshots UNION SELECT tenancy FROM undelivered
		UNION SELECT tenancy FROM stored UNION SELECT tenancy FROM sinks UNION SELECT tenancy FROM runs UNION SELECT tenancy FROM counters
		UNION SELECT tenancy FROM controls UNION SELECT tenancy FROM control_days
		UNION SELECT tenancy FROM notes WHERE tenancy <> '' ORDER BY tenancy`) // '' has those of the service
	if err != nil {
		return nil, fmt.Errorf("read the tenancies: %w", s.engine.Explain(err))
	}
	for _, name := range names {
		usage, err := s.TenancyUsage(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, usage)
	}
	return all, nil
}

// TenancyUsage implements [state.Backend].
func (s *State) TenancyUsage(ctx context.Context, tenancy string) (state.TenancyUsage, error) {
	u := state.TenancyUsage{Tenancy: tenancy}
	counts := map[string]*int64{
		"last_known": &u.Streams, "deliveries": &u.Queued, "runs": &u.Runs,
		"controls": &u.Controls, "control_days": &u.ControlDays, "notes": &u.Notes,
	}
	for _, table := range TenancyTables {
		count := counts[table.Name]
		if count == nil {
			continue
		}
		if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM `+table.Name+` WHERE `+table.Where, tenancy).Scan(count); err != nil {
			return u, fmt.Errorf("read what the state has of tenancy %s: %w", tenancy, s.engine.Explain(err))
		}
	}
	err := s.db.QueryRowContext(ctx, `SELECT coalesce(sum(spool_bytes), 0) FROM snapshots WHERE tenancy = $1`, tenancy).Scan(&u.Bytes)
	if err != nil {
		return u, fmt.Errorf("read the size of tenancy %s: %w", tenancy, s.engine.Explain(err))
	}
	dirs, err := s.tenancyDirs(tenancy)
	for _, dir := range dirs {
		if !strings.HasPrefix(dir, "snapshots") {
			u.Bytes += durable.SizeOf(filepath.Join(s.dir, dir))
		}
	}
	return u, err
}

// tenancyDirs returns the directories of a tenancy, relative to the state directory.
func (s *State) tenancyDirs(tenancy string) (dirs []string, err error) {
	name := FileName(tenancy)
	root := os.DirFS(s.dir)
	for _, parent := range []string{"snapshots/*", "kept/*"} {
		parents, err := fs.Glob(root, parent)
		if err != nil {
			return nil, err
		}
		for _, p := range parents {
			if _, err := os.Stat(filepath.Join(s.dir, p, name)); !errors.Is(err, fs.ErrNotExist) {
				dirs = append(dirs, filepath.Join(p, name))
			}
		}
	}
	spools, err := fs.Glob(root, "spool/*/*")
	if err != nil {
		return nil, err
	}
	for _, spool := range spools {
		base := filepath.Base(spool)
		isSpool := strings.Contains(base, "~"+name+"~") && !strings.HasPrefix(base, "restore~")
		if isSpool || strings.HasPrefix(base, "restore~") && strings.HasSuffix(base, "~"+name) {
			dirs = append(dirs, spool)
		}
	}
	return dirs, nil
}

// ForgetTenancy implements [state.Backend].
func (s *State) ForgetTenancy(ctx context.Context, tenancy string) (err error) {
	unlock, err := s.locker.LockTenancy(tenancy)
	if err != nil {
		return fmt.Errorf("forget tenancy %s: %w", tenancy, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	dirs, err := s.tenancyDirs(tenancy)
	if err != nil {
		return fmt.Errorf("forget tenancy %s: %w", tenancy, err)
	}
	// The directories go first: without a row, Recover would add a snapshot again.
	for _, dir := range dirs {
		if err := s.discard(dir); err != nil {
			return fmt.Errorf("forget tenancy %s: %w", tenancy, err)
		}
		Reached("forgetting")
	}
	defer s.files.EmptyTrash()
	err = s.inUrgentTransaction(ctx, func(tx DB) error {
		places, err := queryAll(ctx, tx, scanText, `SELECT dir FROM snapshots WHERE tenancy = $1`, tenancy)
		if err != nil {
			return err
		}
		for _, place := range places {
			if err := s.files.Discard(place); err != nil {
				return err
			}
		}
		for _, table := range TenancyTables {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table.Name+` WHERE `+table.Where, tenancy); err != nil {
				return err
			}
		}
		Reached("forgetting rows")
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget tenancy %s: %w", tenancy, err)
	}
	Reached("forgotten")
	return errors.Join(s.locker.RemoveLocks(tenancy), s.engine.Maintain(ctx))
}
