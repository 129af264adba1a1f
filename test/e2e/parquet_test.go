package e2e_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// TestKilledParquetEncoderLeavesNothing kills the program while a Parquet object is
// being uploaded. Nothing of it is left after the next start.
func TestKilledParquetEncoderLeavesNothing(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 60}, vendorsim.NewOkta()))
	requested, release := make(chan struct{}, 100), make(chan struct{})
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
		"STORE_FILE": ws.Path("source", "%TAG", "%TENANCY.parquet"), "TMPDIR": ws.Path("tmp"),
	} {
		ws.Env[name] = value
	}
	if err := os.Mkdir(ws.Path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd, wait := ws.Start("--once", vendorsim.OktaUsers)
	<-requested
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = wait()
	if len(findScratch(t, ws.Dir)) == 0 {
		t.Error("no temporary file when the program was killed")
	}
	delete(ws.Env, "STORE_AWS_S3_BUCKET")
	ws.AssertResult(ws.Run("drop", "postgres"), harness.ExitOK) // a command that changes the state
	if left := findScratch(t, ws.Dir); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	ws.AssertNoPartialFiles()
}

// findScratch returns the files below dir that belong to an encoder.
func findScratch(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		inTemp := filepath.Dir(path) == filepath.Join(dir, "tmp")
		if err == nil && (strings.Contains(path, "/.scratch-") || strings.Contains(path, "spill") || inTemp) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
