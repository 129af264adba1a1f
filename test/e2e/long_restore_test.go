package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/s3dialects"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// useFakeS3 sets the address and credentials of an S3 server without real objects.
func useFakeS3(ws *harness.Workspace) *s3dialects.Server {
	ws.Helper()
	server := s3dialects.New(s3dialects.MinIO, "acme")
	listener := httptest.NewServer(server)
	ws.Cleanup(listener.Close)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "sk-canary-77", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": listener.URL,
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true",
		"STORE_AWS_S3_BUCKET": "acme",
	} {
		ws.Env[name] = value
	}
	return server
}

// TestLongRestoreContinues has a backup whose transfer takes longer than
// RESTORE_TIMEOUT: --once collects in the meantime, and waits for it when the vendor
// is down. With a vendor that works, it does not wait.
func TestLongRestoreContinues(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	s3 := useFakeS3(ws)
	var slow, down atomic.Bool
	var asked atomic.Int64
	// The second half of the body follows when the vendor was asked, or never.
	s3.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !slow.Load() || r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "backup/tenable_assets/default.json") {
			return false
		}
		o := s3.Object("backup/tenable_assets/default.json")
		for name, values := range o.Header {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				w.Header()[name] = values
			}
		}
		w.Header().Set("ETag", o.ETag)
		w.Header().Set("Content-Length", fmt.Sprint(len(o.Body)))
		_, _ = w.Write(o.Body[:len(o.Body)/2])
		_ = http.NewResponseController(w).Flush()
		for !down.Load() || int64(sim.Hosts()[0].Stats().Total) == asked.Load() {
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(50 * time.Millisecond):
			}
		}
		_, _ = w.Write(o.Body[len(o.Body)/2:])
		return true
	})
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "BACKUP", "stored")
	before := ws.Content(ws.SourceFile("tenable_assets"))

	asked.Store(int64(sim.Hosts()[0].Stats().Total))
	slow.Store(true)
	down.Store(true)
	ws.Env["RESTORE_TIMEOUT"] = "1s"
	ws.RemoveData()
	injected := failAllRequests(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial,
		"not restored within RESTORE_TIMEOUT, 1s; the restore continues", "restored from the backup", "Basic [16]")
	if ws.Content(ws.SourceFile("tenable_assets")) != before {
		t.Error("the restored file differs")
	}

	injected.Remove()
	down.Store(false)
	ws.RemoveData()
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "not restored within RESTORE_TIMEOUT, 1s", "success")
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records", n)
	}
}
