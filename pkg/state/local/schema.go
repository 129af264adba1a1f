package local

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// migrations are the steps from each schema version to the next. The version
// is the number of steps that were applied; SQLite's user_version has it.
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
`, `
ALTER TABLE runs ADD COLUMN doubts TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN doubts TEXT NOT NULL DEFAULT '';
`, `
ALTER TABLE deliveries ADD COLUMN refill INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stored ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stored ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE stored ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
CREATE TABLE undelivered (
	id        INTEGER PRIMARY KEY,
	stream    TEXT NOT NULL,
	tenancy   TEXT NOT NULL,
	sink      TEXT NOT NULL,
	upload_id TEXT NOT NULL,
	taken     INTEGER NOT NULL,
	outcome   TEXT NOT NULL,
	ended     INTEGER NOT NULL
);
CREATE INDEX undelivered_by_end ON undelivered (ended);
CREATE INDEX undelivered_by_upload ON undelivered (upload_id, stream, sink);
CREATE TABLE sinks (
	tenancy TEXT NOT NULL,
	sink    TEXT NOT NULL,
	target  TEXT NOT NULL,
	PRIMARY KEY (tenancy, sink)
) WITHOUT ROWID;
INSERT INTO sinks (tenancy, sink, target)
	SELECT tenancy, sink, '' FROM stored
	UNION SELECT s.tenancy, d.sink, '' FROM deliveries d JOIN snapshots s ON s.id = d.snapshot;
`, `
ALTER TABLE stored ADD COLUMN kept_out INTEGER NOT NULL DEFAULT 0;
`, controlsSchema, `
ALTER TABLE last_known ADD COLUMN checked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE last_known ADD COLUMN fallback INTEGER NOT NULL DEFAULT 0;
`, `
CREATE TABLE tenancy_notes (
	tenancy TEXT NOT NULL,
	key     TEXT NOT NULL,
	text    TEXT NOT NULL,
	PRIMARY KEY (tenancy, key)
) WITHOUT ROWID;
INSERT INTO tenancy_notes (tenancy, key, text)
	SELECT CAST(substr(CAST(key AS BLOB), 1, instr(CAST(key AS BLOB), x'00') - 1) AS TEXT),
		CAST(substr(CAST(key AS BLOB), instr(CAST(key AS BLOB), x'00') + 1) AS TEXT), text
	FROM notes WHERE instr(CAST(key AS BLOB), x'00') > 0;
DROP TABLE notes;
ALTER TABLE tenancy_notes RENAME TO notes;
`}

// migrate applies the migrations that the database does not have yet. A full
// disk is an error only when there are some: the queue can be delivered all the
// same, which frees space.
func (c *core) migrate(ctx context.Context, migrations []string) error {
	upToDate := false
	err := c.inTransaction(ctx, func(tx database.DB) error {
		var version int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if err := checkApplicationID(ctx, tx, version); err != nil {
			return err
		}
		if err := checkNotNewer(version, len(migrations)); err != nil {
			return err
		}
		upToDate = version == len(migrations)
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return fmt.Errorf("schema %d: %w", version+1, err)
			}
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(migrations)))
		return err
	})
	if upToDate && IsDiskFull(err) {
		return nil
	}
	return err
}

// checkNotNewer returns an error when a newer program wrote the database.
func checkNotNewer(version, newest int) error {
	if version > newest {
		return fmt.Errorf("%w: it was written by a newer collectord: its schema is %d, this one knows up to %d: use the newer collectord, or another STATE_DIR",
			state.ErrUnusable, version, newest)
	}
	return nil
}

// applicationID marks the file as collectord's: "coll".
const applicationID = 0x636f6c6c

// checkApplicationID returns an error when another program wrote the database.
// A database without an application ID is new, or was written by an early
// collectord, in which case it has the table last_known.
func checkApplicationID(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, version int) error {
	var id int64
	if err := q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	var tables, lastKnown int
	err := q.QueryRowContext(ctx,
		`SELECT count(*), count(*) FILTER (WHERE name = 'last_known') FROM sqlite_schema WHERE type = 'table'`).Scan(&tables, &lastKnown)
	if err != nil {
		return err
	}
	isNew, isEarly := version == 0 && tables == 0, version > 0 && lastKnown == 1
	if id == applicationID || id == 0 && (isNew || isEarly) {
		return nil
	}
	return fmt.Errorf("%w: it is another program's database: use another STATE_DIR", state.ErrUnusable)
}
