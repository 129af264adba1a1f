package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"

	"github.com/jackc/pgx/v5/pgconn"
)

const one = `{"id":1}`

// TestPostgresUsesTheTableThatIsThere has the table as the Python original
// makes it, with its rows.
func TestPostgresUsesTheTableThatIsThere(t *testing.T) {
	p := newPgTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"old":1}'), ('2026-02-02 10:00:00', 'acme', '{"old":2}'),
		('2026-02-01 10:00:00', 'other', '{"old":3}'), ('2026-02-03 10:00:00', NULL, '{"old":4}')`)
	before := p.texts(`SELECT c.oid::text FROM pg_class c WHERE c.oid = '$S.okta_users'::regclass`)
	s := p.sink(PostgresOptions{JSON: "jsonb"})
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	p.write(s, snap)
	p.holds(`SELECT c.oid::text FROM pg_class c WHERE c.oid = '$S.okta_users'::regclass`, before...)
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "5")
	p.holds(`SELECT count(*)::text FROM pg_index WHERE indrelid = '$S.okta_users'::regclass`, "0")
	// The view has acme's new snapshot and what is newest of the others.
	p.holds(`SELECT json_data::text FROM $S.okta_users_latest ORDER BY tenancy`, recordsOf(t, snap)[0], `{"old":3}`, `{"old":4}`)
	// Another program goes on writing to the table.
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-03-02 10:00:00', 'acme', '{"other":1}')`)
	p.holds(`SELECT json_data::text FROM $S.okta_users_latest WHERE tenancy = 'acme'`, `{"other":1}`)
}

func TestPostgresLatest(t *testing.T) {
	p := newPgTest(t)
	s := p.sink(PostgresOptions{})
	latest := func(want ...string) {
		t.Helper()
		p.holds(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users_latest ORDER BY 1`, want...)
	}
	p.write(s, seal(t, headerOf("okta_users", "acme", noon), `{"id":"a1"}`, `{"id":"a2"}`))
	p.write(s, seal(t, headerOf("okta_users", "beta", noon), `{"id":"b1"}`))
	p.write(s, seal(t, headerOf("okta_apps", "acme", noon.Add(time.Hour)), `{"id":"x"}`))
	latest("acme a1", "acme a2", "beta b1")
	// A second one within the same second.
	p.write(s, seal(t, headerOf("okta_users", "acme", noon), `{"id":"a3"}`))
	latest("acme a3", "beta b1")
	// One that was taken before and arrives late.
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(-time.Hour)), `{"id":"a0"}`))
	latest("acme a3", "beta b1")
	// Users build on the view; it stays the same one.
	p.exec(`CREATE VIEW $S.mine AS SELECT count(*) AS n FROM $S.okta_users_latest`)
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Hour))))
	latest("beta b1")
	p.holds(`SELECT n::text FROM $S.mine`, "1")
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Hour)), `{"id":"a4"}`))
	latest("acme a4", "beta b1")
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "6")
}

func TestPostgresLeavesOtherThingsAlone(t *testing.T) {
	p := newPgTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users_latest (mine int)`)
	s := p.sink(PostgresOptions{})
	for i := range 3 {
		p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Duration(i)*time.Hour)), one))
	}
	p.holds(`SELECT relkind::text FROM pg_class WHERE oid = '$S.okta_users_latest'::regclass`, "r")
	if n := strings.Count(p.logged.String(), "is taken by something else"); n != 1 {
		t.Errorf("said %d times: %s", n, p.logged)
	}
}

func TestPostgresReplace(t *testing.T) {
	p := newPgTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"id":"old"}'), ('2026-02-01 10:00:00', 'beta', '{"id":"old"}')`)
	s := p.sink(PostgresOptions{Replace: true})
	all := func(want ...string) {
		t.Helper()
		p.holds(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users ORDER BY 1`, want...)
		p.holds(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users_latest ORDER BY 1`, want...)
	}
	first := seal(t, headerOf("okta_users", "acme", noon), `{"id":"a1"}`)
	p.write(s, first)
	all("acme a1", "beta old")
	p.write(s, seal(t, headerOf("okta_users", "acme", noon), `{"id":"a2"}`, `{"id":"a3"}`)) // of the same second
	all("acme a2", "acme a3", "beta old")
	p.write(s, first)
	late := seal(t, headerOf("okta_users", "acme", noon.Add(-time.Second)), `{"id":"late"}`)
	p.write(s, late)
	p.write(s, late)
	all("acme a2", "acme a3", "beta old")
	p.holds(`SELECT count(*)::text FROM $S._collectord_snapshots`, "3")
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Hour))))
	all("beta old")
}

