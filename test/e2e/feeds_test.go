package e2e_test

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// TestPublicFeeds: feeds without a key are collected beside vendors, the query of the
// guide joins them, and a second run downloads nothing again, but writes a file again that
// was removed.
func TestPublicFeeds(t *testing.T) {
	t.Parallel()
	falcon := vendorsim.NewCrowdStrike()
	sim, err := vendorsim.Start(vendorsim.Options{
		// The collector of CrowdStrike selects vulnerabilities of the last days.
		Base: time.Now(), Vendors: []vendorsim.Vendor{falcon, harness.NewSmallTenable(), vendorsim.NewCISAKEV(), vendorsim.NewEPSS()},
		Counts: map[string]int{
			vendorsim.CrowdStrikeHosts: 40, vendorsim.CrowdStrikeVulns: 900, vendorsim.TenableVulns: 600, vendorsim.TenableAssets: 40,
			vendorsim.TenableFindings: 20, vendorsim.TenableWAS: 20,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := harness.NewWorkspace(t).UseVendors(sim)
	w.AssertResult(w.Run("--once"), harness.ExitOK)
	queries := markdown.Read(t, "docs/guide/queries.md").BlocksOfKind("sql query")
	result := w.Run("query", queries[2].Text, "--format", "csv")
	w.AssertResult(result, harness.ExitOK)
	rows, err := csv.NewReader(strings.NewReader(result.Stdout)).ReadAll()
	if err != nil || len(rows) < 6 {
		t.Fatalf("%d rows, error %v:\n%s", len(rows), err, result.Output())
	}
	var got []string
	for _, row := range rows[1:] {
		got = append(got, fmt.Sprintf("%s on %s hosts of %s", row[0], row[6], row[7]))
	}
	if diff := gocmp.Diff(expectedExploited(t, sim, falcon), got); diff != "" {
		t.Errorf("exploited and open (-vendors +query):\n%s", diff)
	}
	kev := w.StoredRecords(vendorsim.CISAKEVVulnerabilities)
	if err := os.Remove(w.SourceFile(vendorsim.CISAKEVVulnerabilities)); err != nil {
		t.Fatal(err)
	}
	w.AssertResult(w.Run("--once"), harness.ExitOK, "destinations have lost the last snapshot")
	assertSameRecords(t, w.StoredRecords(vendorsim.CISAKEVVulnerabilities), kev)
	for _, feed := range []string{"cisa_kev", "epss"} {
		if stats := sim.Host(feed).Stats(); stats.Total != 2 || stats.Statuses[http.StatusOK] != 1 || stats.Statuses[http.StatusNotModified] != 1 {
			t.Errorf("%s: %d requests with the statuses %v, want 200 and 304", feed, stats.Total, stats.Statuses)
		}
	}
}

// expectedExploited returns what the query of the guide must return.
func expectedExploited(t *testing.T, sim *vendorsim.Server, falcon *vendorsim.CrowdStrike) []string {
	t.Helper()
	hosts, sources := map[string]map[string]bool{}, map[string]map[string]bool{}
	add := func(cve, host, source string) {
		if hosts[cve] == nil {
			hosts[cve], sources[cve] = map[string]bool{}, map[string]bool{}
		}
		hosts[cve][host], sources[cve][source] = true, true
	}
	decode := func(stream string, i int, into any) {
		if err := json.Unmarshal(sim.Record(stream, i), into); err != nil {
			t.Fatal(err)
		}
	}
	for i := range sim.RecordCount(vendorsim.TenableVulns) {
		var f struct {
			State  string
			Plugin struct{ CVE []string }
			Asset  struct{ UUID string }
		}
		decode(vendorsim.TenableVulns, i, &f)
		for _, cve := range f.Plugin.CVE {
			if f.State != "FIXED" {
				add(cve, f.Asset.UUID, "tenable")
			}
		}
	}
	collected, err := falcon.Select("cve.id:!['']+last_seen_within:'14'")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range collected {
		var f struct {
			Status, AID string
			CVE         struct{ ID string }
		}
		decode(vendorsim.CrowdStrikeVulns, i, &f)
		if f.Status == "open" || f.Status == "reopen" {
			add(f.CVE.ID, f.AID, "crowdstrike")
		}
	}
	scores := map[string]float64{}
	for i := range sim.RecordCount(vendorsim.EPSSScores) {
		var s struct{ CVE, EPSS string }
		decode(vendorsim.EPSSScores, i, &s)
		score, err := strconv.ParseFloat(s.EPSS, 64) // some are written as 9.1e-05
		if err != nil {
			t.Fatal(err)
		}
		scores[s.CVE] = score
	}
	var exploited []string
	for i := range sim.RecordCount(vendorsim.CISAKEVVulnerabilities) {
		if cve := sim.RecordID(vendorsim.CISAKEVVulnerabilities, i); hosts[cve] != nil {
			exploited = append(exploited, cve)
		}
	}
	slices.SortFunc(exploited, func(a, b string) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(len(hosts[b]), len(hosts[a])), cmp.Compare(a, b))
	})
	for i, cve := range exploited {
		var names []string
		for source := range sources[cve] {
			names = append(names, source)
		}
		slices.Sort(names)
		exploited[i] = fmt.Sprintf("%s on %d hosts of %s", cve, len(hosts[cve]), strings.Join(names, ", "))
	}
	return exploited[:min(20, len(exploited))]
}
