package e2e_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// failAllRequests makes the vendor refuse all requests.
func failAllRequests(sim *vendorsim.Server) *vendorsim.Injection {
	return sim.Hosts()[0].Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(403, `{"error":"Forbidden"}`)})
}

// TestWipedMachineHasItsDataAgain checks that file, age and history are restored from the
// backup while the vendor is unavailable.
func TestWipedMachineHasItsDataAgain(t *testing.T) {
	t.Parallel()
	for _, ext := range []string{"json", "json.gz", "ndjson.zst"} {
		t.Run(ext, func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			object := ws.UseS3()
			ws.Env["STORE_AWS_S3_BACKUP"] = "backup/%TAG/%TENANCY." + ext
			ws.AssertResult(ws.Run("--once"), harness.ExitOK, "BACKUP", "stored")
			files := ws.Files(ws.Path("source"))
			status := ws.Run("status").Stdout
			taken := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`).FindString(status)
			if text := ws.Content(object("backup/_history/tenable_assets/default.json")); !strings.Contains(text, `"outcome": "success"`) {
				t.Fatalf("history: %s", text)
			}

			ws.RemoveData()
			failAllRequests(sim)
			ws.AssertResult(ws.Run("--once"), harness.ExitPartial, "restored from the backup", "Basic [16]")
			for path, content := range files {
				if ws.Content(path) != content {
					t.Errorf("%s has changed", path)
				}
			}
			e := ws.Run("status")
			ws.AssertResult(e, harness.ExitOK, "restored", taken, "tenable_assets", "Basic [16]")
			if strings.Contains(strings.Split(e.Stdout, "\n")[1], "never") {
				t.Errorf("the history was not restored:\n%s", e.Stdout)
			}
			db, err := duckdb.Open(t.Context(), "", duckdb.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			n := 0
			if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM read_json('`+ws.SourceFile("tenable_assets")+`')`).Scan(&n); err != nil || n != harness.SmallCounts[vendorsim.TenableAssets] {
				t.Errorf("a query of the file counts %d: %v", n, err)
			}
			ws.AssertNoPartialFiles()
		})
	}
}

// pythonBackup returns a backup as the Python collectors wrote it, with json.dump.
func pythonBackup(tenancy string) string {
	member := `"_tenancy": "` + tenancy + `", "_upload_timestamp": "2026-01-02 03:04:05", "_upload_id": "1f6a7c7e-0000-4000-8000-000000000001"`
	return `[{"id": 1, "name": "\u00e9", "size": 1.0, ` + member + `}, {"id": 2, ` + member + `}]`
}