func TestPostgresKeep(t *testing.T) {
	for _, test := range []struct {
		keep Keep
		want []string
	}{
		{Keep{}, []string{"old", "0", "1", "2", "3", "3b", "late"}},
		{Keep{Newest: 3}, []string{"2", "3", "3b"}},
		{Keep{Newest: 1}, []string{"3b"}},
		{Keep{Age: 2 * day}, []string{"1", "2", "3", "3b"}},
		{Keep{Age: 36 * time.Hour}, []string{"2", "3", "3b"}},
	} {
		t.Run(fmt.Sprint(test.keep), func(t *testing.T) {
			p := newPgTest(t)
			p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
			p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"id":"old"}'), ('2026-02-01 10:00:00', 'beta', '{"id":"beta"}')`)
			s := p.sink(PostgresOptions{Keep: test.keep})
			for i := range 4 {
				p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Duration(i)*day)), fmt.Sprintf(`{"id":"%d"}`, i)))
			}
			p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(3*day)), `{"id":"3b"}`))
			p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(-day)), `{"id":"late"}`))
			p.holds(`SELECT json_data->>'id' FROM $S.okta_users WHERE tenancy = 'acme' ORDER BY json_data->>'id' = 'old' DESC, 1`, test.want...)
			p.holds(`SELECT count(*)::text FROM $S.okta_users WHERE tenancy = 'beta'`, "1")
			p.holds(`SELECT json_data->>'id' FROM $S.okta_users_latest WHERE tenancy = 'acme'`, "3b")
		})
	}
}

func TestPostgresRefusesTables(t *testing.T) {
	for name, test := range map[string]struct {
		sql   string
		texts []string
	}{
		"json_data of another type": {`CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data bytea)`,
			[]string{"json_data bytea", "json or jsonb or text"}},
		"a column missing": {`CREATE TABLE $S.okta_users (upload_timestamp timestamp, json_data json)`,
			[]string{"want a column tenancy of type character varying"}},
		"another time": {`CREATE TABLE $S.okta_users (upload_timestamp timestamptz, tenancy varchar, json_data json)`,
			[]string{"upload_timestamp timestamp with time zone", "timestamp without time zone"}},
		"a view":             {`CREATE VIEW $S.okta_users AS SELECT 1`, []string{"is no table"}},
		"a column to fill":   {`CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json, mine int NOT NULL)`, []string{"23502", "constraint"}},
		"a tenancy too long": {`CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar(2), json_data json)`, []string{"22001"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPgTest(t)
			p.exec(`CREATE SCHEMA $S; ` + test.sql)
			p.refuses(p.sink(PostgresOptions{}), seal(t, headerOf("okta_users", "acme", noon), one), test.texts...)
		})
	}
	t.Run("a name too long", func(t *testing.T) {
		p := newPgTest(t)
		p.refuses(p.sink(PostgresOptions{}), seal(t, headerOf(strings.Repeat("x", 64), "acme", noon), one), "63 bytes")
	})
}

// TestPostgresNames stores under names that would break unquoted SQL.
func TestPostgresNames(t *testing.T) {
	for _, stream := range []string{`select`, `Mixed Case`, `q"uote'; DROP TABLE x; --`, `tag.with-dots`, strings.Repeat("y", 63)} {
		p := newPgTest(t)
		schema := p.schema + "-Größe$"
		t.Cleanup(func() { p.exec(`DROP SCHEMA ` + quote(schema) + ` CASCADE`) })
		s := p.sink(PostgresOptions{Schema: schema})
		for range 2 {
			p.write(s, seal(t, headerOf(stream, `t'; --`, noon), one))
		}
		p.holds(`SELECT count(*)::text FROM `+quote(schema, stream), "2")
		if len(stream) < 50 {
			p.holds(`SELECT count(*)::text FROM `+quote(schema, stream+"_latest"), "1")
		} else if !strings.Contains(p.logged.String(), "name would be too long") {
			t.Errorf("logged: %s", p.logged)
		}
	}
	for _, schema := range []string{`a"; DROP SCHEMA public; --`, "a;b", "a b", "1a", "pg_catalog", "information_schema", "a\x00", "\xff", strings.Repeat("z", 64), "-a", "a'b"} {
		if _, err := NewPostgres(PostgresOptions{Schema: schema}); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("schema %q: err = %v", schema, err)
		}
	}
}

