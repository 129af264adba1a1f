package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/test/harness"
)

// databaseURL creates a database and returns its URL and a connection.
func databaseURL(ws *harness.Workspace, name, encoding string) (url string, conn *pgx.Conn) {
	ws.Helper()
	server := testserver.StartPostgres(ws)
	owner, err := pgx.Connect(ws.Context(), server.URL(testserver.Owner, testserver.Password))
	if err != nil {
		ws.Fatal(err)
	}
	defer owner.Close(ws.Context())
	if _, err := owner.Exec(ws.Context(), fmt.Sprintf(`CREATE DATABASE %s ENCODING '%s' TEMPLATE template0 LOCALE 'C'`, name, encoding)); err != nil {
		ws.Fatal(err)
	}
	url = strings.Replace(server.URL(testserver.Owner, testserver.Password), "/postgres?", "/"+name+"?", 1)
	if conn, err = pgx.Connect(ws.Context(), url); err != nil {
		ws.Fatal(err)
	}
	ws.Cleanup(func() { conn.Close(ws.Context()) })
	return url, conn
}

// TestPostgresEncodingIsRefused has a database that cannot hold every record: check,
// doctor and a run say what to do, and nothing is stored.
func TestPostgresEncodingIsRefused(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	url, conn := databaseURL(ws, "e2e_latin1", "LATIN1")
	ws.Env["STORE_POSTGRES_URL"] = url
	const want = `the encoding of database "e2e_latin1" is LATIN1`
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial, want, "ENCODING 'UTF8'")
	assertFinding(ws, runDoctor(ws, harness.ExitPartial), "destination postgres", "access", doctor.Failed, want)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, want)
	var tables int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables were created: %v", tables, err)
	}
}

// TestPostgresOfThePythonCollectors has their tables in the schema none, with a row
// that Postgres cannot read, and a pooler before the server.
func TestPostgresOfThePythonCollectors(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	_, conn := databaseURL(ws, "e2e_former", "UTF8")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(`CREATE SCHEMA none; CREATE TABLE none.tenable_assets (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	exec(`INSERT INTO none.tenable_assets VALUES ('2026-01-01', 'default', '{"id":"old","name":"a\u0000b"}')`)
	pooler := testserver.StartPgBouncer(t, testserver.StartPostgres(t), 2)
	ws.Env["STORE_POSTGRES_URL"] = strings.Replace(pooler.URL(testserver.Owner, testserver.Password), "/postgres?", "/e2e_former?", 1)
	const former, advice = `schema "none" has tables of the Python collectors, such as tenable_assets`, "STORE_POSTGRES_SCHEMA=none"
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, "warning: "+former, "-> "+advice)
	assertFinding(ws, runDoctor(ws, harness.ExitOK), "destination postgres", "content", doctor.Warning, former, advice)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, strings.ReplaceAll(former, `"`, `\"`), advice)

	ws.Env["STORE_POSTGRES_SCHEMA"] = "none"
	all := runDoctor(ws, harness.ExitOK)
	assertFinding(ws, all, "destination postgres", "content", doctor.Warning, `table "none"."tenable_assets"`, "records: 1")
	exec(statementOf(ws, all))
	var name string
	if err := conn.QueryRow(t.Context(), `SELECT json_data->>'name' FROM none.tenable_assets WHERE json_data->>'id' = 'old'`).Scan(&name); err != nil || name != "a\ufffdb" {
		t.Errorf("%q, %v", name, err)
	}
	for _, f := range runDoctor(ws, harness.ExitOK) {
		if f.Check == "content" {
			t.Errorf("found after the repair: %+v", f)
		}
	}
	ws.AssertResult(ws.Run("check", "--connect"), harness.ExitOK, "destination  postgres                ok")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM none.tenable_assets_latest`).Scan(&rows); err != nil || rows != 80 {
		t.Errorf("%d rows in the view: %v", rows, err)
	}
}

// statementOf returns the statement of the finding about the content of Postgres.
func statementOf(ws *harness.Workspace, all []doctor.Finding) string {
	ws.Helper()
	for _, f := range all {
		if _, statement, ok := strings.Cut(f.Advice, "U+FFFD: "); ok && f.Check == "content" {
			return statement
		}
	}
	ws.Fatalf("no statement in %+v", all)
	return ""
}
