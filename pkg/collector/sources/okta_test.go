package sources

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// openOktaIn opens the collector on the simulated organisation.
func openOktaIn(b *bubble, log *zap.Logger, change func(*oktaSettings)) *collector.Collector {
	b.Helper()
	s := oktaSettings{Domain: b.host.URL(), Token: vendorsim.OktaToken, Deprovisioned: true}
	if change != nil {
		change(&s)
	}
	k, err := newOkta(&s, collector.Options{Version: "test", Log: log})
	if err != nil {
		b.Fatal(err)
	}
	k.api.HTTP = b.http
	return k.collector()
}

func oktaUsersIn(b *bubble, change func(*oktaSettings)) collector.Stream {
	b.Helper()
	return stream(b, openOktaIn(b, nil, change), "okta_users")
}

func simOkta(users int) (*vendorsim.Okta, vendorsim.Options) {
	o := vendorsim.NewOkta()
	return o, vendorsim.Options{
		Vendors: []vendorsim.Vendor{o}, Counts: map[string]int{vendorsim.OktaUsers: users},
		RecordBytes: map[string]int{vendorsim.OktaUsers: 1100},
		PageLimits:  map[string]int{vendorsim.OktaUsers: 40},
	}
}

// pagesOf counts the pages of both listings.
func pagesOf(o *vendorsim.Okta, users, size int) int {
	gone := 0
	for i := range users {
		if o.Status(i) == "DEPROVISIONED" {
			gone++
		}
	}
	pages := func(n int) int { return max(1, (n+size-1)/size) }
	return pages(gone) + pages(users-gone)
}