func TestPostgresRights(t *testing.T) {
	p := newPgTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-7781'`)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(PostgresOptions{URL: p.server.URL(role, "pw-role-7781")})
	try := func(texts ...string) {
		t.Helper()
		if err := s.Check(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("Check: %v", err)
		}
		p.refuses(s, seal(t, headerOf("okta_users", "acme", noon), one), texts...)
	}
	try(`does not exist`, `CREATE SCHEMA "`+p.schema+`" AUTHORIZATION "`+role+`"`)
	p.exec(`CREATE SCHEMA $S`)
	try(`GRANT USAGE ON SCHEMA "` + p.schema + `" TO "` + role + `"`)
	p.exec(`GRANT USAGE ON SCHEMA $S TO ` + role)
	try(`_collectord_snapshots`, `GRANT CREATE ON SCHEMA "`+p.schema+`" TO "`+role+`"`)

	// What is there is used by a role that may make nothing.
	p.write(p.sink(PostgresOptions{}), seal(t, headerOf("okta_users", "acme", noon), one))
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	p.refuses(s, seal(t, headerOf("okta_users", "acme", noon), one), "42501", "SELECT and INSERT on _collectord_snapshots")
	p.exec(`GRANT SELECT, INSERT ON $S._collectord_snapshots TO ` + role + `; GRANT INSERT ON $S.okta_users TO ` + role)
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(time.Hour)), one))
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "2")
	p.refuses(s, seal(t, headerOf("okta_apps", "acme", noon), one), `okta_apps`, `GRANT CREATE ON SCHEMA`)

	// Without the view there is a table all the same.
	p.exec(`DROP VIEW $S.okta_users_latest`)
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(2*time.Hour)), one))
	if !strings.Contains(p.logged.String(), "no view of newest snapshots") {
		t.Errorf("logged: %s", p.logged)
	}
	replacing := p.sink(PostgresOptions{URL: p.server.URL(role, "pw-role-7781"), Replace: true})
	p.refuses(replacing, seal(t, headerOf("okta_users", "acme", noon.Add(3*time.Hour)), one), "42501", "DELETE")
}

func TestPostgresRefusesLogins(t *testing.T) {
	p := newPgTest(t)
	snap := seal(t, headerOf("okta_users", "acme", noon), one)
	p.refuses(p.sink(PostgresOptions{URL: p.server.URL(testserver.Owner, "pw-wrong-1")}), snap, "28P01", "STORE_POSTGRES_PASSWORD")
	p.refuses(p.sink(PostgresOptions{URL: p.server.URL("nobody_here", "pw-wrong-2")}), snap, "28P01")
	url := strings.Replace(p.server.URL(testserver.Owner, testserver.Password), "/postgres?", "/no_such_db?", 1)
	p.refuses(p.sink(PostgresOptions{URL: url}), snap, "3D000", "STORE_POSTGRES_DBNAME")
}

// TestPostgresErrors sorts the server's errors.
func TestPostgresErrors(t *testing.T) {
	refused := strings.Fields("28000 28P01 42501 3D000 42P01 42703 42704 3F000 22P02 22001 23502 23514 0A000 54001")
	retried := strings.Fields("08000 08006 40001 40P01 53000 53100 53200 53300 55P03 57014 57P01 57P02 57P03 25006 58030 XX000 XX001 23505 25P02")
	for _, code := range append(refused, retried...) {
		err := postgresError(t.Context(), "try", fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "no"}))
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || !strings.HasPrefix(err.Error(), "postgres: try: ") {
			t.Errorf("%s: %v", code, err)
		}
		wanted := strings.Contains(strings.Join(refused, " "), code)
		if errors.Is(err, ErrRefused) != wanted {
			t.Errorf("%s: refused %v, want %v", code, !wanted, wanted)
		}
	}
}

