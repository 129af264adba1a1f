package tenable

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// webAppRecords returns the records that the collector must extract of the web
// application scans.
func (t *tenant) webAppRecords() []string {
	var all []string
	for i := range t.Sim.RecordCount(vendorsim.TenableWAS) {
		all = append(all, string(t.vendor.WASRecord(i)))
	}
	return all
}

func TestTenableWAS(t *testing.T) {
	for name, tc := range map[string]struct {
		configure func(*vendorsim.TenableStream)
		fault     *vendorsim.Fault
	}{
		"no fault":                    {},
		"two pages of configurations": {configure: func(s *vendorsim.TenableStream) { s.Configs = 201 }},
		"an order that changes":       {configure: func(s *vendorsim.TenableStream) { s.Configs = 450; s.Shift = true }},
		"reports created late":        {configure: func(s *vendorsim.TenableStream) { s.ReportPolls = 3 }},
		"aborted scans":               {configure: func(s *vendorsim.TenableStream) { s.AbortedParents = []int{0} }},
		"report cut":                  {fault: &vendorsim.Fault{Path: "/was/v2/scans/*/report", Method: "GET", Times: 2, Do: vendorsim.CutBody(vendorsim.Half)}},
		"targets 503":                 {fault: &vendorsim.Fault{Path: "/was/v2/scans/*/vulnerabilities/by-targets/search", Times: 3, Do: vendorsim.HTML(503)}},
		"configurations reset":        {fault: &vendorsim.Fault{Path: "/was/v2/configs/search", Do: vendorsim.Reset(vendorsim.Half)}},
		"a configuration page 429":    {fault: &vendorsim.Fault{Path: "/was/v2/configs/search", Do: vendorsim.HTML(429, "Retry-After", "5")}},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableWAS: 100}, func(t *tenant) {
				if tc.configure != nil {
					t.vendor.ConfigureStream(vendorsim.TenableWAS, tc.configure)
				}
				if tc.fault != nil {
					t.Host.Inject(*tc.fault)
				}
				t.AssertRecords(t.Extract(t.stream("tenable_was")), t.webAppRecords())
				t.AssertNoViolations()
			})
		})
	}
}

// findingsPerTarget is the number of findings of a target in the simulator.
const findingsPerTarget = 20

// dropFindings returns a report without its findings.
func dropFindings(report []byte) []byte {
	begin := []byte(`"findings":[`)
	from, to := bytes.Index(report, begin), bytes.Index(report, []byte(`],"notes"`))
	return slices.Concat(report[:from], begin, report[to:])
}

// withoutItems returns a page of a search without its items.
func withoutItems(page []byte) []byte {
	from := bytes.Index(page, []byte(`"items":[`))
	return append(page[:from:from], `"items":[]}`...)
}

// reportPath returns the path of the report of a target.
func (t *tenant) reportPath(target int) string {
	scan, _, _ := t.vendor.WASOrigin(target * findingsPerTarget)
	return "/was/v2/scans/" + scan + "/report"
}

// withoutTargets returns the records without those of the given targets.
func withoutTargets(records []string, targets ...int) []string {
	var kept []string
	for i, record := range records {
		if !slices.Contains(targets, i/findingsPerTarget) {
			kept = append(kept, record)
		}
	}
	return kept
}

