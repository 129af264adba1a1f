// Package snyk reads the organisations, members, projects and issues that a
// Snyk token can access.
package snyk

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of Snyk.
type Settings struct {
	Token    config.Secret `env:"SNYK_TOKEN" required:"true" doc:"API token of a user or service account, with or without the prefix token. With the prefix bearer, an OAuth access token, which expires about an hour after it was issued: for a single run only."`
	ClientID string        `env:"SNYK_CLIENT_ID" instead:"SNYK_TOKEN" doc:"Client id of a service account with OAuth 2.0 client credentials, in place of SNYK_TOKEN."`
	Secret   config.Secret `env:"SNYK_CLIENT_SECRET" instead:"SNYK_TOKEN" doc:"Client secret of the same service account. Access tokens are requested with it and renewed before they expire."`
	Endpoint string        `env:"SNYK_ENDPOINT" envDefault:"https://api.snyk.io" want:"a host or a URL" doc:"Address of the API; the regions have api.us.snyk.io, api.eu.snyk.io and api.au.snyk.io."`
	Version  string        `env:"SNYK_VERSION" envDefault:"2024-08-25" want:"a date such as 2024-08-25" doc:"Version of the REST API."`
	Parallel int           `env:"SNYK_PARALLEL" envDefault:"8" min:"1" max:"16" doc:"Number of organisations that all streams together read at once. The older API of the members has the same limit of its own."`
	Skip     bool          `env:"SNYK_SKIP_FORBIDDEN" envDefault:"false" doc:"Store a stream without the organisations that the token may not read, instead of failing with their names. They are counted as a doubt."`
	Projects string        `env:"SNYK_PROJECTS_FILTER" example:"types=npm,maven" doc:"Parameters of the listing of projects, as a query."`
	Issues   string        `env:"SNYK_ISSUES_FILTER" example:"status=open&effective_severity_level=high,critical" doc:"Parameters of the listing of issues, as a query: type, effective_severity_level, status, ignored, created_after, created_before, updated_after, updated_before."`
}

