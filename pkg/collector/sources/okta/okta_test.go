package okta

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

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
)

// openOkta opens the collector of the simulated organisation. change may be nil.
func openOkta(h *collectortest.Harness, log *zap.Logger, change func(*Settings)) *collector.Collector {
	h.Helper()
	s := Settings{Domain: h.Host.URL(), Token: vendorsim.OktaToken, Deprovisioned: true}
	if change != nil {
		change(&s)
	}
	a, err := openAccount(&s, collector.Options{Version: "test", Log: log})
	if err != nil {
		h.Fatal(err)
	}
	a.api.HTTP = h.HTTP
	return source.NewCollector("okta", a)
}

// openUsers opens the collector and returns its stream of users.
func openUsers(h *collectortest.Harness, change func(*Settings)) collector.Stream {
	h.Helper()
	return collectortest.FindStream(h, openOkta(h, nil, change), "okta_users")
}

// simulateOkta returns an organisation whose pages have at most 40 users.
func simulateOkta(users int) (*vendorsim.Okta, vendorsim.Options) {
	sim := vendorsim.NewOkta()
	return sim, vendorsim.Options{
		Vendors: []vendorsim.Vendor{sim}, Counts: map[string]int{vendorsim.OktaUsers: users},
		RecordBytes: map[string]int{vendorsim.OktaUsers: 1100},
		PageLimits:  map[string]int{vendorsim.OktaUsers: 40},
	}
}

// countPages returns the number of pages of both listings.
func countPages(sim *vendorsim.Okta, users, pageSize int) int {
	deprovisioned := 0
	for i := range users {
		if sim.Status(i) == "DEPROVISIONED" {
			deprovisioned++
		}
	}
	pages := func(n int) int { return max(1, (n+pageSize-1)/pageSize) }
	return pages(deprovisioned) + pages(users-deprovisioned)
}

func TestOktaUsersUnderFaults(t *testing.T) {
	sim, options := simulateOkta(150)
	p := collectortest.PagedStream{
		Options:    func() vendorsim.Options { _, o := simulateOkta(150); return o },
		Open:       func(h *collectortest.Harness) collector.Stream { return openUsers(h, nil) },
		Want:       func(h *collectortest.Harness) []string { return h.Records(vendorsim.OktaUsers) },
		Path:       "/api/v1/users",
		Credential: "OKTA_TOKEN",
		Permission: "Read-only Administrator",
		Secret:     vendorsim.OktaToken,
	}
	collectortest.Run(t, options, func(*collectortest.Harness) { p.Requests = countPages(sim, 150, 40) })
	rateLimited := func(limit string, wait time.Duration) vendorsim.Effect {
		return collectortest.Later(func() vendorsim.Effect {
			return vendorsim.Status(429, `{"errorCode":"E0000047"}`, "X-Rate-Limit-Limit", limit, "X-Rate-Limit-Remaining", "0",
				"X-Rate-Limit-Reset", strconv.FormatInt(time.Now().Add(wait).Unix(), 10))
		})
	}
	p.TestPassing(t, map[string]vendorsim.Fault{
		"429 with a reset":       {Times: 2, Do: rateLimited("600", time.Minute)},
		"429 with zeros":         {Times: 9, Do: rateLimited("0", 0)},
		"429 with zeros and 20s": {Times: 3, Do: rateLimited("0", 20*time.Second)},
	})
	p.TestLasting(t)
}

