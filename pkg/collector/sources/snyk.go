package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/config"
)

// snykSettings switch on Snyk.
type snykSettings struct {
	Token    config.Secret `env:"SNYK_TOKEN" required:"true" doc:"API token of a user or service account, bare or with the word token before it. With the word bearer before it, a service account's OAuth token."`
	Endpoint string        `env:"SNYK_ENDPOINT" envDefault:"https://api.snyk.io" want:"a host or a URL" doc:"Address of the API; the regions have api.us.snyk.io, api.eu.snyk.io and api.au.snyk.io."`
	Version  string        `env:"SNYK_VERSION" envDefault:"2024-08-25" want:"a date such as 2024-08-25" doc:"Version of the REST API."`
	Parallel int           `env:"SNYK_PARALLEL" envDefault:"8" min:"1" max:"16" doc:"Organisations that are read at once by all streams together; the older API of members counts for itself."`
	Skip     bool          `env:"SNYK_SKIP_FORBIDDEN" envDefault:"false" doc:"Store a stream without the organisations that the token may not read, rather than fail and name them."`
	Projects string        `env:"SNYK_PROJECTS_FILTER" example:"types=npm,maven" doc:"Parameters of the listing of projects, as a query."`
	Issues   string        `env:"SNYK_ISSUES_FILTER" example:"status=open&effective_severity_level=high,critical" doc:"Parameters of the listing of issues, as a query: type, effective_severity_level, status, ignored, created_after, created_before, updated_after, updated_before."`
}

