package sources

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

var snykStreams = []string{vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues}

func openSnykIn(b *bubble, log *zap.Logger, change func(*snykSettings)) *collector.Collector {
	b.Helper()
	s := snykSettings{Endpoint: b.host.URL(), Token: vendorsim.SnykToken, Version: "2024-08-25", Parallel: 8}
	if change != nil {
		change(&s)
	}
	k, err := newSnyk(&s, collector.Options{Version: "test", Log: log})
	if err != nil {
		b.Fatal(err)
	}
	k.api.HTTP = b.http
	return k.collector()
}

// simSnyk is an account of the given number of organisations, read in pages
// of ten.
func simSnyk(orgs, each int) (*vendorsim.Snyk, vendorsim.Options) {
	s := vendorsim.NewSnyk()
	o := vendorsim.Options{
		Vendors: []vendorsim.Vendor{s}, Counts: map[string]int{vendorsim.SnykOrganizations: orgs},
		RecordBytes: map[string]int{vendorsim.SnykIssues: 1500}, PageLimits: map[string]int{},
	}
	for _, stream := range snykStreams {
		o.PageLimits[stream] = 10
		if stream != vendorsim.SnykOrganizations {
			o.Counts[stream] = each
		}
	}
	return s, o
}

// snykRecords are a stream's records as they are to be stored, without those
// of some organisations.
func snykRecords(b *bubble, sim *vendorsim.Snyk, stream string, without ...int) []string {
	var want []string
	for i, r := range b.records(stream) {
		org := sim.Organization(stream, i)
		if slices.Contains(without, org) {
			continue
		}
		if stream == vendorsim.SnykMembers {
			r = r[:len(r)-1] + `,"_org_id":"` + b.sim.RecordID(vendorsim.SnykOrganizations, org) + `"}`
		}
		want = append(want, r)
	}
	return want
}

// snykRequests is how many requests a stream takes: the pages of the list of
// organisations, and for each organisation at least one.
func snykRequests(b *bubble, sim *vendorsim.Snyk, stream string) int {
	orgs := b.sim.Count(vendorsim.SnykOrganizations)
	pages := func(n int) int { return max(1, (n+9)/10) }
	total := pages(orgs)
	if stream == vendorsim.SnykOrganizations {
		return total
	}
	each := make([]int, orgs)
	for i := range b.sim.Count(stream) {
		each[sim.Organization(stream, i)]++
	}
	for _, n := range each {
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
			var sim *vendorsim.Snyk
			orgs := 4
			if name == vendorsim.SnykOrganizations {
				orgs = 35
			}
			p := pagedStream{
				options: func() vendorsim.Options { _, o := simSnyk(orgs, 60); return o },
				open:    func(b *bubble) collector.Stream { return stream(b, openSnykIn(b, nil, nil), name) },
				path:    path, credential: "SNYK_TOKEN", permission: "SNYK_TOKEN", secret: vendorsim.SnykToken,
				parallel: name != vendorsim.SnykOrganizations,
			}
			var o vendorsim.Options
			sim, o = simSnyk(orgs, 60)
			inBubble(t, o, func(b *bubble) { p.requests = snykRequests(b, sim, name) })
			// Which organisation a record is of depends on their number alone.
			p.want = func(b *bubble) []string { return snykRecords(b, sim, name) }
			p.testPassing(t, map[string]vendorsim.Fault{
				"429 with the structured header": {Times: 2, Do: vendorsim.Status(429, `{"jsonapi":{"version":"1.0"},"errors":[]}`,
					"X-Ratelimit-Limit", `160, 160;w=1;name="a", 1620;w=60;name="b"`, "X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "20", "Retry-After", "20")},
				"header that cannot be read": {Do: vendorsim.Status(503, "", "X-Ratelimit-Limit", `"default";q=`, "X-Ratelimit-Remaining", "many")},
			})
			p.testLasting(t)
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
				sim, o := simSnyk(4, 70)
				inBubble(t, o, func(b *bubble) {
					sim.Configure(func(h *vendorsim.SnykBehaviour) { h.Next, h.End = next, last })
					b.same(b.extract(stream(b, openSnykIn(b, nil, nil), vendorsim.SnykProjects)), snykRecords(b, sim, vendorsim.SnykProjects))
					b.asked(snykRequests(b, sim, vendorsim.SnykProjects))
				})
			})
		}
	}
}