func TestOktaPageBounds(t *testing.T) {
	// exactlyFull stands for a number of users that makes the last page of the
	// plain listing exactly full. It is found by counting.
	const exactlyFull = -1
	for _, tc := range []struct {
		name         string
		users        int
		configure    func(*vendorsim.OktaBehaviour)
		wantRequests func(pages int) int
	}{
		{name: "no users", users: 0},
		{name: "one user", users: 1},
		{name: "last page exactly full", users: exactlyFull},
		{
			name: "empty page at the end", users: exactlyFull,
			configure:    func(b *vendorsim.OktaBehaviour) { b.EmptyLast = true },
			wantRequests: func(pages int) int { return pages + 2 },
		},
		{
			name: "empty pages in between", users: 300,
			configure:    func(b *vendorsim.OktaBehaviour) { b.EmptyBetween = true },
			wantRequests: func(pages int) int { return 2*pages - 2 },
		},
		{
			name: "short page and the link", users: 57,
			configure:    func(b *vendorsim.OktaBehaviour) { b.EmptyLast = true },
			wantRequests: func(pages int) int { return pages + 2 },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, o := simulateOkta(tc.users)
			if tc.users == exactlyFull {
				o.Counts[vendorsim.OktaUsers] = 1000
			}
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				users := tc.users
				if users == exactlyFull {
					users = countUntilFull(sim, 80)
					h.Sim.SetCount(vendorsim.OktaUsers, users)
				}
				if tc.configure != nil {
					sim.ChangeBehaviour(tc.configure)
				}
				requests := countPages(sim, users, 40)
				if tc.wantRequests != nil {
					requests = tc.wantRequests(requests)
				}
				if tc.name == "short page and the link" && sim.Status(0) == "" {
					h.Fatal("no status")
				}
				h.AssertRecords(h.Extract(openUsers(h, nil)), h.Records(vendorsim.OktaUsers))
				h.AssertRequests(requests)
			})
		})
	}
}

// countUntilFull returns how many users there are until the plain listing has
// the given number.
func countUntilFull(sim *vendorsim.Okta, plainUsers int) int {
	users := 0
	for plain := 0; plain < plainUsers; users++ {
		if sim.Status(users) != "DEPROVISIONED" {
			plain++
		}
	}
	return users
}

func TestOktaReadsFullPages(t *testing.T) {
	sim, o := simulateOkta(900)
	o.PageLimits = nil
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.AssertRecords(h.Extract(openUsers(h, nil)), h.Records(vendorsim.OktaUsers))
		h.AssertRequests(countPages(sim, 900, 200))
	})
}

func TestOktaSelectsUsers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Settings)
		want   func(status string) bool
	}{
		{
			name:   "without deprovisioned",
			change: func(s *Settings) { s.Deprovisioned = false },
			want:   func(status string) bool { return status != "DEPROVISIONED" },
		},
		{
			name:   "by a filter",
			change: func(s *Settings) { s.Filter = `status eq "SUSPENDED"` },
			want:   func(status string) bool { return status == "SUSPENDED" },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, o := simulateOkta(200)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				var want []string
				for i, r := range h.Records(vendorsim.OktaUsers) {
					if tc.want(sim.Status(i)) {
						want = append(want, r)
					}
				}
				h.AssertRecords(h.Extract(openUsers(h, tc.change)), want)
				h.AssertRequests((len(want) + 39) / 40)
			})
		})
	}
}

// TestOktaUserDeprovisionedBetweenListings: a user who is in both listings is
// stored once, and all other users are stored.
func TestOktaUserDeprovisionedBetweenListings(t *testing.T) {
	sim, o := simulateOkta(200)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		want := h.Records(vendorsim.OktaUsers)
		user := slices.IndexFunc(want, func(r string) bool { return strings.Contains(r, `"status":"ACTIVE"`) })
		h.Host.Inject(vendorsim.Fault{
			When: func(r *http.Request) bool { return r.URL.Query().Has("filter") },
			Do: func(next http.Handler) http.Handler {
				sim.SetStatus(user, "DEPROVISIONED")
				return next
			},
		})
		core, logs := observer.New(zap.InfoLevel)
		h.AssertRecords(h.Extract(collectortest.FindStream(h, openOkta(h, zap.New(core), nil), "okta_users")), want)
		if logs.FilterField(zap.Int64("users", 1)).Len() != 1 {
			t.Errorf("not logged: %v", logs.All())
		}
	})
}

// TestOktaUserMovesWhileRead: one user is on two pages, and users are added at
// the end. Each is stored once.
func TestOktaUserMovesWhileRead(t *testing.T) {
	_, o := simulateOkta(100)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		first := string(h.Sim.Record(vendorsim.OktaUsers, 0))
		h.Host.Inject(vendorsim.Fault{From: 2, Do: vendorsim.Rewrite(func(body []byte) []byte {
			h.Sim.SetCount(vendorsim.OktaUsers, 130)
			return []byte(string(body[:len(body)-1]) + "," + first + "]")
		})})
		h.AssertRecords(h.Extract(openUsers(h, nil)), h.Records(vendorsim.OktaUsers))
	})
}

