package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	one = `{"id":1}`
	day = 24 * time.Hour
)

// TestPostgresUsesTheTableThatIsThere has a table with rows of the Python program
// that collectord replaces.
func TestPostgresUsesTheTableThatIsThere(t *testing.T) {
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"old":1}'), ('2026-02-02 10:00:00', 'acme', '{"old":2}'),
		('2026-02-01 10:00:00', 'other', '{"old":3}'), ('2026-02-03 10:00:00', NULL, '{"old":4}')`)
	before := p.queryTexts(`SELECT c.oid::text FROM pg_class c WHERE c.oid = '$S.okta_users'::regclass`)
	s := p.sink(Options{JSON: "jsonb"})
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	p.write(s, snap)
	p.assertQuery(`SELECT c.oid::text FROM pg_class c WHERE c.oid = '$S.okta_users'::regclass`, before...)
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "5")
	p.assertQuery(`SELECT count(*)::text FROM pg_index WHERE indrelid = '$S.okta_users'::regclass`, "0")
	// The view has the new snapshot of acme and the newest rows of the others.
	p.assertQuery(`SELECT json_data::text FROM $S.okta_users_latest ORDER BY tenancy`, storetest.EncodedRecords(t, snap)[0], `{"old":3}`, `{"old":4}`)
	// Another program continues to write to the table.
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-03-02 10:00:00', 'acme', '{"other":1}')`)
	p.assertQuery(`SELECT json_data::text FROM $S.okta_users_latest WHERE tenancy = 'acme'`, `{"other":1}`)
}

func TestPostgresLatest(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{})
	latest := func(want ...string) {
		t.Helper()
		p.assertQuery(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users_latest ORDER BY 1`, want...)
	}
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a1"}`, `{"id":"a2"}`))
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "beta", storetest.Noon), `{"id":"b1"}`))
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_apps", "acme", storetest.Noon.Add(time.Hour)), `{"id":"x"}`))
	latest("acme a1", "acme a2", "beta b1")
	// Another snapshot of the same second.
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a3"}`))
	latest("acme a3", "beta b1")
	// An older snapshot is stored late.
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(-time.Hour)), `{"id":"a0"}`))
	latest("acme a3", "beta b1")
	// Objects of users that depend on the view stay.
	p.exec(`CREATE VIEW $S.mine AS SELECT count(*) AS n FROM $S.okta_users_latest`)
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour))))
	latest("beta b1")
	p.assertQuery(`SELECT n::text FROM $S.mine`, "1")
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), `{"id":"a4"}`))
	latest("acme a4", "beta b1")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "6")
}

func TestPostgresLeavesOtherThingsAlone(t *testing.T) {
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users_latest (mine int)`)
	s := p.sink(Options{})
	for i := range 3 {
		p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*time.Hour)), one))
	}
	p.assertQuery(`SELECT relkind::text FROM pg_class WHERE oid = '$S.okta_users_latest'::regclass`, "r")
	if n := strings.Count(p.logged.String(), "belongs to something else"); n != 1 {
		t.Errorf("said %d times: %s", n, p.logged)
	}
}

func TestPostgresReplace(t *testing.T) {
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"id":"old"}'), ('2026-02-01 10:00:00', 'beta', '{"id":"old"}')`)
	s := p.sink(Options{Retention: store.Retention{Newest: 1}})
	all := func(want ...string) {
		t.Helper()
		p.assertQuery(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users ORDER BY 1`, want...)
		p.assertQuery(`SELECT tenancy || ' ' || (json_data->>'id') FROM $S.okta_users_latest ORDER BY 1`, want...)
	}
	first := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a1"}`)
	p.write(s, first)
	all("acme a1", "beta old")
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a2"}`, `{"id":"a3"}`)) // taken in the same second
	all("acme a2", "acme a3", "beta old")
	p.write(s, first)
	late := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(-time.Second)), `{"id":"late"}`)
	p.write(s, late)
	p.write(s, late)
	all("acme a2", "acme a3", "beta old")
	p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, "3")
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour))))
	all("beta old")
}

