package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
)

// noon is when the snapshots of these tests are taken, if not said otherwise.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func headerOf(stream, tenancy string, at time.Time) snapshot.Header {
	return snapshot.Header{Collector: "okta", Stream: stream, Tenancy: tenancy, UploadID: uuid.NewString(), UploadTimestamp: at}
}

// seal makes a snapshot of records.
func seal(t testing.TB, h snapshot.Header, records ...string) *snapshot.Snapshot {
	t.Helper()
	return sealEach(t, h, len(records), func(i int) string { return records[i] })
}

// sealEach makes a snapshot of n records.
func sealEach(t testing.TB, h snapshot.Header, n int, record func(int) string) *snapshot.Snapshot {
	t.Helper()
	dir := t.TempDir()
	w, err := snapshot.Create(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	page := w.Page()
	for i := range n {
		if err := page.Append([]byte(record(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := page.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := w.Seal(filepath.Join(dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recordsOf reads a snapshot's records.
func recordsOf(t testing.TB, s *snapshot.Snapshot) []string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Encode(t.Context(), &b, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// A pgTest is one test's schema on the server, and a connection of the
// server's owner to look at it.
type pgTest struct {
	*testing.T
	server *testserver.Postgres
	schema string
	conn   *pgx.Conn
	logged *bytes.Buffer
}

func newPgTest(t *testing.T) *pgTest {
	t.Helper()
	return pgTestOn(t, testserver.StartPostgres(t))
}

func pgTestOn(t *testing.T, server *testserver.Postgres) *pgTest {
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
func (p *pgTest) sink(opts PostgresOptions) *Postgres {
	p.Helper()
	if opts.URL == "" && opts.Host == "" {
		opts.URL = p.server.URL(testserver.Owner, testserver.Password)
	}
	if opts.Schema == "" {
		opts.Schema = p.schema
	}
	opts.Note = func(s *snapshot.Snapshot, text string) { fmt.Fprintln(p.logged, s.UploadID, text) }
	s, err := NewPostgres(opts)
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

// texts returns a query's only column.
func (p *pgTest) texts(sql string) []string {
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

// holds checks a query's only column.
func (p *pgTest) holds(sql string, want ...string) {
	p.Helper()
	if got := p.texts(sql); !slices.Equal(got, want) {
		p.Errorf("%s:\n got %q\nwant %q", sql, got, want)
	}
}

func (p *pgTest) write(s *Postgres, snap *snapshot.Snapshot) {
	p.Helper()
	if err := s.Write(p.Context(), snap); err != nil {
		p.Fatal(err)
	}
}

// refuses writes and checks that it fails for good, with the texts and
// without a secret.
func (p *pgTest) refuses(s *Postgres, snap *snapshot.Snapshot, texts ...string) {
	p.Helper()
	err := s.Write(p.Context(), snap)
	if !errors.Is(err, ErrRefused) {
		p.Fatalf("err = %v, want ErrRefused", err)
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

func TestPostgresStores(t *testing.T) {
	p := newPgTest(t)
	s := p.sink(PostgresOptions{})
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.holds(`SELECT count(*)::text FROM pg_namespace WHERE nspname = '$S'`, "0") // Check makes nothing
	snap := seal(t, headerOf("okta_users", "acme", noon), `{"id":1, "n":1.50e1}`, `{"id":2}`, `{"id":3}`)
	for range 3 {
		p.write(s, snap)
	}
	p.holds(`SELECT json_data::text FROM $S.okta_users`, recordsOf(t, snap)...)
	p.holds(`SELECT json_data::text FROM $S.okta_users_latest`, recordsOf(t, snap)...)
	p.holds(`SELECT DISTINCT upload_timestamp || ' ' || tenancy FROM $S.okta_users`, "2026-03-01 12:00:00 acme")
	p.holds(`SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$S.okta_users'::regclass AND attnum > 0 ORDER BY attnum`,
		"timestamp without time zone", "character varying", "json")
	p.holds(`SELECT stream || ' ' || tenancy || ' ' || upload_id || ' ' || upload_timestamp || ' ' || records FROM $S._collectord_snapshots`,
		"okta_users acme "+snap.UploadID+" 2026-03-01 12:00:00 3")
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.logged.Len() > 0 {
		t.Errorf("logged: %s", p.logged)
	}
}

// awkwardText are records that are valid, and trouble.
func awkwardText() []string {
	deep := func(n int) string { return `{"d":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	return []string{
		`{"nul":"a\u0000b","k\u0000":1,"kept":"\\u0000"}`,
		`{"half":"\ud83d","other":"\uDE00x","pair":"\ud83d\ude00","swapped":"\ude00\ud83d"}`,
		`{"tab":"\t","quote":"\"","slash":"\/","del":"` + "\x7f" + `","sep":"` + "\u2028" + `","nfd":"` + "e\u0301" + `"}`,
		`{"big":9223372036854775808,"long":0.1234567890123456789012345678901234567890,"exp":1e400,"neg":-0,"tiny":1E-400}`,
		`{"huge":1e200000}`,
		`{"twice":1,"twice":2}`,
		`{"emoji":"😀","utf":"日本語","empty":{},"none":null,"":""}`,
		deep(1000),
		`{"wide":"` + strings.Repeat("x", 3<<20) + `"}`,
		`{  "space" :  [ 1 ,2 ]  }`,
		`{"copy":"\\.","csv":"a,b\"c","tab":"	"}`,
	}
}

func TestPostgresKeepsBytes(t *testing.T) {
	for _, column := range []string{"json", "text", "varchar"} {
		t.Run(column, func(t *testing.T) {
			p := newPgTest(t)
			records := awkwardText()
			if column == "json" {
				records = records[:len(records)-1] // a bare tab in a string is no JSON
			} else {
				p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (json_data ` + column + `, id serial, tenancy text, upload_timestamp timestamp)`)
			}
			snap := seal(t, headerOf("okta_users", `o'hare "x" \ ü`, noon), records...)
			p.write(p.sink(PostgresOptions{}), snap)
			p.holds(`SELECT json_data::text FROM $S.okta_users`, recordsOf(t, snap)...)
			p.holds(`SELECT DISTINCT tenancy::text FROM $S.okta_users_latest`, snap.Tenancy)
		})
	}
}

// TestPostgresJSONB checks what is stored in another form, and that the rest
// of the snapshot is there.
func TestPostgresJSONB(t *testing.T) {
	p := newPgTest(t)
	records := awkwardText()
	snap := seal(t, headerOf("okta_users", "acme", noon), records...)
	p.write(p.sink(PostgresOptions{JSON: "jsonb"}), snap)
	p.holds(`SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$S.okta_users'::regclass AND attname = 'json_data'`, "jsonb")
	p.holds(`SELECT count(*)::text FROM $S.okta_users_latest WHERE json_data->>'_upload_id' = '`+snap.UploadID+`'`, fmt.Sprint(len(records)))
	p.holds(`SELECT json_data->>'nul' || ' ' || (json_data->>'k\u0000') || ' ' || (json_data->>'kept') FROM $S.okta_users WHERE json_data ? 'nul'`,
		`a\u0000b 1 \u0000`)
	p.holds(`SELECT (json_data->>'half') || ' ' || (json_data->>'other') || ' ' || (json_data->>'pair') || ' ' || (json_data->>'swapped') FROM $S.okta_users WHERE json_data ? 'half'`,
		`\ud83d \uDE00x 😀 \ude00\ud83d`)
	p.holds(`SELECT length(json_data->>'exp')::text FROM $S.okta_users WHERE json_data ? 'exp'`, "401")
	wrapped := p.texts(`SELECT json_data->>'_collectord_record' FROM $S.okta_users WHERE json_data ? '_collectord_error' ORDER BY 1`)
	sealed := recordsOf(t, snap)
	if want := []string{strings.ReplaceAll(sealed[10], "\t", `\u0009`), sealed[4]}; !slices.Equal(wrapped, want) {
		t.Errorf("kept as text: %q, want %q", wrapped, want)
	}
	for _, text := range []string{"2 have escapes", "2 are kept as text", snap.UploadID} {
		if !strings.Contains(p.logged.String(), text) {
			t.Errorf("%s is not logged: %s", text, p.logged)
		}
	}
}

// TestPostgresBeyondTheStack has a record that the server's JSON parser gives
// up on.
func TestPostgresBeyondTheStack(t *testing.T) {
	p := newPgTest(t)
	deep := `{"d":` + strings.Repeat(`{"é":`, 50_000) + `1` + strings.Repeat("}", 50_000) + `}`
	var records []string
	for i := range 600 {
		records = append(records, fmt.Sprintf(`{"i":%d}`, i))
	}
	records[300] = deep
	snap := seal(t, headerOf("okta_users", "acme", noon), records...)
	p.write(p.sink(PostgresOptions{}), snap)
	p.holds(`SELECT count(*)::text FROM $S.okta_users WHERE json_data::json->>'i' IS NOT NULL`, "599")
	kept := p.texts(`SELECT json_data->>'_collectord_record' FROM $S.okta_users WHERE json_data->>'_collectord_error' LIKE '%54001%'`)
	if len(kept) != 1 || kept[0] != strings.ReplaceAll(recordsOf(t, snap)[300], "é", `\u00e9`) {
		t.Errorf("%d records kept as text, or not as they were", len(kept))
	}
}

// TestPostgresLatin1 has a database that cannot hold every character.
func TestPostgresLatin1(t *testing.T) {
	p := newPgTest(t)
	p.exec(`CREATE DATABASE $S ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'`)
	t.Cleanup(func() { p.exec(`DROP DATABASE $S WITH (FORCE)`) })
	url := strings.Replace(p.server.URL(testserver.Owner, testserver.Password), "/postgres?", "/"+p.schema+"?", 1)
	snap := seal(t, headerOf("okta_users", "Zürich", noon), `{"name":"Zoë"}`, `{"name":"日本"}`)
	p.write(p.sink(PostgresOptions{URL: url}), snap)
	conn, err := pgx.Connect(t.Context(), url+"&client_encoding=UTF8")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT coalesce(json_data->>'name', json_data->>'_collectord_record') FROM `+p.schema+`.okta_users WHERE tenancy = 'Zürich' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"Zoë", strings.NewReplacer("日", `\u65e5`, "本", `\u672c`, "ü", `\u00fc`).Replace(recordsOf(t, snap)[1])}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRespell(t *testing.T) {
	for record, want := range map[string]string{
		`{"a":"\u0000"}`:             `{"a":"\\u0000"}`,
		`{"a":"\\u0000"}`:            `{"a":"\\u0000"}`,
		`{"a":"\\\u0000\u0000x"}`:    `{"a":"\\\\u0000\\u0000x"}`,
		`{"a":"\ud83d\ude00"}`:       `{"a":"\ud83d\ude00"}`,
		`{"a":"\uD83D\uDE00"}`:       `{"a":"\uD83D\uDE00"}`,
		`{"a":"\ud83d\ud83d\ude00"}`: `{"a":"\\ud83d\ud83d\ude00"}`,
		`{"a":"\ud83d"}`:             `{"a":"\\ud83d"}`,
		`{"a":"\ude00\u0041"}`:       `{"a":"\\ude00\u0041"}`,
		`{"a":"\ud83dx\u00e9\u0000`:  `{"a":"\\ud83dx\u00e9\\u0000`,
		`{"a":"\ud8`:                 `{"a":"\ud8`,
		`{"a":1}`:                    `{"a":1}`,
		`\u0000`:                     `\\u0000`,
	} {
		got, changed := respell([]byte("before"), []byte(record))
		if !changed {
			got = append(got, record...)
		}
		if string(got) != "before"+want || changed != (record != want) {
			t.Errorf("respell(%s) = %s, %v, want %s", record, got, changed, want)
		}
	}
}

func TestAppendASCII(t *testing.T) {
	for _, text := range []string{"", `{"a":"é😀\u0000\\"}`, "tab\tnul\x00del\x7f", "\xff"} {
		quoted := appendASCII(nil, []byte(text))
		var inner string
		if err := json.Unmarshal(quoted, &inner); err != nil {
			t.Fatalf("%s: %v", quoted, err)
		}
		if i := bytes.IndexFunc(quoted, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("%s has more than ASCII", quoted)
		}
		if strings.HasPrefix(text, "{") {
			var was, is any
			if err := errors.Join(json.Unmarshal([]byte(text), &was), json.Unmarshal([]byte(inner), &is)); err != nil {
				t.Error(err)
			}
			if fmt.Sprint(was) != fmt.Sprint(is) {
				t.Errorf("%v became %v", was, is)
			}
		}
	}
}