var versionPattern = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(~(beta|experimental))?$`)

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, baseErr := s.baseURL()
	_, projectsErr := parseFilter("SNYK_PROJECTS_FILTER", s.Projects)
	_, issuesErr := parseFilter("SNYK_ISSUES_FILTER", s.Issues)
	errs := source.NonNil(baseErr, projectsErr, issuesErr)
	if s.ClientID != "" && s.Token.Reveal() != "" {
		errs = append(errs, config.Invalid("SNYK_CLIENT_ID", "SNYK_TOKEN is set, too: want one of them"))
	}
	if !versionPattern.MatchString(s.Version) {
		errs = append(errs, config.Invalid("SNYK_VERSION", "%q is not a version: want a date such as 2024-08-25", s.Version))
	}
	return errs
}

// baseURL returns the address that both APIs are below.
func (s *Settings) baseURL() (url.URL, error) {
	u, err := source.ParseAddress("SNYK_ENDPOINT", s.Endpoint, "https://api.eu.snyk.io or api.eu.snyk.io")
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/rest"), "/v1")
	return u, err
}

func parseFilter(name, text string) (url.Values, error) {
	return source.ParseQuery(name, text, "status=open", "version", "limit", "starting_after", "ending_before")
}

const skippingNote = "If the response for an organisation is 404, the collector requests the organisation itself (GET /rest/orgs/{org}). " +
	"If that is not found either and a new list of the organisations does not have it, it is skipped as a whole, logged and counted as a doubt. If it exists, a permission is missing, as after a 403. " +
	"If the token may not read an organisation, the stream fails with its name, unless SNYK_SKIP_FORBIDDEN=true: then it is skipped, logged and counted as a doubt. " +
	"A stream in which no organisation can be read always fails."

const listingNote = "A listing ends at the page without a next page, or at an empty page that leads to itself, which is counted as a doubt."

// Definition describes Snyk.
var Definition = source.Define(collector.Info{
	Name:        "snyk",
	Title:       "Snyk",
	Docs:        "https://docs.snyk.io/snyk-api",
	Permissions: "a service account with the role Group Viewer, or a user's token with the right to view every organisation; the plan must include the API",
	RateLimit:   "For each token, 1,620 requests a minute and 160 a second for the REST API, and 2,000 a minute for the older API of members. The collector stays within these limits and within the remaining quota that the response headers report. After a 429 it waits.",
	Streams: []collector.StreamInfo{
		{
			Name: "snyk_organizations", Records: "an organisation",
			Endpoints: []string{"GET /rest/orgs"}, PageSize: "100 organisations",
			Notes: "All organisations that the token can access. They are read once for all streams that run at the same time. " + listingNote,
		},
		{
			Name: "snyk_members", Records: "a member of an organisation, with the organisation's id as _org_id",
			Endpoints: []string{"GET /rest/orgs", "GET /v1/org/{org}/members?includeGroupAdmins=true"}, PageSize: "all members of an organisation",
			Permissions: "the right to view the organisations' members",
			Notes:       "A person has one record for each organisation. Administrators of the group are included. " + skippingNote,
		},
		{
			Name: "snyk_projects", Records: "a project",
			Optional:  []string{"attributes.name", "attributes.target_file"},
			Endpoints: []string{"GET /rest/orgs", "GET /rest/orgs/{org}/projects"}, PageSize: "100 projects",
			Notes: "All projects, including inactive ones; SNYK_PROJECTS_FILTER narrows the selection. The organisation is in relationships.organization.data.id. " + listingNote + " " + skippingNote,
		},
		{
			Name: "snyk_issues", Records: "an issue of a project",
			Optional:  []string{"attributes.status", "attributes.effective_severity_level", "attributes.ignored", "relationships.scan_item.data.id"},
			Endpoints: []string{"GET /rest/orgs", "GET /rest/orgs/{org}/issues"}, PageSize: "100 issues",
			Notes: "All issues, including resolved and ignored ones; SNYK_ISSUES_FILTER narrows the selection. The organisation is in relationships.organization.data.id, the project in relationships.scan_item.data.id. " + listingNote + " " + skippingNote,
		},
	},
}, openAccount)

// account is what one token can access.
type account struct {
	settings      Settings
	api           *rest.Client
	projects      url.Values
	issues        url.Values
	organizations *rest.ParentList
	sunsetLogged  sync.Once
	log           *zap.Logger
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	base, err := s.baseURL()
	if err != nil {
		return nil, err
	}
	a := &account{settings: *s, log: source.Logger(o)}
	a.organizations = a.newOrganizations()
	if a.projects, err = parseFilter("SNYK_PROJECTS_FILTER", s.Projects); err != nil {
		return nil, err
	}
	if a.issues, err = parseFilter("SNYK_ISSUES_FILTER", s.Issues); err != nil {
		return nil, err
	}
	// The periods are slightly longer than the vendor's, which counts requests
	// when they arrive.
	a.api = source.NewClient(base, "SNYK_ENDPOINT", nil, map[string]rest.Limit{
		"": {
			Concurrent: s.Parallel,
			Rates:      []rest.Rate{{N: 160, Per: 1100 * time.Millisecond}, {N: 1620, Per: 61 * time.Second}},
			Quota: rest.Quota{
				Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reset: "X-Ratelimit-Reset", Reserve: 0.01,
			},
		},
		membersClass: {Concurrent: s.Parallel, Rates: []rest.Rate{{N: 2000, Per: 61 * time.Second}}},
		"token":      {Concurrent: 1},
	}, o)
	a.setCredentials()
	a.api.Share(o.Shared)
	a.api.OnResponse = a.logSunset
	return a, nil
}

// membersClass is the endpoint class of the older API, which has the members.
const membersClass = "v1"

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	listing := func(name, kind string, filter url.Values) collector.Stream {
		read := func(ctx context.Context, org rest.Parent, out collector.Output) (int64, error) {
			return a.walkListing(ctx, listingPath(org, kind), filter, out)
		}
		probe := func(ctx context.Context, org rest.Parent, out collector.Output) (int64, error) {
			_, err := a.api.Fetch(ctx, a.smallestRequest(listingPath(org, kind), filter), listShape, out, nil)
			return 0, err
		}
		return a.streamByOrganization(name, read, probe)
	}
	return []collector.Stream{
		collector.Stream{Name: "snyk_organizations", Extract: a.organizations.ExtractParents, Check: a.Check},
		a.streamByOrganization("snyk_members", a.readMembers, nil, rest.ParentMember{Name: "_org_id"}),
		listing("snyk_projects", "projects", a.projects),
		listing("snyk_issues", "issues", a.issues),
	}
}

// listingPath returns the path of the projects or issues of an organisation.
func listingPath(org rest.Parent, kind string) string {
	return "/orgs/" + url.PathEscape(org.ID) + "/" + kind
}

// Check implements source.Account and collector.Stream.
func (a *account) Check(ctx context.Context) error {
	return a.organizations.CheckList(ctx)
}

// logSunset logs, once, that the vendor has announced the end of the API
// version.
func (a *account) logSunset(h http.Header) {
	if h.Get("Deprecation") == "" && h.Get("Sunset") == "" {
		return
	}
	a.sunsetLogged.Do(func() {
		a.log.Warn("Snyk has announced the end of this version of its API: set SNYK_VERSION to a later one",
			zap.String("version", a.settings.Version), zap.String("served", h.Get("Snyk-Version-Served")),
			zap.String("deprecation", h.Get("Deprecation")), zap.String("sunset", h.Get("Sunset")))
	})
}

var listShape = rest.Shape{Records: "data", Errors: []string{"errors"}}

// restRequest returns a request to the REST API; path is below /rest.
func (a *account) restRequest(path string, filter url.Values) rest.Request {
	q := url.Values{"version": {a.settings.Version}, "limit": {"100"}}
	maps.Copy(q, filter)
	return rest.Request{Path: "/rest" + path, Query: q, Header: http.Header{"Accept": {"application/vnd.api+json"}}}
}

// smallestRequest returns the request for the smallest first page of a listing.
func (a *account) smallestRequest(path string, filter url.Values) rest.Request {
	r := a.restRequest(path, filter)
	r.Query.Set("limit", "10")
	return r
}

// walkListing reads a listing of the REST API and returns the number of records.
func (a *account) walkListing(ctx context.Context, path string, filter url.Values, out collector.Output) (int64, error) {
	r := a.restRequest(path, filter)
	return a.api.Walk(ctx, rest.Listing{
		Request: r, Shape: listShape,
		Pager: rest.NextURL{Path: "links.next", Under: "/rest", Keep: slices.Collect(maps.Keys(r.Query))},
	}, out)
}

// readMembers reads the members of one organisation.
func (a *account) readMembers(ctx context.Context, org rest.Parent, out collector.Output) (int64, error) {
	r := rest.Request{
		Path: "/v1/org/" + url.PathEscape(org.ID) + "/members", Query: url.Values{"includeGroupAdmins": {"true"}}, Class: membersClass,
	}
	members, err := a.api.Fetch(ctx, r, rest.Shape{}, out, nil)
	if err != nil {
		return 0, err
	}
	return int64(members.Records), nil
}
