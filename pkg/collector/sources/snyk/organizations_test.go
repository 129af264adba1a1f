package snyk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// extractAll extracts all streams at once, as a run does.
func extractAll(h *collectortest.Harness, c *collector.Collector) map[string][]string {
	h.Helper()
	outs := map[string]*collectortest.Spool{}
	var all sync.WaitGroup
	for _, s := range c.Streams {
		out := collectortest.NewSpool(h.T)
		outs[s.Name] = out
		all.Go(func() {
			if err := s.Extract(h.Context(), out); err != nil {
				h.Error(err)
			}
		})
	}
	all.Wait()
	got := map[string][]string{}
	for name, out := range outs {
		got[name] = out.Records()
	}
	return got
}

// TestSnykSharesTheOrganisations: a run reads the list once, and the next run
// reads it again.
func TestSnykSharesTheOrganisations(t *testing.T) {
	sim, o := simulateSnyk(12, 100)
	o.Latency = 10 * time.Millisecond
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		c := openSnyk(h, nil, nil)
		for run := range 2 {
			got := extractAll(h, c)
			for _, name := range streamNames {
				var without []int
				if run == 1 {
					without = []int{2}
				}
				h.AssertRecords(got[name], expectedRecords(h, sim, name, without...))
			}
			stats := h.Host.Stats()
			if n := stats.Requests["GET /rest/orgs"]; n != 2 {
				t.Errorf("run %d: %d requests for organisations, want 2", run, n)
			}
			if n := stats.MaxParallel[""]; n < 4 || n > 16 {
				t.Errorf("run %d: %d requests at once, want up to 8 for each of the two APIs", run, n)
			}
			if len(stats.Violations) > 0 {
				t.Errorf("run %d: rules broken: %v", run, stats.Violations)
			}
			h.Host.ResetStats()
			sim.Delete(2)
		}
	})
}

// TestSnykCalledOffStreamHarmsNoOther: when the stream that reads the list is
// canceled, another stream that waits for the list reads it.
func TestSnykCalledOffStreamHarmsNoOther(t *testing.T) {
	sim, o := simulateSnyk(3, 20)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.Host.Inject(vendorsim.Fault{Path: "/rest/orgs", Do: vendorsim.Hang()})
		c := openSnyk(h, nil, nil)
		ctx, cancel := context.WithTimeout(h.Context(), time.Minute)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if err := collectortest.FindStream(h, c, vendorsim.SnykOrganizations).Extract(ctx, collectortest.NewSpool(h.T)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the canceled stream: %v", err)
			}
		})
		time.Sleep(time.Second) // of the fake clock: now the list is being read
		h.AssertRecords(h.Extract(collectortest.FindStream(h, c, vendorsim.SnykProjects)), expectedRecords(h, sim, vendorsim.SnykProjects))
		all.Wait()
		h.AssertRequests(1 + expectedRequests(h, sim, vendorsim.SnykProjects))
	})
}

// TestSnykWaitersShowTheWait: while one stream waits for the rate limit of the
// list of organisations, the streams that wait for the list are not idle.
func TestSnykWaitersShowTheWait(t *testing.T) {
	const idle = 10 * time.Minute // RUN_IDLE_TIMEOUT
	sim, o := simulateSnyk(3, 20)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.Host.Inject(vendorsim.Fault{Path: "/rest/orgs", Times: 2, Do: vendorsim.Status(429, `{"errors":[]}`, "Retry-After", "840")})
		c := openSnyk(h, nil, nil)
		all := map[string]*collector.Stats{}
		outs := map[string]*collectortest.Spool{}
		var running sync.WaitGroup
		for _, s := range c.Streams {
			stats, out := &collector.Stats{}, collectortest.NewSpool(h.T)
			all[s.Name], outs[s.Name] = stats, out
			running.Go(func() {
				if err := s.Extract(collector.WithStats(h.Context(), stats), out); err != nil {
					t.Error(err)
				}
			})
		}
		for minute := range 27 {
			time.Sleep(time.Minute)
			for name, stats := range all {
				p := stats.Progress()
				if !p.WaitUntil.After(time.Now()) || !strings.Contains(p.WaitFor, "rate limit") || p.Step != "GET /rest/orgs" ||
					time.Since(p.Active) > idle && time.Since(p.WaitUntil) > idle {
					t.Errorf("minute %d: %s waits until %v for %q at %s, active at %v", minute, name, p.WaitUntil, p.WaitFor, p.Step, p.Active)
				}
			}
		}
		running.Wait()
		for name, out := range outs {
			h.AssertRecords(out.Records(), expectedRecords(h, sim, name))
		}
		if n := h.Host.Stats().Requests["GET /rest/orgs"]; n != 3 {
			t.Errorf("%d requests for organisations, want 3", n)
		}
	})
}

