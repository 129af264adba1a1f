package sources

import (
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/collector"
)

// epoch is the vendor's form of an instant that lies ahead.
func epoch(ahead time.Duration) string {
	return strconv.FormatInt(time.Now().Add(ahead).Unix(), 10)
}

// falconPassing are the vendor's own faults that must cost nothing but time.
var falconPassing = map[string]vendorsim.Fault{
	"404 for a moment": {Times: 2, Do: vendorsim.Status(404, `{"errors":[{"code":404,"message":"not found"}]}`)},
	"token refused":    {Do: vendorsim.Status(401, `{"errors":[{"code":401,"message":"access denied, invalid bearer token"}]}`)},
	"429 with an instant": {Times: 2, Do: later(func() vendorsim.Effect {
		return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epoch(7*time.Second))
	})},
	"429 outlasting the cursors": {Do: later(func() vendorsim.Effect {
		return vendorsim.Status(429, `{}`, "X-Ratelimit-Retryafter", epoch(200*time.Second))
	})},
	"slow": {Times: 3, Do: vendorsim.Slow(30 * time.Second)},
}

func TestFalconUnderPassingFaults(t *testing.T) {
	faults := maps.Clone(passing)
	maps.Copy(faults, falconPassing)
	for name, path := range falconPaths {
		for fault, f := range faults {
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				inFalcon(t, falconSmall(), falconSmallPages, func(t *falconTenant) {
					f.Path, f.From = path, 3
					if name == vendorsim.CrowdStrikeVulns {
						f.From = 20 // past the search for the spans
					}
					hit := t.host.Inject(f)
					t.same(t.extract(stream(t, t.c, name)), t.want(name))
					if hit.Hits() == 0 {
						t.Error("the fault hit nothing")
					}
					if fault == "token refused" {
						t.host.Forgive()
					}
				})
			})
		}
	}
}