// TestRestoresOtherProgramsBackups checks backups without metadata, whose tenancy is
// known from their records.
func TestRestoresOtherProgramsBackups(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	object := ws.UseS3()
	harness.WriteFile(t, object("backup/okta_users/default.json"), pythonBackup("default"))
	ws.AssertResult(ws.Run("restore", "okta_users"), harness.ExitOK, "restored", "2026-01-02 03:04:05Z", "put back")
	var records []map[string]any
	if err := json.Unmarshal([]byte(ws.Content(ws.SourceFile("okta_users"))), &records); err != nil || len(records) != 2 {
		t.Fatalf("%v: %v", records, err)
	}
	if records[0]["_vendor_tenancy"] != nil || records[0]["_upload_id"] != "1f6a7c7e-0000-4000-8000-000000000001" {
		t.Errorf("%v", records[0])
	}
	if !strings.Contains(ws.Content(ws.SourceFile("okta_users")), `{"id": 1, "name": "\u00e9", "size": 1.0, `) {
		t.Error("the bytes of the record have changed")
	}
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "okta_users", "2026-01-02 03:04:05Z", "restored")
	ws.AssertResult(ws.Run("restore", "okta"), harness.ExitOK, "current")
	ws.AssertResult(ws.Run("restore", "okta_users", "--to", ws.Path("elsewhere")), harness.ExitOK, "restored")
	if !bytes.Equal([]byte(ws.Content(ws.Path("elsewhere", "okta_users", "default.json"))), []byte(ws.Content(ws.SourceFile("okta_users")))) {
		t.Error("--to wrote another content")
	}
	if left, err := filepath.Glob(ws.Path("elsewhere", ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
	ws.AssertResult(ws.Run("restore", "nonsense"), harness.ExitUsage, "is neither a collector nor a stream")
	delete(ws.Env, "STORE_AWS_S3_BUCKET")
	ws.AssertResult(ws.Run("restore"), harness.ExitSettings, "STORE_AWS_S3_BUCKET")
}

// TestInvalidBackupsAreRefused checks the message for each invalid backup, that nothing
// of it is kept, and that the run continues.
func TestInvalidBackupsAreRefused(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	object := ws.UseS3()
	key := object("backup/tenable_assets/default.json")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	good := ws.Content(key)
	other := object("backup/tenable_was/default.json")
	for _, c := range []struct {
		name, want string
		change     func()
	}{
		{
			name: "truncated", want: "file ends before",
			change: func() { overwriteContent(t, key, good[:len(good)/2]) },
		},
		{
			name: "records missing", want: "it has 79 records, written with 80",
			change: func() { overwriteContent(t, key, "[\n"+good[strings.Index(good, ",\n")+2:]) },
		},
		{
			name: "a changed value", want: "SHA-256",
			change: func() { overwriteContent(t, key, strings.Replace(good, `"has_agent":`, `"has_agenT":`, 1)) },
		},
		{
			name: "noise", want: "not a valid backup",
			change: func() { overwriteContent(t, key, strings.Repeat("\x00\xff", 500)) },
		},
		{
			name: "HTML", want: "not a valid backup",
			change: func() { overwriteContent(t, key, "<html><body>Service unavailable</body></html>") },
		},
		{
			name: "an error as JSON", want: "want an array",
			change: func() { overwriteContent(t, key, `{"error":"x"}`) },
		},
		{
			name: "without metadata, foreign", want: "no _tenancy",
			change: func() { replaceObject(t, key, `[{"id":1}]`) },
		},
		{
			name: "without metadata, another tenancy", want: "it is of another tenancy",
			change: func() { replaceObject(t, key, pythonBackup("umbrella")) },
		},
		{
			name: "without metadata, empty", want: "is empty and does not name its stream",
			change: func() { replaceObject(t, key, `[]`) },
		},
	} {
		c.change()
		ws.RemoveData()
		e := ws.Run("restore", "tenable_assets")
		ws.AssertResult(e, harness.ExitPartial, c.want, "refused")
		if t.Failed() {
			t.Fatalf("%s", c.name)
		}
		for _, pattern := range []string{"source/*/*", "state/snapshots/*/*/*", "state/spool/.restore/*/*"} {
			if got, err := filepath.Glob(ws.Path(pattern)); err != nil || len(got) > 0 {
				t.Errorf("%s: kept: %v %v", c.name, got, err)
			}
		}
		ws.AssertNoPartialFiles()
	}
	ws.Env["METRICS_TEXTFILE"] = ws.Path("collectord.prom")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "the backup is refused", "success")
	if text := ws.Content(ws.Path("collectord.prom")); !strings.Contains(text, `collectord_restore_outcome{collector="tenable",outcome="refused",stream="tenable_assets",tenancy="default"} 1`) {
		t.Errorf("metrics: %s", text)
	}
	if ws.Content(key) == "[]" {
		t.Error("the refused backup is still there")
	}

	// The backup of another stream under the key of this one.
	for _, part := range []string{"/root/", "/sidecar/"} { // content and metadata
		from, to := strings.Replace(key, "/root/", part, 1), strings.Replace(other, "/root/", part, 1)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	ws.AssertResult(ws.Run("restore", "tenable_was"), harness.ExitPartial, `it is of stream "tenable_assets", want "tenable_was"`)
}

// overwriteContent changes an object's content and leaves its metadata.
func overwriteContent(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaceObject replaces an object with another that has no metadata.
func replaceObject(t *testing.T, path, text string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	sidecar := strings.Replace(path, "/root/", "/sidecar/", 1)
	if err := os.RemoveAll(sidecar); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path, text)
}

// TestOldBackupReplacesNothing checks that an older backup does not replace newer local
// data, and an older snapshot not a newer backup.
func TestOldBackupReplacesNothing(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	object := ws.UseS3()
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	source := ws.Content(ws.SourceFile("tenable_assets"))
	replaceObject(t, object("backup/tenable_assets/default.json"), pythonBackup("default"))
	ws.AssertResult(ws.Run("restore", "tenable_assets"), harness.ExitOK, "current")
	if ws.Content(ws.SourceFile("tenable_assets")) != source {
		t.Error("the file has changed")
	}
	future := strings.ReplaceAll(pythonBackup("default"), "2026-01-02 03:04:05", time.Now().UTC().Add(30*time.Minute).Format("2006-01-02 15:04:05"))
	key := object("backup/tenable_assets/default.json")
	replaceObject(t, key, future)
	later := time.Now().Add(30 * time.Minute)
	if err := os.Chtimes(key, later, later); err != nil {
		t.Fatal(err)
	}
	ws.Env["STORE_FILE"] = "off"
	// It has far fewer records.
	ws.AssertResult(ws.Run("restore", "tenable_assets"), harness.ExitOK, "held", "collectord accept")
	ws.Env["GUARD_DROP"] = "off"
	ws.AssertResult(ws.Run("restore", "tenable_assets"), harness.ExitOK, "restored")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "the backup is newer than the snapshot and is not replaced")
	if ws.Content(key) != future {
		t.Error("a newer backup was replaced")
	}
}

