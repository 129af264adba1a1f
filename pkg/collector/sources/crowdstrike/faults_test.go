package crowdstrike

import (
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/collectortest"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// epochAfter returns the time after d in the vendor's form, Unix seconds.
func epochAfter(d time.Duration) string {
	return strconv.FormatInt(time.Now().Add(d).Unix(), 10)
}

// ownPassingFaults are faults of this vendor that must cost nothing but time.
var ownPassingFaults = map[string]vendorsim.Fault{
	"404 for a moment": {Times: 2, Do: vendorsim.Status(404, `{"errors":[{"code":404,"message":"not found"}]}`)},
	"token refused":    {Do: vendorsim.Status(401, `{"errors":[{"code":401,"message":"access denied, invalid bearer token"}]}`)},
	"429 with an instant": {Times: 2, Do: collectortest.Later(func() vendorsim.Effect {
		return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epochAfter(7*time.Second))
	})},
	"429 outlasting the cursors": {Do: collectortest.Later(func() vendorsim.Effect {
		return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epochAfter(200*time.Second))
	})},
	"slow": {Times: 3, Do: vendorsim.Slow(30 * time.Second)},
}

func TestCrowdStrikeUnderPassingFaults(t *testing.T) {
	faults := collectortest.PassingFaults()
	maps.Copy(faults, ownPassingFaults)
	for name, path := range streamPaths {
		for fault, f := range faults {
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				runTenant(t, smallTenant(), smallPages, func(t *tenant) {
					f.Path, f.From = path, 3
					if name == vendorsim.CrowdStrikeVulns {
						f.From = 20 // after the search for the spans
					}
					injected := t.Host.Inject(f)
					t.assertExtracts(name)
					if injected.Hits() == 0 {
						t.Error("no request met the fault")
					}
					if fault == "token refused" {
						t.Host.Forgive()
					}
				})
			})
		}
	}
}

