package e2e_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

func TestOnceStoresWhatTheVendorHas(t *testing.T) {
	t.Parallel()
	vendor := harness.NewSmallTenable()
	sim := harness.StartVendors(t, harness.SmallCounts, vendor)
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["STORE_DUCKDB"] = ws.Path("security.duckdb")
	ws.AssertResult(ws.Run("--once"), harness.ExitOK, "STREAM", "tenable_vulnerabilities", "success", "stored", "FILE", "DUCKDB")
	for stream, count := range harness.SmallCounts {
		var want []string
		for i := range count {
			if stream == vendorsim.TenableWAS {
				want = append(want, string(vendor.WASRecord(i)))
			} else {
				want = append(want, string(sim.Record(stream, i)))
			}
		}
		assertSameRecords(t, ws.StoredRecords(stream), want)
		if n := ws.DuckDBRows(stream); n != count {
			t.Errorf("%s: %d rows in DuckDB, want %d", stream, n, count)
		}
		if n := ws.DuckDBRows(stream + "_latest"); n != count {
			t.Errorf("%s_latest: %d rows, want %d", stream, n, count)
		}
	}
	if v := sim.Host("tenable").Stats().Violations; len(v) > 0 {
		t.Errorf("violated rules of the vendor: %v", v)
	}
	t.Run("again", func(t *testing.T) {
		ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "tenable_assets")
		if n := ws.DuckDBRows("tenable_assets"); n != 2*harness.SmallCounts[vendorsim.TenableAssets] {
			t.Errorf("%d rows after two runs", n)
		}
		if n := ws.DuckDBRows("tenable_assets_latest"); n != harness.SmallCounts[vendorsim.TenableAssets] {
			t.Errorf("%d rows in the view of the latest", n)
		}
	})
}

// TestOnceReplaysRecordedTraffic collects recorded responses of a vendor, whose
// compliance export is empty.
func TestOnceReplaysRecordedTraffic(t *testing.T) {
	t.Parallel()
	replay, err := vendorsim.Replay(filepath.Join("testdata", "recording"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(replay.Close)
	ws := harness.NewWorkspace(t)
	ws.Env["TIO_URL"] = replay.Hosts()[0].URL()
	ws.Env["TIO_ACCESS_KEY"], ws.Env["TIO_SECRET_KEY"] = strings.Repeat("a", 64), strings.Repeat("b", 64)
	ws.AssertResult(ws.Run("--once"), harness.ExitOK, "tenable_findings         empty")
	for stream, n := range map[string]int{"tenable_vulnerabilities": 3, "tenable_assets": 2, "tenable_was": 3} {
		if got := len(ws.StoredRecords(stream)); got != n {
			t.Errorf("%s: %d records stored, %d were recorded", stream, got, n)
		}
	}
	if got := ws.Content(ws.SourceFile("tenable_findings")); !strings.Contains(got, "no such file") {
		t.Errorf("an empty result was stored: %.100s", got)
	}
}

// TestFaultsLeaveYesterday checks that a run with a bad response fails with a clear
// message and changes nothing that was stored before.
func TestFaultsLeaveYesterday(t *testing.T) {
	t.Parallel()
	chunks, pages := "/vulns/export/*/chunks/2", "/api/v1/users"
	for name, tc := range map[string]struct {
		vendor func() vendorsim.Vendor
		stream string
		fault  vendorsim.Fault
		want   string
	}{
		"truncated chunk": {
			vendor: newTenable, stream: vendorsim.TenableVulns,
			fault: vendorsim.Fault{Path: chunks, Do: vendorsim.CutBody(vendorsim.Half)},
			want:  ": chunk 2: GET /vulns/export/",
		},
		"chunk not available": {
			vendor: newTenable, stream: vendorsim.TenableVulns,
			fault: vendorsim.Fault{Path: chunks, Do: vendorsim.Status(503, "")},
			want:  "/chunks/2",
		},
		"reset mid-body": {
			vendor: newOkta, stream: vendorsim.OktaUsers,
			fault: vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Reset(vendorsim.Half)},
			want:  "GET /api/v1/users",
		},
		"cut page": {
			vendor: newOkta, stream: vendorsim.OktaUsers,
			fault: vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Truncate(vendorsim.Half)},
			want:  "GET /api/v1/users",
		},
		"a page that repeats": {
			vendor: newOkta, stream: vendorsim.OktaUsers,
			fault: vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Repeat()},
			want:  "incomplete",
		},
		"HTML at 200": {
			vendor: newOkta, stream: vendorsim.OktaUsers,
			fault: vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.HTML(200)},
			want:  "HTML",
		},
		"wrong token": {
			vendor: newOkta, stream: vendorsim.OktaUsers,
			fault: vendorsim.Fault{Path: pages, Do: vendorsim.Status(401, `{"errorCode":"E0000011"}`)},
			want:  "check OKTA_TOKEN",
		},
		"wrong total": {
			vendor: newTenable, stream: vendorsim.TenableWAS,
			fault: vendorsim.Fault{Path: "/was/v2/scans/*/vulnerabilities/by-targets/search", Do: vendorsim.Rewrite(func(body []byte) []byte {
				return []byte(strings.Replace(string(body), `"total":`, `"total":9`, 1))
			})},
			want: "incomplete",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, map[string]int{tc.stream: 450}, tc.vendor())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["STORE_DUCKDB"] = ws.Path("security.duckdb")
			ws.AssertResult(ws.Run("--once", tc.stream), harness.ExitOK)
			rows, files := ws.DuckDBRows(tc.stream), ws.Files(ws.Path("source"))
			snapshots := ws.Files(ws.Path("state", "snapshots"))

			tc.fault.Times = vendorsim.Forever
			sim.Hosts()[0].Inject(tc.fault)
			ws.Env["RUN_PATIENCE"] = "1s" // no other limit ends the run
			ws.AssertResult(ws.Run("--once", tc.stream), harness.ExitPartial, tc.want, "1 of 1 stream has no new snapshot")

			if now := ws.Files(ws.Path("source")); !maps.Equal(now, files) {
				t.Error("the files have changed")
			}
			if now := ws.Files(ws.Path("state", "snapshots")); !maps.Equal(now, snapshots) {
				t.Error("the snapshots have changed")
			}
			if n := ws.DuckDBRows(tc.stream); n != rows {
				t.Errorf("%d rows, %d before", n, rows)
			}
			if left := ws.Files(ws.Path("state", "spool")); len(left) > 0 {
				t.Errorf("%d files were left in the spool", len(left))
			}
		})
	}
}