func TestSnykOrganisationDisappears(t *testing.T) {
	for _, tc := range []struct {
		name    string
		stream  string
		path    string
		request int // the request before which the organisation is deleted
	}{
		{name: "before its members", stream: vendorsim.SnykMembers, path: "/v1/org/*/members", request: 1},
		{name: "before its first page", stream: vendorsim.SnykIssues, path: "/rest/orgs/*/issues", request: 1},
		{name: "in the middle of its pages", stream: vendorsim.SnykIssues, path: "/rest/orgs/*/issues", request: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const deleted = 2
			sim, o := simulateSnyk(4, 150)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				id := h.Sim.RecordID(vendorsim.SnykOrganizations, deleted)
				h.Host.Inject(vendorsim.Fault{Path: tc.path, From: tc.request,
					When: func(r *http.Request) bool { return strings.Contains(r.URL.Path, id) },
					Do:   vendorsim.Before(func() { sim.Delete(deleted) }),
				})
				core, logs := observer.New(zap.WarnLevel)
				got, doubts := extractWithDoubts(h, collectortest.FindStream(h, openSnyk(h, zap.New(core), nil), tc.stream))
				assertDoubts(h, doubts, "an organisation was deleted while it was read, and was skipped", 1)
				assertRequestsForOrganization(h, deleted, tc.request+1)
				h.AssertRecords(got, expectedRecords(h, sim, tc.stream, deleted)) // none of its pages
				if logs.FilterField(zap.String("id", id)).Len() != 1 {
					t.Errorf("not logged: %v", logs.All())
				}
			})
		})
	}
}

// TestSnykLostPageIsNoDeletedOrganisation: if a page is not found although its
// organisation exists, the stream is incomplete.
func TestSnykLostPageIsNoDeletedOrganisation(t *testing.T) {
	_, o := simulateSnyk(1, 50)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.Host.Inject(vendorsim.Fault{Path: "/rest/orgs/*/issues", From: 3, Do: vendorsim.Status(404, `{"errors":[]}`)})
		err := h.ExtractError(collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykIssues), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) {
			t.Errorf("error %v", err)
		}
	})
}

// TestSnykNothingFoundIsNoEmptyStream: if no organisation is found, the address
// is wrong and not the organisations.
func TestSnykNothingFoundIsNoEmptyStream(t *testing.T) {
	_, o := simulateSnyk(3, 50)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.Host.Inject(vendorsim.Fault{Path: "/v1/**", Times: vendorsim.Forever, Do: vendorsim.Status(404, "no such path")})
		err := h.ExtractError(collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykMembers), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "SNYK_ENDPOINT") {
			t.Errorf("error %v", err)
		}
	})
}

