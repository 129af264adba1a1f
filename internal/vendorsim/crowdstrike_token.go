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

// crowdstrikeToken is a token that was issued.
type crowdstrikeToken struct {
	secret  string // that it was issued for
	expires time.Time
	calls   int
}

// serveToken issues a token for the credentials in a form.
func (c *CrowdStrike) serveToken(w http.ResponseWriter, r *http.Request) {
	s := c.effectiveConfig()
	w.Header().Set("X-Cs-Region", s.Region)
	form, ok := parseTokenForm(r)
	switch {
	case !ok:
		writeCrowdStrikeError(w, http.StatusBadRequest, "client_id and client_secret are expected as form fields")
		return
	case form.Get("client_id") != CrowdStrikeClientID:
		writeCrowdStrikeError(w, http.StatusBadRequest, "Failed to generate access token for clientID="+form.Get("client_id"))
		return
	case !c.host.acceptsKey(form.Get("client_secret"), CrowdStrikeSecret):
		writeCrowdStrikeError(w, http.StatusForbidden, "Failed to issue access token - Not Authorized")
		return
	}
	n := c.host.Unique()
	text := fmt.Sprintf("eyJ%x.sim.%d", c.host.Gen().Hash("falcon token", int(n)), n)
	c.mu.Lock()
	c.tokens[text] = &crowdstrikeToken{secret: form.Get("client_secret"), expires: c.host.Now().Add(s.TokenLife)}
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d,"token_type":"bearer"}`, text, int(s.TokenLife/time.Second))
}

// parseTokenForm returns the form of a token request, and false if there is
// none.
func parseTokenForm(r *http.Request) (url.Values, bool) {
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

// isAuthorized reports whether the bearer token of a data call is valid, and
// counts the call.
func (c *CrowdStrike) isAuthorized(r *http.Request) bool {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tokens[text]
	if !ok || t == nil || !c.host.Now().Before(t.expires) || !c.host.acceptsKey(t.secret, CrowdStrikeSecret) {
		return false
	}
	t.calls++
	return c.config.TokenCalls == 0 || t.calls <= c.config.TokenCalls
}

// maxBadTokenCalls is the number of calls with an invalid token per minute to
// which the gateway responds with 401. It responds to further ones with 429.
const maxBadTokenCalls = 15

// rejectToken responds to a data call with an invalid token.
func (c *CrowdStrike) rejectToken(w http.ResponseWriter, r *http.Request) {
	now := c.host.Now()
	c.mu.Lock()
	for len(c.badCalls) > 0 && now.Sub(c.badCalls[0]) >= time.Minute {
		c.badCalls = c.badCalls[1:]
	}
	c.badCalls = append(c.badCalls, now)
	used, first := len(c.badCalls), c.badCalls[0]
	c.mu.Unlock()
	setCrowdStrikeQuota(w.Header(), Quota{Max: maxBadTokenCalls, Remaining: max(0, maxBadTokenCalls-used)})
	if used > maxBadTokenCalls {
		writeCrowdStrikeThrottle(w, r, Quota{Now: now, Reset: first.Add(time.Minute)})
		return
	}
	writeCrowdStrikeError(w, http.StatusUnauthorized, "access denied, invalid bearer token")
}

// Revoke invalidates all tokens that were issued so far.
func (c *CrowdStrike) Revoke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// CrowdStrikeGateway simulates the API of another region: it redirects every
// call to the tenant's region with status 308.
type CrowdStrikeGateway struct {
	name   string
	tenant *CrowdStrike
}

// Gateway returns the API of another region, as a separate vendor named
// "crowdstrike_" and the region.
func (c *CrowdStrike) Gateway(region string) *CrowdStrikeGateway {
	return &CrowdStrikeGateway{name: "crowdstrike_" + region, tenant: c}
}

// Name returns "crowdstrike_" followed by the region.
func (c *CrowdStrikeGateway) Name() string { return c.name }

// Specs returns nil: only the tenant's own region has records.
func (c *CrowdStrikeGateway) Specs(Gen) []Spec { return nil }

// Limits returns nil.
func (c *CrowdStrikeGateway) Limits() []Limit { return nil }

// Env returns the FALCON_ settings.
func (c *CrowdStrikeGateway) Env(url string) []string { return c.tenant.Env(url) }

// Routes returns the API.
func (c *CrowdStrikeGateway) Routes(h *Host) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		limit := "300"
		if r.URL.Path != "/oauth2/token" {
			limit = "15"
		}
		w.Header().Set("Location", c.tenant.host.URL()+r.URL.RequestURI())
		w.Header().Set("X-Cs-Region", c.tenant.effectiveConfig().Region)
		w.Header().Set("X-Ratelimit-Limit", limit)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	return mux
}
