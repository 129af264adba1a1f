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
	// SnykMembers are the members of all organisations, as /v1 serves them.
	SnykMembers  = "snyk_members"
	SnykProjects = "snyk_projects"
	SnykIssues   = "snyk_issues"
)

// SnykToken is the API token that [NewSnyk] accepts.
const SnykToken = "51b00000-5e1f-4000-8000-00000000f00d"

// snykPage is the largest page.
const snykPage = 100

// Snyk simulates the organisations, projects and issues of Snyk's REST API
// and the members of its older API. Every fourth organisation has neither
// projects nor issues. The filters type, effective_severity_level and status
// of issues and types of projects select records; others are accepted.
type Snyk struct {
	host  *Host
	items snykShare // of projects and issues
	users snykShare // of members

	mu        sync.Mutex
	how       SnykBehaviour
	deleted   map[int]bool
	forbidden map[string]map[int]bool // by stream; -1 stands for all
}

// SnykBehaviour is what the API does in more than one way.
type SnykBehaviour struct {
	// Next is the form of the link to the next page.
	Next SnykNext
	// End is what stands in its place on the last page.
	End SnykEnd
	// EmptyLast gives the last page with records a next link, which leads to
	// an empty page.
	EmptyLast bool
	// Aging announces the end of the API's version.
	Aging bool
}

// SnykNext is a form of the link to the next page.
type SnykNext int

// The forms.
const (
	SnykNextPath     SnykNext = iota // "/rest/orgs?…"
	SnykNextShort                    // "/orgs?…"
	SnykNextAbsolute                 // "https://…/rest/orgs?…"
	SnykNextObject                   // {"href":"/rest/orgs?…"}
	SnykNextBare                     // "/rest/orgs?…" without version and limit
)

// SnykEnd is what stands in the place of the link on the last page.
type SnykEnd int

// The ends.
const (
	SnykEndMissing SnykEnd = iota
	SnykEndNull
	SnykEndEmpty
	SnykEndNoLinks // the member links is missing
)

// NewSnyk returns a simulated Snyk account for one [Server].
func NewSnyk() *Snyk {
	return &Snyk{deleted: map[int]bool{}, forbidden: map[string]map[int]bool{}}
}

// Name returns "snyk".
func (s *Snyk) Name() string { return "snyk" }

// Env returns the SNYK_ settings.
func (s *Snyk) Env(url string) []string {
	return []string{"SNYK_ENDPOINT=" + url, "SNYK_TOKEN=" + SnykToken}
}

// Configure changes how the API behaves.
func (s *Snyk) Configure(change func(*SnykBehaviour)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.how)
}

func (s *Snyk) behaviour() SnykBehaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.how
}

// Delete removes an organisation, also for a client that has listed it.
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

// Forbid refuses the token the right to a stream in some organisations, or in
// all when none are named.
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
		return s.users.org(i)
	}
	return s.items.org(i)
}

// Limits returns the limits of the REST API, "snyk-minute" and "snyk-second",
// and "snyk-v1" of the older one. The REST API names its windows in one
// structured header.
func (s *Snyk) Limits() []Limit {
	under := func(prefix string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, prefix) }
	}
	reject := func(w http.ResponseWriter, _ *http.Request, q Quota) {
		w.Header().Set("Retry-After", q.ResetSeconds())
		snykError(w, http.StatusTooManyRequests, "Too Many Requests", "")
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
	orgs := h.server.Count(SnykOrganizations)
	s.items = newSnykShare(orgs, func(org int) int {
		if org%4 == 3 {
			return 0
		}
		return 1 + org%3
	})
	s.users = newSnykShare(orgs, func(org int) int { return 1 + org%2 })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rest/orgs", s.rest(s.organizations))
	mux.HandleFunc("GET /rest/orgs/{org}", s.rest(s.within(SnykOrganizations, s.organization)))
	mux.HandleFunc("GET /rest/orgs/{org}/projects", s.rest(s.within(SnykProjects, s.projects)))
	mux.HandleFunc("GET /rest/orgs/{org}/issues", s.rest(s.within(SnykIssues, s.issues)))
	mux.HandleFunc("GET /v1/org/{org}/members", s.guard(s.within(SnykMembers, s.members)))
	mux.HandleFunc("/", s.guard(func(w http.ResponseWriter, r *http.Request) {
		snykError(w, http.StatusNotFound, "Not Found", "The requested resource does not exist")
	}))
	return mux
}

// guard checks the token before a handler.
func (s *Snyk) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "token "+SnykToken {
			snykError(w, http.StatusUnauthorized, "Unauthorized", "Not authenticated")
			return
		}
		next(w, r)
	}
}

var snykVersion = regexp.MustCompile(`^20[0-9]{2}-[01][0-9]-[0-3][0-9](~(beta|experimental))?$`)

// rest checks what every request of the REST API needs.
func (s *Snyk) rest(next http.HandlerFunc) http.HandlerFunc {
	return s.guard(func(w http.ResponseWriter, r *http.Request) {
		version := r.URL.Query().Get("version")
		if !snykVersion.MatchString(version) {
			snykError(w, http.StatusBadRequest, "Invalid version", "a valid version parameter is required")
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

// within finds the organisation of a path and checks the right to a stream.
func (s *Snyk) within(stream string, next func(http.ResponseWriter, *http.Request, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("org")
		for org := range s.host.server.Count(SnykOrganizations) {
			if s.host.server.RecordID(SnykOrganizations, org) != id || s.isDeleted(org) {
				continue
			}
			if s.isForbidden(stream, org) {
				snykError(w, http.StatusForbidden, "Forbidden", "You do not have the right to view this resource")
				return
			}
			next(w, r, org)
			return
		}
		snykError(w, http.StatusNotFound, "Not Found", "Org "+id+" was not found or you may not have the correct permissions")
	}
}

// snykError writes an error in the form of JSON:API.
func snykError(w http.ResponseWriter, code int, title, detail string) {
	w.Header().Set("Content-Type", "application/vnd.api+json")
	w.WriteHeader(code)
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // a string always marshals
	}
	_, _ = io.WriteString(w, `{"jsonapi":{"version":"1.0"},"errors":[{"id":"00000000-0000-4000-8000-000000000000","status":"`+
		strconv.Itoa(code)+`","title":"`+title+`","detail":`+string(text)+`}]}`)
}