// TestSnykForbiddenOrganisations: a stream without some organisations fails or,
// if the operator wants that, is stored with a doubt. A permission that is
// missing makes Snyk respond with 403 or with 404.
func TestSnykForbiddenOrganisations(t *testing.T) {
	for _, refusal := range []struct {
		name     string
		notFound bool
		requests int // for a refused organisation
		all      error
	}{
		{name: "403", requests: 1, all: collector.ErrForbidden},
		// The stream's request and the one for the organisation, twice.
		{name: "404", notFound: true, requests: 4, all: collector.ErrIncomplete},
	} {
		for _, name := range []string{vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues} {
			t.Run(refusal.name+", "+name, func(t *testing.T) {
				sim, o := simulateSnyk(6, 60)
				collectortest.Run(t, o, func(h *collectortest.Harness) {
					sim.ChangeBehaviour(func(b *vendorsim.SnykBehaviour) { b.ForbiddenNotFound = refusal.notFound })
					sim.Forbid(name, 1, 4)
					names := []string{organizationName(h, 1), organizationName(h, 4)}
					err := h.ExtractError(collectortest.FindStream(h, openSnyk(h, nil, nil), name), time.Hour)
					for _, text := range append(names, "2 of 6 organisations", "SNYK_SKIP_FORBIDDEN=true", "SNYK_TOKEN") {
						if !strings.Contains(err.Error(), text) {
							t.Errorf("error %v, want %s", err, text)
						}
					}
					if !errors.Is(err, collector.ErrForbidden) {
						t.Errorf("error %v", err)
					}
					assertRequestsForOrganization(h, 1, refusal.requests)
					h.Host.ResetStats()
					core, logs := observer.New(zap.WarnLevel)
					c := openSnyk(h, zap.New(core), func(s *Settings) { s.Skip = true })
					records, doubts := extractWithDoubts(h, collectortest.FindStream(h, c, name))
					h.AssertRecords(records, expectedRecords(h, sim, name, 1, 4))
					assertDoubts(h, doubts, "an organisation that the token may not read was skipped", 2)
					assertRequestsForOrganization(h, 4, refusal.requests)
					if logs.FilterField(zap.Int("organizations", 2)).Len() != 1 || logs.Len() != 1 {
						t.Errorf("logged %v", logs.All())
					}
					sim.Forbid(name)
					err = h.ExtractError(collectortest.FindStream(h, c, name), time.Hour)
					if !errors.Is(err, refusal.all) || !strings.Contains(err.Error(), "all 6 organisations") || !strings.Contains(err.Error(), "SNYK_TOKEN") {
						t.Errorf("all are forbidden: %v", err)
					}
				})
			})
		}
	}
}

// assertRequestsForOrganization compares the number of requests that name an
// organisation in their path.
func assertRequestsForOrganization(h *collectortest.Harness, org, want int) {
	h.Helper()
	got, id := 0, h.Sim.RecordID(vendorsim.SnykOrganizations, org)
	for _, r := range h.Host.Stats().Log {
		if strings.Contains(r.Path, id) {
			got++
		}
	}
	if got != want {
		h.Errorf("%d requests for organisation %d, want %d", got, org, want)
	}
}

// TestSnykNotFoundOnce: if the records of an organisation that exists are not
// found once, they are requested again.
func TestSnykNotFoundOnce(t *testing.T) {
	for name, path := range map[string]string{
		vendorsim.SnykMembers: "/v1/org/*/members", vendorsim.SnykProjects: "/rest/orgs/*/projects", vendorsim.SnykIssues: "/rest/orgs/*/issues",
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simulateSnyk(4, 60)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				h.Host.Inject(vendorsim.Fault{Path: path, Do: vendorsim.Status(404, `{"errors":[]}`)})
				records, doubts := extractWithDoubts(h, collectortest.FindStream(h, openSnyk(h, nil, nil), name))
				h.AssertRecords(records, expectedRecords(h, sim, name))
				assertDoubts(h, doubts, "", 0)
				h.AssertRequests(expectedRequests(h, sim, name) + 2)
			})
		})
	}
}

// TestSnykListedOrganisationIsNotDeleted: an organisation that is not found for a
// short time is read when it is found again, as long as the list has it.
func TestSnykListedOrganisationIsNotDeleted(t *testing.T) {
	sim, o := simulateSnyk(4, 60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		notFound := vendorsim.Status(404, `{"errors":[]}`)
		h.Host.Inject(vendorsim.Fault{Path: "/v1/org/*/members", Do: notFound})
		h.Host.Inject(vendorsim.Fault{Path: "/rest/orgs/*", Do: notFound})
		records, doubts := extractWithDoubts(h, collectortest.FindStream(h, openSnyk(h, nil, nil), vendorsim.SnykMembers))
		h.AssertRecords(records, expectedRecords(h, sim, vendorsim.SnykMembers))
		assertDoubts(h, doubts, "", 0)
		h.AssertRequests(expectedRequests(h, sim, vendorsim.SnykMembers) + 3)
	})
}

