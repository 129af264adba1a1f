package snyk

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

var streamNames = []string{vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues}

// openSnyk opens the collector of the simulated account. log and change may be nil.
func openSnyk(h *collectortest.Harness, log *zap.Logger, change func(*Settings)) *collector.Collector {
	h.Helper()
	s := Settings{Endpoint: h.Host.URL(), Token: vendorsim.SnykToken, Version: "2024-08-25", Parallel: 8}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test", Log: log})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP.Transport = h.HTTP.Transport // which the client for tokens shares
	return source.NewCollector("snyk", a)
}

// useClientCredentials replaces the token in the settings.
func useClientCredentials(s *Settings) {
	s.Token, s.ClientID, s.Secret = "", vendorsim.SnykClientID, vendorsim.SnykClientSecret
}

// simulateSnyk returns an account with the given number of organisations and of
// records in each other stream. Pages have at most ten records.
func simulateSnyk(orgs, records int) (*vendorsim.Snyk, vendorsim.Options) {
	sim := vendorsim.NewSnyk()
	o := vendorsim.Options{
		Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.SnykOrganizations: orgs},
		RecordBytes: map[string]int{vendorsim.SnykIssues: 1500}, PageLimits: map[string]int{},
	}
	for _, stream := range streamNames {
		o.PageLimits[stream] = 10
		if stream != vendorsim.SnykOrganizations {
			o.Counts[stream] = records
		}
	}
	return sim, o
}

// expectedRecords returns the records that the collector must extract of a
// stream, without those of some organisations.
func expectedRecords(h *collectortest.Harness, sim *vendorsim.Snyk, stream string, without ...int) []string {
	var want []string
	for i, r := range h.Records(stream) {
		org := sim.Organization(stream, i)
		if slices.Contains(without, org) {
			continue
		}
		if stream == vendorsim.SnykMembers {
			r = r[:len(r)-1] + `,"_org_id":"` + h.Sim.RecordID(vendorsim.SnykOrganizations, org) + `"}`
		}
		want = append(want, r)
	}
	return want
}

// extractWithDoubts extracts a stream and returns its records and the doubts.
func extractWithDoubts(h *collectortest.Harness, s collector.Stream) ([]string, []collector.Doubt) {
	h.Helper()
	stats, out := &collector.Stats{}, collectortest.NewSpool(h.T)
	if err := s.Extract(collector.WithStats(h.Context(), stats), out); err != nil {
		h.Fatal(err)
	}
	return out.Records(), stats.Doubts()
}

// assertDoubts compares doubts with one of the given text and count; with none
// if the count is zero.
func assertDoubts(h *collectortest.Harness, got []collector.Doubt, text string, count int64) {
	h.Helper()
	var want []collector.Doubt
	if count > 0 {
		want = []collector.Doubt{{Text: text, Count: count}}
	}
	if !slices.Equal(got, want) {
		h.Errorf("doubts %+v, want %+v", got, want)
	}
}

// expectedRequests returns the number of requests for a stream: the pages of
// the list of organisations, and at least one request for each organisation.
func expectedRequests(h *collectortest.Harness, sim *vendorsim.Snyk, stream string) int {
	orgs := h.Sim.RecordCount(vendorsim.SnykOrganizations)
	pages := func(n int) int { return max(1, (n+9)/10) }
	total := pages(orgs)
	if stream == vendorsim.SnykOrganizations {
		return total
	}
	recordsOf := make([]int, orgs)
	for i := range h.Sim.RecordCount(stream) {
		recordsOf[sim.Organization(stream, i)]++
	}
	for _, n := range recordsOf {
		if stream == vendorsim.SnykMembers {
			n = 1
		}
		total += pages(n)
	}
	return total
}