// TestCrowdStrikeUnderLastingFaults: a fault that does not pass leads to an
// error that names the request.
func TestCrowdStrikeUnderLastingFaults(t *testing.T) {
	for name, path := range streamPaths {
		for fault, tc := range map[string]struct {
			do        vendorsim.Effect
			wantClass error // nil for any
			wantText  string
			maxHits   int
		}{
			// They are repeated for 15 minutes, with waits of up to a minute.
			"500":            {do: vendorsim.Status(500, `{"errors":[{"code":500}]}`), wantText: "500", maxHits: 40},
			"HTML at 200":    {do: vendorsim.HTML(200), wantClass: collector.ErrIncomplete, wantText: "HTML", maxHits: 40},
			"errors at 200":  {do: vendorsim.Errors("backend failed"), wantClass: collector.ErrIncomplete, wantText: "backend failed", maxHits: 40},
			"truncated":      {do: vendorsim.Truncate(vendorsim.Half), wantClass: collector.ErrIncomplete, maxHits: 40},
			"page repeated":  {do: vendorsim.Repeat(), wantClass: collector.ErrIncomplete, wantText: "page", maxHits: 3},
			"hangs":          {do: vendorsim.Hang(), wantText: "network", maxHits: 20},
			"400":            {do: vendorsim.Status(400, `{"errors":[{"code":400,"message":"bad"}]}`), wantText: "400", maxHits: 1},
			"404":            {do: vendorsim.Status(404, `{"errors":[{"code":404,"message":"lost"}]}`), wantText: "404", maxHits: 3},
			"token refused":  {do: vendorsim.Status(401, `{}`), wantText: "FALCON_CLIENT_ID", maxHits: 5},
			"scope removed":  {do: vendorsim.Status(403, `{}`), wantClass: collector.ErrForbidden, wantText: ": read", maxHits: 1},
			"always expired": {do: vendorsim.Status(404, `{"errors":[{"code":404,"message":"Search context expired, 'after' key no longer valid"}]}`), wantText: "404", maxHits: 3},
		} {
			if fault == "page repeated" && name == vendorsim.CrowdStrikeZTA || fault == "always expired" && name != vendorsim.CrowdStrikeVulns {
				continue // there is no cursor, or its expiry is reported in another way
			}
			if fault == "404" && name == vendorsim.CrowdStrikeHosts {
				continue // the collector then uses another listing
			}
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				runTenant(t, smallTenant(), func(s *Settings) { s.Page, s.Split = 50, 1 }, func(t *tenant) {
					injected := t.Host.Inject(vendorsim.Fault{Path: path, From: 3, Times: vendorsim.Forever, Do: tc.do})
					began := time.Now()
					err := t.extractError(name)
					if tc.wantClass != nil && !errors.Is(err, tc.wantClass) || !strings.Contains(err.Error(), tc.wantText) {
						t.Errorf("error %v, want %v and %q", err, tc.wantClass, tc.wantText)
					}
					if !strings.HasPrefix(err.Error(), "crowdstrike ") || !strings.Contains(err.Error(), "GET "+path) {
						t.Errorf("the error does not name the request: %v", err)
					}
					maxHits := tc.maxHits
					if name == vendorsim.CrowdStrikeZTA {
						maxHits *= 4 // there are four batches at once
						if fault == "400" || fault == "404" {
							maxHits = 20 // smaller batches are tried, or all others
						}
					}
					if hits := injected.Hits(); hits == 0 || hits > maxHits {
						t.Errorf("%d requests met the fault, want 1 to %d", hits, maxHits)
					}
					if took := time.Since(began); took > 20*time.Minute {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// TestCrowdStrikeTokenExpires: the token expires during the extraction, at the
// announced time or earlier.
func TestCrowdStrikeTokenExpires(t *testing.T) {
	for name := range streamPaths {
		for how, change := range map[string]func(*vendorsim.CrowdStrikeConfig){
			"at the announced time": func(c *vendorsim.CrowdStrikeConfig) { c.TokenLife = 4 * time.Second },
			"earlier":               func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = 4 },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				o := smallTenant()
				o.Latency = 800 * time.Millisecond
				runTenant(t, o, func(s *Settings) { s.Page, s.Parallel = 50, 2 }, func(t *tenant) {
					t.vendor.Configure(change)
					if name == vendorsim.CrowdStrikeVulns && how == "earlier" {
						// The requests that wait for a slot would already use up a few calls.
						t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = 25 })
					}
					t.assertExtracts(name)
					stats := t.Host.Stats()
					if n := stats.Requests["POST /oauth2/token"]; n < 2 {
						t.Errorf("%d tokens, want several", n)
					}
					if how == "at the announced time" && stats.Statuses[401] > 0 {
						t.Errorf("%d requests with a token that was known to be expired", stats.Statuses[401])
					}
					if n := stats.Statuses[401]; n > 2*stats.Requests["POST /oauth2/token"] {
						t.Errorf("%d refusals of %d tokens", n, stats.Requests["POST /oauth2/token"])
					}
				})
			})
		}
	}
}

// TestCrowdStrikeRateLimit: after a 429 the collector waits until the time in
// the response.
func TestCrowdStrikeRateLimit(t *testing.T) {
	for name := range streamPaths {
		t.Run(name, func(t *testing.T) {
			o := smallTenant()
			o.Limits = map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 5, Window: 20 * time.Second}}
			runTenant(t, o, func(s *Settings) { s.Page, s.Parallel = 50, 1 }, func(t *tenant) {
				// The remaining quota is not reported, as if a proxy removed the headers.
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.HideQuota = true })
				t.assertExtractsLawfully(name)
				if t.Host.Stats().Throttled == 0 {
					t.Error("the limit was never met")
				}
			})
		})
	}
}

// TestCrowdStrikeReserve: a quarter of the tenant's limit is left to other
// programs, so that there is no 429.
func TestCrowdStrikeReserve(t *testing.T) {
	o := smallTenant()
	o.Counts[vendorsim.CrowdStrikeVulns] = 6000
	o.Limits = map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 100, Window: 30 * time.Second}}
	runTenant(t, o, func(s *Settings) { s.Page, s.Split, s.Parallel = 50, 2, 8 }, func(t *tenant) {
		t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
		if s := t.Host.Stats(); s.Throttled != 0 || s.Total < 100 {
			t.Errorf("%d of %d requests were refused, want none of at least 100", s.Throttled, s.Total)
		}
	})
}

func TestCrowdStrikeRequestsPerMinute(t *testing.T) {
	runTenant(t, smallTenant(), func(s *Settings) { s.Page, s.Rate = 50, 20 }, func(t *tenant) {
		t.assertExtractsLawfully(vendorsim.CrowdStrikeVulns)
		var data []time.Time
		for _, q := range t.Host.Stats().Log {
			if q.Path == vulnerabilitiesPath {
				data = append(data, q.Time)
			}
		}
		for i := 20; i < len(data); i++ {
			if within := data[i].Sub(data[i-20]); within < time.Minute {
				t.Fatalf("21 requests within %v", within)
			}
		}
	})
}
