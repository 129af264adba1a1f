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
	// CrowdStrikeVulns are the findings of Spotlight, with the facets cve,
	// host_info and remediation.
	CrowdStrikeVulns = "crowdstrike_vulnerabilities"
	// CrowdStrikeZTA are the assessments of the hosts: record i is that of
	// host i, and their count follows CrowdStrikeHosts. Not every host has
	// one, see [CrowdStrike.Assessed].
	CrowdStrikeZTA = "crowdstrike_zero_trust_assessment"
)

// Credentials that [NewCrowdStrike] accepts.
const (
	CrowdStrikeClientID = "0123456789abcdef0123456789abcdef"
	CrowdStrikeSecret   = "sim-falcon-secret"
)

// CrowdStrikeConfig says how the API behaves beyond its usual course.
type CrowdStrikeConfig struct {
	// Region is the name in X-Cs-Region; "us-1" when empty.
	Region string
	// TokenLife is the life of a token, 1,799 s when zero.
	TokenLife time.Duration
	// TokenCalls ends a token after that many data calls; 0 for never, negative
	// for at once.
	TokenCalls int
	// Forbidden streams answer 403, as when the scope is missing.
	Forbidden map[string]bool
	// Drift makes declared totals waver by up to that many records.
	Drift int
	// CursorLife is how long a cursor is valid after its answer, 120 s when
	// zero.
	CursorLife time.Duration
	// CleanEnd makes the last page say that it is the last. Without it the last
	// page of Spotlight carries a cursor that leads to an empty one, and hosts
	// end cleanly anyway.
	CleanEnd bool
	// EmptyLast makes the hosts' listing end with an empty page.
	EmptyLast bool
	// NumericOffset makes the hosts' listing answer a number in place of the
	// next token.
	NumericOffset bool
	// NoCombined answers 404 on the hosts' combined endpoint, as if there were
	// none.
	NoCombined bool
	// Gone are hosts, by index, that are listed but not found any more.
	Gone map[int]bool
	// AssessmentErrors adds an errors array to answers that leave out ids.
	AssessmentErrors bool
	// AssessmentNotFound answers 404 when none of the ids has an assessment.
	AssessmentNotFound bool
	// MaxAssessments is the most ids that one call takes; 0 for no bound.
	MaxAssessments int
	// MaxURL is the length of a request address from which on the gateway
	// answers 414; 32,768 when zero.
	MaxURL int
	// IgnoreTimes makes Spotlight pass over time ranges in filters.
	IgnoreTimes bool
	// HideQuota leaves out the headers that tell what is left of the limit.
	HideQuota bool
	// Untimed makes Spotlight leave every n-th record out of any time range, as
	// if it had no such time; 0 for none.
	Untimed int
}

// CrowdStrike simulates the Falcon API: the OAuth2 token, the hosts by all
// their listings, Spotlight's combined vulnerabilities with filters, and Zero
// Trust Assessment.
type CrowdStrike struct {
	host  *Host
	model *falconModel

	mu      sync.Mutex
	config  CrowdStrikeConfig
	tokens  map[string]*falconToken
	scrolls map[string]*falconScroll
	bad     []time.Time // calls with a bad token within the last minute
	calls   int
	chosen  map[string][]int32 // records by filter
}

// NewCrowdStrike returns a simulated tenant for one [Server].
func NewCrowdStrike() *CrowdStrike {
	return &CrowdStrike{
		tokens:  map[string]*falconToken{},
		scrolls: map[string]*falconScroll{},
		chosen:  map[string][]int32{},
	}
}

// Name returns "crowdstrike".
func (c *CrowdStrike) Name() string { return "crowdstrike" }

// Env returns the FALCON_ settings.
func (c *CrowdStrike) Env(url string) []string {
	return []string{"FALCON_BASE_URL=" + url, "FALCON_CLIENT_ID=" + CrowdStrikeClientID, "FALCON_SECRET=" + CrowdStrikeSecret}
}

// Configure changes how the API behaves from now on.
func (c *CrowdStrike) Configure(change func(*CrowdStrikeConfig)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.config)
}

