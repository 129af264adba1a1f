package sources

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// extractAll reads all streams at once, as a run does.
func (b *bubble) extractAll(c *collector.Collector) map[string][]string {
	b.Helper()
	outs := map[string]*spool{}
	var all sync.WaitGroup
	for _, s := range c.Streams {
		out := newSpool(b.T)
		outs[s.Name] = out
		all.Go(func() {
			if err := s.Extract(b.Context(), out); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	got := map[string][]string{}
	for name, out := range outs {
		got[name] = out.records()
	}
	return got
}

// TestSnykSharesTheOrganisations: a run reads the list once, the next run
// again.
func TestSnykSharesTheOrganisations(t *testing.T) {
	sim, o := simSnyk(12, 100)
	o.Latency = 10 * time.Millisecond
	inBubble(t, o, func(b *bubble) {
		c := openSnykIn(b, nil, nil)
		for run := range 2 {
			got := b.extractAll(c)
			for _, name := range snykStreams {
				var without []int
				if run == 1 {
					without = []int{2}
				}
				b.same(got[name], snykRecords(b, sim, name, without...))
			}
			stats := b.host.Stats()
			if n := stats.Requests["GET /rest/orgs"]; n != 2 {
				t.Errorf("run %d: %d requests for organisations, want 2", run, n)
			}
			if n := stats.MaxParallel[""]; n < 4 || n > 16 {
				t.Errorf("run %d: %d requests at once, want up to 8 for each of the two APIs", run, n)
			}
			if len(stats.Violations) > 0 {
				t.Errorf("run %d: rules broken: %v", run, stats.Violations)
			}
			b.host.ResetStats()
			sim.Delete(2)
		}
	})
}

// TestSnykCalledOffStreamHarmsNoOther: the stream that reads the list is
// called off; another that waits for it reads it instead.
func TestSnykCalledOffStreamHarmsNoOther(t *testing.T) {
	sim, o := simSnyk(3, 20)
	inBubble(t, o, func(b *bubble) {
		b.host.Inject(vendorsim.Fault{Path: "/rest/orgs", Do: vendorsim.Hang()})
		c := openSnykIn(b, nil, nil)
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if err := stream(b, c, vendorsim.SnykOrganizations).Extract(ctx, newSpool(b.T)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the stream that was called off: %v", err)
			}
		})
		time.Sleep(time.Second) // of the fake clock: now the list is being read
		b.same(b.extract(stream(b, c, vendorsim.SnykProjects)), snykRecords(b, sim, vendorsim.SnykProjects))
		all.Wait()
		b.asked(1 + snykRequests(b, sim, vendorsim.SnykProjects))
	})
}

func TestSnykOrganisationDisappears(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		path   string
		from   int // the request at which it is gone
	}{
		"before its members":         {vendorsim.SnykMembers, "/v1/org/*/members", 1},
		"before its first page":      {vendorsim.SnykIssues, "/rest/orgs/*/issues", 1},
		"in the middle of its pages": {vendorsim.SnykIssues, "/rest/orgs/*/issues", 2},
	} {
		t.Run(name, func(t *testing.T) {
			const victim = 2
			sim, o := simSnyk(4, 150)
			inBubble(t, o, func(b *bubble) {
				id := b.sim.RecordID(vendorsim.SnykOrganizations, victim)
				b.host.Inject(vendorsim.Fault{Path: tc.path, From: tc.from,
					When: func(r *http.Request) bool { return strings.Contains(r.URL.Path, id) },
					Do: func(next http.Handler) http.Handler {
						sim.Delete(victim)
						return next
					},
				})
				core, logs := observer.New(zap.WarnLevel)
				got := b.extract(stream(b, openSnykIn(b, zap.New(core), nil), tc.stream))
				want := snykRecords(b, sim, tc.stream, victim)
				if tc.from > 1 { // the page that was read before stays
					own := snykRecords(b, sim, tc.stream, 0, 1, 3)
					want = append(want, own[:10]...)
				}
				b.same(got, want)
				if logs.FilterField(zap.String("id", id)).Len() != 1 {
					t.Errorf("not logged: %v", logs.All())
				}
			})
		})
	}
}

// TestSnykLostPageIsNoDeletedOrganisation: a page that is not found while its
// organisation is there leaves the stream incomplete.
func TestSnykLostPageIsNoDeletedOrganisation(t *testing.T) {
	_, o := simSnyk(1, 50)
	inBubble(t, o, func(b *bubble) {
		b.host.Inject(vendorsim.Fault{Path: "/rest/orgs/*/issues", From: 3, Do: vendorsim.Status(404, `{"errors":[]}`)})
		err := b.refused(stream(b, openSnykIn(b, nil, nil), vendorsim.SnykIssues), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) {
			t.Errorf("error %v", err)
		}
	})
}

// TestSnykNothingFoundIsNoEmptyStream: when no organisation is found, it is
// not the organisations that are wrong.
func TestSnykNothingFoundIsNoEmptyStream(t *testing.T) {
	_, o := simSnyk(3, 50)
	inBubble(t, o, func(b *bubble) {
		b.host.Inject(vendorsim.Fault{Path: "/v1/**", Times: vendorsim.Forever, Do: vendorsim.Status(404, "no such path")})
		err := b.refused(stream(b, openSnykIn(b, nil, nil), vendorsim.SnykMembers), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "SNYK_ENDPOINT") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSnykForbiddenOrganisations(t *testing.T) {
	for _, name := range []string{vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues} {
		t.Run(name, func(t *testing.T) {
			sim, o := simSnyk(6, 60)
			inBubble(t, o, func(b *bubble) {
				sim.Forbid(name, 1, 4)
				names := []string{orgName(b, 1), orgName(b, 4)}
				err := b.refused(stream(b, openSnykIn(b, nil, nil), name), time.Hour)
				for _, text := range append(names, "2 of 6 organisations", "SNYK_SKIP_FORBIDDEN=true", "SNYK_TOKEN") {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("error %v, want %s", err, text)
					}
				}
				if !errors.Is(err, collector.ErrForbidden) {
					t.Errorf("error %v", err)
				}
				core, logs := observer.New(zap.WarnLevel)
				c := openSnykIn(b, zap.New(core), func(s *snykSettings) { s.Skip = true })
				b.same(b.extract(stream(b, c, name)), snykRecords(b, sim, name, 1, 4))
				if logs.FilterField(zap.Int("organizations", 2)).Len() != 1 {
					t.Errorf("not logged: %v", logs.All())
				}
				sim.Forbid(name)
				if err := b.refused(stream(b, c, name), time.Hour); !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "all 6") {
					t.Errorf("all are forbidden: %v", err)
				}
			})
		})
	}
}

// orgName is how an error shows an organisation.
func orgName(b *bubble, org int) string {
	slug := b.sim.Record(vendorsim.SnykOrganizations, org)
	_, rest, _ := strings.Cut(string(slug), `"name":"`)
	name, _, _ := strings.Cut(rest, `","slug"`)
	return name // the quotes in it are escaped alike
}
