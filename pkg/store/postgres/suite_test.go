package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.Main(m, storetest.Child{OpenSink: openSchema})
}

func TestSinks(t *testing.T) { storetest.Run(t, postgresHarness("json"), postgresHarness("jsonb")) }

func TestMillionRecords(t *testing.T) { storetest.RunMillion(t, postgresHarness("json")) }

// openSchema opens a sink whose json_data has the type column. place is a URL, #
// and a schema.
func openSchema(column, place string) (store.Sink, error) {
	url, schema, _ := strings.Cut(place, "#")
	return New(Options{URL: url, Schema: schema, JSON: column})
}

// A pgTest is a test with a schema of its own on the server, and a connection of
// the server's owner.
type pgTest struct {
	*testing.T
	server *testserver.Postgres
	schema string
	conn   *pgx.Conn
	logged *bytes.Buffer
}

func newTest(t *testing.T) *pgTest {
	t.Helper()
	return newTestOn(t, testserver.StartPostgres(t))
}

func newTestOn(t *testing.T, server *testserver.Postgres) *pgTest {
	t.Helper()
	p := &pgTest{T: t, server: server, schema: "t_" + strings.ReplaceAll(uuid.NewString()[:13], "-", ""), logged: &bytes.Buffer{}}
	p.reconnect()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := p.conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+p.schema+" CASCADE"); err != nil {
			t.Error(err)
		}
		p.conn.Close(ctx)
	})
	return p
}

func (p *pgTest) reconnect() {
	p.Helper()
	conn, err := pgx.Connect(p.Context(), p.server.URL(testserver.Owner, testserver.Password))
	if err != nil {
		p.Fatal(err)
	}
	p.conn = conn
}

// sink makes the destination, with the server's owner as its role if opts
// name none.
func (p *pgTest) sink(opts Options) *Sink {
	p.Helper()
	if opts.URL == "" && opts.Host == "" {
		opts.URL = p.server.URL(testserver.Owner, testserver.Password)
	}
	if opts.Schema == "" {
		opts.Schema = p.schema
	}
	opts.Note = func(s *snapshot.Snapshot, text string) { fmt.Fprintln(p.logged, s.UploadID, text) }
	s, err := New(opts)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { s.Close() })
	return s
}

func (p *pgTest) exec(sql string) {
	p.Helper()
	if _, err := p.conn.Exec(context.WithoutCancel(p.Context()), strings.ReplaceAll(sql, "$S", p.schema)); err != nil {
		p.Fatalf("%s: %v", sql, err)
	}
}

// queryTexts returns the only column of a query's result.
func (p *pgTest) queryTexts(sql string) []string {
	p.Helper()
	rows, err := p.conn.Query(p.Context(), strings.ReplaceAll(sql, "$S", p.schema))
	if err != nil {
		p.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.Fatalf("%s: %v", sql, err)
	}
	return list
}

// assertQuery checks the only column of a query's result.
func (p *pgTest) assertQuery(sql string, want ...string) {
	p.Helper()
	if got := p.queryTexts(sql); !slices.Equal(got, want) {
		p.Errorf("%s:\n got %q\nwant %q", sql, got, want)
	}
}

func (p *pgTest) write(s *Sink, snap *snapshot.Snapshot) {
	p.Helper()
	if err := s.Write(p.Context(), snap); err != nil {
		p.Fatal(err)
	}
}

// assertRefused writes snap and checks that the error wraps store.ErrRefused, has
// the texts and holds no secret.
func (p *pgTest) assertRefused(s *Sink, snap *snapshot.Snapshot, texts ...string) {
	p.Helper()
	err := s.Write(p.Context(), snap)
	if !errors.Is(err, store.ErrRefused) {
		p.Fatalf("err = %v, want store.ErrRefused", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			p.Errorf("%q is missing in: %v", text, err)
		}
	}
	if strings.Contains(err.Error(), "pw-") {
		p.Errorf("a password is in: %v", err)
	}
}

// A place is the schema of a suite test.
type place struct {
	*pgTest
	jsonb bool
}

func (p place) Latest(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.readTable(t, h.Stream+"_latest", h)
}

func (p place) All(t *testing.T, h snapshot.Header) []string {
	t.Helper()
	return p.readTable(t, h.Stream, h)
}