func newTenable() vendorsim.Vendor { return harness.NewSmallTenable() }
func newOkta() vendorsim.Vendor    { return vendorsim.NewOkta() }

// TestEmptyResultOverwritesNothing checks that zero records are reported as empty, and
// that the last records stay.
func TestEmptyResultOverwritesNothing(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	before := ws.Content(ws.SourceFile("tenable_assets"))
	sim.SetCount(vendorsim.TenableAssets, 0)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "tenable_assets  empty")
	if ws.Content(ws.SourceFile("tenable_assets")) != before {
		t.Error("an empty result replaced the file")
	}
	ws.Env["STORE_EMPTY"] = "true"
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK, "tenable_assets  empty")
	if got := ws.Content(ws.SourceFile("tenable_assets")); strings.TrimSpace(got) != "[]" {
		t.Errorf("with STORE_EMPTY the file contains %.100s", got)
	}
}

// TestSuddenLossIsHeld checks that a snapshot with a tenth of the records is held until
// it is accepted.
func TestSuddenLossIsHeld(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	before := ws.Content(ws.SourceFile("tenable_assets"))
	sim.SetCount(vendorsim.TenableAssets, 7)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "held", "7 records after 80")
	if ws.Content(ws.SourceFile("tenable_assets")) != before {
		t.Error("a held snapshot replaced the file")
	}
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "tenable_assets", "80", "a newer one is held")
	ws.AssertResult(ws.Run("accept", "tenable_assets"), harness.ExitOK)
	if n := len(ws.StoredRecords("tenable_assets")); n != 7 {
		t.Errorf("%d records stored after accept", n)
	}
	ws.AssertResult(ws.Run("accept", "tenable_assets"), harness.ExitFailed, "no snapshot is held")
	ws.AssertResult(ws.Run("accept", "nonsense"), harness.ExitUsage, "is not a stream")
}

// TestNothingReadsTheLocalFile checks that a change to a stored file has no effect, and
// that the next run repairs the file.
func TestNothingReadsTheLocalFile(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	good := ws.Files(ws.Path("state", "snapshots"))
	if err := os.WriteFile(ws.SourceFile("tenable_assets"), []byte("<html>half"), 0o600); err != nil {
		t.Fatal(err)
	}
	fault := sim.Hosts()[0].Inject(vendorsim.Fault{Path: "/assets/export", Method: "POST", Times: vendorsim.Forever, Do: vendorsim.Status(403, `{"error":"Forbidden"}`)})
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitPartial, "Basic [16]")
	for path, content := range ws.Files(ws.Path("state", "snapshots")) {
		if good[path] != content {
			t.Errorf("%s has changed", path)
		}
	}
	fault.Remove()
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	if n := len(ws.StoredRecords("tenable_assets")); n != harness.SmallCounts[vendorsim.TenableAssets] {
		t.Errorf("%d records stored", n)
	}
}
