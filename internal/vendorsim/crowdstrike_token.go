package vendorsim

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// falconToken is a token that was issued.
type falconToken struct {
	expires time.Time
	calls   int
}

// token issues tokens to those who send the credential as a form.
func (c *CrowdStrike) token(w http.ResponseWriter, r *http.Request) {
	s := c.settings()
	w.Header().Set("X-Cs-Region", s.Region)
	form, ok := tokenForm(r)
	switch {
	case !ok:
		falconError(w, http.StatusBadRequest, "client_id and client_secret are expected as form fields")
		return
	case form.Get("client_id") != CrowdStrikeClientID:
		falconError(w, http.StatusBadRequest, "Failed to generate access token for clientID="+form.Get("client_id"))
		return
	case form.Get("client_secret") != CrowdStrikeSecret:
		falconError(w, http.StatusForbidden, "Failed to issue access token - Not Authorized")
		return
	}
	n := c.host.Unique()
	text := fmt.Sprintf("eyJ%x.sim.%d", c.host.Gen().Hash("falcon token", int(n)), n)
	c.mu.Lock()
	c.tokens[text] = &falconToken{expires: c.host.Now().Add(s.TokenLife)}
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d,"token_type":"bearer"}`, text, int(s.TokenLife/time.Second))
}

// tokenForm reads the form of a token request; false when there is none.
func tokenForm(r *http.Request) (url.Values, bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, false
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, false
	}
	form, err := url.ParseQuery(string(body))
	return form, err == nil && form.Has("client_id") && form.Has("client_secret")
}

// authorized checks the bearer of a data call and counts the call.
func (c *CrowdStrike) authorized(r *http.Request) bool {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tokens[text]
	if !ok || t == nil || !c.host.Now().Before(t.expires) {
		return false
	}
	t.calls++
	return c.config.TokenCalls == 0 || t.calls <= c.config.TokenCalls
}

// badTokenCalls is how many calls with a bad token a minute the gateway
// answers before it asks for patience.
const badTokenCalls = 15

// refuseToken answers a data call with a bad token.
func (c *CrowdStrike) refuseToken(w http.ResponseWriter, r *http.Request) {
	now := c.host.Now()
	c.mu.Lock()
	for len(c.bad) > 0 && now.Sub(c.bad[0]) >= time.Minute {
		c.bad = c.bad[1:]
	}
	c.bad = append(c.bad, now)
	used, first := len(c.bad), c.bad[0]
	c.mu.Unlock()
	falconQuota(w.Header(), Quota{Max: badTokenCalls, Remaining: max(0, badTokenCalls-used)})
	if used > badTokenCalls {
		falconThrottle(w, r, Quota{Now: now, Reset: first.Add(time.Minute)})
		return
	}
	falconError(w, http.StatusUnauthorized, "access denied, invalid bearer token")
}

// Revoke ends all tokens that were issued so far.
func (c *CrowdStrike) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// CrowdStrikeGateway simulates the API of another region: it sends every call
// to the tenant's own, with status 308.
type CrowdStrikeGateway struct {
	name string
	home *CrowdStrike
}

// Gateway returns the API of another region, as a vendor of its own with the
// name "crowdstrike_" and that region's.
func (c *CrowdStrike) Gateway(region string) *CrowdStrikeGateway {
	return &CrowdStrikeGateway{name: "crowdstrike_" + region, home: c}
}

// Name returns "crowdstrike_" and the region's name.
func (g *CrowdStrikeGateway) Name() string { return g.name }

// Specs returns none: the tenant's records are elsewhere.
func (g *CrowdStrikeGateway) Specs(Gen) []Spec { return nil }

// Limits returns none.
func (g *CrowdStrikeGateway) Limits() []Limit { return nil }

// Env returns the FALCON_ settings.
func (g *CrowdStrikeGateway) Env(url string) []string { return g.home.Env(url) }

// Routes returns the API.
func (g *CrowdStrikeGateway) Routes(h *Host) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		limit := "300"
		if r.URL.Path != "/oauth2/token" {
			limit = "15"
		}
		w.Header().Set("Location", g.home.host.URL()+r.URL.RequestURI())
		w.Header().Set("X-Cs-Region", g.home.settings().Region)
		w.Header().Set("X-Ratelimit-Limit", limit)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	return mux
}