// readTable returns the records of a table or view that belong to the tenancy of
// h.
func (p place) readTable(t *testing.T, table string, h snapshot.Header) []string {
	t.Helper()
	rows, err := p.conn.Query(context.WithoutCancel(t.Context()),
		`SELECT json_data::text FROM `+quoteName(p.schema, table)+` WHERE tenancy = $1`, h.Tenancy)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if p.jsonb {
		for i := range list {
			list[i] = canonical(list[i])
		}
	}
	return list
}

// postgresHarness returns the harness of a sink whose json_data has the type column.
func postgresHarness(column string) storetest.Harness {
	h := storetest.Harness{
		Name:         column,
		KeepsHistory: true,
		New: func(t *testing.T) (store.Sink, storetest.Place) {
			p := newTest(t)
			return p.sink(Options{JSON: column}), place{pgTest: p, jsonb: column == "jsonb"}
		},
		NewBehindProxy: func(t *testing.T) (store.Sink, storetest.Place, *faultproxy.Proxy) {
			p := newTest(t)
			sink, proxy := p.throughProxy(Options{JSON: column})
			return sink, place{pgTest: p, jsonb: column == "jsonb"}, proxy
		},
		CommitText: commitText,
		Child: func(t *testing.T) (string, string) {
			p := newTest(t)
			return column, p.server.URL(testserver.Owner, testserver.Password) + "#" + p.schema
		},
		MaxMemory: 200 << 20,
		Breakages: map[string]storetest.Breakage{
			"no permission":    {Refused: true, Write: writeWithoutPermission},
			"missing database": {Refused: true, Write: writeToMissingDatabase},
			"another table":    {Refused: true, Write: writeToOtherTable},
			"locked":           {Refused: false, Write: writeToLockedTable},
		},
	}
	h.Expect = func(record string) string {
		record = repaired(record)
		if column == "jsonb" {
			record = canonical(record)
		}
		return record
	}
	return h
}

// repaired returns a record as it is stored.
func repaired(record string) string {
	if b, changed := snapshot.RepairEscapes(nil, []byte(record)); changed {
		return string(b)
	}
	return record
}

// writeWithoutPermission writes s as a role that may not use the table.
func writeWithoutPermission(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(place)
	role := "r_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	pg.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role'; GRANT USAGE ON SCHEMA $S TO ` + role)
	defer pg.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role)
	return storetest.WriteFailing(t, pg.sink(Options{URL: pg.server.URL(role, "pw-role")}), s)
}

// writeToMissingDatabase writes s to a database that does not exist.
func writeToMissingDatabase(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(place)
	url := strings.Replace(pg.server.URL(testserver.Quick, ""), "/postgres?", "/nowhere?", 1)
	return storetest.WriteFailing(t, pg.sink(Options{URL: url}), s)
}

// writeToOtherTable writes s while the table has another column.
func writeToOtherTable(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(place)
	pg.exec(`ALTER TABLE $S.okta_users RENAME tenancy TO tenant`)
	defer pg.exec(`ALTER TABLE $S.okta_users RENAME tenant TO tenancy`)
	return storetest.WriteFailing(t, pg.sink(Options{}), s)
}

// writeToLockedTable writes s while another session holds a lock of the table.
func writeToLockedTable(t *testing.T, p storetest.Place, s *snapshot.Snapshot) (string, bool) {
	pg := p.(place)
	tx, err := pg.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rollBack(tx)
	if _, err := tx.Exec(t.Context(), `LOCK TABLE `+pg.schema+`.okta_users`); err != nil {
		t.Fatal(err)
	}
	return storetest.WriteFailing(t, pg.sink(Options{URL: pg.server.URL(testserver.Quick, "") + "&lock_timeout=50"}), s)
}

// canonical is a record with its members in order and its numbers in one
// spelling: jsonb keeps neither as it came.
func canonical(record string) string {
	d := json.NewDecoder(strings.NewReader(record))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	var plain func(v any) any
	plain = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			if r, ok := new(big.Rat).SetString(v.String()); ok {
				return r.RatString()
			}
		case []any:
			for i := range v {
				v[i] = plain(v[i])
			}
		case map[string]any:
			for name := range v {
				v[name] = plain(v[name])
			}
		}
		return v
	}
	text, err := json.Marshal(plain(v))
	if err != nil {
		return err.Error()
	}
	return string(text)
}
