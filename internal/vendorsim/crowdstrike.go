package vendorsim

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Streams of [CrowdStrike].
const (
	// CrowdStrikeHosts are the hosts of the devices service.
	CrowdStrikeHosts = "crowdstrike_hosts"
	// CrowdStrikeVulns are the vulnerabilities of Spotlight, with the facets
	// cve, host_info and remediation.
	CrowdStrikeVulns = "crowdstrike_vulnerabilities"
	// CrowdStrikeZTA are the assessments of the hosts: record i belongs to host
	// i, and there are as many records as hosts. Not every host has an
	// assessment, see [CrowdStrike.Assessed].
	CrowdStrikeZTA = "crowdstrike_zero_trust_assessment"
)

// Credentials that [NewCrowdStrike] accepts.
const (
	CrowdStrikeClientID = "0123456789abcdef0123456789abcdef"
	CrowdStrikeSecret   = "sim-falcon-secret"
)

// CrowdStrikeConfig configures how the API behaves. The zero value is the usual
// behavior.
type CrowdStrikeConfig struct {
	// Region is the value of X-Cs-Region. The default is "us-1".
	Region string
	// TokenLife is the lifetime of a token. The default is 1,799 s.
	TokenLife time.Duration
	// TokenCalls is the number of data calls after which a token expires. 0
	// means that it never does, a negative number that it expires at once.
	TokenCalls int
	// Forbidden streams respond with 403, as they do when the scope is missing.
	Forbidden map[string]bool
	// Drift makes declared totals vary by up to that many records.
	Drift int
	// CursorLife is how long a cursor is valid after its response. The default
	// is 120 s.
	CursorLife time.Duration
	// CleanEnd leaves the cursor out of the last page of Spotlight. Without it
	// the last page has a cursor that leads to an empty page. Listings of hosts
	// never have such a cursor.
	CleanEnd bool
	// EmptyLast makes the listing of hosts end with an empty page.
	EmptyLast bool
	// NumericOffset makes the listing of hosts return a number instead of the
	// next token.
	NumericOffset bool
	// NoCombined makes the combined endpoint of hosts respond with 404, as if
	// it did not exist.
	NoCombined bool
	// Gone are the indices of hosts that are listed but no longer found.
	Gone map[int]bool
	// AssessmentErrors adds an errors array to responses that leave out ids.
	AssessmentErrors bool
	// AssessmentNotFound makes the response 404 when none of the ids has an
	// assessment.
	AssessmentNotFound bool
	// MaxAssessments is the largest number of ids in one call. 0 means no
	// limit.
	MaxAssessments int
	// MaxURL is the longest request URI, in bytes. The gateway responds to
	// longer ones with 414. The default is 32,768.
	MaxURL int
	// IgnoreTimes makes Spotlight ignore time ranges in filters.
	IgnoreTimes bool
	// HideQuota leaves out the headers of the rate limit.
	HideQuota bool
	// Untimed makes Spotlight leave every n-th record out of any time range, as
	// if it had no creation time. 0 means that no record is left out.
	Untimed int
	// HiddenHosts is the number of hosts that the totals of listings of hosts
	// include although they are not listed.
	HiddenHosts int
	// HiddenVulns is the same for Spotlight, for each filter.
	HiddenVulns int
}

// CrowdStrike simulates the Falcon API: the OAuth2 token, all listings of
// hosts, Spotlight's combined vulnerabilities with filters, and Zero Trust
// Assessment.
type CrowdStrike struct {
	host  *Host
	model *crowdstrikeModel

	mu         sync.Mutex
	config     CrowdStrikeConfig
	tokens     map[string]*crowdstrikeToken
	scrolls    map[string]*crowdstrikeScroll
	badCalls   []time.Time // calls with an invalid token within the last minute
	calls      int
	selections map[string][]int32 // record indices by filter
	ordered    map[string][]int32 // vulnerabilities in the order of a listing, by filter
}

// NewCrowdStrike returns a simulated tenant for one [Server].
func NewCrowdStrike() *CrowdStrike {
	return &CrowdStrike{
		tokens:     map[string]*crowdstrikeToken{},
		scrolls:    map[string]*crowdstrikeScroll{},
		selections: map[string][]int32{},
		ordered:    map[string][]int32{},
	}
}

// Name returns "crowdstrike".
func (c *CrowdStrike) Name() string { return "crowdstrike" }

// Env returns the FALCON_ settings.
func (c *CrowdStrike) Env(url string) []string {
	return []string{"FALCON_BASE_URL=" + url, "FALCON_CLIENT_ID=" + CrowdStrikeClientID, "FALCON_SECRET=" + CrowdStrikeSecret}
}

// Configure calls change with the configuration. The change applies to all
// later requests.
func (c *CrowdStrike) Configure(change func(*CrowdStrikeConfig)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.config)
}

// effectiveConfig returns a copy of the configuration in which defaults are
// filled in.
func (c *CrowdStrike) effectiveConfig() CrowdStrikeConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.config
	if s.Region == "" {
		s.Region = "us-1"
	}
	if s.TokenLife == 0 {
		s.TokenLife = 1799 * time.Second
	}
	if s.CursorLife == 0 {
		s.CursorLife = 120 * time.Second
	}
	if s.MaxURL == 0 {
		s.MaxURL = 32 << 10
	}
	return s
}

