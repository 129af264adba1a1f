// Package github reads the organisations, repositories, members, security alerts and
// branch rules that a GitHub token or a GitHub App can access.
package github

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/source"
	"github.com/collectord/collectord/pkg/config"
)

// Settings are the settings of GitHub.
type Settings struct {
	Token        config.Secret `env:"GITHUB_TOKEN" required:"true" doc:"Personal access token, classic or fine-grained. A fine-grained one is for the organisation or user that owns it alone."`
	AppID        string        `env:"GITHUB_APP_ID" instead:"GITHUB_TOKEN" doc:"App id or client id of a GitHub App, in place of GITHUB_TOKEN."`
	AppKey       config.Secret `env:"GITHUB_APP_PRIVATE_KEY" instead:"GITHUB_TOKEN" doc:"Private key of the same App in PEM, as GitHub generates it; usually GITHUB_APP_PRIVATE_KEY_FILE names its file."`
	Installation string        `env:"GITHUB_APP_INSTALLATION_ID" doc:"Installation of the App to read; all of its installations when unset."`
	Endpoint     string        `env:"GITHUB_ENDPOINT" envDefault:"https://api.github.com" want:"a host or a URL" doc:"Address of the API; https://HOST/api/v3 for GitHub Enterprise Server, https://api.NAME.ghe.com for GitHub Enterprise Cloud with data residency."`
	Orgs         string        `env:"GITHUB_ORGS" example:"acme,acme-labs" doc:"Logins of the organisations to read, separated by commas; when unset, all that the token or the App can see. A fine-grained token may not see any of them in the vendor's list: then name them."`
	Version      string        `env:"GITHUB_API_VERSION" envDefault:"2022-11-28" want:"a date such as 2022-11-28" doc:"Version of the REST API."`
	Parallel     int           `env:"GITHUB_PARALLEL" envDefault:"4" min:"1" max:"10" doc:"Number of organisations or repositories that are read at once; also the number of requests at once."`
	Skip         bool          `env:"GITHUB_SKIP_FORBIDDEN" envDefault:"false" doc:"Store a stream without the organisations and repositories that the token may not read, instead of failing with their names. They are counted as a doubt."`
	Literals     bool          `env:"GITHUB_SECRET_LITERALS" envDefault:"false" doc:"Store the secrets that secret scanning found, in the member secret of its alerts. By default the vendor is asked to hide them, and an alert that shows one fails the stream."`
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	_, baseErr := source.ParseAddress("GITHUB_ENDPOINT", s.Endpoint, endpointExample)
	errs := source.NonNil(baseErr, s.validateApp(), s.validateOrgs())
	if _, err := time.Parse(time.DateOnly, s.Version); err != nil {
		errs = append(errs, config.Invalid("GITHUB_API_VERSION", "%q is not a version: want a date such as 2022-11-28", s.Version))
	}
	return errs
}

const endpointExample = "https://api.github.com or https://github.acme.example/api/v3"

// validateOrgs checks the logins of GITHUB_ORGS.
func (s *Settings) validateOrgs() error {
	if strings.TrimSpace(s.Orgs) != "" && len(s.orgs()) == 0 {
		return config.Invalid("GITHUB_ORGS", "%q has no login: want logins such as acme, separated by commas", s.Orgs)
	}
	for _, org := range s.orgs() {
		if strings.Trim(strings.ToLower(org), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return config.Invalid("GITHUB_ORGS", "%q is not a login: want logins such as acme, separated by commas", org)
		}
	}
	return nil
}

// orgs returns the logins of GITHUB_ORGS, each once.
func (s *Settings) orgs() []string {
	var orgs []string
	for org := range strings.FieldsFuncSeq(s.Orgs, func(r rune) bool { return r == ',' || r == ';' || r == ' ' }) {
		if !slices.ContainsFunc(orgs, func(known string) bool { return strings.EqualFold(known, org) }) {
			orgs = append(orgs, org)
		}
	}
	return orgs
}

// spellLogin returns a login as GITHUB_ORGS has it, so that all streams have the same
// text for an organisation.
func (s *Settings) spellLogin(login string) string {
	for _, org := range s.orgs() {
		if strings.EqualFold(org, login) {
			return org
		}
	}
	return login
}

const skippingNote = "An organisation or repository that no longer exists is skipped and counted as a doubt: neither a request for it nor a new list may have it. " +
	"If the token may not read one, the stream fails with the names of all of them, unless GITHUB_SKIP_FORBIDDEN=true: then they are skipped, logged and counted as a doubt. A stream in which nothing can be read always fails."

const alertsNote = "All states and ages. The organisation's own listing is read, which leaves out repositories without the feature; of a user without an organisation, each repository. " +
	"Where the vendor responds that the feature is disabled, this is counted as a doubt. " + skippingNote

