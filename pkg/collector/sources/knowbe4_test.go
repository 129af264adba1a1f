package sources

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

func openKnowBe4In(b *bubble, change func(*knowBe4Settings)) *collector.Collector {
	b.Helper()
	s := knowBe4Settings{Endpoint: b.host.URL() + knowBe4Path, Token: vendorsim.KnowBe4Token}
	if change != nil {
		change(&s)
	}
	k, err := newKnowBe4(&s, collector.Options{Version: "test"})
	if err != nil {
		b.Fatal(err)
	}
	k.api.HTTP = b.http
	return k.collector()
}

func simKnowBe4(records int, how func(*vendorsim.KnowBe4Behaviour)) vendorsim.Options {
	k := vendorsim.NewKnowBe4()
	if how != nil {
		k.Configure(how)
	}
	return vendorsim.Options{
		Vendors: []vendorsim.Vendor{k}, Counts: map[string]int{vendorsim.KnowBe4Enrollments: records},
		PageLimits: map[string]int{vendorsim.KnowBe4Enrollments: 40},
	}
}

func olderForm(h *vendorsim.KnowBe4Behaviour) { h.Older = true }

func TestKnowBe4EnrollmentsUnderFaults(t *testing.T) {
	for form, tc := range map[string]struct {
		how      func(*vendorsim.KnowBe4Behaviour)
		requests int
	}{"newer form": {nil, 4}, "older form": {olderForm, 1 + 4 + 1}} {
		t.Run(form, func(t *testing.T) {
			p := pagedStream{
				options: func() vendorsim.Options { return simKnowBe4(150, tc.how) },
				open: func(b *bubble) collector.Stream {
					return stream(b, openKnowBe4In(b, nil), "knowbe4_enrollments")
				},
				want:     func(b *bubble) []string { return b.records(vendorsim.KnowBe4Enrollments) },
				requests: tc.requests, path: knowBe4Path,
				credential: "KNOWBE4_TOKEN", permission: "reporting API", secret: vendorsim.KnowBe4Token,
			}
			p.testPassing(t, nil)
			p.testLasting(t)
		})
	}
}

func TestKnowBe4Pages(t *testing.T) {
	for name, tc := range map[string]struct {
		records  int
		how      func(*vendorsim.KnowBe4Behaviour)
		filter   string
		requests int
	}{
		"no records":                      {0, nil, "", 1},
		"one record":                      {1, nil, "", 1},
		"last page exactly full":          {120, nil, "", 3},
		"last page exactly full and more": {120, func(h *vendorsim.KnowBe4Behaviour) { h.EmptyLast = true }, "", 4},
		"cursor as a number":              {130, func(h *vendorsim.KnowBe4Behaviour) { h.NumberCursor = true }, "", 4},
		"short pages":                     {200, nil, "exclude_archived_users=true", 5},
		"older, no records":               {0, olderForm, "", 2},
		"older, one record":               {1, olderForm, "", 3},
		"older, last page exactly full":   {120, olderForm, "", 5},
		"older, short pages":              {200, olderForm, "exclude_archived_users=true", 7},
		"older, refuses the cursor":       {120, func(h *vendorsim.KnowBe4Behaviour) { h.Older, h.RefuseCursor = true, true }, "", 5},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simKnowBe4(tc.records, tc.how), func(b *bubble) {
				var want []string
				for _, r := range b.records(vendorsim.KnowBe4Enrollments) {
					if tc.filter == "" || !strings.Contains(r, `"archived":true`) {
						want = append(want, r)
					}
				}
				c := openKnowBe4In(b, func(s *knowBe4Settings) { s.Filter = tc.filter })
				b.same(b.extract(c.Streams[0]), want)
				b.asked(tc.requests)
				b.oneForm()
			})
		})
	}
}

// oneForm checks that the requests after the first use one paging form, and
// that no page was asked for twice.
func (b *bubble) oneForm() {
	b.Helper()
	seen := map[string]bool{}
	var kind string
	for i, r := range b.host.Stats().Log {
		q, err := url.ParseQuery(r.Query)
		if err != nil || q.Get("per_page") != "500" || q.Has("cursor") == q.Has("page") || seen[r.Query] {
			b.Errorf("request %d: %q", i, r.Query)
		}
		seen[r.Query] = true
		now := "cursor"
		if q.Has("page") {
			now = "page"
		}
		if i > 1 && now != kind {
			b.Errorf("request %d goes from %s to %s", i, kind, now)
		}
		kind = now
	}
}

// TestKnowBe4FormMustNotChange: a bare array in the middle of a listing by
// cursor, empty or not, leaves open what comes after it.
func TestKnowBe4FormMustNotChange(t *testing.T) {
	for name, body := range map[string]string{"empty": "[]", "records": `[{"enrollment_id":1}]`} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simKnowBe4(200, nil), func(b *bubble) {
				b.host.Inject(vendorsim.Fault{From: 3, Times: vendorsim.Forever, Do: vendorsim.Status(200, body)})
				err := b.refused(openKnowBe4In(b, nil).Streams[0], time.Hour)
				if !errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("error %v", err)
				}
				b.asked(3)
			})
		})
	}
}

// TestKnowBe4GrowsWhileRead: what is added while the listing is read is read,
// and nothing is read twice.
func TestKnowBe4GrowsWhileRead(t *testing.T) {
	for name, how := range map[string]func(*vendorsim.KnowBe4Behaviour){"newer form": nil, "older form": olderForm} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simKnowBe4(120, how), func(b *bubble) {
				b.host.Inject(vendorsim.Fault{From: 3, Do: vendorsim.Rewrite(func(body []byte) []byte {
					b.sim.SetCount(vendorsim.KnowBe4Enrollments, 170)
					return body
				})})
				got := b.extract(openKnowBe4In(b, nil).Streams[0])
				all := b.records(vendorsim.KnowBe4Enrollments)
				if len(got) == 120 { // the last page was answered before
					all = all[:120]
				}
				b.same(got, all)
			})
		})
	}
}