// TestTenableWASDoubts tests differences that are accepted. In all cases one
// configuration is being scanned for the first time.
func TestTenableWASDoubts(t *testing.T) {
	const history = "POST /was/v2/configs/{config}/scans/search"
	for name, tc := range map[string]struct {
		configure   func(*vendorsim.TenableStream)
		fault       *vendorsim.Fault
		target      int   // the fault is that of its report, if it is not 0
		parent      int   // the fault is that of the list that has this target, if it is not 0
		wantMissing []int // targets
		wantDoubts  map[string]int64
		wantHistory int // requests for the scans of a configuration; 0 if they are repeated
	}{
		"nothing": {wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1},
		"an application is being scanned": {
			configure:  func(s *vendorsim.TenableStream) { s.RunningParents = []int{0, 2} },
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 3,
		},
		"an application is being scanned, and its last scan was aborted": {
			configure:  func(s *vendorsim.TenableStream) { s.RunningParents, s.AbortedParents = []int{1}, []int{1} },
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 2,
		},
		"the earlier scans are forbidden": {
			configure: func(s *vendorsim.TenableStream) { s.RunningParents = []int{0} },
			fault: &vendorsim.Fault{Path: "/was/v2/configs/*/scans/search", Times: vendorsim.Forever,
				Do: vendorsim.Status(403, `{"reasons":[{"code":"NOT_ALLOWED"}]}`)},
			wantMissing: []int{0, 1}, wantDoubts: map[string]int64{doubtNoHistory: 2}, wantHistory: 4,
		},
		"the earlier scans are not found once": {
			configure: func(s *vendorsim.TenableStream) { s.RunningParents = []int{0} },
			fault: &vendorsim.Fault{Path: "/was/v2/configs/*/scans/search", Times: 2,
				Do: vendorsim.Status(404, `{"reasons":[{"code":"NOT_FOUND"}]}`)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 4,
		},
		"a target is deleted": {
			configure:   func(s *vendorsim.TenableStream) { s.GoneTargets = []int{1} },
			wantMissing: []int{1}, wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtGone: 1}, wantHistory: 1,
		},
		"a report is not created": {
			configure:   func(s *vendorsim.TenableStream) { s.UncreatedTargets = []int{2} },
			wantMissing: []int{2}, wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtNoReport: 1}, wantHistory: 1,
		},
		"counts that do not add up": {
			configure:  func(s *vendorsim.TenableStream) { s.MiscountTargets = []int{0, 3, 4} },
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtMiscounted: 3}, wantHistory: 1,
		},
		"all counts do not add up": {
			configure:  func(s *vendorsim.TenableStream) { s.MiscountTargets = []int{0, 1, 2, 3, 4} },
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtMiscounted: 5}, wantHistory: 1,
		},
		"counts that are left out": {
			configure:  func(s *vendorsim.TenableStream) { s.Uncounted = true },
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtUncounted: 6}, wantHistory: 1,
		},
		"a report that stays cut": {
			target: 3, fault: &vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.CutBody(vendorsim.Half)}, wantMissing: []int{3},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtUnreadable: 1}, wantHistory: 1,
		},
		"a report that is incomplete once": {
			target: 3, fault: &vendorsim.Fault{Do: vendorsim.Rewrite(dropFindings)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1,
		},
		"a report that stays incomplete": {
			target: 3, fault: &vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Rewrite(dropFindings)}, wantMissing: []int{3},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtMiscounted: 1}, wantHistory: 1,
		},
		"a report that fails for ever": {
			target: 3, fault: &vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(500, `{"reasons":[{"code":"INTERNAL"}]}`)}, wantMissing: []int{3},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtUnreadable: 1}, wantHistory: 1,
		},
		"a report that fails for a minute": {
			target: 3, fault: &vendorsim.Fault{Times: 7, Do: vendorsim.Status(500, `{"reasons":[{"code":"INTERNAL"}]}`)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1,
		},
		"targets that cannot be listed": {
			parent: 2, fault: &vendorsim.Fault{Times: vendorsim.Forever, Do: vendorsim.Status(500, `{"reasons":[{"code":"INTERNAL"}]}`)}, wantMissing: []int{2, 3},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1, doubtNoTargets: 1}, wantHistory: 1,
		},
		"the earlier scans cannot be read": {
			configure: func(s *vendorsim.TenableStream) { s.RunningParents = []int{0} },
			fault: &vendorsim.Fault{Path: "/was/v2/configs/*/scans/search", Times: vendorsim.Forever,
				Do: vendorsim.Status(500, `{"reasons":[{"code":"INTERNAL"}]}`)},
			wantMissing: []int{0, 1}, wantDoubts: map[string]int64{doubtNoHistory: 2},
		},
		"targets that are fewer than declared once": {
			parent: 2, fault: &vendorsim.Fault{Do: vendorsim.Rewrite(withoutItems)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1,
		},
		"configurations that are fewer than declared once": {
			fault:      &vendorsim.Fault{Path: "/was/v2/configs/search", Do: vendorsim.Rewrite(withoutItems)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1,
		},
		"targets that are not found once": {
			fault: &vendorsim.Fault{Path: "/was/v2/scans/*/vulnerabilities/by-targets/search", Times: 4,
				Do: vendorsim.Status(404, `{"reasons":[{"code":"NOT_FOUND"}]}`)},
			wantDoubts: map[string]int64{doubtNoFinishedScan: 1}, wantHistory: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableWAS: 100}, func(t *tenant) {
				if tc.configure != nil {
					t.vendor.ConfigureStream(vendorsim.TenableWAS, tc.configure)
				}
				if tc.target != 0 {
					tc.fault.Method, tc.fault.Path = "GET", t.reportPath(tc.target)
				}
				if tc.parent != 0 {
					_, parent, _ := t.vendor.WASOrigin(tc.parent * findingsPerTarget)
					tc.fault.Path = "/was/v2/scans/" + parent + "/vulnerabilities/by-targets/search"
				}
				if tc.fault != nil {
					injected := t.Host.Inject(*tc.fault)
					defer func() {
						if injected.Hits() == 0 {
							t.Error("no request met the fault")
						}
					}()
				}
				got, doubts := t.extractWithDoubts(t.stream("tenable_was"))
				t.AssertRecords(got, withoutTargets(t.webAppRecords(), tc.wantMissing...))
				t.assertDoubts(doubts, tc.wantDoubts)
				if n := t.Host.Stats().Requests[history]; tc.wantHistory > 0 && n != tc.wantHistory {
					t.Errorf("%d requests for the scans of a configuration, want %d", n, tc.wantHistory)
				}
				t.AssertNoViolations()
			})
		})
	}
}