// Permissions of the streams: of fine-grained tokens and Apps, and of classic tokens.
const (
	readMetadata   = "repository permission Metadata (read); classic: scope repo, without which only public repositories are visible"
	readMembers    = "organisation permission Members (read); classic: scope read:org"
	readDependabot = "repository permission Dependabot alerts (read); classic: scope security_events of an organisation owner or security manager"
	readCode       = "repository permission Code scanning alerts (read); classic: scope security_events of an organisation owner or security manager"
	readSecrets    = "repository permission Secret scanning alerts (read); classic: scope security_events of an organisation owner or security manager"
)

// Definition describes GitHub.
var Definition = source.Define(collector.Info{
	Name:        "github",
	Title:       "GitHub",
	Docs:        "https://docs.github.com/en/rest",
	Permissions: "read access to Metadata, Members, Dependabot alerts, Code scanning alerts and Secret scanning alerts, of which each stream names its own; classic: the scopes read:org, repo and security_events. A token of an organisation with SAML single sign-on must be authorized for it",
	RateLimit: "5,000 requests an hour for a token or an installation, reported in X-RateLimit-Limit, -Remaining and -Reset; 900 a minute, of which the collector makes up to 850. " +
		"It leaves the last 2 % of the hour to other programs and then waits for the reset. After a 429, or a 403 that is a rate limit, it waits as Retry-After says, or for a minute and then longer.",
	Streams: []collector.StreamInfo{
		{
			Name: "github_organizations", Records: "an organisation",
			Endpoints: []string{"GET /user/orgs", "GET /orgs/{org}", "GET /app/installations (App)"}, PageSize: "one organisation",
			Permissions: "classic: scope read:org",
			Notes:       "The organisations of GITHUB_ORGS, or all that the token or the App can see. They are listed once for all streams that run at the same time. Organisations that the vendor leaves out because the token is not authorized for their single sign-on are counted as a doubt. Some members, such as two_factor_requirement_enabled, are visible to owners only. " + skippingNote,
		},
		{
			Name: "github_repositories", Records: "a repository, with the organisation's login as _org",
			Optional:  []string{"license.name", "security_and_analysis.secret_scanning.status"},
			Endpoints: []string{"GET /orgs/{org}/repos", "GET /user/repos?affiliation=owner (a user)", "GET /installation/repositories (an App of a user)"}, PageSize: "100 repositories",
			Permissions: readMetadata,
			Notes:       "All repositories that the token can see, including archived ones and forks. If the token sees no organisation, those of its user. Each page but the first is followed by a second look at the page before it, because a deletion moves the others. " + skippingNote,
		},
		{
			Name: "github_members", Records: "a member of an organisation, with the organisation's login as _org",
			Endpoints: []string{"GET /orgs/{org}/members"}, PageSize: "100 members",
			Permissions: readMembers,
			Notes:       "If the vendor refers to the list of public members instead, this is a missing permission. " + skippingNote,
		},
		{
			Name: "github_dependabot_alerts", Records: "a Dependabot alert, with the organisation's login as _org and the repository's name as _repo",
			Optional:  []string{"security_advisory.cve_id", "security_vulnerability.first_patched_version.identifier", "auto_dismissed_at", "dismissed_by.login"},
			Endpoints: []string{"GET /orgs/{org}/dependabot/alerts", "GET /repos/{owner}/{repo}/dependabot/alerts (a user)"}, PageSize: "100 alerts",
			Permissions: readDependabot, Notes: alertsNote,
		},
		{
			Name: "github_code_scanning_alerts", Records: "a code scanning alert, with the organisation's login as _org and the repository's name as _repo",
			Optional:  []string{"rule.security_severity_level", "fixed_at", "dismissed_by.login", "most_recent_instance.location.path"},
			Endpoints: []string{"GET /orgs/{org}/code-scanning/alerts", "GET /repos/{owner}/{repo}/code-scanning/alerts (a user)"}, PageSize: "100 alerts",
			Permissions: readCode, Notes: "Alerts of the default branches. " + alertsNote,
		},
		{
			Name: "github_secret_scanning_alerts", Records: "a secret scanning alert, with the organisation's login as _org and the repository's name as _repo",
			Optional:  []string{"secret_type_display_name", "resolution", "resolved_at", "validity"},
			Endpoints: []string{"GET /orgs/{org}/secret-scanning/alerts?hide_secret=true", "GET /repos/{owner}/{repo}/secret-scanning/alerts?hide_secret=true (a user)"}, PageSize: "100 alerts",
			Permissions: readSecrets,
			Notes:       "The secrets themselves are not stored: the vendor hides them with hide_secret=true. If an older GitHub Enterprise Server returns one nevertheless, the stream fails. GITHUB_SECRET_LITERALS=true stores them. " + alertsNote,
		},
		{
			Name: "github_branch_protection_rules", Records: "an active rule of a repository's default branch, with the organisation's login as _org, the repository's name as _repo and the branch as _branch",
			Optional:  []string{"parameters", "ruleset_id", "ruleset_source", "ruleset_source_type"},
			Endpoints: []string{"GET /orgs/{org}/repos", "GET /repos/{owner}/{repo}/rules/branches/{branch}"}, PageSize: "100 rules",
			Permissions: readMetadata,
			Notes:       "The rules of rulesets, of the repository and of its organisation, that are enforced. A branch without rules has no record. There is one request for each repository, so 5,000 repositories take an hour. Where the plan does not include rulesets, this is counted as a doubt. " + skippingNote,
		},
	},
}, openAccount)