// TestOktaLeavesAReserve: the collector never gets a 429 and leaves a tenth of
// the limit to other programs, even if the two clocks differ.
func TestOktaLeavesAReserve(t *testing.T) {
	for name, skew := range map[string]time.Duration{"same clock": 0, "vendor ahead": time.Hour, "vendor behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			sim, o := simulateOkta(150)
			o.PageLimits[vendorsim.OktaUsers] = 4
			o.Now = func() time.Time { return time.Now().Add(skew) }
			o.Limits = map[string]vendorsim.LimitNumbers{"okta": {Max: 20}}
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				began := time.Now()
				h.AssertRecords(h.Extract(openUsers(h, nil)), h.Records(vendorsim.OktaUsers))
				pages := countPages(sim, 150, 4)
				h.AssertRequests(pages)
				if n := h.Host.Stats().Throttled; n != 0 {
					t.Errorf("%d responses 429, want none", n)
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
	_, o := simulateOkta(60)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		native := h.Records(vendorsim.OktaUsers)
		got := h.Extract(openUsers(h, func(s *Settings) { s.Compat = true }))
		byID := map[string]string{}
		for _, r := range got {
			id, err := userID([]byte(r))
			if err != nil {
				t.Fatal(err)
			}
			byID[id] = r
		}
		for i, r := range native {
			id := h.Sim.RecordID(vendorsim.OktaUsers, i)
			top := map[string]string{"statusChanged": "status_changed", "lastLogin": "last_login", "lastUpdated": "last_updated", "passwordChanged": "password_changed"}
			assertMembers(t, r, byID[id], top, "profile")
			assertMembers(t, string(decodeMembers(t, r)["profile"]), string(decodeMembers(t, byID[id])["profile"]), map[string]string{
				"firstName": "first_name", "lastName": "last_name", "nickName": "nick_name", "displayName": "display_name",
				"profileUrl": "profile_url", "preferredLanguage": "preferred_language", "userType": "user_type", "costCenter": "cost_center",
				"employeeNumber": "employee_number", "mobilePhone": "mobile_phone", "primaryPhone": "primary_phone",
				"streetAddress": "street_address", "zipCode": "zip_code", "countryCode": "country_code",
				"department": "department", "city": "city", "division": "division", "organization": "organization",
				"state": "state", "title": "title", "email": "email", "secondEmail": "secondEmail",
			}, "")
		}
	})
}

func decodeMembers(t *testing.T, object string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &m); err != nil {
		t.Fatalf("%v: %s", err, object)
	}
	return m
}

// assertMembers checks that got has the members of native in the same bytes,
// except one, and for each pair the second name with the value of the first.
func assertMembers(t *testing.T, native, got string, pairs map[string]string, except string) {
	t.Helper()
	want, have := decodeMembers(t, native), decodeMembers(t, got)
	for name, v := range want {
		if name != except && string(have[name]) != string(v) {
			t.Errorf("%s is %s, want %s", name, have[name], v)
		}
	}
	for from, to := range pairs {
		v := want[to] // an attribute of the organisation is not changed
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
	for _, tc := range []struct {
		name      string
		change    func(*Settings)
		configure func(*vendorsim.OktaBehaviour)
		wantClass error // nil for any
		wantText  string
	}{
		{
			name:      "bad token",
			change:    func(s *Settings) { s.Token = "00bad-okta-token" },
			wantClass: collector.ErrRefused, wantText: "check OKTA_TOKEN",
		},
		{
			name:      "no permission",
			configure: func(b *vendorsim.OktaBehaviour) { b.Forbidden = true },
			wantClass: collector.ErrForbidden, wantText: "Read-only Administrator",
		},
		{
			name:     "bad filter",
			change:   func(s *Settings) { s.Filter = `name is "x"` },
			wantText: "check OKTA_FILTER",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sim, o := simulateOkta(10)
			collectortest.Run(t, o, func(h *collectortest.Harness) {
				if tc.configure != nil {
					sim.ChangeBehaviour(tc.configure)
				}
				c := openOkta(h, nil, tc.change)
				err := h.ExtractError(c.Streams[0], time.Hour)
				h.AssertRequests(1)
				h.Host.ResetStats()
				checkErr := c.Check(h.Context())
				h.AssertRequests(1)
				for _, err := range []error{err, checkErr} {
					if err == nil || tc.wantClass != nil && !errors.Is(err, tc.wantClass) || !strings.Contains(err.Error(), tc.wantText) ||
						!strings.Contains(err.Error(), "GET /api/v1/users") || strings.Contains(err.Error(), "okta-token") {
						t.Errorf("error %v, want %v and %q", err, tc.wantClass, tc.wantText)
					}
				}
			})
		})
	}
}