// What stays wrong is an error that names the request, and nothing is stored.
func TestFalconUnderLastingFaults(t *testing.T) {
	for name, path := range falconPaths {
		for fault, tc := range map[string]struct {
			do   vendorsim.Effect
			is   error
			text string
			most int
		}{
			"500":            {vendorsim.Status(500, `{"errors":[{"code":500}]}`), nil, "500", 6},
			"HTML at 200":    {vendorsim.HTML(200), collector.ErrIncomplete, "HTML", 6},
			"errors at 200":  {vendorsim.Errors("backend failed"), collector.ErrIncomplete, "backend failed", 6},
			"truncated":      {vendorsim.Truncate(vendorsim.Half), collector.ErrIncomplete, "", 6},
			"page repeated":  {vendorsim.Repeat(), collector.ErrIncomplete, "page", 3},
			"hangs":          {vendorsim.Hang(), nil, "network", 6},
			"400":            {vendorsim.Status(400, `{"errors":[{"code":400,"message":"bad"}]}`), nil, "400", 1},
			"404":            {vendorsim.Status(404, `{"errors":[{"code":404,"message":"lost"}]}`), nil, "404", 3},
			"token refused":  {vendorsim.Status(401, `{}`), collector.ErrRefused, "FALCON_CLIENT_ID", 2},
			"scope taken":    {vendorsim.Status(403, `{}`), collector.ErrForbidden, ": read", 1},
			"always expired": {vendorsim.Status(404, `{"errors":[{"code":404,"message":"Search context expired, 'after' key no longer valid"}]}`), nil, "404", 3},
		} {
			if fault == "page repeated" && name == vendorsim.CrowdStrikeZTA || fault == "always expired" && name != vendorsim.CrowdStrikeVulns {
				continue // there is no cursor, or it says so otherwise
			}
			if fault == "404" && name == vendorsim.CrowdStrikeHosts {
				continue // another listing is taken then
			}
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				inFalcon(t, falconSmall(), func(s *crowdstrikeSettings) { s.Page, s.Split = 50, 1 }, func(t *falconTenant) {
					hit := t.host.Inject(vendorsim.Fault{Path: path, From: 3, Times: vendorsim.Forever, Do: tc.do})
					began := time.Now()
					err := t.fails(name)
					if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
						t.Errorf("error %v, want %v and %q", err, tc.is, tc.text)
					}
					if !strings.HasPrefix(err.Error(), "crowdstrike ") || !strings.Contains(err.Error(), "GET "+path) {
						t.Errorf("the error does not name the request: %v", err)
					}
					most := tc.most
					if name == vendorsim.CrowdStrikeZTA {
						most *= 4 // batches are under way at once
						if fault == "400" || fault == "404" {
							most = 20 // smaller ones are tried, or all others
						}
					}
					if hit.Hits() == 0 || hit.Hits() > most {
						t.Errorf("the fault was met %d times, want at most %d", hit.Hits(), most)
					}
					if took := time.Since(began); took > 10*time.Minute {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// The token dies in the middle, by its clock or without a warning.
func TestFalconTokenDies(t *testing.T) {
	for name := range falconPaths {
		for how, change := range map[string]func(*vendorsim.CrowdStrikeConfig){
			"by its clock":      func(c *vendorsim.CrowdStrikeConfig) { c.TokenLife = 4 * time.Second },
			"without a warning": func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = 4 },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				o := falconSmall()
				o.Latency = 800 * time.Millisecond
				inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page, s.Parallel = 50, 2 }, func(t *falconTenant) {
					t.vendor.Configure(change)
					if name == vendorsim.CrowdStrikeVulns && how == "without a warning" {
						// As many wait for their turn as would use up a few calls.
						t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.TokenCalls = 25 })
					}
					t.same(t.extract(stream(t, t.c, name)), t.want(name))
					stats := t.host.Stats()
					if n := stats.Requests["POST /oauth2/token"]; n < 2 {
						t.Errorf("%d tokens, want several", n)
					}
					if how == "by its clock" && stats.Statuses[401] > 0 {
						t.Errorf("%d requests with a token that was known to be old", stats.Statuses[401])
					}
					if n := stats.Statuses[401]; n > 2*stats.Requests["POST /oauth2/token"] {
						t.Errorf("%d refusals of %d tokens", n, stats.Requests["POST /oauth2/token"])
					}
				})
			})
		}
	}
}

// A limit that is run into is waited out to the instant.
func TestFalconRateLimit(t *testing.T) {
	for name := range falconPaths {
		t.Run(name, func(t *testing.T) {
			o := falconSmall()
			o.Limits = map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 5, Window: 20 * time.Second}}
			inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page, s.Parallel = 50, 1 }, func(t *falconTenant) {
				// Something else hides the warning, and takes requests away.
				t.vendor.Configure(func(c *vendorsim.CrowdStrikeConfig) { c.HideQuota = true })
				t.whole(name)
				if t.host.Stats().Throttled == 0 {
					t.Error("the limit was never met")
				}
			})
		})
	}
}

// A quarter of the tenant's bucket is left to others, so that the limit is
// never met.
func TestFalconReserve(t *testing.T) {
	o := falconSmall()
	o.Counts[vendorsim.CrowdStrikeVulns] = 6000
	o.Limits = map[string]vendorsim.LimitNumbers{"crowdstrike": {Max: 100, Window: 30 * time.Second}}
	inFalcon(t, o, func(s *crowdstrikeSettings) { s.Page, s.Split, s.Parallel = 50, 2, 8 }, func(t *falconTenant) {
		t.whole(vendorsim.CrowdStrikeVulns)
		if s := t.host.Stats(); s.Throttled != 0 || s.Total < 100 {
			t.Errorf("%d of %d requests were refused, want none of many", s.Throttled, s.Total)
		}
	})
}

func TestFalconRequestsPerMinute(t *testing.T) {
	inFalcon(t, falconSmall(), func(s *crowdstrikeSettings) { s.Page, s.Rate = 50, 20 }, func(t *falconTenant) {
		t.whole(vendorsim.CrowdStrikeVulns)
		var data []time.Time
		for _, q := range t.host.Stats().Log {
			if q.Path == falconVulnsPath {
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