// TestPostgresVariables has the standard variables beside both forms of the
// settings.
func TestPostgresVariables(t *testing.T) {
	p := newPgTest(t)
	forms := map[string]PostgresOptions{
		"url":    {URL: fmt.Sprintf("postgres://%s@localhost:%d/postgres", testserver.Owner, p.server.Port), Password: testserver.Password},
		"single": {Host: "localhost", Port: p.server.Port, User: testserver.Owner, Password: testserver.Password, DBName: "postgres"},
	}
	for name, opts := range forms {
		t.Run(name, func(t *testing.T) {
			snap := seal(t, headerOf("okta_users", "acme", noon), one)
			t.Setenv("PGSSLMODE", "verify-full")
			t.Setenv("PGSSLROOTCERT", p.server.File("server.crt"))
			t.Setenv("PGCONNECT_TIMEOUT", "7")
			s := p.sink(opts)
			if s.config.ConnectTimeout != 7*time.Second {
				t.Errorf("connect timeout %s", s.config.ConnectTimeout)
			}
			p.write(s, snap)
			encrypted(t, s)

			t.Setenv("PGSSLROOTCERT", otherAuthority(t))
			p.refuses(p.sink(opts), snap, "certificate", "PGSSLROOTCERT")
			t.Setenv("PGSSLROOTCERT", "/nowhere/ca.pem")
			if _, err := NewPostgres(opts); err == nil || !strings.Contains(err.Error(), "/nowhere/ca.pem") || strings.Contains(err.Error(), "pw-") {
				t.Errorf("err = %v", err)
			}
		})
	}
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", fmt.Sprint(p.server.Port))
	t.Setenv("PGUSER", testserver.Owner)
	t.Setenv("PGPASSWORD", testserver.Password)
	t.Setenv("PGDATABASE", "postgres")
	s, err := NewPostgres(PostgresOptions{Schema: p.schema})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// encrypted checks that the sink's connections use TLS and say whose they are.
func encrypted(t *testing.T, s *Postgres) {
	t.Helper()
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	var tls bool
	var name string
	if err := conn.QueryRow(t.Context(), `SELECT ssl, application_name FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()`).Scan(&tls, &name); err != nil {
		t.Fatal(err)
	}
	if !tls || name != "collectord" {
		t.Errorf("TLS %v, application_name %q", tls, name)
	}
}

// otherAuthority returns a file of a certificate that signed nothing.
func otherAuthority(t *testing.T) string {
	t.Helper()
	s := &testserver.Postgres{Dir: t.TempDir()}
	if err := s.Certificates(); err != nil {
		t.Fatal(err)
	}
	return s.File("server.crt")
}

func TestPostgresOptionsNameNoPassword(t *testing.T) {
	for _, opts := range []PostgresOptions{
		{URL: "postgres://u:pw-%zz@host:5432/db"},
		{URL: "postgres://u:pw-a:b@c@host:x/db"},
		{URL: "postgres://u:pw-1@host:notaport/db"},
		{URL: "postgres://u:pw-1@host/db?sslmode=`: pw-2"},
		{URL: "host=h password='pw-x"},
		{URL: "host=h password=pw-x sslmode=never"},
		{Host: "h'; x", Password: "pw-`'\\", Port: 99999999},
		{JSON: "bytea", Password: "pw-1"},
	} {
		_, err := NewPostgres(opts)
		if err == nil || strings.Contains(err.Error(), "pw-") || !strings.HasPrefix(err.Error(), "postgres: ") {
			t.Errorf("%+v: err = %v", opts, err)
		}
	}
	for _, host := range []string{`/var/run/x y`, `h\'x`, `h1,h2`} {
		s, err := NewPostgres(PostgresOptions{Host: host, User: `o'b\x`, Password: ` pw' \`, DBName: `d b`, Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		if c := s.config; !strings.HasPrefix(host, c.Host) || c.User != `o'b\x` || c.Password != ` pw' \` || c.Database != `d b` || c.Port != 1 {
			t.Errorf("%q became %q %q %q %q %d", host, c.Host, c.User, c.Password, c.Database, c.Port)
		}
	}
}