// settings returns a copy of the configuration with its defaults.
func (c *CrowdStrike) settings() CrowdStrikeConfig {
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
			Headers: falconQuota, Reject: falconThrottle,
		},
		{
			Name: "crowdstrike_token", LimitNumbers: LimitNumbers{Max: 300, Window: time.Minute},
			Match: isToken, Headers: falconQuota, Reject: falconThrottle,
		},
	}
}

func falconQuota(h http.Header, q Quota) {
	h.Set("X-Ratelimit-Limit", strconv.Itoa(q.Max))
	h.Set("X-Ratelimit-Remaining", strconv.Itoa(q.Remaining))
}

// falconThrottle writes the 429, whose header names an instant.
func falconThrottle(w http.ResponseWriter, _ *http.Request, q Quota) {
	w.Header().Set("X-Ratelimit-Retryafter", q.ResetUnix())
	falconError(w, http.StatusTooManyRequests, "API rate limit exceeded.")
}

// Routes returns the API.
func (c *CrowdStrike) Routes(h *Host) *http.ServeMux {
	c.host = h
	c.model = newFalconModel(h)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", c.token)
	handle := func(pattern, stream string, f http.HandlerFunc) { mux.Handle(pattern, c.guard(stream, f)) }
	handle("GET /devices/combined/devices/v1", CrowdStrikeHosts, c.combinedHosts)
	handle("GET /devices/queries/devices/v1", CrowdStrikeHosts, c.queryHosts)
	handle("GET /devices/queries/devices-scroll/v1", CrowdStrikeHosts, c.scrollHosts)
	handle("POST /devices/entities/devices/v2", CrowdStrikeHosts, c.hostEntities)
	handle("GET /spotlight/combined/vulnerabilities/v1", CrowdStrikeVulns, c.vulnerabilities)
	handle("GET /zero-trust-assessment/entities/assessments/v1", CrowdStrikeZTA, c.assessments)
	handle("GET /zero-trust-assessment/queries/assessments/v1", CrowdStrikeZTA, c.queryAssessments)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		falconError(w, http.StatusNotFound, "404: Page Not Found")
	})
	return mux
}

// guard checks token and scope before a handler.
func (c *CrowdStrike) guard(stream string, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := c.settings()
		w.Header().Set("X-Cs-Region", s.Region)
		if s.HideQuota {
			w.Header().Del("X-Ratelimit-Limit")
			w.Header().Del("X-Ratelimit-Remaining")
		}
		w.Header().Set("X-Cs-Traceid", c.host.Gen().UUID("falcon trace", int(c.host.Unique())))
		switch {
		case !c.authorized(r):
			c.refuseToken(w, r)
		case s.Forbidden[stream]:
			falconError(w, http.StatusForbidden, "access denied, authorization failed")
		case len(r.URL.RequestURI()) > s.MaxURL:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusRequestURITooLong)
			_, _ = w.Write([]byte(HTMLPage))
		default:
			next(w, r)
		}
	})
}

// falconError writes an error envelope.
func falconError(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"meta":{"query_time":1.27e-07,"powered_by":"crowdstrike-api-gateway","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"errors":[{"code":%d,"message":%q}]}`, code, message)
}

// falconMeta renders the start of an answer up to its records. page holds the
// members of meta.pagination; "" leaves that out.
func falconMeta(by, page string) string {
	var b strings.Builder
	b.WriteString(`{"meta":{"query_time":0.0123`)
	if page != "" {
		b.WriteString(`,"pagination":{` + page + `}`)
	}
	b.WriteString(`,"powered_by":"` + by + `","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"resources":[`)
	return b.String()
}

// falconLimit reads the parameter limit, which the vendor bounds by most.
func falconLimit(r *http.Request, most int) (int, error) {
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

// drifted wavers a total as a tenant does that is at work.
func (c *CrowdStrike) drifted(total int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.config.Drift
	if d == 0 {
		return total
	}
	c.calls++
	return max(0, total+c.calls*7%(2*d+1)-d)
}
