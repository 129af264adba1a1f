package vendorsim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Streams of [Snyk].
const (
	SnykOrganizations = "snyk_organizations"
	// SnykMembers are the members of all organisations in the format of /v1.
	SnykMembers  = "snyk_members"
	SnykProjects = "snyk_projects"
	SnykIssues   = "snyk_issues"
)

// SnykToken is the API token that [NewSnyk] accepts.
const SnykToken = "51b00000-5e1f-4000-8000-00000000f00d"

// Client credentials of the service account that [NewSnyk] accepts in place of
// the token.
const (
	SnykClientID     = "9f0c2e31-5e1f-4000-8000-00000000c11e"
	SnykClientSecret = "sim-snyk-client-secret"
)

// maxSnykPage is the largest page size.
const maxSnykPage = 100

// Snyk simulates the organisations, projects and issues of Snyk's REST API and
// the members of its older API. Every fourth organisation has neither projects
// nor issues. The filters type, effective_severity_level and status of issues
// and types of projects select records; other filters are accepted and ignored.
type Snyk struct {
	host  *Host
	items snykDistribution // of projects and issues
	users snykDistribution // of members

	mu        sync.Mutex
	config    SnykBehaviour
	deleted   map[int]bool
	forbidden map[string]map[int]bool // by stream; -1 means all organisations
	issued    map[string]time.Time    // when tokens of client credentials expire
}

// SnykBehaviour configures where the API has more than one form.
type SnykBehaviour struct {
	// Next is the form of the link to the next page.
	Next SnykNext
	// End is what replaces the link on the last page.
	End SnykEnd
	// EmptyLast gives the last page with records a next link, which leads to
	// an empty page.
	EmptyLast bool
	// EmptyBetween puts an empty page between any two pages with records.
	EmptyBetween bool
	// EmptyLoops gives an empty page at the end a next link that leads to the
	// same page. Seen at the listing of issues.
	EmptyLoops bool
	// ForbiddenNotFound makes requests that [Snyk.Forbid] forbids respond with
	// 404 instead of 403. Seen at the older API.
	ForbiddenNotFound bool
	// TokenLife is the lifetime of tokens of client credentials. The default is an
	// hour.
	TokenLife time.Duration
	// Aging adds the headers that announce the end of the API version.
	Aging bool
}

// SnykNext is a form of the link to the next page.
type SnykNext int

// Forms of the link to the next page.
const (
	SnykNextPath     SnykNext = iota // "/rest/orgs?…"
	SnykNextShort                    // "/orgs?…"
	SnykNextAbsolute                 // "https://…/rest/orgs?…"
	SnykNextObject                   // {"href":"/rest/orgs?…"}
	SnykNextBare                     // "/rest/orgs?…" without version and limit
)

// SnykEnd is what replaces the link to the next page on the last page.
type SnykEnd int

// Replacements of the link on the last page.
const (
	SnykEndMissing SnykEnd = iota
	SnykEndNull
	SnykEndEmpty
	SnykEndNoLinks // the member links is missing
)

// NewSnyk returns a simulated Snyk account for one [Server].
func NewSnyk() *Snyk {
	return &Snyk{deleted: map[int]bool{}, forbidden: map[string]map[int]bool{}, issued: map[string]time.Time{}}
}

// Name returns "snyk".
func (s *Snyk) Name() string { return "snyk" }

// Env returns the SNYK_ settings.
func (s *Snyk) Env(url string) []string {
	return []string{"SNYK_ENDPOINT=" + url, "SNYK_TOKEN=" + SnykToken}
}

// ChangeBehaviour changes how the API behaves.
func (s *Snyk) ChangeBehaviour(change func(*SnykBehaviour)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.config)
}

func (s *Snyk) behaviour() SnykBehaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// Delete removes an organisation, even if a client has already listed it.
func (s *Snyk) Delete(org int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[org] = true
}

func (s *Snyk) isDeleted(org int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deleted[org]
}

// Forbid makes requests for a stream respond with 403 in the given
// organisations, or in all if none are given. For [SnykOrganizations], this
// applies to the request for a single organisation.
func (s *Snyk) Forbid(stream string, orgs ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(orgs) == 0 {
		orgs = []int{-1}
	}
	s.forbidden[stream] = map[int]bool{}
	for _, org := range orgs {
		s.forbidden[stream][org] = true
	}
}

