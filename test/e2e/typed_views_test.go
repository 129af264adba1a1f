package e2e_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// TestTypedViews reads the typed views that the program has made in both databases: of a
// stream, after the vendor has changed the type of a member and added one, and of the
// results of controls. Another run of the first kind changes no type back.
func TestTypedViews(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	url, conn := databaseURL(ws, "e2e_typed", "UTF8")
	ws.Env["STORE_POSTGRES_URL"], ws.Env["STORE_POSTGRES_VIEWS"] = url, "typed"
	ws.Env["STORE_DUCKDB"], ws.Env["STORE_DUCKDB_VIEWS"] = ws.Path("security.duckdb"), "typed"
	writeControls(t, ws, map[string]string{"agents.yml": exampleControl})
	databases := map[string]func(string) string{
		"Postgres": func(query string) string { return readPostgres(ws, conn, query) },
		"DuckDB":   func(query string) string { return readDuckDB(ws, query) },
	}
	requireRead := func(when, query, want string) {
		t.Helper()
		for name, read := range databases {
			if got := read(query); got != want {
				t.Errorf("%s, %s: %s is %s, want %s", when, name, query, got, want)
			}
		}
	}
	const (
		types   = `SELECT data_type FROM information_schema.columns WHERE table_name = 'tenable_assets_latest_typed' AND column_name = `
		assets  = `SELECT CAST(count(*) AS text) FROM tenable_assets_latest_typed WHERE `
		summary = `SELECT CAST(CAST(sum(totalok) AS integer) AS text) FROM control_summary_latest_typed`
	)
	collect := func() {
		t.Helper()
		ws.AssertResult(ws.Run("--once", vendorsim.TenableAssets), harness.ExitOK)
	}

	collect()
	requireRead("at first", types+`'has_agent'`, "boolean")
	requireRead("at first", types+`'created_at'`, "timestamp with time zone")
	requireRead("at first", assets+`NOT has_agent AND created_at > '2000-01-01T00:00:00Z'`, "80")
	requireRead("at first", summary, "80")
	for _, column := range []string{"control_summary.weight", "control_summary.totalok", "control_detail.weight", "control_detail.compliance"} {
		stream, name, _ := strings.Cut(column, ".")
		requireRead("at first", `SELECT data_type FROM information_schema.columns WHERE table_name = '`+stream+`_latest_typed' AND column_name = '`+name+`'`, "double precision")
	}

	changed := sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/assets/export/*/chunks/*", Times: vendorsim.Forever, Do: vendorsim.Rewrite(func(body []byte) []byte {
		return []byte(strings.ReplaceAll(string(body), `"has_agent":false`, `"has_agent":"unknown","agents":2`))
	})})
	collect()
	if changed.Hits() == 0 {
		t.Fatal("the vendor's records are those of before")
	}
	requireRead("after the change", types+`'has_agent'`, "text")
	requireRead("after the change", types+`'agents'`, "bigint")
	requireRead("after the change", assets+`has_agent = 'unknown' AND agents = 2`, "80")
	changed.Remove()
	collect()
	requireRead("after the change back", types+`'has_agent'`, "text")
	requireRead("after the change back", assets+`has_agent = 'false' AND agents IS NULL`, "80")

	ws.Env["STORE_POSTGRES_VIEWS"], ws.Env["STORE_DUCKDB_VIEWS"] = "on", "on"
	collect()
	requireRead("when they are switched off", `SELECT CAST(count(*) AS text) FROM information_schema.tables WHERE table_name LIKE '%_assets_latest_typed'`, "0")
	requireRead("when they are switched off", `SELECT CAST(count(*) AS text) FROM tenable_assets_latest`, "80")
}

func readPostgres(ws *harness.Workspace, conn *pgx.Conn, query string) (value string) {
	ws.Helper()
	if err := conn.QueryRow(ws.Context(), query).Scan(&value); err != nil {
		ws.Fatalf("Postgres: %s: %v", query, err)
	}
	return value
}

func readDuckDB(ws *harness.Workspace, query string) string {
	ws.Helper()
	db, err := duckdb.Open(ws.Context(), ws.Env["STORE_DUCKDB"], duckdb.Options{ReadOnly: true})
	if err != nil {
		ws.Fatal(err)
	}
	defer db.Close()
	var value sql.NullString
	if err := db.QueryRowContext(ws.Context(), query).Scan(&value); err != nil {
		ws.Fatalf("DuckDB: %s: %v", query, err)
	}
	return duckdbNames.Replace(value.String)
}

// duckdbNames replaces the names of types in DuckDB by those in Postgres.
var duckdbNames = strings.NewReplacer("TIMESTAMP WITH TIME ZONE", "timestamp with time zone", "BOOLEAN", "boolean", "VARCHAR", "text", "BIGINT", "bigint", "DOUBLE", "double precision")
