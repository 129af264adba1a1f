package knowbe4

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openKnowBe4 opens the collector of the simulated account. change may be nil.
func openKnowBe4(h *collectortest.Harness, change func(*Settings)) *collector.Collector {
	h.Helper()
	s := Settings{Endpoint: h.Host.URL() + enrollmentsPath, Token: vendorsim.KnowBe4Token}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test"})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("knowbe4", a)
}

// simulateKnowBe4 returns an account whose pages have at most 40 enrollments.
// configure may be nil.
func simulateKnowBe4(records int, configure func(*vendorsim.KnowBe4Behaviour)) vendorsim.Options {
	sim := vendorsim.NewKnowBe4()
	if configure != nil {
		sim.ChangeBehaviour(configure)
	}
	return vendorsim.Options{
		Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.KnowBe4Enrollments: records},
		PageLimits: map[string]int{vendorsim.KnowBe4Enrollments: 40},
	}
}

// withoutCursors makes the simulated API support page numbers only.
func withoutCursors(b *vendorsim.KnowBe4Behaviour) { b.Older = true }

func TestKnowBe4EnrollmentsUnderFaults(t *testing.T) {
	for _, tc := range []struct {
		name      string
		configure func(*vendorsim.KnowBe4Behaviour)
		requests  int
	}{
		{name: "by cursor", requests: 4},
		{name: "by page number", configure: withoutCursors, requests: 1 + 4 + 1 + 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := collectortest.PagedStream{
				Options: func() vendorsim.Options { return simulateKnowBe4(150, tc.configure) },
				Open: func(h *collectortest.Harness) collector.Stream {
					return collectortest.FindStream(h, openKnowBe4(h, nil), "knowbe4_enrollments")
				},
				Want:       func(h *collectortest.Harness) []string { return h.Records(vendorsim.KnowBe4Enrollments) },
				Requests:   tc.requests,
				Path:       enrollmentsPath,
				Credential: "KNOWBE4_TOKEN",
				Permission: "reporting API",
				Secret:     vendorsim.KnowBe4Token,
			}
			p.TestPassing(t, nil)
			p.TestLasting(t)
		})
	}
}

func TestKnowBe4Pages(t *testing.T) {
	emptyLast := func(b *vendorsim.KnowBe4Behaviour) { b.EmptyLast = true }
	numberCursor := func(b *vendorsim.KnowBe4Behaviour) { b.NumberCursor = true }
	refuseCursor := func(b *vendorsim.KnowBe4Behaviour) { b.Older, b.RefuseCursor = true, true }
	for _, tc := range []struct {
		name      string
		records   int
		configure func(*vendorsim.KnowBe4Behaviour)
		filter    string
		requests  int
	}{
		{name: "no records", records: 0, requests: 1},
		{name: "one record", records: 1, requests: 1},
		{name: "last page exactly full", records: 120, requests: 3},
		{name: "last page exactly full and more", records: 120, configure: emptyLast, requests: 4},
		{name: "cursor as a number", records: 130, configure: numberCursor, requests: 4},
		{name: "short pages", records: 200, filter: "exclude_archived_users=true", requests: 5},
		{name: "by number, no records", records: 0, configure: withoutCursors, requests: 2},
		{name: "by number, one record", records: 1, configure: withoutCursors, requests: 1 + 2 + 1},
		{name: "by number, last page exactly full", records: 120, configure: withoutCursors, requests: 1 + 4 + 3},
		{name: "by number, short pages", records: 200, configure: withoutCursors, filter: "exclude_archived_users=true", requests: 1 + 6 + 5},
		{name: "by number, cursor refused", records: 120, configure: refuseCursor, requests: 1 + 4 + 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, simulateKnowBe4(tc.records, tc.configure), func(h *collectortest.Harness) {
				var want []string
				for _, r := range h.Records(vendorsim.KnowBe4Enrollments) {
					if tc.filter == "" || !strings.Contains(r, `"archived":true`) {
						want = append(want, r)
					}
				}
				c := openKnowBe4(h, func(s *Settings) { s.Filter = tc.filter })
				h.AssertRecords(h.Extract(c.Streams[0]), want)
				h.AssertRequests(tc.requests)
				assertOneForm(h)
			})
		})
	}
}