func TestSnykPages(t *testing.T) {
	for name, tc := range map[string]struct {
		orgs, each int
		empty      bool
		more       func(orgs int) int
	}{
		"no organisation":        {0, 0, false, nil},
		"nothing in them":        {3, 0, false, nil},
		"last page exactly full": {1, 30, false, nil},
		"empty page at the end":  {1, 30, true, func(int) int { return 2 }}, // of organisations, of issues
		"pages of organisations": {30, 200, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simSnyk(tc.orgs, tc.each)
			inBubble(t, o, func(b *bubble) {
				sim.Configure(func(h *vendorsim.SnykBehaviour) { h.EmptyLast = tc.empty })
				b.same(b.extract(stream(b, openSnykIn(b, nil, nil), vendorsim.SnykIssues)), snykRecords(b, sim, vendorsim.SnykIssues))
				requests := snykRequests(b, sim, vendorsim.SnykIssues)
				if tc.more != nil {
					requests += tc.more(tc.orgs)
				}
				b.asked(requests)
			})
		})
	}
}

// TestSnykReadsFullPages: without the simulator's bound, pages are as large as
// the vendor makes them.
func TestSnykReadsFullPages(t *testing.T) {
	sim, o := simSnyk(1, 250)
	o.PageLimits = nil
	inBubble(t, o, func(b *bubble) {
		b.same(b.extract(stream(b, openSnykIn(b, nil, nil), vendorsim.SnykIssues)), snykRecords(b, sim, vendorsim.SnykIssues))
		b.asked(1 + 3)
	})
}

// TestSnykReadsSeveralOrganisationsAtOnce, and no more than it was told.
func TestSnykReadsSeveralOrganisationsAtOnce(t *testing.T) {
	for _, parallel := range []int{1, 8} {
		sim, o := simSnyk(20, 200)
		o.Latency = 100 * time.Millisecond
		inBubble(t, o, func(b *bubble) {
			c := openSnykIn(b, nil, func(s *snykSettings) { s.Parallel = parallel })
			b.same(b.extract(stream(b, c, vendorsim.SnykIssues)), snykRecords(b, sim, vendorsim.SnykIssues))
			if n := b.host.Stats().MaxParallel[""]; n != parallel {
				t.Errorf("%d requests at once, want %d", n, parallel)
			}
		})
	}
}

// TestSnykKeepsToTheRate: more pages than a minute's allowance cost a wait,
// and no answer 429.
func TestSnykKeepsToTheRate(t *testing.T) {
	sim, o := simSnyk(20, 600)
	o.Limits = map[string]vendorsim.LimitNumbers{"snyk-minute": {Max: 30}}
	inBubble(t, o, func(b *bubble) {
		c := openSnykIn(b, nil, func(s *snykSettings) { s.Parallel = 1 })
		began := time.Now()
		b.same(b.extract(stream(b, c, vendorsim.SnykIssues)), snykRecords(b, sim, vendorsim.SnykIssues))
		b.asked(snykRequests(b, sim, vendorsim.SnykIssues))
		if took := time.Since(began); b.host.Stats().Throttled != 0 || took < 2*time.Minute || took > 3*time.Minute {
			t.Errorf("took %v with %d answers 429", took, b.host.Stats().Throttled)
		}
	})
}

func TestSnykFilters(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		change func(*snykSettings)
		keep   func(record string) bool
	}{
		"projects": {vendorsim.SnykProjects, func(s *snykSettings) { s.Projects = "types=npm,pip" }, func(r string) bool {
			return strings.Contains(r, `"type":"npm"`) || strings.Contains(r, `"type":"pip"`)
		}},
		"issues": {vendorsim.SnykIssues, func(s *snykSettings) { s.Issues = "?status=open&effective_severity_level=high" }, func(r string) bool {
			return strings.Contains(r, `"status":"open"`) && strings.Contains(r, `"effective_severity_level":"high"`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simSnyk(2, 200)
			inBubble(t, o, func(b *bubble) {
				sim.Configure(func(h *vendorsim.SnykBehaviour) { h.Next = vendorsim.SnykNextBare })
				want := slices.DeleteFunc(snykRecords(b, sim, tc.stream), func(r string) bool { return !tc.keep(r) })
				b.same(b.extract(stream(b, openSnykIn(b, nil, tc.change), tc.stream)), want)
			})
		})
	}
}