// TestPostgresRefill checks that a refill brings back rows that were deleted, leaves those of
// other snapshots alone, also of the same second, and stores none twice.
func TestPostgresRefill(t *testing.T) {
	for _, damage := range []struct{ name, statement string }{
		{name: "none", statement: "SELECT 1"},
		{name: "a row deleted", statement: `DELETE FROM $S.okta_users WHERE json_data->>'id' = 'a2'`},
		{name: "all deleted", statement: `DELETE FROM $S.okta_users WHERE json_data->>'id' LIKE 'a%'`},
	} {
		for _, column := range []string{"json", "jsonb"} {
			t.Run(damage.name+" "+column, func(t *testing.T) {
				p := newTest(t)
				s := p.sink(Options{JSON: column})
				newest := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a1"}`, `{"id":"a2"}`)
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(-day)), `{"id":"old"}`))
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"twin"}`))
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "beta", storetest.Noon), `{"id":"beta"}`))
				p.write(s, newest)
				p.exec(damage.statement)
				if err := s.Write(store.WithRefill(t.Context()), newest); err != nil {
					t.Fatal(err)
				}
				p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users ORDER BY 1`, "a1", "a2", "beta", "old", "twin")
				p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest WHERE tenancy = 'acme' ORDER BY 1`, "a1", "a2")
				p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, "4")
			})
		}
	}
	p := newTest(t)
	s := p.sink(Options{})
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a1"}`)
	p.write(s, snap)
	p.exec(`DROP TABLE $S.okta_users CASCADE`)
	if err := s.Write(store.WithRefill(t.Context()), snap); err != nil {
		t.Fatal(err)
	}
	p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest`, "a1")
}

func TestPostgresKeep(t *testing.T) {
	for i, test := range []struct {
		keep store.Retention
		want []string
	}{
		{keep: store.Retention{}, want: []string{"old", "0", "1", "2", "3", "3b", "late"}},
		{keep: store.Retention{Newest: 3}, want: []string{"2", "3", "3b"}},
		{keep: store.Retention{Newest: 1}, want: []string{"3b"}},
		{keep: store.Retention{Age: 2 * day}, want: []string{"1", "2", "3", "3b"}},
		{keep: store.Retention{Age: 36 * time.Hour}, want: []string{"2", "3", "3b"}},
		{keep: store.Retention{Newest: 3}, want: []string{"2", "3", "3b"}},
		{keep: store.Retention{Age: 2 * day}, want: []string{"1", "2", "3", "3b"}},
	} {
		t.Run(fmt.Sprint(i, test.keep), func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
			p.exec(`INSERT INTO $S.okta_users VALUES ('2026-02-01 10:00:00', 'acme', '{"id":"old"}'), ('2026-02-01 10:00:00', 'beta', '{"id":"beta"}')`)
			if i > 4 { // with an index, the times are found one by one
				p.exec(`CREATE INDEX ON $S.okta_users (tenancy, upload_timestamp)`)
			}
			s := p.sink(Options{Retention: test.keep})
			for i := range 4 {
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*day)), fmt.Sprintf(`{"id":"%d"}`, i)))
			}
			p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(3*day)), `{"id":"3b"}`))
			p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(-day)), `{"id":"late"}`))
			p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users WHERE tenancy = 'acme' ORDER BY json_data->>'id' = 'old' DESC, 1`, test.want...)
			p.assertQuery(`SELECT count(*)::text FROM $S.okta_users WHERE tenancy = 'beta'`, "1")
			p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest WHERE tenancy = 'acme'`, "3b")
		})
	}
}

// TestPostgresKeepWithoutTimes has rows of other programs without a time, and at
// infinity: they stay, and do not disturb the retention.
func TestPostgresKeepWithoutTimes(t *testing.T) {
	for _, index := range []string{``, `CREATE INDEX ON $S.okta_users (tenancy, upload_timestamp)`} {
		p := newTest(t)
		p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
		p.exec(`INSERT INTO $S.okta_users VALUES (NULL, 'acme', '{"id":"null"}'), ('infinity', 'acme', '{"id":"infinity"}'); ` + index)
		s := p.sink(Options{Retention: store.Retention{Newest: 2}})
		for i := range 4 {
			p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*day)), fmt.Sprintf(`{"id":"%d"}`, i)))
		}
		p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users ORDER BY 1`, "2", "3", "infinity", "null")
		p.assertQuery(`SELECT json_data->>'id' FROM $S.okta_users_latest`, "3")
	}
}

