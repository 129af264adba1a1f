package sources

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// tenant is a simulated Tenable tenant with the client under test.
type tenant struct {
	*bubble
	vendor *vendorsim.Tenable
	notes  memoryNotes
}

func (t *tenant) open(change func(*tenableSettings)) *collector.Collector {
	t.Helper()
	base, err := url.Parse(t.host.URL())
	if err != nil {
		t.Fatal(err)
	}
	s := tenableSettings{
		AccessKey: vendorsim.TenableAccessKey, SecretKey: vendorsim.TenableSecretKey, URL: *base, Parallel: 2,
		Vulns:  `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`,
		Assets: `{}`, Findings: `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`, WAS: `{}`, WASExport: "scans",
	}
	if change != nil {
		change(&s)
	}
	api := newTenable(&s, collector.Options{Version: "test", Notes: t.notes})
	api.api.HTTP = t.http
	return api.collector()
}

type memoryNotes map[string]string

func (n memoryNotes) Note(_ context.Context, key string) (string, error) { return n[key], nil }
func (n memoryNotes) SetNote(_ context.Context, key, text string) error  { n[key] = text; return nil }

func inTenant(t *testing.T, counts map[string]int, test func(t *tenant)) {
	t.Helper()
	vendor := vendorsim.NewTenable()
	inBubble(t, vendorsim.Options{Vendors: []vendorsim.Vendor{vendor}, Counts: counts}, func(b *bubble) {
		test(&tenant{bubble: b, vendor: vendor, notes: memoryNotes{}})
	})
}

// exportStreams are the streams read by export jobs, with the simulator's name
// of each and the path of its jobs.
var exportStreams = []struct{ stream, path string }{
	{"tenable_vulnerabilities", "/vulns/export"},
	{"tenable_assets", "/assets/export"},
	{"tenable_findings", "/compliance/export"},
}

func chunked(s *vendorsim.TenableStream) { s.ChunkRecords = 20 }