// assertOneForm checks that the requests after the first either all have a
// cursor or all have a page number. Only a page with a number is requested
// twice.
func assertOneForm(h *collectortest.Harness) {
	h.Helper()
	seen := map[string]int{}
	var kind string
	for i, r := range h.Host.Stats().Log {
		q, err := url.ParseQuery(r.Query)
		if err != nil || q.Get("per_page") != "500" || q.Has("cursor") == q.Has("page") || q.Has("cursor") && seen[r.Query] > 0 || seen[r.Query] > 1 {
			h.Errorf("request %d: %q", i, r.Query)
		}
		seen[r.Query]++
		newKind := "cursor"
		if q.Has("page") {
			newKind = "page"
		}
		if i > 1 && newKind != kind {
			h.Errorf("request %d changes from %s to %s", i, kind, newKind)
		}
		kind = newKind
	}
}

// TestKnowBe4FormMustNotChange: after a bare array in the middle of a listing
// by cursor, empty or not, it is unknown whether there are more records.
func TestKnowBe4FormMustNotChange(t *testing.T) {
	for name, body := range map[string]string{"empty": "[]", "records": `[{"enrollment_id":1}]`} {
		t.Run(name, func(t *testing.T) {
			collectortest.Run(t, simulateKnowBe4(200, nil), func(h *collectortest.Harness) {
				h.Host.Inject(vendorsim.Fault{From: 3, Times: vendorsim.Forever, Do: vendorsim.Status(200, body)})
				err := h.ExtractError(openKnowBe4(h, nil).Streams[0], time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("error %v", err)
				}
				h.AssertRequests(3)
			})
		})
	}
}

// TestKnowBe4GrowsWhileRead: records that are added during the extraction are
// extracted, and none is extracted twice.
func TestKnowBe4GrowsWhileRead(t *testing.T) {
	for name, configure := range map[string]func(*vendorsim.KnowBe4Behaviour){"by cursor": nil, "by page number": withoutCursors} {
		t.Run(name, func(t *testing.T) {
			collectortest.Run(t, simulateKnowBe4(120, configure), func(h *collectortest.Harness) {
				h.Host.Inject(vendorsim.Fault{From: 3, Do: vendorsim.Rewrite(func(body []byte) []byte {
					h.Sim.SetCount(vendorsim.KnowBe4Enrollments, 170)
					return body
				})})
				got := h.Extract(openKnowBe4(h, nil).Streams[0])
				all := h.Records(vendorsim.KnowBe4Enrollments)
				if len(got) == 120 { // the last page was read before
					all = all[:120]
				}
				h.AssertRecords(got, all)
			})
		})
	}
}

// TestKnowBe4ShrinksWhileRead: enrollments that are removed during the
// extraction move others to pages that were already read. None of them is lost,
// and none is extracted twice.
func TestKnowBe4ShrinksWhileRead(t *testing.T) {
	for _, tc := range []struct {
		name      string
		configure func(*vendorsim.KnowBe4Behaviour)
		at        int // the number of the request before which they are removed
		removed   int // how many, from the first
		missing   int // those of them that were not read before
		requests  int
	}{
		{name: "by cursor", at: 2, removed: 1, requests: 5},
		{name: "one before page 2", configure: withoutCursors, at: 3, removed: 1, requests: 1 + 6 + 5},
		{name: "one before page 1 is read again", configure: withoutCursors, at: 4, removed: 1, requests: 1 + 6 + 5},
		{name: "several before page 4", configure: withoutCursors, at: 7, removed: 30, requests: 1 + 6 + 5},
		{name: "a page before page 4", configure: withoutCursors, at: 7, removed: 41, requests: 1 + 5 + 4 + 1},
		{name: "before the first page", configure: withoutCursors, at: 2, removed: 10, missing: 10, requests: 1 + 6 + 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim := vendorsim.NewKnowBe4()
			if tc.configure != nil {
				sim.ChangeBehaviour(tc.configure)
			}
			o := vendorsim.Options{
				Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.KnowBe4Enrollments: 200},
				PageLimits: map[string]int{vendorsim.KnowBe4Enrollments: 40},
			}
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				h.Host.Inject(vendorsim.Fault{From: tc.at, Do: func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						for i := range tc.removed {
							sim.RemoveEnrollment(i)
						}
						next.ServeHTTP(w, r)
					})
				}})
				got := h.Extract(openKnowBe4(h, nil).Streams[0])
				want := slices.Clone(h.Records(vendorsim.KnowBe4Enrollments)[tc.missing:])
				slices.Sort(got)
				slices.Sort(want)
				h.AssertRecords(got, want)
				h.AssertRequests(tc.requests)
			})
		})
	}
}