// TestSnykDoubtfulRefusals: only an organisation that the vendor does not know
// is deleted, and only an organisation of which nothing was read is skipped.
func TestSnykDoubtfulRefusals(t *testing.T) {
	const org = 1
	for _, tc := range []struct {
		name      string
		faults    func(id string) []vendorsim.Fault
		wantClass error
		wantText  string
	}{
		{
			name: "the organisation is forbidden",
			faults: func(id string) []vendorsim.Fault {
				return []vendorsim.Fault{
					{Path: "/rest/orgs/" + id + "/issues", Do: vendorsim.Status(404, `{"errors":[]}`)},
					{Path: "/rest/orgs/" + id, Do: vendorsim.Status(403, `{"errors":[]}`)},
				}
			},
			wantClass: collector.ErrForbidden, wantText: "1 of 4 organisations",
		},
		{
			name: "the organisation cannot be requested",
			faults: func(id string) []vendorsim.Fault {
				return []vendorsim.Fault{
					{Path: "/rest/orgs/" + id + "/issues", Do: vendorsim.Status(404, `{"errors":[]}`)},
					{Path: "/rest/orgs/" + id, Do: vendorsim.Status(500, "")},
				}
			},
			wantText: "500 Internal Server Error",
		},
		{
			name: "a later page is forbidden",
			faults: func(id string) []vendorsim.Fault {
				return []vendorsim.Fault{{Path: "/rest/orgs/" + id + "/issues", From: 2, Do: vendorsim.Status(403, `{"errors":[]}`)}}
			},
			wantClass: collector.ErrIncomplete, wantText: "a page is refused, although the pages before it were not",
		},
		{
			name: "a later page is not found",
			faults: func(id string) []vendorsim.Fault {
				return []vendorsim.Fault{{Path: "/rest/orgs/" + id + "/issues", From: 2, Do: vendorsim.Status(404, `{"errors":[]}`)}}
			},
			wantClass: collector.ErrIncomplete, wantText: "a page is not found, although the organisation is",
		},
	} {
		for _, skip := range []bool{false, true} {
			if skip && tc.wantClass == collector.ErrForbidden {
				continue // is skipped
			}
			t.Run(fmt.Sprintf("%s, SNYK_SKIP_FORBIDDEN=%v", tc.name, skip), func(t *testing.T) {
				_, o := simulateSnyk(4, 150)
				collectortest.Run(t, o, func(h *collectortest.Harness) {
					for _, f := range tc.faults(h.Sim.RecordID(vendorsim.SnykOrganizations, org)) {
						f.Times = vendorsim.Forever
						h.Host.Inject(f)
					}
					c := openSnyk(h, nil, func(s *Settings) { s.Skip = skip })
					err := h.ExtractError(collectortest.FindStream(h, c, vendorsim.SnykIssues), time.Hour)
					if tc.wantClass != nil && !errors.Is(err, tc.wantClass) || errors.Is(err, collector.ErrForbidden) != (tc.wantClass == collector.ErrForbidden) ||
						!strings.Contains(err.Error(), tc.wantText) || !strings.Contains(err.Error(), organizationName(h, org)) {
						t.Errorf("error %v, want %v and %q", err, tc.wantClass, tc.wantText)
					}
				})
			})
		}
	}
}

// TestSnykNothingReadIsNoEmptyStream: if some organisations are forbidden and
// the others are deleted, the stream is not stored.
func TestSnykNothingReadIsNoEmptyStream(t *testing.T) {
	sim, o := simulateSnyk(3, 60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		sim.Forbid(vendorsim.SnykMembers, 1)
		h.Host.Inject(vendorsim.Fault{Path: "/v1/**", Do: func(next http.Handler) http.Handler {
			sim.Delete(0)
			sim.Delete(2)
			return next
		}})
		c := openSnyk(h, nil, func(s *Settings) { s.Skip = true })
		err := h.ExtractError(collectortest.FindStream(h, c, vendorsim.SnykMembers), time.Hour)
		if !errors.Is(err, collector.ErrForbidden) || !strings.Contains(err.Error(), "all 3 organisations") {
			t.Errorf("error %v", err)
		}
	})
}

// organizationName returns the name of an organisation as errors show it.
func organizationName(h *collectortest.Harness, org int) string {
	slug := h.Sim.Record(vendorsim.SnykOrganizations, org)
	_, rest, _ := strings.Cut(string(slug), `"name":"`)
	name, _, _ := strings.Cut(rest, `","slug"`)
	return name // errors and records escape quotes in the same way
}