// TestKnowBe4Paces: 60 pages take two sustained windows and no longer, and no
// limit of the vendor's is met.
func TestKnowBe4Paces(t *testing.T) {
	o := simKnowBe4(60*40, nil)
	inBubble(t, o, func(b *bubble) {
		began := time.Now()
		b.same(b.extract(openKnowBe4In(b, nil).Streams[0]), b.records(vendorsim.KnowBe4Enrollments))
		b.asked(60)
		if took := time.Since(began); took < time.Minute || took > 65*time.Second {
			t.Errorf("60 requests took %v", took)
		}
		stats := b.host.Stats()
		if stats.Throttled != 0 || stats.MaxParallel[""] != 1 {
			t.Errorf("%d answers 429, %d requests at once", stats.Throttled, stats.MaxParallel[""])
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

// TestKnowBe4DayIsOver: the day's allowance is used up. The run waits, hardly
// asks, and ends at its deadline.
func TestKnowBe4DayIsOver(t *testing.T) {
	for name, silent := range map[string]bool{"Retry-After": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			o := simKnowBe4(400, func(h *vendorsim.KnowBe4Behaviour) { h.SilentLimit = silent })
			o.Limits = map[string]vendorsim.LimitNumbers{"knowbe4-day": {Max: 3}}
			inBubble(t, o, func(b *bubble) {
				began := time.Now()
				err := b.refused(openKnowBe4In(b, nil).Streams[0], 2*time.Hour)
				if !strings.Contains(err.Error(), "429") || !strings.Contains(err.Error(), "GET "+knowBe4Path) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(began); took != 2*time.Hour {
					t.Errorf("ended after %v", took)
				}
				if n := b.host.Stats().Throttled; n > 200 {
					t.Errorf("asked %d times in vain", n)
				}
			})
		})
	}
}

func TestKnowBe4Refusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*knowBe4Settings)
		how    func(*vendorsim.KnowBe4Behaviour)
		is     error
		text   string
	}{
		"bad token":       {func(s *knowBe4Settings) { s.Token = "bad.token" }, nil, collector.ErrRefused, "check KNOWBE4_TOKEN"},
		"no subscription": {nil, func(h *vendorsim.KnowBe4Behaviour) { h.Forbidden = true }, collector.ErrForbidden, "must include the reporting API"},
		"wrong path":      {func(s *knowBe4Settings) { s.Endpoint += "/x" }, nil, nil, "check KNOWBE4_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simKnowBe4(10, tc.how), func(b *bubble) {
				c := openKnowBe4In(b, tc.change)
				err := b.refused(c.Streams[0], time.Hour)
				b.asked(1)
				b.host.ResetStats()
				check := c.Check(b.Context())
				b.asked(1)
				for _, err := range []error{err, check} {
					if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) ||
						!strings.Contains(err.Error(), "GET "+knowBe4Path) || strings.Contains(err.Error(), "bad.token") {
						t.Errorf("error %v, want %v and %q", err, tc.is, tc.text)
					}
				}
			})
		})
	}
}

func TestKnowBe4Checks(t *testing.T) {
	for name, how := range map[string]func(*vendorsim.KnowBe4Behaviour){"newer form": nil, "older form": olderForm} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, simKnowBe4(10, how), func(b *bubble) {
				if err := openKnowBe4In(b, nil).Check(b.Context()); err != nil {
					t.Error(err)
				}
				b.asked(1)
			})
		})
	}
}

func TestKnowBe4Settings(t *testing.T) {
	for text, want := range map[string]string{
		"https://us.api.knowbe4.com/v1/training/enrollments":  "https://us.api.knowbe4.com/v1/training/enrollments",
		"https://eu.api.knowbe4.com/v1/training/enrollments/": "https://eu.api.knowbe4.com/v1/training/enrollments",
		"eu.api.knowbe4.com":            "https://eu.api.knowbe4.com/v1/training/enrollments",
		"https://ca.api.knowbe4.com/":   "https://ca.api.knowbe4.com/v1/training/enrollments",
		"https://ca.api.knowbe4.com/v1": "https://ca.api.knowbe4.com/v1/training/enrollments",
		"https://gate.test/kb4/list":    "https://gate.test/kb4/list",
		"https://eu.test/?page=2":       "",
		"":                              "",
	} {
		s := &knowBe4Settings{Endpoint: text}
		u, _ := s.address()
		oneProblem(t, s.Validate(), want == "", "KNOWBE4_ENDPOINT")
		if want != "" && u.String() != want {
			t.Errorf("%q: %v, want %s", text, u.String(), want)
		}
	}
	for text, good := range map[string]bool{
		"": true, "campaign_id=7": true, "?exclude_archived_users=true&user_id=1": true,
		"page=2": false, "cursor=0": false, "per_page=10": false, "a=%zz": false, "user_id": false, "user_id=1&user_id=2": false,
	} {
		s := &knowBe4Settings{Endpoint: "eu.api.knowbe4.com", Filter: text}
		oneProblem(t, s.Validate(), !good, "KNOWBE4_FILTER")
	}
}

// oneProblem checks that a Validator found one problem with a variable, or none.
func oneProblem(t *testing.T, errs []error, want bool, name string) {
	t.Helper()
	var p *config.Problem
	if want && (len(errs) != 1 || !errors.As(errs[0], &p) || p.Name != name) || !want && len(errs) > 0 {
		t.Errorf("problems %v, want one with %s: %v", errs, name, want)
	}
}