// TestKnowBe4Paces: 60 pages take two periods of the rate limit and no longer,
// and no request exceeds a limit.
func TestKnowBe4Paces(t *testing.T) {
	o := simulateKnowBe4(60*40, nil)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		began := time.Now()
		h.AssertRecords(h.Extract(openKnowBe4(h, nil).Streams[0]), h.Records(vendorsim.KnowBe4Enrollments))
		h.AssertRequests(60)
		if took := time.Since(began); took < time.Minute || took > 65*time.Second {
			t.Errorf("60 requests took %v", took)
		}
		stats := h.Host.Stats()
		if stats.Throttled != 0 || stats.MaxParallel[""] != 1 {
			t.Errorf("%d responses 429, %d requests at once, want 0 and 1", stats.Throttled, stats.MaxParallel[""])
		}
		for _, rate := range []struct {
			n   int
			per time.Duration
		}{{4, time.Second}, {50, time.Minute}} {
			for i := rate.n; i < len(stats.Log); i++ {
				if d := stats.Log[i].Time.Sub(stats.Log[i-rate.n].Time); d < rate.per {
					t.Fatalf("%d requests within %v", rate.n+1, d)
				}
			}
		}
	})
}

// TestKnowBe4DayIsOver: the limit of the day is used up. The run makes few
// requests, and ends at its deadline, or at once if the vendor says that the
// limit is in force for longer.
func TestKnowBe4DayIsOver(t *testing.T) {
	for name, silent := range map[string]bool{"Retry-After": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			least, wantText := 2*time.Hour, "429"
			if !silent {
				least, wantText = 0, "the vendor asks to wait until"
			}
			o := simulateKnowBe4(400, func(b *vendorsim.KnowBe4Behaviour) { b.SilentLimit = silent })
			o.Limits = map[string]vendorsim.LimitNumbers{"knowbe4-day": {Max: 3}}
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				began := time.Now()
				err := h.ExtractError(openKnowBe4(h, nil).Streams[0], 2*time.Hour)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), wantText) || !strings.Contains(err.Error(), "GET "+enrollmentsPath) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(began); took < least || took > least+time.Second {
					t.Errorf("ended after %v, want %v", took, least)
				}
				if n := h.Host.Stats().Throttled; n > 200 {
					t.Errorf("%d requests were refused, want at most 200", n)
				}
			})
		})
	}
}

