package osv

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/state"
)

// openVulnerabilities opens the collector of the simulated archives.
func openVulnerabilities(h *collectortest.Harness) *collector.Collector {
	return openEcosystems(h, "PyPI, npm,Rocky Linux")
}

func openEcosystems(h *collectortest.Harness, ecosystems string) *collector.Collector {
	h.Helper()
	a, err := openAccount(&Settings{Ecosystems: ecosystems, URL: h.Host.URL()}, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("osv", a)
}

// archives returns the feed with a number of vulnerabilities in all ecosystems.
func archives(records int) collectortest.Feed {
	return collectortest.Feed{
		Options: func() vendorsim.Options {
			return vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOSV()}, Counts: map[string]int{vendorsim.OSVVulnerabilities: records}}
		},
		Open: openVulnerabilities, Stream: "osv_vulnerabilities", Requests: 3, Path: "/*/all.zip", Setting: "OSV_ECOSYSTEMS",
		Want: func(h *collectortest.Harness) (all []string) {
			for i := range h.Sim.RecordCount(vendorsim.OSVVulnerabilities) {
				all = append(all, string(h.Host.Vendor().(*vendorsim.OSV).StoredRecord(i)))
			}
			return all
		},
	}
}

func TestVulnerabilities(t *testing.T) { archives(100).Test(t) }

func TestVulnerabilitiesUnderRandomFaults(t *testing.T) { archives(30).TestUnderRandomFaults(t) }

// TestArchives: archives that are damaged, incomplete or do not exist are not stored,
// and the error names the ecosystem.
func TestArchives(t *testing.T) {
	for _, tc := range []struct {
		form, ecosystems string
		wantText         string
		wantClass        error
	}{
		{form: vendorsim.OSVDamaged, ecosystems: "PyPI", wantText: "ecosystem PyPI: GET /PyPI/all.zip", wantClass: collector.ErrIncomplete},
		{form: vendorsim.OSVGarbage, ecosystems: "Rocky Linux", wantText: "does not end as a ZIP archive does", wantClass: collector.ErrIncomplete},
		{form: vendorsim.OSVMissing, ecosystems: "PyPI,npm", wantText: "ecosystem npm: GET /npm/all.zip: 404 Not Found"},
		{ecosystems: "PyPI,Pypi", wantText: "check OSV_ECOSYSTEMS, whose names are case-sensitive"},
	} {
		collectortest.Run(t, archives(30).Options(), func(h *collectortest.Harness) {
			h.Host.Vendor().(*vendorsim.OSV).ChangeBehaviour(func(b *vendorsim.FeedBehaviour) { b.Form = tc.form })
			s := openEcosystems(h, tc.ecosystems).Streams[0]
			err := h.ExtractError(s, time.Hour)
			if !strings.Contains(err.Error(), tc.wantText) || tc.wantClass != nil && !errors.Is(err, tc.wantClass) {
				t.Errorf("error %v, want %q", err, tc.wantText)
			}
			if checkErr := s.Check(h.Context()); tc.wantClass == nil && (checkErr == nil || !strings.Contains(checkErr.Error(), "OSV_ECOSYSTEMS")) {
				t.Errorf("error of the check %v, want OSV_ECOSYSTEMS", checkErr)
			}
		})
	}
}

