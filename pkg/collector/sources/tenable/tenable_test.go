package tenable

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// tenant is a simulated Tenable tenant.
type tenant struct {
	*collectortest.Harness
	vendor *vendorsim.Tenable
	notes  collector.Notes
}

// open opens the collector of the tenant. change may be nil.
func (t *tenant) open(change func(*Settings)) *collector.Collector {
	t.Helper()
	base, err := url.Parse(t.Host.URL())
	if err != nil {
		t.Fatal(err)
	}
	s := Settings{
		AccessKey: vendorsim.TenableAccessKey, SecretKey: vendorsim.TenableSecretKey, URL: *base, Parallel: 2,
		Vulns:  `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`,
		Assets: `{}`, Findings: `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`, WAS: `{}`, WASExport: "scans",
	}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test", Notes: t.notes})
	if err != nil {
		t.Fatal(err)
	}
	a.api.HTTP = t.HTTP
	return source.NewCollector("tenable", a)
}

// stream opens the collector and returns one of its streams.
func (t *tenant) stream(name string) collector.Stream {
	t.Helper()
	return collectortest.FindStream(t, t.open(nil), name)
}

type memoryNotes map[string]string

func (m memoryNotes) Note(_ context.Context, key string) (string, error) { return m[key], nil }
func (m memoryNotes) SetNote(_ context.Context, key, text string) error  { m[key] = text; return nil }

// extractWithDoubts extracts a stream and returns its records and the doubts
// about them.
func (t *tenant) extractWithDoubts(s collector.Stream) ([]string, []collector.Doubt) {
	t.Helper()
	stats := new(collector.Stats)
	out := collectortest.NewSpool(t.T)
	if err := s.Extract(collector.WithStats(t.Context(), stats), out); err != nil {
		t.Fatal(err)
	}
	return out.Records(), stats.Doubts()
}

// assertDoubts compares the doubts about an extraction, in any order.
func (t *tenant) assertDoubts(got []collector.Doubt, want map[string]int64) {
	t.Helper()
	counts := map[string]int64{}
	for _, d := range got {
		counts[d.Text] = d.Count
	}
	if !maps.Equal(counts, want) {
		t.Errorf("doubts %v, want %v", counts, want)
	}
}

// runTenant runs test with a simulated tenant that has the given numbers of
// records.
func runTenant(t *testing.T, counts map[string]int, test func(t *tenant)) {
	t.Helper()
	vendor := vendorsim.NewTenable()
	collectortest.Run(t, vendorsim.Options{Vendors: []vendorsim.Vendor{vendor}, Counts: counts}, func(h *collectortest.Harness) {
		test(&tenant{Harness: h, vendor: vendor, notes: memoryNotes{}})
	})
}

// exportStreams are the streams that are read by export jobs, with the path of
// the jobs.
var exportStreams = []struct{ stream, path string }{
	{stream: "tenable_vulnerabilities", path: "/vulns/export"},
	{stream: "tenable_assets", path: "/assets/export"},
	{stream: "tenable_findings", path: "/compliance/export"},
}

// smallChunks makes chunks of 20 records.
func smallChunks(s *vendorsim.TenableStream) { s.ChunkRecords = 20 }

func TestTenableExportsUnderPassingFaults(t *testing.T) {
	const records = 100 // 5 chunks
	for fault, f := range map[string]func(path string) vendorsim.Fault{
		"none": nil,
		"start 503 with HTML": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Method: "POST", Path: path, Times: 2, Do: vendorsim.HTML(503)}
		},
		"start 504 that worked": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Method: "POST", Path: path, Do: vendorsim.LoseResponse(504, `{"statusCode":504}`)}
		},
		"rate limit on the start": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Method: "POST", Path: path, Times: 3, Do: vendorsim.HTML(429, "Retry-After", "30")}
		},
		"status 502": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/status", From: 2, Times: 3, Do: vendorsim.Status(502, "bad gateway")}
		},
		"chunk 500": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", From: 2, Times: 4, Do: vendorsim.Status(500, `{"error":"x"}`)}
		},
		"chunk reset in the middle": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", From: 2, Times: 3, Do: vendorsim.Reset(vendorsim.Half)}
		},
		"chunk truncated": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 3, Do: vendorsim.Truncate(vendorsim.Half)}
		},
		"chunk without its end": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 2, Do: vendorsim.CutBody(vendorsim.Half)}
		},
		"chunk with too long a length": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 2, Do: vendorsim.LongLength(10)}
		},
		"chunk as an HTML page": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 2, Do: vendorsim.HTML(200)}
		},
		"chunk hangs": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Do: vendorsim.HangAfter(vendorsim.Half)}
		},
		"chunk limited": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 2, Do: vendorsim.HTML(429, "Retry-After", "7")}
		},
		"chunk not ready": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Path: path + "/*/chunks/*", Times: 2, Do: vendorsim.Status(400, `{"error":"chunk is not ready"}`)}
		},
	} {
		for _, x := range exportStreams {
			t.Run(fault+"/"+x.stream, func(t *testing.T) {
				runTenant(t, map[string]int{x.stream: records}, func(t *tenant) {
					t.vendor.ConfigureStream(x.stream, smallChunks)
					if f != nil {
						injected := t.Host.Inject(f(x.path))
						defer func() {
							if injected.Hits() == 0 {
								t.Error("no request met the fault")
							}
						}()
					}
					c := t.open(func(s *Settings) {
						if fault == "chunk limited" {
							// Of two requests at once, the second may already be on its
							// way when the first gets the 429. The simulator would count
							// it as a violation.
							s.Parallel = 1
						}
					})
					t.AssertRecords(t.Extract(collectortest.FindStream(t, c, x.stream)), t.Records(x.stream))
					t.AssertNoViolations()
					got := t.Host.Stats()
					if n := got.MaxParallel["GET "+x.path+"/{uuid}/chunks/{n}"]; n > 2 {
						t.Errorf("%d chunks at once", n)
					}
					if fault == "none" && (got.Requests["POST "+x.path] != 1 || got.Requests["GET "+x.path+"/{uuid}/chunks/{n}"] != 5) {
						t.Errorf("requests %v, want one start and 5 chunks", got.Requests)
					}
				})
			})
		}
	}
}