func TestKnowBe4Refusals(t *testing.T) {
	for _, tc := range []struct {
		name      string
		change    func(*Settings)
		configure func(*vendorsim.KnowBe4Behaviour)
		wantClass error // nil for any
		wantText  string
	}{
		{
			name:      "bad token",
			change:    func(s *Settings) { s.Token = "bad.token" },
			wantClass: collector.ErrRefused, wantText: "check KNOWBE4_TOKEN",
		},
		{
			name:      "no subscription",
			configure: func(b *vendorsim.KnowBe4Behaviour) { b.Forbidden = true },
			wantClass: collector.ErrForbidden, wantText: "must include the reporting API",
		},
		{
			name:     "wrong path",
			change:   func(s *Settings) { s.Endpoint += "/x" },
			wantText: "check KNOWBE4_ENDPOINT",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			collectortest.Run(t, simulateKnowBe4(10, tc.configure), func(h *collectortest.Harness) {
				c := openKnowBe4(h, tc.change)
				err := h.ExtractError(c.Streams[0], time.Hour)
				h.AssertRequests(1)
				h.Host.ResetStats()
				checkErr := c.Check(h.Context())
				h.AssertRequests(1)
				for _, err := range []error{err, checkErr} {
					if err == nil || tc.wantClass != nil && !errors.Is(err, tc.wantClass) || !strings.Contains(err.Error(), tc.wantText) ||
						!strings.Contains(err.Error(), "GET "+enrollmentsPath) || strings.Contains(err.Error(), "bad.token") {
						t.Errorf("error %v, want %v and %q", err, tc.wantClass, tc.wantText)
					}
				}
			})
		})
	}
}

func TestKnowBe4Checks(t *testing.T) {
	for name, configure := range map[string]func(*vendorsim.KnowBe4Behaviour){"by cursor": nil, "by page number": withoutCursors} {
		t.Run(name, func(t *testing.T) {
			collectortest.Run(t, simulateKnowBe4(10, configure), func(h *collectortest.Harness) {
				if err := openKnowBe4(h, nil).Check(h.Context()); err != nil {
					t.Error(err)
				}
				h.AssertRequests(1)
			})
		})
	}
}

func TestKnowBe4Settings(t *testing.T) {
	for _, tc := range []struct {
		endpoint string
		want     string // "" if the endpoint is refused
	}{
		{endpoint: "https://us.api.knowbe4.com/v1/training/enrollments", want: "https://us.api.knowbe4.com/v1/training/enrollments"},
		{endpoint: "https://eu.api.knowbe4.com/v1/training/enrollments/", want: "https://eu.api.knowbe4.com/v1/training/enrollments"},
		{endpoint: "eu.api.knowbe4.com", want: "https://eu.api.knowbe4.com/v1/training/enrollments"},
		{endpoint: "https://ca.api.knowbe4.com/", want: "https://ca.api.knowbe4.com/v1/training/enrollments"},
		{endpoint: "https://ca.api.knowbe4.com/v1", want: "https://ca.api.knowbe4.com/v1/training/enrollments"},
		{endpoint: "https://gate.test/kb4/list", want: "https://gate.test/kb4/list"},
		{endpoint: "https://eu.test/?page=2"},
		{endpoint: ""},
	} {
		s := &Settings{Endpoint: tc.endpoint}
		if tc.want == "" {
			collectortest.AssertProblem(t, s.Validate(), "KNOWBE4_ENDPOINT")
			continue
		}
		collectortest.AssertProblem(t, s.Validate(), "")
		if u, _ := s.listingURL(); u.String() != tc.want {
			t.Errorf("%q: %v, want %s", tc.endpoint, u.String(), tc.want)
		}
	}
	for _, tc := range []struct {
		filter      string
		wantProblem string
	}{
		{filter: ""},
		{filter: "campaign_id=7"},
		{filter: "?exclude_archived_users=true&user_id=1"},
		{filter: "page=2", wantProblem: "KNOWBE4_FILTER"},
		{filter: "cursor=0", wantProblem: "KNOWBE4_FILTER"},
		{filter: "per_page=10", wantProblem: "KNOWBE4_FILTER"},
		{filter: "a=%zz", wantProblem: "KNOWBE4_FILTER"},
		{filter: "user_id", wantProblem: "KNOWBE4_FILTER"},
		{filter: "user_id=1&user_id=2", wantProblem: "KNOWBE4_FILTER"},
	} {
		s := &Settings{Endpoint: "eu.api.knowbe4.com", Filter: tc.filter}
		collectortest.AssertProblem(t, s.Validate(), tc.wantProblem)
	}
}
