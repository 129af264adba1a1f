package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// newDeliverWorkspace returns a workspace with a small simulated Tenable and a DuckDB file.
func newDeliverWorkspace(t *testing.T) *harness.Workspace {
	t.Helper()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.Env["STORE_DUCKDB"] = ws.Path("security.duckdb")
	return ws
}

// executeDuckDB executes a statement in the file of STORE_DUCKDB.
func executeDuckDB(ws *harness.Workspace, statement string) {
	ws.Helper()
	db, err := duckdb.Open(ws.Context(), ws.Env["STORE_DUCKDB"], duckdb.Options{})
	if err == nil {
		_, err = db.ExecContext(ws.Context(), statement)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		ws.Fatal(err)
	}
}

// TestDeadDestinationsStopNothing has two destinations whose bucket is gone: one that
// keeps the history, and the backup, in which a newer snapshot replaces the older one.
// STORE_SPOOL_MAX allows almost nothing. All runs succeed, the other destinations are
// current, and a dead one receives the newest snapshot when it works again.
func TestDeadDestinationsStopNothing(t *testing.T) {
	t.Parallel()
	ws := newDeliverWorkspace(t)
	object := ws.UseS3()
	if err := os.RemoveAll(object("")); err != nil {
		t.Fatal(err)
	}
	ws.Env["STORE_AWS_S3_KEY"] = "history/%TAG/%UUID.json"
	ws.Env["STORE_SPOOL_MAX"] = "1B"
	const runs = 4
	count := harness.SmallCounts[vendorsim.TenableAssets]
	for n := 1; n <= runs; n++ {
		ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "success", "2 deliveries stay queued")
		if rows := ws.DuckDBRows("tenable_assets"); rows != n*count {
			t.Errorf("run %d: %d rows in DuckDB, want %d", n, rows, n*count)
		}
	}
	if n := len(ws.StoredRecords("tenable_assets")); n != count {
		t.Errorf("%d records in the file, want %d", n, count)
	}
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "s3: 3 snapshots of tenable_assets were not delivered")
	if err := os.Mkdir(object(""), 0o700); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("deliver"), harness.ExitOK, "stored")
	objects, err := os.ReadDir(object("history/tenable_assets"))
	if err != nil || len(objects) != 1 {
		t.Errorf("%d objects in the history, want the newest alone; error %v", len(objects), err)
	}
	if _, err := os.Stat(object("backup/tenable_assets/default.json")); err != nil {
		t.Error(err)
	}
}

// TestDeliverRefills fills tables that were emptied or dropped, also while the service
// runs, and stores nothing twice.
func TestDeliverRefills(t *testing.T) {
	t.Parallel()
	ws := newDeliverWorkspace(t)
	ws.AssertResult(ws.Run("deliver"), harness.ExitFailed, "no state in ")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK, "stored")
	assertRows := func(what string) {
		t.Helper()
		for stream, count := range harness.SmallCounts {
			if rows := ws.DuckDBRows(stream); rows != count {
				t.Errorf("%s: %d rows in %s, want %d", what, rows, stream, count)
			}
		}
	}
	ws.AssertResult(ws.Run("deliver"), harness.ExitOK, "DUCKDB", "tenable_assets", "stored")
	assertRows("delivered again")
	executeDuckDB(ws, "DELETE FROM tenable_assets")
	executeDuckDB(ws, "DROP TABLE "+vendorsim.TenableVulns+" CASCADE")
	if err := os.Remove(ws.SourceFile("tenable_assets")); err != nil {
		t.Fatal(err)
	}
	ws.Env["COLLECTORS"] = "tenable"
	s := ws.StartService()
	s.WaitForLog(`"ready"`)
	ws.AssertResult(ws.Run("deliver", "--to", "duckdb"), harness.ExitOK, "DATA OF", "stored")
	assertRows("with emptied and dropped tables")
	if _, err := os.Stat(ws.SourceFile("tenable_assets")); err == nil {
		t.Log("the file came back at the start of the service")
	}
	ws.AssertResult(ws.Run("deliver", "--to", "file", "tenable_assets"), harness.ExitOK, "FILE")
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records in the file", n)
	}
	for _, wrong := range []struct {
		args []string
		text string
	}{
		{args: []string{"deliver", "--to", "nope"}, text: `"nope" is not configured; these destinations are: file, duckdb`},
		{args: []string{"deliver", "okta_none"}, text: `"okta_none" is not a stream; `},
		{args: []string{"deliver", "tenable_asets"}, text: "did you mean tenable_assets?"},
		{args: []string{"deliver", "okta_users"}, text: `"okta_users" has no last-known snapshot`},
		{args: []string{"deliver", "okta"}, text: "no stream of okta has a last-known snapshot; its streams are okta_users"},
		{args: []string{"deliver", "--to", "file", "--to", "nope"}, text: `"nope" is not configured`},
		{args: []string{"accept", "tenable"}, text: `"tenable" is a collector: want a stream of it: tenable_vulnerabilities, `},
		{args: []string{"accept", "tenable_asets"}, text: "did you mean tenable_assets?"},
		{args: []string{"drop", "nope"}, text: `"nope" is not a destination: want one of file, duckdb, postgres, s3, backup`},
		{args: []string{"drop"}, text: "drop takes a destination"},
		{args: []string{"drop", "duckdb", "tenable_assets"}, text: "no queued delivery of tenable_assets to duckdb: nothing is queued"},
		{args: []string{"drop", "duckdb", "no_such_stream"}, text: "no queued delivery of no_such_stream to duckdb"},
	} {
		ws.AssertResult(ws.Run(wrong.args...), harness.ExitUsage, wrong.text)
	}
	if _, err := os.Stat(ws.Path("state", "locks", "delivery~duckdb~no_such_stream~default")); err == nil {
		t.Error("drop has left a lock file for a stream that does not exist")
	}
	for _, args := range [][]string{{"deliver", "tenable", "--to", "duckdb", "--to", "file"}, {"deliver", "tenable", "--to", "file,duckdb"}} {
		result := ws.Run(args...)
		ws.AssertResult(result, harness.ExitOK, "DUCKDB", "FILE")
		if got := strings.Count(result.Stdout, "stored"); got != 2*len(harness.SmallCounts) {
			t.Errorf("%q has stored %d snapshots:\n%s", args, got, result.Output())
		}
	}
	// Those that are queued are listed.
	harness.WriteFile(t, ws.Path("blocked"), "a file in place of the directory")
	ws.Env["STORE_FILE"], ws.Env["STORE_ONCE_TIMEOUT"] = ws.Path("blocked", "%TAG.json"), "1s"
	ws.AssertResult(ws.Run("deliver", "tenable_assets", "--to", "file"), harness.ExitPartial, "refused")
	ws.AssertResult(ws.Run("drop", "file", "tenable_asets"), harness.ExitUsage, "these are queued: ", "tenable_assets to file")
}