func TestSnykStreamsUnderFaults(t *testing.T) {
	for name, path := range map[string]string{
		vendorsim.SnykOrganizations: "/rest/orgs", vendorsim.SnykMembers: "/v1/org/*/members",
		vendorsim.SnykProjects: "/rest/orgs/*/projects", vendorsim.SnykIssues: "/rest/orgs/*/issues",
	} {
		t.Run(name, func(t *testing.T) {
			orgs := 4
			if name == vendorsim.SnykOrganizations {
				orgs = 35
			}
			// A record's organisation depends only on the number of organisations,
			// so sim describes the simulators of all subtests.
			sim, o := simulateSnyk(orgs, 60)
			p := collectortest.PagedStream{
				Options: func() vendorsim.Options { _, o := simulateSnyk(orgs, 60); return o },
				Open: func(h *collectortest.Harness) collector.Stream {
					return collectortest.FindStream(h, openSnyk(h, nil, nil), name)
				},
				Want:       func(h *collectortest.Harness) []string { return expectedRecords(h, sim, name) },
				Path:       path,
				Credential: "SNYK_TOKEN",
				Permission: "SNYK_TOKEN",
				Secret:     vendorsim.SnykToken,
				Parallel:   name != vendorsim.SnykOrganizations,
			}
			collectortest.Run(t, o, func(h *collectortest.Harness) { p.Requests = expectedRequests(h, sim, name) })
			p.TestPassing(t, map[string]vendorsim.Fault{
				"429 with the structured header": {Times: 2, Do: vendorsim.Status(429, `{"jsonapi":{"version":"1.0"},"errors":[]}`,
					"X-Ratelimit-Limit", `160, 160;w=1;name="a", 1620;w=60;name="b"`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "20", "Retry-After", "20")},
				"header that cannot be read": {Do: vendorsim.Status(503, "", "X-Ratelimit-Limit", `"default";q=`, "X-Ratelimit-Remaining", "many")},
			})
			p.TestLasting(t)
		})
	}
}

func TestSnykNextLinks(t *testing.T) {
	forms := map[string]vendorsim.SnykNext{
		"path": vendorsim.SnykNextPath, "short": vendorsim.SnykNextShort, "absolute": vendorsim.SnykNextAbsolute,
		"object": vendorsim.SnykNextObject, "bare": vendorsim.SnykNextBare,
	}
	ends := map[string]vendorsim.SnykEnd{
		"missing": vendorsim.SnykEndMissing, "null": vendorsim.SnykEndNull, "empty": vendorsim.SnykEndEmpty, "no links": vendorsim.SnykEndNoLinks,
	}
	for form, next := range forms {
		for end, last := range ends {
			t.Run(form+", "+end, func(t *testing.T) {
				t.Parallel()
				sim, o := simulateSnyk(4, 70)
				collectortest.Run(t, o, func(h *collectortest.Harness) {
					sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.Next, b.End = next, last })
					h.AssertRecords(h.Extract(collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykProjects)), expectedRecords(h, sim, vendorsim.SnykProjects))
					h.AssertRequests(expectedRequests(h, sim, vendorsim.SnykProjects))
				})
			})
		}
	}
}

func TestSnykPages(t *testing.T) {
	for _, tc := range []struct {
		name          string
		organizations int
		issues        int
		behaviour     vendorsim.SnykBehaviour
		moreRequests  int
		doubts        int64 // empty pages that lead to themselves
	}{
		{name: "no organisation", organizations: 0, issues: 0},
		{name: "organisations without issues", organizations: 3, issues: 0},
		{name: "last page exactly full", organizations: 1, issues: 30},
		// One empty page of organisations and one of issues.
		{name: "empty page at the end", organizations: 1, issues: 30, behaviour: vendorsim.SnykBehaviour{EmptyLast: true}, moreRequests: 2},
		{
			name: "empty page at the end that leads to itself", organizations: 1, issues: 30,
			behaviour: vendorsim.SnykBehaviour{EmptyLast: true, EmptyLoops: true}, moreRequests: 2, doubts: 2,
		},
		{
			name: "empty page that leads to itself by a short link", organizations: 1, issues: 30,
			behaviour: vendorsim.SnykBehaviour{EmptyLast: true, EmptyLoops: true, Next: vendorsim.SnykNextShort}, moreRequests: 2, doubts: 2,
		},
		{
			name: "empty page that leads to itself by a link without its version", organizations: 1, issues: 30,
			behaviour: vendorsim.SnykBehaviour{EmptyLast: true, EmptyLoops: true, Next: vendorsim.SnykNextBare}, moreRequests: 2, doubts: 2,
		},
		// The fourth organisation has no issues.
		{
			name: "first page is empty and leads to itself", organizations: 4, issues: 30,
			behaviour: vendorsim.SnykBehaviour{EmptyLoops: true}, doubts: 1,
		},
		{
			name: "no organisation, and the page leads to itself", organizations: 0, issues: 0,
			behaviour: vendorsim.SnykBehaviour{EmptyLoops: true}, doubts: 1,
		},
		// Two, between the three pages of issues.
		{name: "empty pages between", organizations: 1, issues: 30, behaviour: vendorsim.SnykBehaviour{EmptyBetween: true}, moreRequests: 2},
		{name: "pages of organisations", organizations: 30, issues: 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, o := simulateSnyk(tc.organizations, tc.issues)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { *b = tc.behaviour })
				records, doubts := extractWithDoubts(h, collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykIssues))
				h.AssertRecords(records, expectedRecords(h, sim, vendorsim.SnykIssues))
				assertDoubts(h, doubts, "an empty page led to itself and was taken as the end of a listing", tc.doubts)
				h.AssertRequests(expectedRequests(h, sim, vendorsim.SnykIssues) + tc.moreRequests)
			})
		})
	}
}

