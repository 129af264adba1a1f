package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// migrations lead from each schema version to the next; the version is the
// number of migrations that were applied, kept in SQLite's user_version.
var migrations = []string{`
CREATE TABLE runs (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	collector TEXT NOT NULL,
	stream    TEXT NOT NULL,
	tenancy   TEXT NOT NULL,
	upload_id TEXT NOT NULL,
	cause     TEXT NOT NULL,
	started   INTEGER NOT NULL,
	ended     INTEGER NOT NULL DEFAULT 0,
	outcome   TEXT NOT NULL DEFAULT '',
	error     TEXT NOT NULL DEFAULT '',
	records   INTEGER NOT NULL DEFAULT 0,
	bytes     INTEGER NOT NULL DEFAULT 0,
	pages     INTEGER NOT NULL DEFAULT 0,
	requests  INTEGER NOT NULL DEFAULT 0,
	retries   INTEGER NOT NULL DEFAULT 0,
	limited   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_stream ON runs (stream, tenancy, id);
CREATE INDEX runs_by_end ON runs (ended);
CREATE INDEX runs_open ON runs (collector) WHERE outcome = '';
CREATE INDEX runs_by_upload ON runs (upload_id, stream);
CREATE TABLE counters (
	collector TEXT NOT NULL,
	stream    TEXT NOT NULL,
	tenancy   TEXT NOT NULL,
	outcome   TEXT NOT NULL,
	runs      INTEGER NOT NULL,
	last_run  INTEGER NOT NULL,
	ended     INTEGER NOT NULL,
	error     TEXT NOT NULL,
	PRIMARY KEY (collector, stream, tenancy, outcome)
) WITHOUT ROWID;
CREATE TABLE snapshots (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	collector   TEXT NOT NULL,
	stream      TEXT NOT NULL,
	tenancy     TEXT NOT NULL,
	upload_id   TEXT NOT NULL,
	taken       INTEGER NOT NULL,
	records     INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	spool_bytes INTEGER NOT NULL,
	dir         TEXT NOT NULL UNIQUE,
	source      TEXT NOT NULL,
	held        INTEGER NOT NULL DEFAULT 0,
	added       INTEGER NOT NULL,
	UNIQUE (stream, tenancy, upload_id)
);
CREATE TABLE last_known (
	stream   TEXT NOT NULL,
	tenancy  TEXT NOT NULL,
	snapshot INTEGER NOT NULL REFERENCES snapshots (id),
	since    INTEGER NOT NULL,
	PRIMARY KEY (stream, tenancy)
) WITHOUT ROWID;
CREATE TABLE deliveries (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	snapshot INTEGER NOT NULL REFERENCES snapshots (id),
	sink     TEXT NOT NULL,
	queued   INTEGER NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	next_try INTEGER NOT NULL DEFAULT 0,
	class    TEXT NOT NULL DEFAULT '',
	error    TEXT NOT NULL DEFAULT '',
	UNIQUE (snapshot, sink)
);
CREATE TABLE stored (
	stream       TEXT NOT NULL,
	tenancy      TEXT NOT NULL,
	sink         TEXT NOT NULL,
	last_success INTEGER NOT NULL DEFAULT 0,
	last_failure INTEGER NOT NULL DEFAULT 0,
	successes    INTEGER NOT NULL DEFAULT 0,
	failures     INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (stream, tenancy, sink)
) WITHOUT ROWID;
CREATE TABLE notes (
	key  TEXT PRIMARY KEY,
	text TEXT NOT NULL
) WITHOUT ROWID;
`}

// migrate brings the schema up to the version that migrations lead to.
func (s *State) migrate(ctx context.Context, migrations []string) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if err := ours(ctx, tx, version); err != nil {
			return err
		}
		if err := notNewer(version, len(migrations)); err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return fmt.Errorf("schema %d: %w", version+1, err)
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations)))
		return err
	})
}

// notNewer refuses a database whose schema is not known yet.
func notNewer(version, known int) error {
	if version > known {
		return fmt.Errorf("it was written by a newer collectord: its schema is %d, this one knows up to %d: use the newer collectord, or another STATE_DIR", version, known)
	}
	return nil
}

// applicationID marks the file as collectord's: "coll".
const applicationID = 0x636f6c6c

// ours refuses a database that another program has made. One without a mark
// is new, or an earlier collectord's, which has the table of last-known snapshots.
func ours(ctx context.Context, tx querier, version int) error {
	var id int64
	if err := tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	var tables, known int
	if err := tx.QueryRowContext(ctx, `SELECT count(*), count(*) FILTER (WHERE name = 'last_known') FROM sqlite_schema WHERE type = 'table'`).Scan(&tables, &known); err != nil {
		return err
	}
	fresh, earlier := version == 0 && tables == 0, version > 0 && known == 1
	if id == applicationID || id == 0 && (fresh || earlier) {
		return nil
	}
	return errors.New("it is another program's database: use another STATE_DIR")
}