// TestOnceTriesWhatWasRefused has a role without rights: a run started by a person after
// the rights were granted stores what was refused before, although its wait is not over.
// One snapshot that waits in front of the others can be given up.
func TestOnceTriesWhatWasRefused(t *testing.T) {
	t.Parallel()
	ws := newDeliverWorkspace(t)
	server := testserver.StartPostgres(t)
	conn, err := pgx.Connect(t.Context(), server.URL(testserver.Owner, testserver.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	name := "r" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), strings.ReplaceAll(statement, "$R", name)); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE ROLE $R LOGIN PASSWORD 'a-password-of-the-test'`)
	exec(`CREATE SCHEMA $R`)
	ws.Env["STORE_POSTGRES_URL"] = server.URL(name, "a-password-of-the-test")
	ws.Env["STORE_POSTGRES_SCHEMA"] = name
	for _, queued := range []string{"1 delivery stays queued", "2 deliveries stay queued"} {
		ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "refused", queued, "GRANT")
	}
	ws.AssertResult(ws.Run("drop", "postgres", "tenable_assets"), harness.ExitOK, "dropped: tenable_assets of ", "still queued for postgres: 1")
	exec(`GRANT ALL ON SCHEMA $R TO $R`)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "stored")
	rows := 0
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+name+".tenable_assets").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if want := 2 * harness.SmallCounts[vendorsim.TenableAssets]; rows != want {
		t.Errorf("%d rows in Postgres, want %d", rows, want)
	}
}

// TestNewDestinationReceivesTheLastKnown adds a destination and moves it, at a start and in
// a reload: it has the last-known data at once, without a run.
func TestNewDestinationReceivesTheLastKnown(t *testing.T) {
	t.Parallel()
	ws := newDeliverWorkspace(t)
	path := ws.Env["STORE_DUCKDB"]
	delete(ws.Env, "STORE_DUCKDB")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "stored")
	ws.Env["STORE_DUCKDB"] = path
	ws.Env["COLLECTORS"], ws.Env["SCHEDULE"], ws.Env["SCHEDULE_CATCH_UP"] = "tenable", "0 0 1 1 *", "false"
	s := ws.StartService()
	s.WaitForLog("the destination is new; it receives the last-known snapshots", `"sink":"duckdb"`)
	s.WaitForLog(`"stored"`, `"sink":"duckdb"`, `"tenable_assets"`)
	if rows, want := ws.DuckDBRows("tenable_assets"), harness.SmallCounts[vendorsim.TenableAssets]; rows != want {
		t.Errorf("%d rows in DuckDB, want %d", rows, want)
	}
}

// TestTenanciesWithOneState runs two tenancies with one state directory: what is queued for
// one is not stored in the destinations of the other, which says so.
func TestTenanciesWithOneState(t *testing.T) {
	t.Parallel()
	ws := newDeliverWorkspace(t)
	delete(ws.Env, "STORE_DUCKDB")
	ws.Env["TENANCY"] = "acme"
	harness.WriteFile(t, ws.Path("blocked"), "a file in place of the directory")
	ws.Env["STORE_FILE"] = ws.Path("blocked", "%TAG.json")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "1 delivery stays queued")
	ws.Env["TENANCY"], ws.Env["STORE_FILE"] = "globex", ws.Path("globex", "%TAG.json")
	ws.AssertResult(ws.Run("--once", vendorsim.TenableVulns), harness.ExitOK,
		"queued snapshots of another tenancy", "use a STATE_DIR for each TENANCY")
	if files := ws.Files(ws.Path("globex")); len(files) != 1 || !strings.Contains(fmt.Sprint(files), `"_tenancy":"globex"`) {
		t.Errorf("globex has %d files, want 1", len(files))
	}
}