// TestSnykReadsFullPages: without the simulator's limit, pages have the size
// that the collector requests.
func TestSnykReadsFullPages(t *testing.T) {
	sim, o := simulateSnyk(1, 250)
	o.PageLimits = nil
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.AssertRecords(h.Extract(collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykIssues)), expectedRecords(h, sim, vendorsim.SnykIssues))
		h.AssertRequests(1 + 3)
	})
}

// TestSnykReadsSeveralOrganisationsAtOnce: the number of organisations that are
// read at once is that of SNYK_PARALLEL.
func TestSnykReadsSeveralOrganisationsAtOnce(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		sim, o := simulateSnyk(20, 200)
		o.Latency = 100 * time.Millisecond
		collectortest.Run(t, o, func(h *collectortest.Harness) {
			c := openSnyk(h, nil, func(s *Settings) { s.Parallel = parallel })
			h.AssertRecords(h.Extract(collectortest.FindStream(h, c, vendorsim.SnykIssues)), expectedRecords(h, sim, vendorsim.SnykIssues))
			if n := h.Host.Stats().MaxParallel[""]; n != parallel {
				t.Errorf("%d requests at once, want %d", n, parallel)
			}
		})
	}
}

// TestSnykKeepsToTheRate: more pages than the vendor allows in a minute lead to
// waits, and to no response 429.
func TestSnykKeepsToTheRate(t *testing.T) {
	sim, o := simulateSnyk(20, 600)
	o.Limits = map[string]vendorsim.LimitNumbers{"snyk-minute": {Max: 30}}
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		c := openSnyk(h, nil, func(s *Settings) { s.Parallel = 1 })
		began := time.Now()
		h.AssertRecords(h.Extract(collectortest.FindStream(h, c, vendorsim.SnykIssues)), expectedRecords(h, sim, vendorsim.SnykIssues))
		h.AssertRequests(expectedRequests(h, sim, vendorsim.SnykIssues))
		if took := time.Since(began); h.Host.Stats().Throttled != 0 || took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("took %v with %d responses 429", took, h.Host.Stats().Throttled)
		}
	})
}

func TestSnykFilters(t *testing.T) {
	for _, tc := range []struct {
		stream string
		change func(*Settings)
		want   func(record string) bool
	}{
		{
			stream: vendorsim.SnykProjects,
			change: func(s *Settings) { s.Projects = "types=npm,pip" },
			want: func(r string) bool {
				return strings.Contains(r, `"type":"npm"`) || strings.Contains(r, `"type":"pip"`)
			},
		},
		{
			stream: vendorsim.SnykIssues,
			change: func(s *Settings) { s.Issues = "?status=open&effective_severity_level=high" },
			want: func(r string) bool {
				return strings.Contains(r, `"status":"open"`) && strings.Contains(r, `"effective_severity_level":"high"`)
			},
		},
	} {
		t.Run(tc.stream, func(t *testing.T) {
			sim, o := simulateSnyk(2, 200)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.Next = vendorsim.SnykNextBare })
				want := slices.DeleteFunc(expectedRecords(h, sim, tc.stream), func(r string) bool { return !tc.want(r) })
				h.AssertRecords(h.Extract(collectortest.FindStream(h, openSnyk(h, nil, tc.change), tc.stream)), want)
			})
		})
	}
}