func TestTenableExportsStartAgainWhenAJobFails(t *testing.T) {
	for name, outcome := range map[string]vendorsim.Outcome{
		"error": vendorsim.OutcomeError, "chunk failed": vendorsim.OutcomeChunkFailed,
		"cancelled": vendorsim.OutcomeCancelled, "stuck": vendorsim.OutcomeStuck,
	} {
		for _, x := range exportStreams {
			t.Run(name+"/"+x.stream, func(t *testing.T) {
				runTenant(t, map[string]int{x.stream: 100}, func(t *tenant) {
					t.vendor.ConfigureStream(x.stream, func(s *vendorsim.TenableStream) {
						smallChunks(s)
						s.Next = []vendorsim.Outcome{outcome}
					})
					t.AssertRecords(t.Extract(t.stream(x.stream)), t.Records(x.stream))
					if n := t.Host.Stats().Requests["POST "+x.path]; n != 2 {
						t.Errorf("%d starts, want 2", n)
					}
					t.vendor.ConfigureStream(x.stream, func(s *vendorsim.TenableStream) { s.Always = outcome })
					err := t.ExtractError(t.stream(x.stream), 48*time.Hour)
					if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "gave up after 3 jobs") {
						t.Errorf("error %v", err)
					}
				})
			})
		}
	}
}

func TestTenableAdoptsOnlyItsOwnJobs(t *testing.T) {
	forms := map[string]vendorsim.DuplicateForm{
		"409 with id": vendorsim.Duplicate409ID, "409 empty": vendorsim.Duplicate409Empty,
		"429 message": vendorsim.Duplicate429Message, "429 values": vendorsim.Duplicate429Values,
	}
	for name, form := range forms {
		t.Run("a start without a response/"+name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Duplicates = form })
				t.Host.Inject(vendorsim.Fault{Method: "POST", Path: "/vulns/export", Do: vendorsim.LoseResponse(504, "")})
				t.AssertRecords(t.Extract(t.stream("tenable_vulnerabilities")), t.Records(vendorsim.TenableVulns))
				jobs := len(t.vendor.Jobs(vendorsim.TenableVulns))
				if form != vendorsim.Duplicate409Empty && jobs != 1 {
					t.Errorf("%d jobs, want only the first, which is adopted", jobs)
				}
			})
		})
		t.Run("another program's/"+name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Duplicates = form })
				foreign, err := t.vendor.ForeignJob(vendorsim.TenableVulns,
					`{"num_assets":200,"include_unlicensed":true,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`)
				if err != nil {
					t.Fatal(err)
				}
				t.AssertRecords(t.Extract(t.stream("tenable_vulnerabilities")), t.Records(vendorsim.TenableVulns))
				for pattern, n := range t.Host.Stats().Requests {
					if strings.Contains(pattern, foreign) && n > 0 {
						t.Errorf("another program's job was requested: %s", pattern)
					}
				}
				for _, r := range t.Host.Stats().Log {
					if strings.Contains(r.Path, foreign) {
						t.Errorf("another program's job was read: %s", r.Path)
					}
				}
			})
		})
	}
}

