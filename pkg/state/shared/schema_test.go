package shared

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// openState opens the state at a place, which may fail.
func (p place) openState(t *testing.T) (*state.State, error) {
	t.Helper()
	return openPlace(t.Context(), p.text(t), statetest.Options{})
}

// inspectState inspects the state at a place, which may fail.
func (p place) inspectState(t *testing.T) (*state.State, error) {
	t.Helper()
	options, err := p.options(statetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Inspect(t.Context(), p.Dir, options)
}

// connect connects to the database at a place.
func (p place) connect(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", p.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// readTexts returns the first column of the rows of a query.
func readTexts(t *testing.T, db *sql.DB, query string, args ...any) (texts []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// TestTenancyTables checks that the schema has the tables of package database, and that this one
// knows the others.
func TestTenancyTables(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	harness.OpenState(t, p.text(t))
	want := []string{"commits", "leases", "nodes", "tasks", "version"}
	for _, table := range database.TenancyTables {
		want = append(want, table.Name)
	}
	slices.Sort(want)
	got := readTexts(t, p.connect(t), `SELECT table_name FROM information_schema.tables WHERE table_schema = $1 AND table_name NOT LIKE 'river%' ORDER BY 1`, p.Schema)
	if !slices.Equal(got, want) {
		t.Errorf("tables %q, want %q", got, want)
	}
}

// Inspect reads a state that a process has open, creates nothing, and writes nothing.
func TestInspect(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	db := p.connect(t)
	if _, err := p.inspectState(t); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a schema: error %v, want fs.ErrNotExist", err)
	}
	if found := readTexts(t, db, `SELECT nspname FROM pg_namespace WHERE nspname = $1`, p.Schema); len(found) > 0 || fileExists(p.Dir) {
		t.Error("Inspect has created something")
	}
	f := harness.OpenState(t, p.text(t))
	f.CollectUsers(1, 5, statetest.TwoSinks)
	elsewhere := p
	elsewhere.Dir += "-2"
	s, err := elsewhere.inspectState(t)
	f.RequireNoError(err)
	all, err := s.Streams(t.Context())
	if err != nil || len(all) != 1 || all[0].Records != 5 {
		t.Errorf("streams %+v, error %v", all, err)
	}
	read := 0
	_, err = s.Snapshots.EachRecord(t.Context(), "okta_users", "acme", func([]byte) error { read++; return nil })
	f.RequireNoError(err)
	statetest.AssertEqual(t, "records", read, 5)
	for name, write := range map[string]func() error{
		"a note":        func() error { return s.Notes("acme").SetNote(t.Context(), "key", "text") },
		"a transaction": func() error { _, err := s.Notes("acme").SwapNote(t.Context(), "key", "", "text"); return err },
		"a lock":        func() error { _, err := s.Locks.LockStream("okta_users", "acme"); return err },
		"a hold":        func() error { _, err := s.Locks.HoldTenancy("acme"); return err },
	} {
		if err := write(); !errors.Is(err, errReadOnly) {
			t.Errorf("%s: error %v, want errReadOnly", name, err)
		}
	}
	f.RequireNoError(s.Close())
	statetest.AssertEqual(t, "nodes", len(f.QueryTexts(`SELECT id FROM `+f.Backend.(*State).engine.name("nodes"))), 1)
}

// A state of a newer program is refused, and one of another bucket.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	f := harness.OpenState(t, p.text(t))
	version := f.Backend.(*State).engine.name("version")
	opens := map[string]func(*testing.T) (*state.State, error){"Open": p.openState, "Inspect": p.inspectState}
	assertRefused := func(what, want string) {
		t.Helper()
		for name, open := range opens {
			if _, err := open(t); !errors.Is(err, state.ErrUnusable) || errors.Is(err, state.ErrOlder) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: error %v, want %q", name, what, err, want)
			}
		}
	}
	db := p.connect(t)
	execute := func(statement string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	execute(`UPDATE ` + version + ` SET number = 99`)
	assertRefused("newer", "newer collectord")
	execute(fmt.Sprintf(`UPDATE %s SET number = %d, bucket = 'elsewhere'`, version, len(migrations)))
	assertRefused("other bucket", "its snapshots are in elsewhere")
}

// An older schema is migrated by Open alone, all or nothing. The test changes the migrations: it
// does not run beside others.
func TestOlderSchema(t *testing.T) {
	p := newTestPlace(t)
	f := harness.OpenState(t, p.text(t))
	f.CollectUsers(1, 5, statetest.TwoSinks)
	f.RequireNoError(f.Close())
	known := migrations
	defer func() { migrations = known }()
	next := `ALTER TABLE %S.runs ADD COLUMN more TEXT NOT NULL DEFAULT 'x';` + "\n"
	migrations = append(slices.Clone(known), next, `CREATE TABLE %S.half (a TEXT);`+"\n"+`ALTER TABLE %S.missing ADD COLUMN b TEXT;`+"\n")
	if _, err := p.inspectState(t); !errors.Is(err, state.ErrOlder) {
		t.Errorf("Inspect: error %v, want ErrOlder", err)
	}
	if _, err := p.openState(t); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d: ", len(migrations))) {
		t.Errorf("a migration that fails: %v", err)
	}
	db := p.connect(t)
	tables := readTexts(t, db, `SELECT table_name FROM information_schema.tables WHERE table_schema = $1 AND table_name = 'half'`, p.Schema)
	statetest.AssertEqual(t, "tables of the migration that failed", len(tables), 0)
	migrations = migrations[:len(known)+1]
	again := harness.OpenState(t, p.text(t))
	statetest.AssertEqual(t, "last", again.LastKnown(), "id-001/5/collected")
	statetest.AssertEqual(t, "new column", strings.Join(again.QueryTexts(`SELECT more FROM runs`), " "), "x")
	again.CollectUsers(2, 6, statetest.TwoSinks)
}