func TestPostgresRefusesTables(t *testing.T) {
	for name, test := range map[string]struct {
		sql   string
		texts []string
	}{
		"json_data of another type": {sql: `CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data bytea)`,
			texts: []string{"json_data bytea", "json or jsonb or text"}},
		"a column missing": {sql: `CREATE TABLE $S.okta_users (upload_timestamp timestamp, json_data json)`,
			texts: []string{"want a column tenancy of type character varying"}},
		"another time": {sql: `CREATE TABLE $S.okta_users (upload_timestamp timestamptz, tenancy varchar, json_data json)`,
			texts: []string{"upload_timestamp timestamp with time zone", "timestamp without time zone"}},
		"a view":             {sql: `CREATE VIEW $S.okta_users AS SELECT 1`, texts: []string{"is not a table"}},
		"a column to fill":   {sql: `CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json, mine int NOT NULL)`, texts: []string{"23502", "constraint"}},
		"a tenancy too long": {sql: `CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar(2), json_data json)`, texts: []string{"22001"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE SCHEMA $S; ` + test.sql)
			p.assertRefused(p.sink(Options{}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one), test.texts...)
		})
	}
	t.Run("a name too long", func(t *testing.T) {
		p := newTest(t)
		p.assertRefused(p.sink(Options{}), storetest.Seal(t, storetest.NewHeader(strings.Repeat("x", 64), "acme", storetest.Noon), one), "63 bytes")
	})
}

// TestPostgresNames has names that are invalid in SQL without quotes.
func TestPostgresNames(t *testing.T) {
	for _, stream := range []string{`select`, `Mixed Case`, `q"uote'; DROP TABLE x; --`, `tag.with-dots`, strings.Repeat("y", 63)} {
		p := newTest(t)
		schema := p.schema + "-Größe$"
		t.Cleanup(func() { p.exec(`DROP SCHEMA ` + quoteName(schema) + ` CASCADE`) })
		s := p.sink(Options{Schema: schema})
		for range 2 {
			p.write(s, storetest.Seal(t, storetest.NewHeader(stream, `t'; --`, storetest.Noon), one))
		}
		p.assertQuery(`SELECT count(*)::text FROM `+quoteName(schema, stream), "2")
		if len(stream) < 50 {
			p.assertQuery(`SELECT count(*)::text FROM `+quoteName(schema, stream+"_latest"), "1")
		} else if !strings.Contains(p.logged.String(), "name would be too long") {
			t.Errorf("logged: %s", p.logged)
		}
	}
	for _, schema := range []string{`a"; DROP SCHEMA public; --`, "a;b", "a b", "1a", "pg_catalog", "information_schema", "a\x00", "\xff", strings.Repeat("z", 64), "-a", "a'b"} {
		if _, err := New(Options{Schema: schema}); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("schema %q: err = %v", schema, err)
		}
	}
}

func TestPostgresRights(t *testing.T) {
	p := newTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-7781'`)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(Options{URL: p.server.URL(role, "pw-role-7781")})
	try := func(texts ...string) {
		t.Helper()
		if err := s.Check(t.Context()); !errors.Is(err, store.ErrRefused) {
			t.Errorf("Check: %v", err)
		}
		p.assertRefused(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one), texts...)
	}
	try(`does not exist`, `CREATE SCHEMA "`+p.schema+`" AUTHORIZATION "`+role+`"`)
	p.exec(`CREATE SCHEMA $S`)
	try(`GRANT USAGE ON SCHEMA "` + p.schema + `" TO "` + role + `"`)
	p.exec(`GRANT USAGE ON SCHEMA $S TO ` + role)
	try(`_collectord_snapshots`, `GRANT CREATE ON SCHEMA "`+p.schema+`" TO "`+role+`"`)

	// A role that may not create anything can use what exists.
	p.write(p.sink(Options{}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	p.assertRefused(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one), "42501", "SELECT and INSERT on _collectord_snapshots")
	p.exec(`GRANT SELECT, INSERT ON $S._collectord_snapshots TO ` + role + `; GRANT INSERT ON $S.okta_users TO ` + role)
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), one))
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "2")
	p.assertRefused(s, storetest.Seal(t, storetest.NewHeader("okta_apps", "acme", storetest.Noon), one), `okta_apps`, `GRANT CREATE ON SCHEMA`)

	// Without the view the table is still created.
	p.exec(`DROP VIEW $S.okta_users_latest`)
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(2*time.Hour)), one))
	if !strings.Contains(p.logged.String(), "no view of newest snapshots") {
		t.Errorf("logged: %s", p.logged)
	}
	replacing := p.sink(Options{URL: p.server.URL(role, "pw-role-7781"), Retention: store.Retention{Newest: 1}})
	p.assertRefused(replacing, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(3*time.Hour)), one), "42501", "DELETE")
}

