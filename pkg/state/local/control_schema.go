package local

// controlsSchema is the migration that adds the tables.
const controlsSchema = `
CREATE TABLE controls (
	tenancy      TEXT NOT NULL,
	id           TEXT NOT NULL,
	file         TEXT NOT NULL,
	title        TEXT NOT NULL,
	category     TEXT NOT NULL,
	type         TEXT NOT NULL,
	description  TEXT NOT NULL,
	how          TEXT NOT NULL,
	target       REAL NOT NULL,
	minimum      REAL NOT NULL,
	weight       REAL NOT NULL,
	indicator    INTEGER NOT NULL,
	reference    TEXT NOT NULL,
	off          TEXT NOT NULL,
	hash         TEXT NOT NULL,
	problem      TEXT NOT NULL,
	measured     INTEGER NOT NULL DEFAULT 0,
	data         INTEGER NOT NULL DEFAULT 0,
	ok           REAL NOT NULL DEFAULT 0,
	total        INTEGER NOT NULL DEFAULT 0,
	rows         INTEGER NOT NULL DEFAULT 0,
	not_full     INTEGER NOT NULL DEFAULT 0,
	note         TEXT NOT NULL DEFAULT '',
	tried        INTEGER NOT NULL DEFAULT 0,
	tried_data   INTEGER NOT NULL DEFAULT 0,
	tried_hash   TEXT NOT NULL DEFAULT '',
	error        TEXT NOT NULL DEFAULT '',
	failed_since INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (tenancy, id)
) WITHOUT ROWID;
CREATE TABLE control_days (
	tenancy       TEXT NOT NULL,
	day           TEXT NOT NULL,
	id            TEXT NOT NULL,
	business_unit TEXT NOT NULL,
	team          TEXT NOT NULL,
	location      TEXT NOT NULL,
	title         TEXT NOT NULL,
	category      TEXT NOT NULL,
	target        REAL NOT NULL,
	minimum       REAL NOT NULL,
	weight        REAL NOT NULL,
	indicator     INTEGER NOT NULL,
	ok            REAL NOT NULL,
	total         INTEGER NOT NULL,
	state         TEXT NOT NULL,
	PRIMARY KEY (tenancy, day, id, business_unit, team, location)
) WITHOUT ROWID;
`