// Several processes may create the state at once.
func TestOpenNewSchemaConcurrently(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	var all sync.WaitGroup
	for n := range 4 {
		p.Dir += "x"
		text := p.text(t)
		all.Go(func() {
			s, err := openPlace(context.Background(), text, statetest.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = statetest.CollectSnapshot(s, statetest.NewHeader(fmt.Sprint("stream_", n), "acme", 1), 3, statetest.TwoSinks)
			if err := errors.Join(err, s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f := harness.OpenState(t, p.text(t))
	streams, err := f.Streams(t.Context())
	f.RequireNoError(err)
	statetest.AssertEqual(t, "streams", len(streams), 4)
}

// Errors name the setting and what to do, and never have the password.
func TestErrorsOfOpen(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	server := testserver.StartPostgres(t)
	role := "limited_" + uuid.NewString()[:8]
	const secret = "pw-secret-5512"
	if _, err := p.connect(t).ExecContext(t.Context(), `CREATE ROLE `+role+` LOGIN PASSWORD '`+secret+`'`); err != nil {
		t.Fatal(err)
	}
	at := func(port int, user, database string) string {
		return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", user, secret, port, database)
	}
	for _, tc := range []struct {
		name, url  string
		isUnusable bool
		want       string
	}{
		{name: "wrong password", url: at(server.Port, testserver.Owner, "postgres"), isUnusable: true, want: "check CLUSTER_POSTGRES_URL"},
		{name: "unknown database", url: at(server.Port, role, "missing"), isUnusable: true, want: "missing"},
		{name: "no rights", url: at(server.Port, role, "postgres"), isUnusable: true, want: "grant the role"},
		{name: "no server", url: at(1, role, "postgres"), want: "refused"},
		{name: "no URL", url: "postgres://" + role + ":" + secret + "@[bad", isUnusable: true, want: "CLUSTER_POSTGRES_URL"},
		{name: "password with ?", url: "postgres://" + role + ":a?" + secret + "@127.0.0.1:1/postgres", want: "refused"},
		{name: "password with #", url: "postgres://" + role + ":a#" + secret + "@127.0.0.1:1/postgres", want: "refused"},
		{name: "password with %", url: "postgres://" + role + ":%zz" + secret + "@127.0.0.1/postgres", isUnusable: true, want: "percent-encoded"},
	} {
		p.URL = tc.url
		_, err := p.openState(t)
		if err == nil || strings.Contains(err.Error(), secret) || errors.Is(err, state.ErrUnusable) != tc.isUnusable ||
			!strings.Contains(err.Error(), "CLUSTER_POSTGRES_URL: ") || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q, and ErrUnusable %v", tc.name, err, tc.want, tc.isUnusable)
		}
	}
}

// An error during an outage does not have the password either.
func TestErrorsOfAnOutage(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.URL = strings.Replace(p.URL, testserver.Quick, testserver.Owner+":"+testserver.Password, 1)
	a := p.openNode(t, "node-a")
	interruptProxy(proxy)
	_, err := a.Streams(t.Context())
	_, locked := a.Locks.LockStream("okta_users", "acme")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, written := a.Notes("acme").SwapNote(ended, "key", "", "text")
	for name, err := range map[string]error{"read": err, "lock": locked, "write": written} {
		if err == nil || strings.Contains(err.Error(), testserver.Password) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	var texts []string
	for _, entry := range a.Logs.All() {
		texts = append(texts, fmt.Sprint(entry.Message, entry.ContextMap()))
	}
	if strings.Contains(strings.Join(texts, "\n"), testserver.Password) {
		t.Errorf("the log has the password: %q", texts)
	}
}

// A service of the version before runs while this one adds to its tables: its statements go on,
// it leads until it ends, and it gets no tasks. The test changes the migrations: it does not run
// beside others.
func TestUpgradeBesideOlderService(t *testing.T) {
	p := newTestPlace(t)
	e := newDirectEngine(t, p)
	t.Cleanup(func() { e.db.Close() })
	known := migrations
	migrations = known[:1]
	err := e.migrate(t.Context())
	migrations = known
	if err != nil {
		t.Fatal(err)
	}
	execute := func(statement string) {
		t.Helper()
		if _, err := e.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	beat := `INSERT INTO ` + e.name("nodes") + ` (id, name, pid, command, service, started, expires) VALUES ('1', 'older', 7, 'collectord', TRUE, clock_timestamp(),
		clock_timestamp() + interval '1 hour') ON CONFLICT (id) DO UPDATE SET expires = excluded.expires`
	execute(beat)
	execute(`INSERT INTO ` + e.name("leases") + ` (name, node, token, since) VALUES ('service', '1', 'x', clock_timestamp())`)
	newer := p.openNode(t, "newer")
	execute(beat)
	execute(`INSERT INTO ` + e.name("runs") + ` (collector, stream, tenancy, upload_id, cause, started) VALUES ('okta', 'okta_users', 'acme', 'id', 'schedule', 1)`)
	if _, err := newer.Locks.LockService(); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "process 7 on older") {
		t.Errorf("beside the older service: error %v, want ErrLocked", err)
	}
	nodes, err := newer.Backend.(*State).Nodes(t.Context())
	newer.RequireNoError(err)
	for _, n := range nodes {
		if n.Name == "older" && (!n.Leads || !n.Alive || n.Settings != "" || n.Capacity != 0) {
			t.Errorf("the older service: %+v", n)
		}
	}
	statetest.AssertEqual(t, "processes", len(nodes), 2)
	execute(`DELETE FROM ` + e.name("leases") + ` WHERE token = 'x'`)
	lock, err := newer.Locks.LockService()
	newer.RequireNoError(err)
	newer.RequireNoError(lock.Unlock())
}