func TestPostgresRefusesLogins(t *testing.T) {
	p := newTest(t)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	p.assertRefused(p.sink(Options{URL: p.server.URL(testserver.Owner, "pw-wrong-1")}), snap, "28P01", "STORE_POSTGRES_PASSWORD")
	p.assertRefused(p.sink(Options{URL: p.server.URL("nobody_here", "pw-wrong-2")}), snap, "28P01")
	url := strings.Replace(p.server.URL(testserver.Owner, testserver.Password), "/postgres?", "/no_such_db?", 1)
	p.assertRefused(p.sink(Options{URL: url}), snap, "3D000", "STORE_POSTGRES_DBNAME")
}

// TestPostgresErrors checks the classification of the server's errors.
func TestPostgresErrors(t *testing.T) {
	refused := strings.Fields("28000 28P01 42501 3D000 42P01 42703 42704 3F000 22P02 22001 23502 23514 0A000 54001")
	retried := strings.Fields("08000 08006 40001 40P01 53000 53100 53200 53300 55P03 57014 57P01 57P02 57P03 25006 58030 XX000 XX001 23505 25P02")
	for _, code := range append(refused, retried...) {
		err := explainError(t.Context(), "try", fmt.Errorf("wrapped: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "no"}))
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || !strings.HasPrefix(err.Error(), "postgres: try: ") {
			t.Errorf("%s: %v", code, err)
		}
		wanted := strings.Contains(strings.Join(refused, " "), code)
		if errors.Is(err, store.ErrRefused) != wanted {
			t.Errorf("%s: refused %v, want %v", code, !wanted, wanted)
		}
	}
}

// TestPostgresVariables combines the standard variables with both forms of the
// settings.
func TestPostgresVariables(t *testing.T) {
	p := newTest(t)
	forms := map[string]Options{
		"url":    {URL: fmt.Sprintf("postgres://%s@localhost:%d/postgres", testserver.Owner, p.server.Port), Password: testserver.Password},
		"single": {Host: "localhost", Port: p.server.Port, User: testserver.Owner, Password: testserver.Password, DBName: "postgres"},
	}
	for name, opts := range forms {
		t.Run(name, func(t *testing.T) {
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
			t.Setenv("PGSSLMODE", "verify-full")
			t.Setenv("PGSSLROOTCERT", p.server.File("server.crt"))
			t.Setenv("PGCONNECT_TIMEOUT", "7")
			s := p.sink(opts)
			if s.config.ConnectTimeout != 7*time.Second {
				t.Errorf("connect timeout %s", s.config.ConnectTimeout)
			}
			p.write(s, snap)
			assertEncrypted(t, s)

			t.Setenv("PGSSLROOTCERT", otherAuthority(t))
			p.assertRefused(p.sink(opts), snap, "certificate", "PGSSLROOTCERT")
			t.Setenv("PGSSLROOTCERT", "/nowhere/ca.pem")
			if _, err := New(opts); err == nil || !strings.Contains(err.Error(), "/nowhere/ca.pem") || strings.Contains(err.Error(), "pw-") {
				t.Errorf("err = %v", err)
			}
		})
	}
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", fmt.Sprint(p.server.Port))
	t.Setenv("PGUSER", testserver.Owner)
	t.Setenv("PGPASSWORD", testserver.Password)
	t.Setenv("PGDATABASE", "postgres")
	s, err := New(Options{Schema: p.schema})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// assertEncrypted checks that the sink's connections use TLS and have an application
// name.
func assertEncrypted(t *testing.T, s *Sink) {
	t.Helper()
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	var tls bool
	var name string
	if err := conn.QueryRow(t.Context(), `SELECT ssl, application_name FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE pid = pg_backend_pid()`).Scan(&tls, &name); err != nil {
		t.Fatal(err)
	}
	if !tls || name != "collectord" {
		t.Errorf("TLS %v, application_name %q", tls, name)
	}
}

// otherAuthority returns the path of a certificate that signed no other.
func otherAuthority(t *testing.T) string {
	t.Helper()
	s := &testserver.Postgres{Dir: t.TempDir()}
	if err := s.Certificates(); err != nil {
		t.Fatal(err)
	}
	return s.File("server.crt")
}

func TestPostgresOptionsNameNoPassword(t *testing.T) {
	for _, opts := range []Options{
		{URL: "postgres://u:pw-%zz@host:5432/db"},
		{URL: "postgres://u:pw-a:b@c@host:x/db"},
		{URL: "postgres://u:pw-1@host:notaport/db"},
		{URL: "postgres://u:pw-1@host/db?sslmode=`: pw-2"},
		{URL: "host=h password='pw-x"},
		{URL: "host=h password=pw-x sslmode=never"},
		{Host: "h'; x", Password: "pw-`'\\", Port: 99999999},
		{JSON: "bytea", Password: "pw-1"},
	} {
		_, err := New(opts)
		if err == nil || strings.Contains(err.Error(), "pw-") || !strings.HasPrefix(err.Error(), "postgres: ") {
			t.Errorf("%+v: err = %v", opts, err)
		}
	}
	for _, host := range []string{`/var/run/x y`, `h\'x`, `h1,h2`} {
		s, err := New(Options{Host: host, User: `o'b\x`, Password: ` pw' \`, DBName: `d b`, Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		if c := s.config; !strings.HasPrefix(host, c.Host) || c.User != `o'b\x` || c.Password != ` pw' \` || c.Database != `d b` || c.Port != 1 {
			t.Errorf("%q became %q %q %q %q %d", host, c.Host, c.User, c.Password, c.Database, c.Port)
		}
	}
}

// TestDocumentedPostgres creates the documented roles, writes as one of them and
// executes the documented query as the other.
func TestDocumentedPostgres(t *testing.T) {
	p := newTest(t)
	// Roles are shared by all databases of a server; the schema belongs to this test.
	writer, reader := "w_"+p.schema, "r_"+p.schema
	own := strings.NewReplacer("collectord", writer, "analyst", reader, "security", p.schema)
	t.Cleanup(func() {
		p.exec(`DROP OWNED BY ` + reader + ` CASCADE; DROP OWNED BY ` + writer + ` CASCADE; DROP ROLE ` + writer + `, ` + reader)
	})
	for _, block := range storetest.DocumentedSQL(t, "grants") {
		p.exec(own.Replace(block))
	}
	s := p.sink(Options{URL: p.server.URL(writer, "change%20me"), Views: store.ViewsTyped})
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	storetest.Write(t, s, storetest.Seal(t, storetest.Header(1), storetest.Numbered(1, 1)...), storetest.Seal(t, storetest.Header(3), storetest.Numbered(3, 3)...))
	conn, err := pgx.Connect(t.Context(), p.server.URL(reader, "change%20me%20too"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `SET search_path = `+p.schema); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"psql", "typed"} {
		var n int
		sql := strings.TrimSuffix(strings.TrimSpace(own.Replace(storetest.DocumentedSQL(t, kind)[0])), ";")
		if err := conn.QueryRow(t.Context(), `SELECT count(name) FROM (`+sql+`) AS q`).Scan(&n); err != nil || n != 3 {
			t.Errorf("%s: %d rows: %v", kind, n, err)
		}
	}
}