// allowAll ends what Forbid forbids of a stream.
func (s *Snyk) allowAll(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.forbidden, stream)
}

func (s *Snyk) isForbidden(stream string, org int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forbidden[stream][-1] || s.forbidden[stream][org]
}

// Organization returns the number of the organisation that record i of a
// stream belongs to.
func (s *Snyk) Organization(stream string, i int) int {
	switch stream {
	case SnykOrganizations:
		return i
	case SnykMembers:
		return s.users.ownerOf(i)
	}
	return s.items.ownerOf(i)
}

// Limits returns the limits of the REST API, "snyk-minute" and "snyk-second",
// and "snyk-v1" of the older one. The REST API lists its windows in one
// structured header.
func (s *Snyk) Limits() []Limit {
	under := func(prefix string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, prefix) }
	}
	reject := func(w http.ResponseWriter, _ *http.Request, q Quota) {
		w.Header().Set("Retry-After", q.ResetSeconds())
		writeSnykError(w, http.StatusTooManyRequests, "Too Many Requests", "")
	}
	return []Limit{
		{
			Name: "snyk-minute", LimitNumbers: LimitNumbers{Max: 1620, Window: time.Minute}, Match: under("/rest/"), Reject: reject,
			Headers: func(h http.Header, q Quota) {
				name := func(per string) string { return `name="crd|generic_key^api-rest|generic_key^` + per + `|principal_id"` }
				h.Set("X-Ratelimit-Limit", fmt.Sprintf("%d, 160;w=1;%s, %d;w=60;%s, 97200;w=3600;%s",
					q.Max, name("per_second"), q.Max, name("per_minute"), name("per_hour")))
				h.Set("X-Ratelimit-Remaining", strconv.Itoa(q.Remaining))
				h.Set("X-Ratelimit-Reset", q.ResetSeconds())
			},
		},
		{Name: "snyk-second", LimitNumbers: LimitNumbers{Max: 160, Window: time.Second}, Match: under("/rest/"), Reject: reject},
		{Name: "snyk-v1", LimitNumbers: LimitNumbers{Max: 2000, Window: time.Minute}, Match: under("/v1/"), Reject: reject},
	}
}

// Routes returns the API.
func (s *Snyk) Routes(h *Host) *http.ServeMux {
	s.host = h
	orgs := h.server.RecordCount(SnykOrganizations)
	s.items = newSnykDistribution(orgs, func(org int) int {
		if org%4 == 3 {
			return 0
		}
		return 1 + org%3
	})
	s.users = newSnykDistribution(orgs, func(org int) int { return 1 + org%2 })
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", s.serveToken)
	mux.HandleFunc("GET /rest/orgs", s.requireVersion(s.serveOrganizations))
	mux.HandleFunc("GET /rest/orgs/{org}", s.requireVersion(s.withOrganization(SnykOrganizations, s.serveOrganization)))
	mux.HandleFunc("GET /rest/orgs/{org}/projects", s.requireVersion(s.withOrganization(SnykProjects, s.serveProjects)))
	mux.HandleFunc("GET /rest/orgs/{org}/issues", s.requireVersion(s.withOrganization(SnykIssues, s.serveIssues)))
	mux.HandleFunc("GET /v1/org/{org}/members", s.requireSnykToken(s.withOrganization(SnykMembers, s.serveMembers)))
	mux.HandleFunc("/", s.requireSnykToken(func(w http.ResponseWriter, r *http.Request) {
		writeSnykError(w, http.StatusNotFound, "Not Found", "The requested resource does not exist")
	}))
	return mux
}