func TestTenableExportsUnderPassingFaults(t *testing.T) {
	const records = 100 // 5 chunks
	for fault, f := range map[string]func(path string) vendorsim.Fault{
		"none": nil,
		"start 503 with HTML": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Method: "POST", Path: path, Times: 2, Do: vendorsim.HTML(503)}
		},
		"start 504 that worked": func(path string) vendorsim.Fault {
			return vendorsim.Fault{Method: "POST", Path: path, Do: vendorsim.Worked(504, `{"statusCode":504}`)}
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
				inTenant(t, map[string]int{x.stream: records}, func(t *tenant) {
					t.vendor.Configure(x.stream, chunked)
					if f != nil {
						in := t.host.Inject(f(x.path))
						defer func() {
							if in.Hits() == 0 {
								t.Error("the fault hit nothing")
							}
						}()
					}
					c := t.open(func(s *tenableSettings) {
						if fault == "chunk limited" {
							// Of two at once, the other may be on its way when the
							// first is told to wait, and the vendor cannot tell.
							s.Parallel = 1
						}
					})
					t.same(t.extract(stream(t, c, x.stream)), t.records(x.stream))
					got := t.host.Stats()
					if len(got.Violations) > 0 {
						t.Errorf("rules broken: %v", got.Violations)
					}
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

func TestTenableExportsStartAnewWhenAJobDies(t *testing.T) {
	for name, outcome := range map[string]vendorsim.Outcome{
		"error": vendorsim.OutcomeError, "chunk failed": vendorsim.OutcomeChunkFailed,
		"cancelled": vendorsim.OutcomeCancelled, "stuck": vendorsim.OutcomeStuck,
	} {
		for _, x := range exportStreams {
			t.Run(name+"/"+x.stream, func(t *testing.T) {
				inTenant(t, map[string]int{x.stream: 100}, func(t *tenant) {
					t.vendor.Configure(x.stream, func(s *vendorsim.TenableStream) {
						chunked(s)
						s.Next = []vendorsim.Outcome{outcome}
					})
					t.same(t.extract(stream(t, t.open(nil), x.stream)), t.records(x.stream))
					if n := t.host.Stats().Requests["POST "+x.path]; n != 2 {
						t.Errorf("%d starts, want 2", n)
					}
					t.vendor.Configure(x.stream, func(s *vendorsim.TenableStream) { s.Always = outcome })
					err := t.refused(stream(t, t.open(nil), x.stream), 48*time.Hour)
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
		t.Run("a start that got no answer/"+name, func(t *testing.T) {
			inTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.Configure(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Duplicates = form })
				t.host.Inject(vendorsim.Fault{Method: "POST", Path: "/vulns/export", Do: vendorsim.Worked(504, "")})
				t.same(t.extract(stream(t, t.open(nil), "tenable_vulnerabilities")), t.records(vendorsim.TenableVulns))
				jobs := len(t.vendor.Jobs(vendorsim.TenableVulns))
				if form != vendorsim.Duplicate409Empty && jobs != 1 {
					t.Errorf("%d jobs, want the first adopted", jobs)
				}
			})
		})
		t.Run("another program's/"+name, func(t *testing.T) {
			inTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.Configure(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Duplicates = form })
				foreign, err := t.vendor.ForeignJob(vendorsim.TenableVulns,
					`{"num_assets":200,"include_unlicensed":true,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`)
				if err != nil {
					t.Fatal(err)
				}
				t.same(t.extract(stream(t, t.open(nil), "tenable_vulnerabilities")), t.records(vendorsim.TenableVulns))
				for pattern, n := range t.host.Stats().Requests {
					if strings.Contains(pattern, foreign) && n > 0 {
						t.Errorf("%s was asked for", pattern)
					}
				}
				for _, r := range t.host.Stats().Log {
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
				inTenant(t, map[string]int{x.stream: 0}, func(t *tenant) {
					t.vendor.Configure(x.stream, func(s *vendorsim.TenableStream) { s.Empty = form })
					if got := t.extract(stream(t, t.open(nil), x.stream)); len(got) != 0 {
						t.Errorf("%d records", len(got))
					}
				})
			})
		}
	}
}

func TestTenableRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble func(t *tenant)
		class   error
		want    string
	}{
		"revoked keys": {func(t *tenant) { t.vendor.Revoke() }, collector.ErrRefused, "check TIO_ACCESS_KEY and TIO_SECRET_KEY"},
		"role too low": {func(t *tenant) {
			t.vendor.Configure(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Forbidden = true })
		}, collector.ErrForbidden, "role Basic [16]"},
		"keys revoked in the middle": {func(t *tenant) {
			t.host.Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/*", From: 2, Times: vendorsim.Forever, Do: vendorsim.Status(401, `{"statusCode":401}`)})
		}, collector.ErrRefused, "check TIO_ACCESS_KEY"},
		"chunk that stays broken": {func(t *tenant) {
			t.host.Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: vendorsim.CutBody(vendorsim.Half)})
		}, collector.ErrIncomplete, "gave up after 3 jobs"},
		"chunk that stays HTML": {func(t *tenant) {
			t.host.Inject(vendorsim.Fault{Path: "/vulns/export/*/chunks/2", Times: vendorsim.Forever, Do: vendorsim.HTML(200)})
		}, collector.ErrIncomplete, "HTML"},
		"limited for ever": {func(t *tenant) {
			t.host.Inject(vendorsim.Fault{Path: "/vulns/export/*/status", Times: vendorsim.Forever, Do: vendorsim.HTML(429, "Retry-After", "30")})
		}, context.DeadlineExceeded, "status"},
	} {
		t.Run(name, func(t *testing.T) {
			inTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
				t.vendor.Configure(vendorsim.TenableVulns, chunked)
				c := t.open(nil)
				tc.trouble(t)
				err := t.refused(stream(t, c, "tenable_vulnerabilities"), 12*time.Hour)
				if !errors.Is(err, tc.class) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one of %v that says %q", err, tc.class, tc.want)
				}
				for _, secret := range []string{vendorsim.TenableAccessKey, vendorsim.TenableSecretKey} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows a key: %v", err)
					}
				}
				if v := t.host.Stats().Violations; len(v) > 0 {
					t.Errorf("rules broken: %v", v)
				}
			})
		})
	}
}

func TestTenableCancelsAJobThatNobodyWaitsFor(t *testing.T) {
	inTenant(t, map[string]int{vendorsim.TenableVulns: 100}, func(t *tenant) {
		t.vendor.Configure(vendorsim.TenableVulns, func(s *vendorsim.TenableStream) { s.Always = vendorsim.OutcomeStuck })
		err := t.refused(stream(t, t.open(nil), "tenable_vulnerabilities"), time.Minute)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if n := t.host.Stats().Requests["POST /vulns/export/{uuid}/cancel"]; n != 1 {
			t.Errorf("%d cancels, want 1", n)
		}
	})
}

