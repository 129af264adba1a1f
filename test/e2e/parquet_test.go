package e2e_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// encodedFile returns the Parquet file of the only snapshot of a stream, which has no other
// columnar copy.
func encodedFile(ws *harness.Workspace, stream string) (path string, info os.FileInfo) {
	ws.Helper()
	found, err := filepath.Glob(ws.Path("state", "snapshots", stream, "default", "*", "*.parquet"))
	if err != nil || len(found) != 1 || filepath.Base(found[0]) != "file.parquet" {
		ws.Fatalf("copies %q, error %v; want one for all", found, err)
	}
	if info, err = os.Stat(found[0]); err != nil {
		ws.Fatal(err)
	}
	return found[0], info
}

// TestOneParquetFile checks that a snapshot is encoded once for a file, an object, controls
// and queries, also when it is delivered again.
func TestOneParquetFile(t *testing.T) {
	t.Parallel()
	const stream = vendorsim.TenableAssets
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	object := ws.UseS3()
	ws.Env["STORE_FILE"], ws.Env["STORE_AWS_S3_KEY"] = ws.Path("source", "%TAG.parquet"), "source/%TAG/%TENANCY.parquet"
	writeControls(t, ws, map[string]string{"agents.yml": exampleControl})
	ws.AssertResult(ws.Run("--once", stream), harness.ExitOK, "control_summary")
	path, made := encodedFile(ws, stream)
	content := ws.Content(path)
	for place, copied := range map[string]string{"file": ws.Path("source", stream+".parquet"), "object": object("source/" + stream + "/default.parquet")} {
		if ws.Content(copied) != content {
			t.Errorf("the %s differs from the file of the snapshot", place)
		}
	}
	const text = "SELECT count(*) AS n, count(DISTINCT id) AS ids, any_value(typeof(_upload_id)) AS t FROM tenable_assets"
	ws.AssertResult(ws.Run("query", "--format", "csv", text), harness.ExitOK, "n,ids,t\n80,80,UUID\n")
	ws.AssertResult(ws.Run("controls"), harness.ExitOK, "agents", "green")
	if err := os.Remove(ws.Path("source", stream+".parquet")); err != nil {
		t.Fatal(err)
	}
	ws.AssertResult(ws.Run("deliver", stream), harness.ExitOK, "stored")
	if ws.Content(ws.Path("source", stream+".parquet")) != content {
		t.Error("the file differs after it was delivered again")
	}
	if _, now := encodedFile(ws, stream); !os.SameFile(made, now) {
		t.Error("the snapshot was encoded again")
	}
}

// hangingS3 returns the settings of an S3 destination whose uploads do not end, and a
// channel that receives when one begins.
func hangingS3(t *testing.T, ws *harness.Workspace) (requested chan struct{}) {
	t.Helper()
	release := make(chan struct{})
	requested = make(chan struct{}, 100)
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			http.Error(w, "", http.StatusNotFound)
			return
		}
		requested <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	t.Cleanup(func() {
		close(release)
		hanging.Close()
	})
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": hanging.URL,
		"STORE_AWS_S3_BUCKET": "bucket", "STORE_AWS_S3_KEY": "source/%TAG/%TENANCY.parquet", "STORE_AWS_S3_BACKUP": "off",
		"STORE_FILE": "off", "TMPDIR": ws.Path("tmp"),
	} {
		ws.Env[name] = value
	}
	if err := os.Mkdir(ws.Path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return requested
}

// TestKilledParquetEncoderLeavesNothing kills the program while a Parquet file is made, or
// at the latest when its upload begins. Nothing temporary is left after the next start, and
// the file can be stored.
func TestKilledParquetEncoderLeavesNothing(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 60}, vendorsim.NewOkta()))
	requested := hangingS3(t, ws)
	cmd, wait := ws.Start("--once", vendorsim.OktaUsers)
	waitForEncoder(ws, requested)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait()
	delete(ws.Env, "STORE_AWS_S3_BUCKET")
	waitForWorker(t, ws.Dir, false)                             // the encoder ends when the program has died
	ws.AssertResult(ws.Run("drop", "postgres"), harness.ExitOK) // a command that changes the state
	if left := findTemporary(ws); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	ws.AssertNoPartialFiles()
	ws.Env["STORE_FILE"] = ws.Path("source", "%TAG.parquet")
	ws.AssertResult(ws.Run("deliver"), harness.ExitOK, "stored")
	path, _ := encodedFile(ws, vendorsim.OktaUsers)
	if ws.Content(path) != ws.Content(ws.Path("source", vendorsim.OktaUsers+".parquet")) {
		t.Error("the file differs from that of the snapshot")
	}
}

// waitForEncoder waits until a file is being made, or, if it was made in less time than the
// wait notices, until its upload begins.
func waitForEncoder(ws *harness.Workspace, requested <-chan struct{}) {
	ws.Helper()
	limit := time.After(harness.HangLimit)
	for tick := time.Tick(time.Millisecond); ; {
		select {
		case <-requested:
			return
		case <-limit:
			ws.Fatal("no file is being made")
		case <-tick:
			if found, _ := filepath.Glob(ws.Path("state", "query", "*", "*")); len(found) > 1 { // the lock and another
				return
			}
		}
	}
}

// TestKilledParquetUpload kills the program while a Parquet object is being uploaded. The
// file of the snapshot stays, and is what the next delivery stores.
func TestKilledParquetUpload(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 60}, vendorsim.NewOkta()))
	requested := hangingS3(t, ws)
	cmd, wait := ws.Start("--once", vendorsim.OktaUsers)
	<-requested
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait()
	_, made := encodedFile(ws, vendorsim.OktaUsers)
	object := ws.UseS3()
	ws.AssertResult(ws.Run("deliver"), harness.ExitOK, "stored")
	path, now := encodedFile(ws, vendorsim.OktaUsers)
	if !os.SameFile(made, now) || ws.Content(path) != ws.Content(object("source/okta_users/default.parquet")) {
		t.Error("the snapshot was encoded again")
	}
	if left := findTemporary(ws); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	ws.AssertNoPartialFiles()
}

// findTemporary returns the temporary files and directories of an encoder.
func findTemporary(ws *harness.Workspace) (found []string) {
	ws.Helper()
	err := filepath.WalkDir(ws.Dir, func(path string, _ fs.DirEntry, err error) error {
		inTemp := filepath.Dir(path) == ws.Path("tmp")
		if err == nil && (strings.Contains(path, "/collectord-query-") || inTemp) {
			found = append(found, path)
		}
		return nil // another process may remove what was listed
	})
	if err != nil {
		ws.Fatal(err)
	}
	return found
}