// serveToken issues a token for client credentials in a form.
func (s *Snyk) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	form, ok := parseTokenForm(r)
	if !ok || form.Get("grant_type") != "client_credentials" || form.Get("client_id") != SnykClientID || form.Get("client_secret") != SnykClientSecret {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid_client","error_description":"Client authentication failed"}`)
		return
	}
	life := s.behaviour().TokenLife
	if life == 0 {
		life = time.Hour
	}
	text := fmt.Sprintf("snyk-issued-%d", s.host.Unique())
	s.mu.Lock()
	s.issued[text] = s.host.Now().Add(life)
	s.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d,"scope":"","token_type":"bearer"}`, text, int(life/time.Second))
}

// isIssued reports whether a request has a token that serveToken issued and that
// has not expired.
func (s *Snyk) isIssued(r *http.Request) bool {
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.EqualFold(scheme, "bearer") && s.host.Now().Before(s.issued[text])
}

// Revoke invalidates all tokens that were issued so far for client credentials.
func (s *Snyk) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.issued)
}

// requireSnykToken checks the token of a request before next handles it.
func (s *Snyk) requireSnykToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.host.acceptsHeader(r, "token", SnykToken) && !s.isIssued(r) {
			writeSnykError(w, http.StatusUnauthorized, "Unauthorized", "Not authenticated")
			return
		}
		next(w, r)
	}
}

var snykVersion = regexp.MustCompile(`^20[0-9]{2}-[01][0-9]-[0-3][0-9](~(beta|experimental))?$`)

// requireVersion checks the token and the version of a request to the REST API
// before next handles it.
func (s *Snyk) requireVersion(next http.HandlerFunc) http.HandlerFunc {
	return s.requireSnykToken(func(w http.ResponseWriter, r *http.Request) {
		version := r.URL.Query().Get("version")
		if !snykVersion.MatchString(version) {
			writeSnykError(w, http.StatusBadRequest, "Invalid version", "a valid version parameter is required")
			return
		}
		w.Header().Set("Snyk-Version-Requested", version)
		w.Header().Set("Snyk-Version-Served", "2024-06-10")
		if s.behaviour().Aging {
			w.Header().Set("Deprecation", s.host.Gen().Base.Format(LayoutSeconds))
			w.Header().Set("Sunset", s.host.Gen().Base.AddDate(0, 6, 0).Format(LayoutSeconds))
		}
		next(w, r)
	})
}

// withOrganization finds the organisation of a request, checks that the stream
// is not forbidden there, and calls next with the index of the organisation.
func (s *Snyk) withOrganization(stream string, next func(http.ResponseWriter, *http.Request, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("org")
		for org := range s.host.server.RecordCount(SnykOrganizations) {
			if s.host.server.RecordID(SnykOrganizations, org) != id || s.isDeleted(org) {
				continue
			}
			if s.isForbidden(stream, org) {
				s.refuseOrganization(w, r, id)
				return
			}
			next(w, r, org)
			return
		}
		writeOrganizationNotFound(w, r, id)
	}
}

// refuseOrganization refuses a request that is forbidden in an organisation.
func (s *Snyk) refuseOrganization(w http.ResponseWriter, r *http.Request, id string) {
	if s.behaviour().ForbiddenNotFound {
		writeOrganizationNotFound(w, r, id)
		return
	}
	writeSnykError(w, http.StatusForbidden, "Forbidden", "You do not have the right to view this resource")
}

// writeOrganizationNotFound writes the error for an organisation that does not
// exist, in the format of the API. The older API uses it also for a missing
// permission.
func writeOrganizationNotFound(w http.ResponseWriter, r *http.Request, id string) {
	detail := "Org " + id + " was not found or you may not have the correct permissions to access the org"
	if strings.HasPrefix(r.URL.Path, "/rest/") {
		writeSnykError(w, http.StatusNotFound, "Not Found", detail)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"code":404,"message":`+quoteJSON(detail)+`,"error":`+quoteJSON(detail)+`}`)
}

// writeSnykError writes an error in the format of JSON:API.
func writeSnykError(w http.ResponseWriter, code int, title, detail string) {
	w.Header().Set("Content-Type", "application/vnd.api+json")
	w.WriteHeader(code)
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // a string can always be marshaled
	}
	_, _ = io.WriteString(w, `{"jsonapi":{"version":"1.0"},"errors":[{"id":"00000000-0000-4000-8000-000000000000","status":"`+
		strconv.Itoa(code)+`","title":"`+title+`","detail":`+string(text)+`}]}`)
}