// numbersFrom returns the n numbers from first.
func numbersFrom(first, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

// TestTenableWASManyDoubts tests that a minority of missing targets is accepted,
// in whatever order they are read.
func TestTenableWASManyDoubts(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableWAS: 600}, func(t *tenant) {
		gone := numbersFrom(0, 14)
		t.vendor.ConfigureStream(vendorsim.TenableWAS, func(s *vendorsim.TenableStream) {
			s.GoneTargets, s.MiscountTargets = gone, numbersFrom(14, 16)
		})
		got, doubts := t.extractWithDoubts(t.stream("tenable_was"))
		t.AssertRecords(got, withoutTargets(t.webAppRecords(), gone...))
		t.assertDoubts(doubts, map[string]int64{doubtNoFinishedScan: 2, doubtGone: 14, doubtMiscounted: 16})
		if n := t.Host.Stats().Requests["POST /was/v2/configs/search"]; n != 1 {
			t.Errorf("%d requests for configurations, want 1", n)
		}
	})
}

// TestTenableWASConfigurationDeleted: while the second page of configurations is
// read, one of the first page is deleted, so that another moves to the first page.
func TestTenableWASConfigurationDeleted(t *testing.T) {
	vendor := vendorsim.NewTenable()
	o := vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendor}, Counts: map[string]int{vendorsim.TenableWAS: 7000},
		RecordBytes: map[string]int{vendorsim.TenableWAS: 300}, EdgeEvery: -1,
	}
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		tenant := &tenant{Harness: h, vendor: vendor, notes: memoryNotes{}}
		h.Host.Inject(vendorsim.Fault{Path: "/was/v2/configs/search", From: 2, Do: vendorsim.Rewrite(func(body []byte) []byte {
			var page struct {
				Pagination map[string]any    `json:"pagination"`
				Items      []json.RawMessage `json:"items"`
			}
			if err := json.Unmarshal(body, &page); err != nil {
				t.Error(err)
			}
			page.Items = page.Items[1:]
			page.Pagination["total"] = page.Pagination["total"].(float64) - 1
			body, _ = json.Marshal(page) // maps and texts can always be encoded
			return body
		})})
		h.AssertRecords(h.Extract(tenant.stream("tenable_was")), tenant.webAppRecords())
		if n := h.Host.Stats().Requests["POST /was/v2/configs/search"]; n != 4 {
			t.Errorf("%d requests for configurations, want 4", n)
		}
	})
}

// TestTenableIncompleteWAS tests that nothing is stored if most targets cannot
// be read.
func TestTenableIncompleteWAS(t *testing.T) {
	for name, tc := range map[string]struct {
		records   int
		configure func(*vendorsim.TenableStream)
		want      string
	}{
		// One more target has no findings.
		"most targets are deleted": {
			records: 100, configure: func(s *vendorsim.TenableStream) { s.GoneTargets = numbersFrom(0, 4) },
			want: "most targets of the web application scans have no findings that can be read: 4 of 6",
		},
		"no report is created": {
			records: 4000, configure: func(s *vendorsim.TenableStream) { s.UncreatedTargets = numbersFrom(0, 200) },
			want: "the last one: the report was not created in time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableWAS: tc.records}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableWAS, tc.configure)
				err := t.ExtractError(t.stream("tenable_was"), 2*time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one that says %q", err, tc.want)
				}
			})
		})
	}
}

func TestTenableWASBulk(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableWASBulk: 300}, func(t *tenant) {
		c := t.open(func(s *Settings) {
			s.WASExport, s.WAS = "v1", `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`
		})
		t.AssertRecords(t.Extract(collectortest.FindStream(t, c, "tenable_was")), t.Records(vendorsim.TenableWASBulk))
	})
}

// TestTenableWASBulkDefault tests that an empty filter selects all findings, as
// it selects all configurations.
func TestTenableWASBulkDefault(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableWASBulk: 300}, func(t *tenant) {
		c := t.open(func(s *Settings) { s.WASExport, s.WAS = "v1", ` { } ` })
		t.AssertRecords(t.Extract(collectortest.FindStream(t, c, "tenable_was")), t.Records(vendorsim.TenableWASBulk))
	})
}