// wasRecords are the records that the findings of scans make.
func (t *tenant) wasRecords() []string {
	var all []string
	for i := range t.sim.Count(vendorsim.TenableWAS) {
		all = append(all, string(t.vendor.WASRecord(i)))
	}
	return all
}

func TestTenableWAS(t *testing.T) {
	for name, tc := range map[string]struct {
		how   func(*vendorsim.TenableStream)
		fault *vendorsim.Fault
	}{
		"plain":                       {},
		"two pages of configurations": {how: func(s *vendorsim.TenableStream) { s.Configs = 201 }},
		"an order that changes":       {how: func(s *vendorsim.TenableStream) { s.Configs = 450; s.Shift = true }},
		"reports made late":           {how: func(s *vendorsim.TenableStream) { s.ReportPolls = 3 }},
		"aborted scans":               {how: func(s *vendorsim.TenableStream) { s.AbortedParents = []int{0} }},
		"report cut":                  {fault: &vendorsim.Fault{Path: "/was/v2/scans/*/report", Method: "GET", Times: 2, Do: vendorsim.CutBody(vendorsim.Half)}},
		"targets 503":                 {fault: &vendorsim.Fault{Path: "/was/v2/scans/*/vulnerabilities/by-targets/search", Times: 3, Do: vendorsim.HTML(503)}},
		"configurations reset":        {fault: &vendorsim.Fault{Path: "/was/v2/configs/search", Do: vendorsim.Reset(vendorsim.Half)}},
		"a configuration page 429":    {fault: &vendorsim.Fault{Path: "/was/v2/configs/search", Do: vendorsim.HTML(429, "Retry-After", "5")}},
	} {
		t.Run(name, func(t *testing.T) {
			inTenant(t, map[string]int{vendorsim.TenableWAS: 100}, func(t *tenant) {
				if tc.how != nil {
					t.vendor.Configure(vendorsim.TenableWAS, tc.how)
				}
				if tc.fault != nil {
					t.host.Inject(*tc.fault)
				}
				t.same(t.extract(stream(t, t.open(nil), "tenable_was")), t.wasRecords())
				if v := t.host.Stats().Violations; len(v) > 0 {
					t.Errorf("rules broken: %v", v)
				}
			})
		})
	}
}

func TestTenableWASDoubts(t *testing.T) {
	for name, tc := range map[string]struct {
		how  func(*vendorsim.TenableStream)
		want string
	}{
		"a scan deleted midway":     {func(s *vendorsim.TenableStream) { s.GoneTargets = []int{1} }, "404"},
		"counts that do not add up": {func(s *vendorsim.TenableStream) { s.MiscountTargets = []int{0} }, "the list of targets says"},
	} {
		t.Run(name, func(t *testing.T) {
			inTenant(t, map[string]int{vendorsim.TenableWAS: 100}, func(t *tenant) {
				t.vendor.Configure(vendorsim.TenableWAS, tc.how)
				if err := t.refused(stream(t, t.open(nil), "tenable_was"), 12*time.Hour); !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one that says %q", err, tc.want)
				}
			})
		})
	}
}

func TestTenableWASBulk(t *testing.T) {
	inTenant(t, map[string]int{vendorsim.TenableWASBulk: 300}, func(t *tenant) {
		c := t.open(func(s *tenableSettings) {
			s.WASExport, s.WAS = "v1", `{"since":1,"state":["OPEN","REOPENED","FIXED"]}`
		})
		t.same(t.extract(stream(t, c, "tenable_was")), t.records(vendorsim.TenableWASBulk))
	})
}

func TestTenableCheck(t *testing.T) {
	inTenant(t, nil, func(t *tenant) {
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
	for _, bad := range []string{"", "[]", "null", `{"a"`} {
		s := tenableSettings{Vulns: bad, Assets: "{}", Findings: "{}", WAS: "{}"}
		errs := s.Validate()
		var p *config.Problem
		if len(errs) != 1 || !errors.As(errs[0], &p) || p.Name != "TIO_VULNERABILITIES_FILTER" {
			t.Errorf("%q: %v", bad, errs)
		}
	}
	if fmt.Sprint((&tenableSettings{Vulns: "{}", Assets: "{}", Findings: "{}", WAS: "{}"}).Validate()) != "[]" {
		t.Error("objects were refused")
	}
}