func TestOktaChecks(t *testing.T) {
	_, o := simulateOkta(10)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		if err := openOkta(h, nil, func(s *Settings) { s.Token = "SSWS " + vendorsim.OktaToken }).Check(h.Context()); err != nil {
			t.Error(err)
		}
		h.AssertRequests(1)
	})
}

func TestOktaNeverLeavesItsHost(t *testing.T) {
	_, o := simulateOkta(100)
	collectortest.Run(t, o, func(h *collectortest.Harness) {
		h.Host.Inject(vendorsim.Fault{Do: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", `<https://elsewhere.test/api/v1/users?after=1>; rel="next"`)
				_, _ = w.Write([]byte("[]"))
			})
		}})
		err := h.ExtractError(openUsers(h, nil), time.Hour)
		if !errors.Is(err, collector.ErrIncomplete) || !strings.Contains(err.Error(), "elsewhere.test") {
			t.Errorf("error %v", err)
		}
		h.AssertRequests(1)
	})
}

func TestOktaDomains(t *testing.T) {
	for _, tc := range []struct {
		domain      string
		want        string // "" if the domain is refused
		wantProblem string
	}{
		{domain: "acme.okta.com", want: "https://acme.okta.com"},
		{domain: "https://acme.okta.com", want: "https://acme.okta.com"},
		{domain: " https://acme.okta.com/", want: "https://acme.okta.com"},
		{domain: "http://127.0.0.1:80", want: "http://127.0.0.1:80"},
		{domain: "localhost:8080", want: "https://localhost:8080"},
		{domain: "https://acme.okta.com/x"},
		{domain: "ftp://acme.okta.com"},
		{domain: "https://u:p@acme.test"},
		{domain: ""},
		{domain: "https://"},
		{domain: "https://acme-admin.okta.com", wantProblem: "want acme.okta.com"},
		{domain: "Acme-Admin.oktapreview.com:443", wantProblem: "want acme.oktapreview.com"},
		{domain: "http://big-acme-admin.okta-emea.com/", wantProblem: "want big-acme.okta-emea.com"},
		{domain: "admin.okta.com", want: "https://admin.okta.com"},
		{domain: "acme-administration.okta.com", want: "https://acme-administration.okta.com"},
		{domain: "login-admin.acme.test", want: "https://login-admin.acme.test"},
	} {
		s := &Settings{Domain: tc.domain}
		errs := s.Validate()
		if tc.want == "" {
			collectortest.AssertProblem(t, errs, "OKTA_DOMAIN")
			if len(errs) != 1 || !strings.HasSuffix(errs[0].Error(), tc.wantProblem) {
				t.Errorf("%q: problems %v, want one that ends with %q", tc.domain, errs, tc.wantProblem)
			}
			if len(errs) > 0 && strings.Contains(errs[0].Error(), "u:p") {
				t.Errorf("%q: the problem shows the password: %v", tc.domain, errs)
			}
			continue
		}
		collectortest.AssertProblem(t, errs, "")
		if base, _ := s.baseURL(); base.String() != tc.want {
			t.Errorf("%q: %v, want %s", tc.domain, base.String(), tc.want)
		}
	}
}

// TestErrorOfARecordNamesNoRequest: the client adds the request to the errors of
// records, so that they name none.
func TestErrorOfARecordNamesNoRequest(t *testing.T) {
	err := requireDeprovisioned(nil)(nil, nil, []byte(`{"status":"ACTIVE"}`))
	if !errors.Is(err, collector.ErrIncomplete) || strings.Contains(err.Error(), "/api/v1/users") {
		t.Errorf("error %v, want one that does not name the request", err)
	}
}