// account is what one token or App can access.
type account struct {
	settings Settings
	api      *rest.Client
	app      *app // nil with a token
	owners   *rest.ParentList
	repos    *rest.ParentList
	log      *zap.Logger
}

func openAccount(s *Settings, o collector.Options) (*account, error) {
	base, err := source.ParseAddress("GITHUB_ENDPOINT", s.Endpoint, endpointExample)
	if err != nil {
		return nil, err
	}
	a := &account{settings: *s, log: source.Logger(o)}
	a.api = source.NewClient(base, "GITHUB_ENDPOINT", rest.Bearer(strings.TrimSpace(s.Token.Reveal())), a.limits(), o)
	a.api.Retry = rest.Retry{LimitedWait: time.Minute}
	a.api.Classify = classifyStatus
	if s.AppID != "" {
		if a.app, err = newApp(a); err != nil {
			return nil, err
		}
	}
	a.owners = a.newOwners()
	a.repos = a.newRepositories()
	return a, nil
}

// limits returns the rate limits of one token or installation. The period is slightly
// longer than the vendor's, which counts requests when they arrive.
func (a *account) limits() map[string]rest.Limit {
	return map[string]rest.Limit{
		"": {
			Concurrent: a.settings.Parallel,
			Rates:      []rest.Rate{{N: 850, Per: 61 * time.Second}},
			Quota: rest.Quota{
				Limit: "X-RateLimit-Limit", Remaining: "X-RateLimit-Remaining", Reset: "X-RateLimit-Reset",
				Reserve: 0.02, MaxWait: 65 * time.Minute,
			},
		},
		"token": {Concurrent: 1},
	}
}

// Streams implements source.Account.
func (a *account) Streams() []collector.Stream {
	stream := func(name string, c rest.Children) collector.Stream {
		c.Stream = name
		return collector.Stream{Name: name, Extract: c.ExtractChildren, Check: c.CheckChildren}
	}
	org := rest.ParentMember{Name: "_org"}
	return []collector.Stream{
		stream("github_organizations", rest.Children{Parents: a.owners, Read: a.readOrganization}),
		stream("github_repositories", rest.Children{
			Parents: a.owners, Members: []rest.ParentMember{org}, Read: a.readRepositories, Probe: a.probeRepositories,
		}),
		stream("github_members", rest.Children{
			Parents: a.owners, Members: []rest.ParentMember{org}, Read: a.readMembers, Probe: a.probeMembers,
		}),
		a.alertStream("github_dependabot_alerts", alertKind{path: "dependabot/alerts", permission: readDependabot, absent: dependabotAbsent}),
		a.alertStream("github_code_scanning_alerts", alertKind{path: "code-scanning/alerts", permission: readCode, absent: codeAbsent}),
		a.alertStream("github_secret_scanning_alerts", alertKind{
			path: "secret-scanning/alerts", permission: readSecrets, absent: secretsAbsent, hideSecret: !a.settings.Literals,
		}),
		stream("github_branch_protection_rules", rest.Children{
			Parents: a.repos, Read: a.readRules, Absent: rulesAbsent.doubtOf,
			Members: []rest.ParentMember{{Name: "_org", From: "org"}, {Name: "_repo", From: "name"}, {Name: "_branch", From: "branch"}},
		}),
	}
}

// Check implements source.Account.
func (a *account) Check(ctx context.Context) error {
	if orgs := a.settings.orgs(); a.app == nil && len(orgs) > 0 {
		_, err := a.clientFor(orgs[0], "").Get(ctx, a.request("/orgs/"+url.PathEscape(orgs[0]), nil))
		return err
	}
	return a.owners.CheckList(ctx)
}

// request returns a request with the headers of the API.
func (a *account) request(path string, query url.Values) rest.Request {
	return rest.Request{Path: path, Query: query, Header: http.Header{
		"Accept": {"application/vnd.github+json"}, "X-Github-Api-Version": {a.settings.Version},
	}}
}

// clientFor returns the client for what an owner has. permission is what the requests
// need, for errors.
func (a *account) clientFor(owner, permission string) *rest.Client {
	c := *a.api
	credential := "GITHUB_TOKEN"
	if a.app != nil {
		credential = "the App of GITHUB_APP_ID"
		c.Auth, c.Limits = a.app.authorizationFor(owner)
	}
	needs := credential + " must have access to it"
	if permission != "" {
		needs = credential + " needs the " + permission
	}
	c.Hints = map[int]string{
		http.StatusUnauthorized: "check " + credential + ": it may have expired or be revoked",
		http.StatusForbidden:    needs,
		http.StatusNotFound:     needs + "; check GITHUB_ORGS, and " + c.Address,
		http.StatusFound:        needs,
		http.StatusBadRequest:   "check GITHUB_API_VERSION",
	}
	return &c
}