func TestSnykLogsTheEndOfTheVersionOnce(t *testing.T) {
	sim, o := simulateSnyk(3, 60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.Aging = true })
		core, logs := observer.New(zap.WarnLevel)
		h.Extract(collectortest.FindStream(h, openSnyk(h, zap.New(core), nil), vendorsim.SnykProjects))
		if logs.FilterField(zap.String("version", "2024-08-25")).Len() != 1 || logs.Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}

func TestSnykTokenForms(t *testing.T) {
	for token, want := range map[string]string{
		"abc": "token abc", "token abc": "token abc", "Token  abc\n": "token abc", "Bearer xyz": "bearer xyz",
	} {
		if got := (&Settings{Token: config.Secret(token)}).authorization(); got != want {
			t.Errorf("%q: %q, want %q", token, got, want)
		}
	}
	_, o := simulateSnyk(1, 1)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		if err := openSnyk(h, nil, func(s *Settings) { s.Token = "token " + vendorsim.SnykToken }).Check(h.Context()); err != nil {
			t.Error(err)
		}
		h.AssertRequests(1)
	})
}

func TestSnykRefusals(t *testing.T) {
	for _, name := range streamNames {
		t.Run(name, func(t *testing.T) {
			_, o := simulateSnyk(3, 10)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				c := openSnyk(h, nil, func(s *Settings) { s.Token = "bad-secret" })
				err := h.ExtractError(collectortest.FindStream(h, c, name), time.Hour)
				h.AssertRequests(1)
				h.Host.ResetStats()
				checkErr := c.Check(h.Context())
				h.AssertRequests(1)
				for _, err := range []error{err, checkErr} {
					if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check SNYK_TOKEN") ||
						!strings.Contains(err.Error(), "GET /rest/orgs") || strings.Contains(err.Error(), "bad-secret") {
						t.Errorf("error %v", err)
					}
				}
			})
		})
	}
	t.Run("bad version", func(t *testing.T) {
		_, o := simulateSnyk(3, 10)
		collectortest.Run(t, o, func(h *collectortest.Harness) {
			err := h.ExtractError(collectortest.FindStream(h, openSnyk(h, nil, func(s *Settings) { s.Version = "1" }), vendorsim.SnykIssues), time.Hour)
			if !strings.Contains(err.Error(), "SNYK_VERSION") {
				t.Errorf("error %v", err)
			}
			h.AssertRequests(1)
		})
	})
}

func TestSnykSettings(t *testing.T) {
	for _, tc := range []struct {
		endpoint string
		want     string // "" if the endpoint is refused
	}{
		{endpoint: "https://api.snyk.io", want: "https://api.snyk.io"},
		{endpoint: "https://api.eu.snyk.io/rest/", want: "https://api.eu.snyk.io"},
		{endpoint: "api.au.snyk.io/v1", want: "https://api.au.snyk.io"},
		{endpoint: "https://gate.test/snyk", want: "https://gate.test/snyk"},
		{endpoint: ""},
	} {
		s := &Settings{Endpoint: tc.endpoint, Version: "2024-08-25"}
		if tc.want == "" {
			collectortest.AssertProblem(t, s.Validate(), "SNYK_ENDPOINT")
			continue
		}
		collectortest.AssertProblem(t, s.Validate(), "")
		if u, _ := s.baseURL(); u.String() != tc.want {
			t.Errorf("%q: %v, want %s", tc.endpoint, u.String(), tc.want)
		}
	}
	for _, tc := range []struct {
		settings    Settings
		wantProblem string
	}{
		{settings: Settings{Version: "latest"}, wantProblem: "SNYK_VERSION"},
		{settings: Settings{Version: "2024-08-25~beta", Projects: "limit=10"}, wantProblem: "SNYK_PROJECTS_FILTER"},
		{settings: Settings{Version: "2024-08-25", Issues: "status"}, wantProblem: "SNYK_ISSUES_FILTER"},
	} {
		tc.settings.Endpoint = "api.snyk.io"
		collectortest.AssertProblem(t, tc.settings.Validate(), tc.wantProblem)
	}
}