func TestTenableEmptyExports(t *testing.T) {
	for name, form := range map[string]vendorsim.EmptyForm{
		"no chunks": vendorsim.EmptyNoChunks, "counted": vendorsim.EmptyCounted,
		"empty chunk": vendorsim.EmptyChunk, "null chunk": vendorsim.EmptyNull,
	} {
		for _, x := range exportStreams {
			t.Run(name+"/"+x.stream, func(t *testing.T) {
				runTenant(t, map[string]int{x.stream: 0}, func(t *tenant) {
					t.vendor.ConfigureStream(x.stream, func(s *vendorsim.TenableStream) { s.Empty = form })
					if got := t.Extract(t.stream(x.stream)); len(got) != 0 {
						t.Errorf("%d records", len(got))
					}
				})
			})
		}
	}
}

func TestTenableRefusals(t *testing.T) {
	forbid := func(s *vendorsim.TenableStream) { s.Forbidden = true }
	for _, tc := range []struct {
		name      string
		disturb   func(t *tenant)
		fault     *vendorsim.Fault // injected if not nil
		wantClass error
		wantText  string
	}{
		{
			name:      "revoked keys",
			disturb:   func(t *tenant) { t.vendor.Revoke() },
			wantClass: collector.ErrRefused, wantText: "check TIO_ACCESS_KEY and TIO_SECRET_KEY",
		},
		{
			name:      "role too low",
			disturb:   func(t *tenant) { t.vendor.ConfigureStream(vendorsim.TenableVulns, forbid) },
			wantClass: collector.ErrForbidden, wantText: "role Basic [16]",
		},
		{
			name:     "keys revoked in the middle",
			fault:    &vendorsim.Fault{Path: "/vulns/export/*/chunks/*", From: 2, Do: vendorsim.Status(401, `{"statusCode":401}`)},
			wantText: "the vendor accepted the same credentials before in this run: check TIO_ACCESS_KEY",
		},
		{
			name:      "chunk that stays broken",
			fault:     &vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Do: vendorsim.CutBody(vendorsim.Half)},
			wantClass: collector.ErrIncomplete, wantText: "gave up after 3 jobs",
		},
		{
			name:      "chunk that stays HTML",
			fault:     &vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Do: vendorsim.HTML(200)},
			wantClass: collector.ErrIncomplete, wantText: "HTML",
		},
		{
			name:      "rate limit that never ends",
			fault:     &vendorsim.Fault{Path: "/vulns/export/*/status", Do: vendorsim.HTML(429, "Retry-After", "30")},
			wantClass: context.DeadlineExceeded, wantText: "status",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.ConfigureStream(vendorsim.TenableVulns, smallChunks)
				c := t.open(nil)
				if tc.disturb != nil {
					tc.disturb(t)
				}
				if tc.fault != nil {
					tc.fault.Times = vendorsim.Forever
					t.Host.Inject(*tc.fault)
				}
				err := t.ExtractError(collectortest.FindStream(t, c, "tenable_vulnerabilities"), 12*time.Hour)
				if tc.wantClass == nil && (errors.Is(err, collector.ErrRefused) || errors.Is(err, collector.ErrForbidden)) {
					t.Errorf("error %v, want one that may pass", err)
				}
				if tc.wantClass != nil && !errors.Is(err, tc.wantClass) || !strings.Contains(err.Error(), tc.wantText) {
					t.Errorf("error %v, want one of %v that says %q", err, tc.wantClass, tc.wantText)
				}
				for _, secret := range []string{vendorsim.TenableAccessKey, vendorsim.TenableSecretKey} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows a key: %v", err)
					}
				}
				if tc.wantClass != nil { // keys that were accepted may be used again
					t.AssertNoViolations()
				}
			})
		})
	}
}

func TestTenableCancelsAnAbandonedJob(t *testing.T) {
	runTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
		t.vendor.ConfigureStream(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Always = vendorsim.OutcomeStuck })
		err := t.ExtractError(t.stream("tenable_vulnerabilities"), time.Minute)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if n := t.Host.Stats().Requests["POST /vulns/export/{uuid}/cancel"]; n != 1 {
			t.Errorf("%d cancels, want 1", n)
		}
	})
}

func TestTenableCheck(t *testing.T) {
	runTenant(t, nil, func(t *tenant) {
		c := t.open(nil)
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		t.vendor.Revoke()
		if err := c.Check(t.Context()); !errors.Is(err, collector.ErrRefused) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTenableFiltersAreJSONObjects(t *testing.T) {
	for _, filter := range []string{"", "[]", "null", `{"a"`} {
		s := Settings{Vulns: filter, Assets: "{}", Findings: "{}", WAS: "{}"}
		collectortest.AssertProblem(t, s.Validate(), "TIO_VULNERABILITIES_FILTER")
	}
	s := Settings{Vulns: "{}", Assets: "{}", Findings: "{}", WAS: "{}"}
	collectortest.AssertProblem(t, s.Validate(), "")
}