// TestUnreachableBackupDelaysLittle checks that an S3 server that never responds delays a
// run by the time limit only.
func TestUnreachableBackupDelaysLittle(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.Env["AWS_ENDPOINT_URL_S3"] = "http://" + silent.Addr().String()
	ws.Env["RESTORE_TIMEOUT"], ws.Env["STORE_ONCE_TIMEOUT"] = "1s", "5s"
	ws.AssertResult(ws.Run("version"), harness.ExitOK) // builds the program, which is not measured
	began := time.Now()
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "not restored within RESTORE_TIMEOUT, 1s", "success", "STORE_ONCE_TIMEOUT, 5s, is over", "1 delivery stays queued")
	if elapsed := time.Since(began); elapsed > harness.HangLimit {
		t.Errorf("the run took %v", elapsed)
	}
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records", n)
	}
}

// TestRestoreWithoutBackups checks that the error names the setting that is the cause.
func TestRestoreWithoutBackups(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("restore"), harness.ExitSettings, "STORE_AWS_S3_BUCKET: not set")
	ws.Env["STORE_AWS_S3_BUCKET"], ws.Env["STORE_AWS_S3_BACKUP"] = "b", "off"
	ws.AssertResult(ws.Run("restore"), harness.ExitSettings, "STORE_AWS_S3_BACKUP: off")
}

// TestQueueOfARemovedDestinationCanBeDropped checks that status names it and that drop
// removes it.
func TestQueueOfARemovedDestinationCanBeDropped(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.Env["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
	ws.Env["STORE_ONCE_TIMEOUT"] = "5s"
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "1 delivery stays queued")
	ws.AssertResult(ws.Run("drop", "backup"), harness.ExitUsage, "is configured")
	delete(ws.Env, "STORE_AWS_S3_BUCKET")
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "backup: 1 delivery is queued", "collectord drop backup")
	ws.AssertResult(ws.Run("drop", "backup"), harness.ExitOK, "deliveries dropped: 1")
	if e := ws.Run("status"); strings.Contains(e.Output(), "drop backup") {
		t.Errorf("still queued:\n%s", e.Output())
	}
}

// TestBackupSettings checks that templates are refused whose backups a new machine could
// not find or restore.
func TestBackupSettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"backup/%YYYY/%TAG.json": "a new machine could not know the key",
		"backup/all.json":        "has no %TAG",
		"backup/%TAG.parquet":    "cannot be restored from Parquet",
		"backup/%TAG.xml":        "want a name ending in",
	} {
		ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
		ws.Env["STORE_AWS_S3_BUCKET"], ws.Env["STORE_AWS_S3_BACKUP"] = "b", text
		ws.AssertResult(ws.Run("check"), harness.ExitSettings, "STORE_AWS_S3_BACKUP", want)
	}
}