// Limits returns the limits "crowdstrike", 6,000 data calls a minute for the
// whole tenant, and "crowdstrike_token", 300 token calls a minute.
func (c *CrowdStrike) Limits() []Limit {
	isToken := func(r *http.Request) bool { return r.URL.Path == "/oauth2/token" }
	return []Limit{
		{
			Name: "crowdstrike", LimitNumbers: LimitNumbers{Max: 6000, Window: time.Minute},
			Match:   func(r *http.Request) bool { return !isToken(r) },
			Headers: setCrowdStrikeQuota, Reject: writeCrowdStrikeThrottle,
		},
		{
			Name: "crowdstrike_token", LimitNumbers: LimitNumbers{Max: 300, Window: time.Minute},
			Match: isToken, Headers: setCrowdStrikeQuota, Reject: writeCrowdStrikeThrottle,
		},
	}
}

func setCrowdStrikeQuota(h http.Header, q Quota) {
	h.Set("X-Ratelimit-Limit", strconv.Itoa(q.Max))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(q.Remaining))
}

// writeCrowdStrikeThrottle writes the 429 response. Its header holds a Unix
// time.
func writeCrowdStrikeThrottle(w http.ResponseWriter, _ *http.Request, q Quota) {
	w.Header().Set("X-Ratelimit-Retryafter", q.ResetUnix())
	writeCrowdStrikeError(w, http.StatusTooManyRequests, "API rate limit exceeded.")
}

// Routes returns the API.
func (c *CrowdStrike) Routes(h *Host) *http.ServeMux {
	c.host = h
	c.model = newCrowdStrikeModel(h)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", c.serveToken)
	handle := func(pattern, stream string, f http.HandlerFunc) { mux.Handle(pattern, c.requireBearer(stream, f)) }
	handle("GET /devices/combined/devices/v1", CrowdStrikeHosts, c.serveCombinedHosts)
	handle("GET /devices/queries/devices/v1", CrowdStrikeHosts, c.serveHostIDs)
	handle("GET /devices/queries/devices-scroll/v1", CrowdStrikeHosts, c.serveHostScroll)
	handle("POST /devices/entities/devices/v2", CrowdStrikeHosts, c.serveHostEntities)
	handle("GET /spotlight/combined/vulnerabilities/v1", CrowdStrikeVulns, c.serveVulnerabilities)
	handle("GET /zero-trust-assessment/entities/assessments/v1", CrowdStrikeZTA, c.serveAssessments)
	handle("GET /zero-trust-assessment/queries/assessments/v1", CrowdStrikeZTA, c.serveAssessmentScores)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeCrowdStrikeError(w, http.StatusNotFound, "404: Page Not Found")
	})
	return mux
}

// requireBearer checks the token and the scope of a request before next handles
// it.
func (c *CrowdStrike) requireBearer(stream string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := c.effectiveConfig()
		w.Header().Set("X-Cs-Region", s.Region)
		if s.HideQuota {
			w.Header().Del("X-Ratelimit-Limit")
			w.Header().Del("X-Ratelimit-Remaining")
		}
		w.Header().Set("X-Cs-Traceid", c.host.Gen().UUID("falcon trace", int(c.host.Unique())))
		switch {
		case !c.isAuthorized(r):
			c.rejectToken(w, r)
		case s.Forbidden[stream]:
			writeCrowdStrikeError(w, http.StatusForbidden, "access denied, authorization failed")
		case len(r.URL.RequestURI()) > s.MaxURL:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusRequestURITooLong)
			_, _ = w.Write([]byte(HTMLPage))
		default:
			next(w, r)
		}
	})
}

// writeCrowdStrikeError writes an error envelope.
func writeCrowdStrikeError(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"meta":{"query_time":1.27e-07,"powered_by":"crowdstrike-api-gateway","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"errors":[{"code":%d,"message":%q}]}`, code, message)
}

// crowdstrikeEnvelope renders the start of a response up to its records. by is
// the value of powered_by. page holds the members of meta.pagination, which is
// left out for "".
func crowdstrikeEnvelope(by, page string) string {
	var b strings.Builder
	b.WriteString(`{"meta":{"query_time":0.0123`)
	if page != "" {
		b.WriteString(`,"pagination":{` + page + `}`)
	}
	b.WriteString(`,"powered_by":"` + by + `","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"resources":[`)
	return b.String()
}

// parseCrowdStrikeLimit reads the parameter limit, which must be between 1 and
// most. The default is 100.
func parseCrowdStrikeLimit(r *http.Request, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("limit must be an integer between 1 and %d", most)
	}
	return n, nil
}

// driftedTotal varies a total by up to Drift records, as if hosts came and went
// between requests.
func (c *CrowdStrike) driftedTotal(total int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.config.Drift
	if d == 0 {
		return total
	}
	c.calls++
	return max(0, total+c.calls*7%(2*d+1)-d)
}