func TestSnykLogsTheEndOfTheVersionOnce(t *testing.T) {
	sim, o := simSnyk(3, 60)
	inBubble(t, o, func(b *bubble) {
		sim.Configure(func(h *vendorsim.SnykBehaviour) { h.Aging = true })
		core, logs := observer.New(zap.WarnLevel)
		b.extract(stream(b, openSnykIn(b, zap.New(core), nil), vendorsim.SnykProjects))
		if logs.FilterField(zap.String("version", "2024-08-25")).Len() != 1 || logs.Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}

func TestSnykTokenForms(t *testing.T) {
	for token, want := range map[string]string{
		"abc": "token abc", "token abc": "token abc", "Token  abc\n": "token abc", "Bearer xyz": "bearer xyz",
	} {
		if got := (&snykSettings{Token: config.Secret(token)}).authorization(); got != want {
			t.Errorf("%q: %q, want %q", token, got, want)
		}
	}
	_, o := simSnyk(1, 1)
	inBubble(t, o, func(b *bubble) {
		if err := openSnykIn(b, nil, func(s *snykSettings) { s.Token = "token " + vendorsim.SnykToken }).Check(b.Context()); err != nil {
			t.Error(err)
		}
		b.asked(1)
	})
}

func TestSnykRefusals(t *testing.T) {
	for _, name := range snykStreams {
		t.Run(name, func(t *testing.T) {
			_, o := simSnyk(3, 10)
			inBubble(t, o, func(b *bubble) {
				c := openSnykIn(b, nil, func(s *snykSettings) { s.Token = "bad-secret" })
				err := b.refused(stream(b, c, name), time.Hour)
				b.asked(1)
				b.host.ResetStats()
				check := c.Check(b.Context())
				b.asked(1)
				for _, err := range []error{err, check} {
					if !errors.Is(err, collector.ErrRefused) || !strings.Contains(err.Error(), "check SNYK_TOKEN") ||
						!strings.Contains(err.Error(), "GET /rest/orgs") || strings.Contains(err.Error(), "bad-secret") {
						t.Errorf("error %v", err)
					}
				}
			})
		})
	}
	t.Run("bad version", func(t *testing.T) {
		_, o := simSnyk(3, 10)
		inBubble(t, o, func(b *bubble) {
			err := b.refused(stream(b, openSnykIn(b, nil, func(s *snykSettings) { s.Version = "1" }), vendorsim.SnykIssues), time.Hour)
			if !strings.Contains(err.Error(), "SNYK_VERSION") {
				t.Errorf("error %v", err)
			}
			b.asked(1)
		})
	})
}

func TestSnykSettings(t *testing.T) {
	for text, want := range map[string]string{
		"https://api.snyk.io": "https://api.snyk.io", "https://api.eu.snyk.io/rest/": "https://api.eu.snyk.io",
		"api.au.snyk.io/v1": "https://api.au.snyk.io", "https://gate.test/snyk": "https://gate.test/snyk", "": "",
	} {
		s := &snykSettings{Endpoint: text, Version: "2024-08-25"}
		u, _ := s.base()
		oneProblem(t, s.Validate(), want == "", "SNYK_ENDPOINT")
		if want != "" && u.String() != want {
			t.Errorf("%q: %v, want %s", text, u.String(), want)
		}
	}
	for name, s := range map[string]*snykSettings{
		"SNYK_VERSION":         {Version: "latest"},
		"SNYK_PROJECTS_FILTER": {Version: "2024-08-25~beta", Projects: "limit=10"},
		"SNYK_ISSUES_FILTER":   {Version: "2024-08-25", Issues: "status"},
	} {
		s.Endpoint = "api.snyk.io"
		oneProblem(t, s.Validate(), true, name)
	}
}
