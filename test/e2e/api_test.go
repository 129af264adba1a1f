package e2e_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// TestOperationsOverHTTP accepts, delivers, drops and downloads through the API of the
// program, behind a prefix, with the effects of the commands.
func TestOperationsOverHTTP(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["STORE_DUCKDB"] = ws.Path("security.duckdb")
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	sim.SetCount(vendorsim.TenableAssets, 7)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "held")

	object := ws.UseS3()
	if err := os.RemoveAll(object("")); err != nil {
		t.Fatal(err)
	}
	const token, prefix = "a-token-of-the-test", "/security/collectord"
	ws.Env["COLLECTORS"], ws.Env["SCHEDULE"], ws.Env["HTTP_TOKEN"], ws.Env["HTTP_PREFIX"] = "tenable", "off", token, prefix
	s := ws.StartService()
	api := s.BaseURL() + prefix + "/api/v1"
	s.WaitForLog(`"ready"`)
	s.WaitForLog(`"not stored; it stays queued"`, `"sink":"backup"`)
	request := func(method, path string, status int, parts ...string) string {
		t.Helper()
		got, body := s.Request(method, api+path, token)
		for _, part := range parts {
			if !strings.Contains(body, part) {
				t.Errorf("%s %s: no %q in %s", method, path, part, body)
			}
		}
		if got != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, got, body, status)
		}
		return body
	}

	request("POST", "/streams/tenable_assets/accept", 200, `"status":"accepted"`, `"records":7`)
	s.WaitForLog(`"accepted"`, `"tenable_assets"`)
	s.WaitForLog(`"stored"`, `"sink":"duckdb"`)
	request("POST", "/streams/tenable_assets/accept", 409, "no snapshot is held")
	request("POST", "/streams/nonsense/accept", 404, "is not a stream")
	if body := request("GET", "/streams/tenable_assets/records", 200, `"_tenancy":"default"`); strings.Count(body, "\n") != 7 {
		t.Errorf("the download has %d records, want 7", strings.Count(body, "\n"))
	}

	executeDuckDB(ws, "DELETE FROM tenable_assets")
	request("POST", "/deliveries?stream=tenable_assets&destination=duckdb", 202, `"destinations":["duckdb"]`, `"records":7`)
	s.WaitForLog(`"stored"`, `"sink":"duckdb"`)
	if rows := ws.DuckDBRows("tenable_assets"); rows != 7 {
		t.Errorf("%d rows in DuckDB, want 7", rows)
	}

	var deliveries struct {
		Queued []struct {
			Sink, Error string
			UploadID    string `json:"upload_id"`
			Attempts    int
			First       bool
			Configured  bool
		}
	}
	body := request("GET", "/deliveries?stream=tenable_assets&destination=backup", 200)
	if err := json.Unmarshal([]byte(body), &deliveries); err != nil {
		t.Fatal(err)
	}
	if len(deliveries.Queued) == 0 || deliveries.Queued[0].Attempts == 0 || deliveries.Queued[0].Error == "" || !deliveries.Queued[0].First || !deliveries.Queued[0].Configured {
		t.Fatalf("queued: %s", body)
	}
	request("POST", "/deliveries/drop?destination=backup", 409, "is configured")
	request("POST", "/deliveries/drop?destination=backup&stream=tenable_assets&upload_id=other", 409, "is not the first")
	for range deliveries.Queued {
		request("POST", "/deliveries/drop?destination=backup&stream=tenable_assets", 200, `"status":"dropped"`)
	}
	request("POST", "/deliveries/drop?destination=backup&stream=tenable_assets", 409, "no queued delivery")
	request("GET", "/deliveries", 200, `"queued":[]`, `"outcome":"dropped"`)
	request("GET", "/runs?stream=tenable_assets&outcome=held", 200, `"outcome":"held"`)
}