var snykVersion = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(~(beta|experimental))?$`)

// Validate implements config.Validator.
func (s *snykSettings) Validate() []error {
	_, err := s.base()
	_, projects := s.filter("SNYK_PROJECTS_FILTER", s.Projects)
	_, issues := s.filter("SNYK_ISSUES_FILTER", s.Issues)
	errs := errorsOf(err, projects, issues)
	if !snykVersion.MatchString(s.Version) {
		errs = append(errs, config.Invalid("SNYK_VERSION", "%q is not a version: want a date such as 2024-08-25", s.Version))
	}
	return errs
}

// base is the address above both APIs.
func (s *snykSettings) base() (url.URL, error) {
	u, err := address("SNYK_ENDPOINT", s.Endpoint, "https://api.eu.snyk.io or api.eu.snyk.io")
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/rest"), "/v1")
	return u, err
}

func (s *snykSettings) filter(name, text string) (url.Values, error) {
	return query(name, text, "status=open", "version", "limit", "starting_after", "ending_before")
}

// authorization is the header's value for any form of the token.
func (s *snykSettings) authorization() string {
	token := strings.TrimSpace(s.Token.Reveal())
	scheme, bare, found := strings.Cut(token, " ")
	if found && (strings.EqualFold(scheme, "token") || strings.EqualFold(scheme, "bearer")) {
		return strings.ToLower(scheme) + " " + strings.TrimSpace(bare)
	}
	return "token " + token
}

const snykSkips = "An organisation that is deleted while it is read is skipped and logged. One that the token may not read fails the stream, which names it, unless SNYK_SKIP_FORBIDDEN=true."

var snykSource = collector.Define(collector.Info{
	Name:        "snyk",
	Title:       "Snyk",
	Docs:        "https://docs.snyk.io/snyk-api",
	Permissions: "a service account with the role Group Viewer, or a user's token with the right to view every organisation; the plan must include the API",
	RateLimit:   "1,620 requests a minute and 160 a second for the REST API, 2,000 a minute for the older API of members, by token. The collector keeps to them, to what the answers' headers say is left, and waits out answers 429.",
	Streams: []collector.StreamInfo{
		{
			Name: "snyk_organizations", Records: "an organisation",
			Endpoints: []string{"GET /rest/orgs"}, PageSize: "100 organisations",
			Notes: "All organisations that the token may see. They are read once for all streams that are under way at the same time.",
		},
		{
			Name: "snyk_members", Records: "a member of an organisation, with the organisation's id as _org_id",
			Endpoints: []string{"GET /rest/orgs", "GET /v1/org/{org}/members?includeGroupAdmins=true"}, PageSize: "all members of an organisation",
			Permissions: "the right to view the organisations' members",
			Notes:       "A person is one record for each organisation; administrators of the group are included. " + snykSkips,
		},
		{
			Name: "snyk_projects", Records: "a project",
			Endpoints: []string{"GET /rest/orgs", "GET /rest/orgs/{org}/projects"}, PageSize: "100 projects",
			Notes: "All projects, inactive ones included; SNYK_PROJECTS_FILTER narrows it. The organisation is in relationships.organization.data.id. " + snykSkips,
		},
		{
			Name: "snyk_issues", Records: "an issue of a project",
			Endpoints: []string{"GET /rest/orgs", "GET /rest/orgs/{org}/issues"}, PageSize: "100 issues",
			Notes: "All issues, resolved and ignored ones included; SNYK_ISSUES_FILTER narrows it. The organisation is in relationships.organization.data.id, the project in relationships.scan_item.data.id. " + snykSkips,
		},
	},
}, openSnyk)

// snyk reads what one token may see.
type snyk struct {
	snykSettings
	api              *rest.Client
	projects, issues url.Values
	orgs             snykOrgs
	aged             sync.Once
	log              *zap.Logger
}

func openSnyk(s *snykSettings, o collector.Options) (*collector.Collector, error) {
	k, err := newSnyk(s, o)
	if err != nil {
		return nil, err
	}
	return k.collector(), nil
}

func newSnyk(s *snykSettings, o collector.Options) (*snyk, error) {
	base, err := s.base()
	if err != nil {
		return nil, err
	}
	k := &snyk{snykSettings: *s, log: logger(o)}
	k.orgs.read = k.organizations
	if k.projects, err = s.filter("SNYK_PROJECTS_FILTER", s.Projects); err != nil {
		return nil, err
	}
	if k.issues, err = s.filter("SNYK_ISSUES_FILTER", s.Issues); err != nil {
		return nil, err
	}
	auth := rest.StaticHeader{Name: "Authorization", Value: s.authorization()}
	// The spans are a little longer than the vendor's, which counts when
	// requests arrive.
	k.api = client(base, auth, map[string]rest.Limit{
		"": {
			Concurrent: s.Parallel,
			Rates:      []rest.Rate{{N: 160, Per: 1100 * time.Millisecond}, {N: 1620, Per: 61 * time.Second}},
			Quota: rest.Quota{
				Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reset: "X-Ratelimit-Reset", Reserve: 0.01,
			},
		},
		snykV1: {Concurrent: s.Parallel, Rates: []rest.Rate{{N: 2000, Per: 61 * time.Second}}},
	}, o)
	k.api.Hints = map[int]string{
		http.StatusUnauthorized: "check SNYK_TOKEN, and that SNYK_ENDPOINT names its region",
		http.StatusForbidden:    "the owner of SNYK_TOKEN needs the right to view it, and the plan must include the API",
		http.StatusBadRequest:   "check SNYK_VERSION, SNYK_PROJECTS_FILTER and SNYK_ISSUES_FILTER",
		http.StatusNotFound:     "check SNYK_ENDPOINT",
	}
	k.api.Answered = k.noteAge
	return k, nil
}

// snykV1 is the class of the older API's requests.
const snykV1 = "v1"

func (k *snyk) collector() *collector.Collector {
	return &collector.Collector{
		Name: "snyk",
		Streams: []collector.Stream{
			named("snyk_organizations", k.storeOrganizations),
			named("snyk_members", k.eachOrganization("snyk_members", k.members)),
			named("snyk_projects", k.eachOrganization("snyk_projects", k.listing("projects", k.projects))),
			named("snyk_issues", k.eachOrganization("snyk_issues", k.listing("issues", k.issues))),
		},
		Check: func(ctx context.Context) error {
			r := k.request("/orgs", nil)
			r.Query.Set("limit", "10")
			_, err := k.api.Fetch(ctx, r, snykShape, &rest.Gathered{}, nil)
			return err
		},
	}
}

// noteAge logs, once, that the vendor has announced the end of the version.
func (k *snyk) noteAge(h http.Header) {
	if h.Get("Deprecation") == "" && h.Get("Sunset") == "" {
		return
	}
	k.aged.Do(func() {
		k.log.Warn("Snyk has announced the end of this version of its API: set SNYK_VERSION to a later one",
			zap.String("version", k.Version), zap.String("served", h.Get("Snyk-Version-Served")),
			zap.String("deprecation", h.Get("Deprecation")), zap.String("sunset", h.Get("Sunset")))
	})
}

var snykShape = rest.Shape{Records: "data", Errors: []string{"errors"}}

// request asks the REST API; path lies below /rest.
func (k *snyk) request(path string, filter url.Values) rest.Request {
	q := url.Values{"version": {k.Version}, "limit": {"100"}}
	maps.Copy(q, filter)
	return rest.Request{Path: "/rest" + path, Query: q, Header: http.Header{"Accept": {"application/vnd.api+json"}}}
}

// walk reads a listing of the REST API.
func (k *snyk) walk(ctx context.Context, path string, filter url.Values, out collector.Output) (int64, error) {
	r := k.request(path, filter)
	return k.api.Walk(ctx, rest.Listing{
		Request: r, Shape: snykShape,
		Pager: rest.NextURL{Path: "links.next", Under: "/rest", Keep: slices.Collect(maps.Keys(r.Query))},
	}, out)
}

// listing reads one organisation's projects or issues.
func (k *snyk) listing(kind string, filter url.Values) snykRead {
	return func(ctx context.Context, org snykOrg, out collector.Output) error {
		kept, err := k.walk(ctx, "/orgs/"+url.PathEscape(org.id)+"/"+kind, filter, out)
		if kept == 0 || !isStatus(err, http.StatusNotFound) {
			return err
		}
		// In the middle of a listing it may be the cursor that is not found.
		single := k.request("/orgs/"+url.PathEscape(org.id), nil)
		single.Query.Del("limit")
		if _, gone := k.api.Get(ctx, single); isStatus(gone, http.StatusNotFound) {
			return err
		}
		return fmt.Errorf("%w: a page is not found, though the organisation is: %v", collector.ErrIncomplete, err)
	}
}

// members reads one organisation's members, whose records do not say which
// organisation they are of.
func (k *snyk) members(ctx context.Context, org snykOrg, out collector.Output) error {
	id, err := jsontext.AppendQuote(nil, org.id)
	if err != nil {
		return fmt.Errorf("id %q: %w", org.id, err)
	}
	r := rest.Request{
		Path: "/v1/org/" + url.PathEscape(org.id) + "/members", Query: url.Values{"includeGroupAdmins": {"true"}}, Class: snykV1,
	}
	each := extended(&rest.Extension{Values: []rest.Value{{Name: "_org_id", Raw: id}}})
	_, err = k.api.Fetch(ctx, r, rest.Shape{}, out, each)
	return err
}

func isStatus(err error, status int) bool {
	var s *rest.StatusError
	return errors.As(err, &s) && s.Status == status
}