// TestOneArchiveChanges: of three archives one has changed. It is downloaded, and the
// others are taken from the last-known snapshot.
func TestOneArchiveChanges(t *testing.T) {
	f := archives(90)
	collectortest.Run(t, f.Options(), func(h *collectortest.Harness) {
		runs := collectortest.OpenRuns(h)
		defer runs.Close()
		s := openVulnerabilities(h).Streams[0]
		if result := runs.RunStream(s); result.Outcome != state.Success {
			t.Fatalf("outcome %s, error %v", result.Outcome, result.Err)
		}
		sent := h.Host.Stats().BytesOut
		h.Host.Inject(vendorsim.Fault{Path: "/npm/all.zip", Do: withoutCondition})
		result := runs.RunStream(s)
		if result.Outcome != state.Success || result.Records != 90 {
			t.Errorf("outcome %s, %d records, error %v, want success with 90", result.Outcome, result.Records, result.Err)
		}
		h.AssertRecords(runs.LastRecords("osv_vulnerabilities"), f.Want(h))
		if again := h.Host.Stats().BytesOut - sent; again == 0 || again > sent/2 {
			t.Errorf("%d bytes were downloaded again, of %d", again, sent)
		}
		// What was taken from the last-known snapshot is taken from it again.
		h.Host.Inject(vendorsim.Fault{Path: "/PyPI/all.zip", Do: withoutCondition})
		if result := runs.RunStream(s); result.Outcome != state.Success {
			t.Errorf("outcome %s, error %v, want success", result.Outcome, result.Err)
		}
		h.AssertRecords(runs.LastRecords("osv_vulnerabilities"), f.Want(h))
		if result := runs.RunStream(s); result.Outcome != state.Unchanged {
			t.Errorf("outcome %s, error %v, want unchanged", result.Outcome, result.Err)
		}
		// Other ecosystems are another selection.
		if result := runs.RunStream(openEcosystems(h, "npm").Streams[0]); result.Outcome != state.Success || result.Records != 30 {
			t.Errorf("outcome %s, %d records, error %v, want success with 30", result.Outcome, result.Records, result.Err)
		}
	})
}

// TestPreviousRecordsAreCounted: a last-known snapshot that does not have the records
// that its note declares is not used.
func TestPreviousRecordsAreCounted(t *testing.T) {
	err := copyPrevious(t.Context(), previousRecords{}, map[string]int64{"npm": 2})
	if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "has 1 vulnerabilities of npm, its note declares 2") {
		t.Errorf("error %v, want that a vulnerability is missing", err)
	}
}

func TestSettings(t *testing.T) {
	for _, tc := range []struct{ ecosystems, wantText string }{
		{ecosystems: "PyPI, npm ,Go"},
		{ecosystems: "crates.io,Rocky Linux,OSS-Fuzz"},
		{ecosystems: "Alpine:v3.17", wantText: `want "Alpine" without ":v3.17"`},
		{ecosystems: "PyPI,,Go", wantText: `"" is not the name of an ecosystem`},
		{ecosystems: "../all", wantText: "is not the name"},
		{ecosystems: "..", wantText: "is not the name"},
		{ecosystems: "Go,Go", wantText: "twice"},
	} {
		problems := (&Settings{Ecosystems: tc.ecosystems, URL: "https://mirror.example/osv"}).Validate()
		if tc.wantText == "" {
			collectortest.AssertProblem(t, problems, "")
			continue
		}
		collectortest.AssertProblem(t, problems, "OSV_ECOSYSTEMS")
		if len(problems) == 1 && !strings.Contains(problems[0].Error(), tc.wantText) {
			t.Errorf("problem %v, want %q", problems[0], tc.wantText)
		}
	}
	collectortest.AssertProblem(t, (&Settings{Ecosystems: "Go", URL: "ftp://mirror.example"}).Validate(), "OSV_URL")
}

// previousRecords is a PreviousOutput with one record of npm and one of PyPI.
type previousRecords struct{ collector.PreviousOutput }

func (previousRecords) NewBatch() collector.Batch { return discardedBatch{} }

func (previousRecords) EachPrevious(_ context.Context, read func([]byte) error) error {
	return errors.Join(read([]byte(`{"_ecosystem":"npm"}`)), read([]byte(`{"_ecosystem":"PyPI"}`)))
}

type discardedBatch struct{}

func (discardedBatch) Append([]byte) error { return nil }
func (discardedBatch) Commit() error       { return nil }
func (discardedBatch) Discard()            {}

// withoutCondition is an effect that removes the condition of a request, as if the
// archive had changed.
func withoutCondition(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.Header.Del("If-None-Match")
		r.Header.Del("If-Modified-Since")
		next.ServeHTTP(w, r)
	})
}