func TestOktaUsersUnderFaults(t *testing.T) {
	p := pagedStream{
		options: func() vendorsim.Options { _, o := simOkta(150); return o },
		open:    func(b *bubble) collector.Stream { return oktaUsersIn(b, nil) },
		want:    func(b *bubble) []string { return b.records(vendorsim.OktaUsers) },
		path:    "/api/v1/users", credential: "OKTA_TOKEN", permission: "Read-only Administrator", secret: vendorsim.OktaToken,
	}
	sim, o := simOkta(150)
	inBubble(t, o, func(*bubble) { p.requests = pagesOf(sim, 150, 40) })
	limited := func(limit string, wait time.Duration) vendorsim.Effect {
		return later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{"errorCode":"E0000047"}`, "X-Rate-Limit-Limit", limit, "X-Rate-Limit-Remaining", "0",
				"X-Rate-Limit-Reset", strconv.FormatInt(time.Now().Add(wait).Unix(), 10))
		})
	}
	p.testPassing(t, map[string]vendorsim.Fault{
		"429 with a reset":       {Times: 2, Do: limited("600", time.Minute)},
		"429 with zeros":         {Times: 9, Do: limited("0", 0)},
		"429 with zeros and 20s": {Times: 3, Do: limited("0", 20*time.Second)},
	})
	p.testLasting(t)
}

func TestOktaPageBounds(t *testing.T) {
	// Numbers of users that make the last page exactly full in both listings
	// are found by counting.
	for name, tc := range map[string]struct {
		users int
		how   func(*vendorsim.OktaBehaviour)
		more  func(pages int) int
	}{
		"no users":                {0, func(*vendorsim.OktaBehaviour) {}, func(p int) int { return p }},
		"one user":                {1, func(*vendorsim.OktaBehaviour) {}, func(p int) int { return p }},
		"last page exactly full":  {-1, func(*vendorsim.OktaBehaviour) {}, func(p int) int { return p }},
		"empty page at the end":   {-1, func(h *vendorsim.OktaBehaviour) { h.EmptyLast = true }, func(p int) int { return p + 2 }},
		"empty pages in between":  {300, func(h *vendorsim.OktaBehaviour) { h.EmptyBetween = true }, func(p int) int { return 2*p - 2 }},
		"short page and the link": {57, func(h *vendorsim.OktaBehaviour) { h.EmptyLast = true }, func(p int) int { return p + 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simOkta(tc.users)
			if tc.users < 0 {
				o.Counts[vendorsim.OktaUsers] = 1000
			}
			inBubble(t, o, func(b *bubble) {
				users := tc.users
				if users < 0 {
					plain := 0
					for users = 0; plain < 80; users++ {
						if sim.Status(users) != "DEPROVISIONED" {
							plain++
						}
					}
					b.sim.SetCount(vendorsim.OktaUsers, users)
				}
				sim.Configure(tc.how)
				pages := pagesOf(sim, users, 40)
				if name == "short page and the link" && sim.Status(0) == "" {
					t.Fatal("no status")
				}
				b.same(b.extract(oktaUsersIn(b, nil)), b.records(vendorsim.OktaUsers))
				b.asked(tc.more(pages))
			})
		})
	}
}

func TestOktaReadsFullPages(t *testing.T) {
	sim, o := simOkta(900)
	o.PageLimits = nil
	inBubble(t, o, func(b *bubble) {
		b.same(b.extract(oktaUsersIn(b, nil)), b.records(vendorsim.OktaUsers))
		b.asked(pagesOf(sim, 900, 200))
	})
}

func TestOktaSelectsUsers(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(*oktaSettings)
		keep     func(status string) bool
		listings int
	}{
		"without deprovisioned": {func(s *oktaSettings) { s.Deprovisioned = false }, func(s string) bool { return s != "DEPROVISIONED" }, 1},
		"by a filter":           {func(s *oktaSettings) { s.Filter = `status eq "SUSPENDED"` }, func(s string) bool { return s == "SUSPENDED" }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simOkta(200)
			inBubble(t, o, func(b *bubble) {
				var want []string
				for i, r := range b.records(vendorsim.OktaUsers) {
					if tc.keep(sim.Status(i)) {
						want = append(want, r)
					}
				}
				b.same(b.extract(oktaUsersIn(b, tc.change)), want)
				b.asked((len(want) + 39) / 40)
			})
		})
	}
}

// TestOktaUserDeprovisionedBetweenListings: the user is in both listings and
// is stored once, and nobody else is lost.
func TestOktaUserDeprovisionedBetweenListings(t *testing.T) {
	sim, o := simOkta(200)
	inBubble(t, o, func(b *bubble) {
		want := b.records(vendorsim.OktaUsers)
		user := slices.IndexFunc(want, func(r string) bool { return strings.Contains(r, `"status":"ACTIVE"`) })
		b.host.Inject(vendorsim.Fault{
			When: func(r *http.Request) bool { return r.URL.Query().Has("filter") },
			Do: func(next http.Handler) http.Handler {
				sim.SetStatus(user, "DEPROVISIONED")
				return next
			},
		})
		core, logs := observer.New(zap.InfoLevel)
		b.same(b.extract(stream(b, openOktaIn(b, zap.New(core), nil), "okta_users")), want)
		if logs.FilterField(zap.Int64("users", 1)).Len() != 1 {
			t.Errorf("not logged: %v", logs.All())
		}
	})
}

// TestOktaUserMovesWhileRead: a user is served on two pages, users are added
// at the end; each is stored once.
func TestOktaUserMovesWhileRead(t *testing.T) {
	_, o := simOkta(100)
	inBubble(t, o, func(b *bubble) {
		first := string(b.sim.Record(vendorsim.OktaUsers, 0))
		b.host.Inject(vendorsim.Fault{From: 2, Do: vendorsim.Rewrite(func(body []byte) []byte {
			b.sim.SetCount(vendorsim.OktaUsers, 130)
			return []byte(string(body[:len(body)-1]) + "," + first + "]")
		})})
		b.same(b.extract(oktaUsersIn(b, nil)), b.records(vendorsim.OktaUsers))
	})
}

// TestOktaLeavesAReserve: the collector never gets a 429 and leaves a tenth of
// the bucket to others, whatever the two clocks say.
func TestOktaLeavesAReserve(t *testing.T) {
	for name, skew := range map[string]time.Duration{"same clock": 0, "vendor ahead": time.Hour, "vendor behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			sim, o := simOkta(150)
			o.PageLimits[vendorsim.OktaUsers] = 4
			o.Now = func() time.Time { return time.Now().Add(skew) }
			o.Limits = map[string]vendorsim.LimitNumbers{"okta": {Max: 20}}
			inBubble(t, o, func(b *bubble) {
				began := time.Now()
				b.same(b.extract(oktaUsersIn(b, nil)), b.records(vendorsim.OktaUsers))
				pages := pagesOf(sim, 150, 4)
				b.asked(pages)
				if n := b.host.Stats().Throttled; n != 0 {
					t.Errorf("%d answers 429", n)
				}
				// 18 requests in each window of a minute.
				windows := time.Duration((pages - 1) / 18)
				if took := time.Since(began); took < windows*59*time.Second || took > windows*65*time.Second+time.Minute {
					t.Errorf("took %v for %d windows", took, windows)
				}
			})
		})
	}
}

func TestOktaCompatFields(t *testing.T) {
	_, o := simOkta(60)
	inBubble(t, o, func(b *bubble) {
		native := b.records(vendorsim.OktaUsers)
		got := b.extract(oktaUsersIn(b, func(s *oktaSettings) { s.Compat = true }))
		byID := map[string]string{}
		for _, r := range got {
			id, err := oktaKey([]byte(r))
			if err != nil {
				t.Fatal(err)
			}
			byID[id] = r
		}
		for i, r := range native {
			id := b.sim.RecordID(vendorsim.OktaUsers, i)
			top := map[string]string{"statusChanged": "status_changed", "lastLogin": "last_login", "lastUpdated": "last_updated", "passwordChanged": "password_changed"}
			sameMembers(t, r, byID[id], top, "profile")
			sameMembers(t, string(members(t, r)["profile"]), string(members(t, byID[id])["profile"]), map[string]string{
				"firstName": "first_name", "lastName": "last_name", "nickName": "nick_name", "displayName": "display_name",
				"profileUrl": "profile_url", "preferredLanguage": "preferred_language", "userType": "user_type", "costCenter": "cost_center",
				"employeeNumber": "employee_number", "mobilePhone": "mobile_phone", "primaryPhone": "primary_phone",
				"streetAddress": "street_address", "zipCode": "zip_code", "countryCode": "country_code",
			}, "")
		}
	})
}

func members(t *testing.T, object string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	return m
}

// sameMembers checks that got has the members of native in the same bytes,
// and for each pair the second name with the value of the first.
func sameMembers(t *testing.T, native, got string, pairs map[string]string, except string) {
	t.Helper()
	want, have := members(t, native), members(t, got)
	for name, v := range want {
		if name != except && string(have[name]) != string(v) {
			t.Errorf("%s is %s, want %s", name, have[name], v)
		}
	}
	for from, to := range pairs {
		v := want[to] // a member of the organisation's own stays
		if v == nil {
			v = want[from]
		}
		if v == nil {
			v = json.RawMessage("null")
		}
		if string(have[to]) != string(v) {
			t.Errorf("%s is %s, want %s", to, have[to], v)
		}
		want[to] = v
	}
	if len(have) != len(want) {
		t.Errorf("%d members, want %d", len(have), len(want))
	}
}

func TestOktaRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*oktaSettings)
		how    func(*vendorsim.OktaBehaviour)
		is     error
		text   string
	}{
		"bad token":     {func(s *oktaSettings) { s.Token = "00bad-okta-token" }, nil, collector.ErrRefused, "check OKTA_TOKEN"},
		"no permission": {nil, func(h *vendorsim.OktaBehaviour) { h.Forbidden = true }, collector.ErrForbidden, "Read-only Administrator"},
		"bad filter":    {func(s *oktaSettings) { s.Filter = `name is "x"` }, nil, nil, "check OKTA_FILTER"},
	} {
		t.Run(name, func(t *testing.T) {
			sim, o := simOkta(10)
			inBubble(t, o, func(b *bubble) {
				if tc.how != nil {
					sim.Configure(tc.how)
				}
				c := openOktaIn(b, nil, tc.change)
				err := b.refused(c.Streams[0], time.Hour)
				b.asked(1)
				b.host.ResetStats()
				check := c.Check(b.Context())
				b.asked(1)
				for _, err := range []error{err, check} {
					if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) ||
						!strings.Contains(err.Error(), "GET /api/v1/users") || strings.Contains(err.Error(), "okta-token") {
						t.Errorf("error %v, want %v and %q", err, tc.is, tc.text)
					}
				}
			})
		})
	}
}

func TestOktaChecks(t *testing.T) {
	_, o := simOkta(10)
	inBubble(t, o, func(b *bubble) {
		if err := openOktaIn(b, nil, func(s *oktaSettings) { s.Token = "SSWS " + vendorsim.OktaToken }).Check(b.Context()); err != nil {
			t.Error(err)
		}
		b.asked(1)
	})
}

func TestOktaNeverLeavesItsHost(t *testing.T) {
	_, o := simOkta(100)
	inBubble(t, o, func(b *bubble) {
		b.host.Inject(vendorsim.Fault{Do: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", `<https://elsewhere.test/api/v1/users?after=1>; rel="next"`)
				_, _ = w.Write([]byte("[]"))
			})
		}})
		err := b.refused(oktaUsersIn(b, nil), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "elsewhere.test") {
			t.Errorf("error %v", err)
		}
		b.asked(1)
	})
}

func TestOktaDomains(t *testing.T) {
	for text, want := range map[string]string{
		"acme.okta.com":           "https://acme.okta.com",
		"https://acme.okta.com":   "https://acme.okta.com",
		" https://acme.okta.com/": "https://acme.okta.com",
		"http://127.0.0.1:80":     "http://127.0.0.1:80",
		"localhost:8080":          "https://localhost:8080",
		"https://acme.okta.com/x": "",
		"ftp://acme.okta.com":     "",
		"https://u:p@acme.test":   "",
		"":                        "",
		"https://":                "",
	} {
		s := &oktaSettings{Domain: text}
		errs := s.Validate()
		base, _ := s.base()
		if want == "" {
			var p *config.Problem
			if len(errs) != 1 || !errors.As(errs[0], &p) || p.Name != "OKTA_DOMAIN" || strings.Contains(errs[0].Error(), "u:p") {
				t.Errorf("%q: %v", text, errs)
			}
		} else if len(errs) != 0 || base.String() != want {
			t.Errorf("%q: %v, %v, want %s", text, base.String(), errs, want)
		}
	}
}
