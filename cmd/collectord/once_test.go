package main

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestOnceStoresWhatTheVendorHas(t *testing.T) {
	t.Parallel()
	vendor := smallTenant()
	sim := startVendors(t, smallCounts, vendor)
	p := newPlace(t).with(sim)
	p.env["STORE_DUCKDB"] = p.file("security.duckdb")
	p.want(p.run("--once"), 0, "STREAM", "tenable_vulnerabilities", "success", "stored", "FILE", "DUCKDB")
	for stream, count := range smallCounts {
		var want []string
		for i := range count {
			if stream == vendorsim.TenableWAS {
				want = append(want, string(vendor.WASRecord(i)))
			} else {
				want = append(want, string(sim.Record(stream, i)))
			}
		}
		sameSet(t, p.stored(stream), want)
		if n := p.rows(stream); n != count {
			t.Errorf("%s: %d rows in DuckDB, want %d", stream, n, count)
		}
		if n := p.rows(stream + "_latest"); n != count {
			t.Errorf("%s_latest: %d rows, want %d", stream, n, count)
		}
	}
	if v := sim.Host("tenable").Stats().Violations; len(v) > 0 {
		t.Errorf("rules broken: %v", v)
	}
	t.Run("again", func(t *testing.T) {
		p.want(p.run("--once", "tenable_assets"), 0, "tenable_assets")
		if n := p.rows("tenable_assets"); n != 2*smallCounts[vendorsim.TenableAssets] {
			t.Errorf("%d rows after two runs", n)
		}
		if n := p.rows("tenable_assets_latest"); n != smallCounts[vendorsim.TenableAssets] {
			t.Errorf("%d rows are the latest", n)
		}
	})
}

// TestOnceReplaysRecordedTraffic reads recorded answers of a vendor, whose
// compliance export is empty.
func TestOnceReplaysRecordedTraffic(t *testing.T) {
	t.Parallel()
	replay, err := vendorsim.Replay(filepath.Join("testdata", "recording"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(replay.Close)
	p := newPlace(t)
	p.env["TIO_URL"] = replay.Hosts()[0].URL()
	p.env["TIO_ACCESS_KEY"], p.env["TIO_SECRET_KEY"] = strings.Repeat("a", 64), strings.Repeat("b", 64)
	p.want(p.run("--once"), 0, "tenable_findings         empty")
	for stream, n := range map[string]int{"tenable_vulnerabilities": 3, "tenable_assets": 2, "tenable_was": 3} {
		if got := len(p.stored(stream)); got != n {
			t.Errorf("%s: %d records stored, %d were recorded", stream, got, n)
		}
	}
	if got := p.content(p.source("tenable_findings")); !strings.Contains(got, "no such file") {
		t.Errorf("an empty answer was stored: %.100s", got)
	}
}

// TestFaultsLeaveYesterday: whatever is wrong with an answer, the run fails in
// words and what was stored before stays as it was.
func TestFaultsLeaveYesterday(t *testing.T) {
	t.Parallel()
	chunks, pages := "/vulns/export/*/chunks/2", "/api/v1/users"
	for name, tc := range map[string]struct {
		vendor func() vendorsim.Vendor
		stream string
		fault  vendorsim.Fault
		says   string
	}{
		"truncated chunk":     {tenantVendor, vendorsim.TenableVulns, vendorsim.Fault{Path: chunks, Do: vendorsim.CutBody(vendorsim.Half)}, "chunk 2"},
		"reset mid-body":      {oktaVendor, vendorsim.OktaUsers, vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Reset(vendorsim.Half)}, "GET /api/v1/users"},
		"cut page":            {oktaVendor, vendorsim.OktaUsers, vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Truncate(vendorsim.Half)}, "GET /api/v1/users"},
		"a page that repeats": {oktaVendor, vendorsim.OktaUsers, vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.Repeat()}, "incomplete"},
		"HTML at 200":         {oktaVendor, vendorsim.OktaUsers, vendorsim.Fault{Path: pages, From: 2, Do: vendorsim.HTML(200)}, "HTML"},
		"wrong token":         {oktaVendor, vendorsim.OktaUsers, vendorsim.Fault{Path: pages, Do: vendorsim.Status(401, `{"errorCode":"E0000011"}`)}, "check OKTA_TOKEN"},
		"wrong total": {tenantVendor, vendorsim.TenableWAS, vendorsim.Fault{Path: "/was/v2/scans/*/vulnerabilities/by-targets/search", Do: vendorsim.Rewrite(func(body []byte) []byte {
			return []byte(strings.Replace(string(body), `"total":`, `"total":9`, 1))
		})}, "incomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := startVendors(t, map[string]int{tc.stream: 450}, tc.vendor())
			p := newPlace(t).with(sim)
			p.env["STORE_DUCKDB"] = p.file("security.duckdb")
			p.want(p.run("--once", tc.stream), 0)
			rows, files := p.rows(tc.stream), p.files(p.file("source"))
			snapshots := p.files(p.file("state", "snapshots"))

			tc.fault.Times = vendorsim.Forever
			sim.Hosts()[0].Inject(tc.fault)
			p.want(p.run("--once", tc.stream), 3, tc.says, "1 of 1 streams have no new snapshot")

			if now := p.files(p.file("source")); !maps.Equal(now, files) {
				t.Error("the files have changed")
			}
			if now := p.files(p.file("state", "snapshots")); !maps.Equal(now, snapshots) {
				t.Error("the snapshots have changed")
			}
			if n := p.rows(tc.stream); n != rows {
				t.Errorf("%d rows, %d before", n, rows)
			}
			if left := p.files(p.file("state", "spool")); len(left) > 0 {
				t.Errorf("the spool was not given back: %d files", len(left))
			}
		})
	}
}

func tenantVendor() vendorsim.Vendor { return smallTenant() }
func oktaVendor() vendorsim.Vendor   { return vendorsim.NewOkta() }

// TestEmptyAnswerOverwritesNothing: zero records are a success that is told,
// and the last records stay.
func TestEmptyAnswerOverwritesNothing(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.want(p.run("--once", "tenable_assets"), 0)
	before := p.content(p.source("tenable_assets"))
	sim.SetCount(vendorsim.TenableAssets, 0)
	p.want(p.run("--once", "tenable_assets"), 0, "tenable_assets  empty")
	if p.content(p.source("tenable_assets")) != before {
		t.Error("an empty answer replaced the file")
	}
	p.env["STORE_EMPTY"] = "true"
	p.want(p.run("--once", "tenable_assets"), 0, "tenable_assets  empty")
	if got := p.content(p.source("tenable_assets")); strings.TrimSpace(got) != "[]" {
		t.Errorf("with STORE_EMPTY the file holds %.100s", got)
	}
}

// TestSuddenLossIsHeld: a tenth of the records is no new last snapshot.
func TestSuddenLossIsHeld(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	p.want(p.run("--once", "tenable_assets"), 0)
	before := p.content(p.source("tenable_assets"))
	sim.SetCount(vendorsim.TenableAssets, 7)
	p.want(p.run("--once", "tenable_assets"), 3, "held", "7 records after 80")
	if p.content(p.source("tenable_assets")) != before {
		t.Error("a held snapshot replaced the file")
	}
	p.want(p.run("status"), 0, "tenable_assets", "80", "a newer one is held")
	p.want(p.run("accept", "tenable_assets"), 0)
	if n := len(p.stored("tenable_assets")); n != 7 {
		t.Errorf("%d records stored after accept", n)
	}
	p.want(p.run("accept", "tenable_assets"), 1, "no snapshot is held")
	p.want(p.run("accept", "nonsense"), 2, "is no stream")
}
