package vendorsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Streams of [GitHub].
const (
	GitHubOrganizations = "github_organizations"
	GitHubRepositories  = "github_repositories"
	GitHubMembers       = "github_members"
	GitHubDependabot    = "github_dependabot_alerts"
	GitHubCode          = "github_code_scanning_alerts"
	GitHubSecrets       = "github_secret_scanning_alerts"
	GitHubRules         = "github_branch_protection_rules"
)

// GitHubToken is the personal access token that [NewGitHub] accepts.
const GitHubToken = "ghp_simulatedTokenOfNobody000000000000"

// GitHubAppID is the id of the App that [NewGitHub] accepts.
const GitHubAppID = "424242"

// GitHubUser is the login of the user that the token belongs to.
const GitHubUser = "octo-user"

// GitHubAppKey returns the private key of the App in PEM (PKCS#1).
func GitHubAppKey() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(gitHubKey())}))
}

var gitHubKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// maxGitHubPage is the largest page size. Larger values are clamped to it.
const maxGitHubPage = 100

// GitHub simulates the organisations, repositories, members, alerts and branch rules of
// GitHub's REST API. Repository r belongs to organisation r modulo the number of
// organisations, and alert i to repository i modulo the number of repositories.
type GitHub struct {
	host *Host

	mu           sync.Mutex
	config       GitHubBehaviour
	deletedOrgs  map[int]bool
	deletedRepos map[int]bool
	forbidden    map[string]map[int]bool // organisations by stream; -1 means all
	disabled     map[string]map[int]bool // repositories by stream
	issued       map[string]gitHubToken
}

// gitHubToken is a token of an installation.
type gitHubToken struct {
	org     int
	expires time.Time
}

// GitHubBehaviour configures what differs between accounts and servers.
type GitHubBehaviour struct {
	// UserOwned makes the user of the token the owner of all repositories, without
	// any organisation. The App is then installed by the user.
	UserOwned bool
	// HiddenOrganizations is the number of organisations that are left out because of
	// single sign-on.
	HiddenOrganizations int
	// SignOn makes requests for an organisation respond with 403 until the token is
	// authorized for its single sign-on.
	SignOn bool
	// Outsider means that the user of the token is no member: requests for members are
	// redirected to the public ones.
	Outsider bool
	// ForbiddenNotFound makes the response 404 instead of 403 if a permission is missing.
	ForbiddenNotFound bool
	// ShowSecrets ignores the parameter hide_secret, as older servers do.
	ShowSecrets bool
	// SilentSecondary leaves Retry-After out of refusals by the secondary limit.
	SilentSecondary bool
	// Suspended is an organisation that has suspended the App, plus one; 0 for none.
	Suspended int
	// TokenLife is the life of the tokens of installations; an hour when zero.
	TokenLife time.Duration
}

// NewGitHub returns a simulated GitHub for one [Server].
func NewGitHub() *GitHub {
	return &GitHub{
		deletedOrgs: map[int]bool{}, deletedRepos: map[int]bool{}, issued: map[string]gitHubToken{},
		forbidden: map[string]map[int]bool{}, disabled: map[string]map[int]bool{},
	}
}

// Name returns "github".
func (g *GitHub) Name() string { return "github" }

// Env returns the GITHUB_ settings.
func (g *GitHub) Env(url string) []string {
	return []string{"GITHUB_ENDPOINT=" + url + "/api/v3", "GITHUB_TOKEN=" + GitHubToken}
}

// ConfigureAccount changes how the API behaves.
func (g *GitHub) ConfigureAccount(change func(*GitHubBehaviour)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.config)
}

func (g *GitHub) configuration() GitHubBehaviour {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.config
}

// DeleteOrganization removes an organisation with all that it has.
func (g *GitHub) DeleteOrganization(org int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deletedOrgs[org] = true
}

// DeleteRepository removes a repository with all that it has.
func (g *GitHub) DeleteRepository(repo int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deletedRepos[repo] = true
}

// Forbid takes the permission to read a stream in the given organisations, or in all if
// none are given.
func (g *GitHub) Forbid(stream string, orgs ...int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(orgs) == 0 {
		orgs = []int{-1}
	}
	g.forbidden[stream] = map[int]bool{}
	for _, org := range orgs {
		g.forbidden[stream][org] = true
	}
}

// allowAll ends what Forbid forbids of a stream.
func (g *GitHub) allowAll(stream string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.forbidden, stream)
}

// Disable disables the feature of a stream in repositories. With [GitHubRules], the plan
// does not include it.
func (g *GitHub) Disable(stream string, repos ...int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.disabled[stream] = map[int]bool{}
	for _, repo := range repos {
		g.disabled[stream][repo] = true
	}
}

// Revoke invalidates all tokens that were issued so far for installations.
func (g *GitHub) Revoke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.issued)
}

// Repository returns the number of the repository that record i of a stream belongs to;
// -1 for organisations and members.
func (g *GitHub) Repository(stream string, i int) int {
	switch stream {
	case GitHubOrganizations, GitHubMembers:
		return -1
	case GitHubRepositories:
		return i
	}
	return i % max(1, g.host.server.RecordCount(GitHubRepositories))
}

// Organization returns the number of the organisation that record i of a stream belongs
// to.
func (g *GitHub) Organization(stream string, i int) int {
	if repo := g.Repository(stream, i); repo >= 0 {
		i = repo
	}
	return i % max(1, g.host.server.RecordCount(GitHubOrganizations))
}

// Login returns the login of an organisation; that of the user if the repositories are
// the user's.
func (g *GitHub) Login(org int) string {
	if g.configuration().UserOwned {
		return GitHubUser
	}
	return "org-" + strconv.Itoa(org)
}

// Branch returns the default branch of a repository.
func (g *GitHub) Branch(repo int) string {
	if repo%2 == 1 {
		return "release/2026 Q1"
	}
	return "main"
}

// RepositoryName returns the name of a repository.
func (g *GitHub) RepositoryName(repo int) string { return "repo." + strconv.Itoa(repo) }

// ParentMembers returns the members that a client of record i of a stream adds, because
// what it belongs to is known from the request only: ,"_org":"org-1".
func (g *GitHub) ParentMembers(stream string, i int) string {
	org, repo := `,"_org":"`+g.Login(g.Organization(stream, i))+`"`, g.Repository(stream, i)
	switch stream {
	case GitHubOrganizations:
		return ""
	case GitHubRepositories, GitHubMembers:
		return org
	case GitHubRules:
		return org + `,"_repo":"` + g.RepositoryName(repo) + `","_branch":"` + g.Branch(repo) + `"`
	}
	return `,"_repo":"` + g.RepositoryName(repo) + `"` + org
}

// isGone reports whether record i of a stream was deleted.
func (g *GitHub) isGone(stream string, i int) bool {
	org, repo := g.Organization(stream, i), g.Repository(stream, i)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deletedOrgs[org] || g.deletedRepos[repo] || g.disabled[stream][repo]
}

// Limits returns the limits "github-hour" of a token and "github-minute", the secondary
// one. Both refuse with 403.
func (g *GitHub) Limits() []Limit {
	return []Limit{
		{
			Name: "github-hour", LimitNumbers: LimitNumbers{Max: 5000, Window: time.Hour},
			Headers: func(h http.Header, q Quota) {
				h.Set("X-RateLimit-Limit", strconv.Itoa(q.Max))
				h.Set("X-RateLimit-Remaining", strconv.Itoa(q.Remaining))
				h.Set("X-RateLimit-Reset", q.ResetUnix())
				h.Set("X-RateLimit-Resource", "core")
			},
			Reject: func(w http.ResponseWriter, _ *http.Request, _ Quota) {
				writeGitHubError(w, http.StatusForbidden, "API rate limit exceeded for user ID 1.")
			},
		},
		{
			Name: "github-minute", LimitNumbers: LimitNumbers{Max: 900, Window: time.Minute, Concurrent: 100},
			Reject: func(w http.ResponseWriter, _ *http.Request, q Quota) {
				if !g.configuration().SilentSecondary {
					w.Header().Set("Retry-After", q.ResetSeconds())
				}
				writeGitHubError(w, http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
			},
		},
	}
}

// Routes returns the API, as a GitHub Enterprise Server has it.
func (g *GitHub) Routes(h *Host) *http.ServeMux {
	g.host = h
	mux := http.NewServeMux()
	handle := func(pattern string, next http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api/v3"+path, g.requireVersion(next))
	}
	handle("GET /user", g.serveUser)
	handle("GET /users/{login}", g.serveUser)
	handle("GET /user/orgs", g.serveVisible)
	handle("GET /user/repos", g.serveUserRepositories)
	handle("GET /installation/repositories", g.serveInstallationRepositories)
	handle("GET /app/installations", g.serveInstallations)
	handle("GET /app/installations/{id}", g.serveInstallation)
	handle("POST /app/installations/{id}/access_tokens", g.serveInstallationToken)
	handle("GET /orgs/{org}", g.withOrganization(GitHubOrganizations, g.serveOrganization))
	handle("GET /orgs/{org}/repos", g.withOrganization(GitHubRepositories, g.serveNumbered(GitHubRepositories)))
	handle("GET /orgs/{org}/members", g.withOrganization(GitHubMembers, g.serveMembers))
	handle("GET /orgs/{org}/public_members", g.withOrganization(GitHubMembers, func(w http.ResponseWriter, r *http.Request, _ int) { _, _ = io.WriteString(w, "[]") }))
	handle("GET /repos/{owner}/{repo}", g.withRepository(GitHubRepositories, g.serveRepository))
	handle("GET /repos/{owner}/{repo}/rules/branches/{branch}", g.withRepository(GitHubRules, g.serveRules))
	for stream, path := range gitHubAlertPaths {
		handle("GET /orgs/{org}/"+path, g.withOrganization(stream, g.serveOrganizationAlerts(stream)))
		handle("GET /repos/{owner}/{repo}/"+path, g.withRepository(stream, g.serveRepositoryAlerts(stream)))
	}
	mux.HandleFunc("/", g.requireVersion(func(w http.ResponseWriter, r *http.Request) {
		writeGitHubError(w, http.StatusNotFound, "Not Found")
	}))
	return mux
}

// gitHubAlertPaths are the paths of the alerts by stream.
var gitHubAlertPaths = map[string]string{
	GitHubDependabot: "dependabot/alerts", GitHubCode: "code-scanning/alerts", GitHubSecrets: "secret-scanning/alerts",
}

// requireVersion checks the version and the credentials of a request.
func (g *GitHub) requireVersion(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if version := r.Header.Get("X-GitHub-Api-Version"); version != "2022-11-28" && r.Method == http.MethodGet {
			writeGitHubError(w, http.StatusBadRequest, "The API version is not supported: "+version)
			return
		}
		if !g.isAuthorized(r) {
			writeGitHubError(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		next(w, r)
	}
}

// isAuthorized reports whether a request has a token that fits its path.
func (g *GitHub) isAuthorized(r *http.Request) bool {
	if strings.HasPrefix(r.URL.Path, "/api/v3/app/") {
		return g.isApp(r)
	}
	return g.host.acceptsHeader(r, "Bearer", GitHubToken) || g.installationOf(r) >= 0
}

// isApp reports whether a request has a valid token of the App itself.
func (g *GitHub) isApp(r *http.Request) bool {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return &gitHubKey().PublicKey, nil }, jwt.WithTimeFunc(g.host.Now),
		jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithIssuer(GitHubAppID), jwt.WithValidMethods([]string{"RS256"}))
	if err != nil {
		return false
	}
	expires, err := t.Claims.GetExpirationTime()
	return err == nil && !expires.After(g.host.Now().Add(10*time.Minute))
}

// installationOf returns the organisation that a request has a token for; -1 if it has
// none.
func (g *GitHub) installationOf(r *http.Request) int {
	text, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	defer g.mu.Unlock()
	if t, ok := g.issued[text]; ok && g.host.Now().Before(t.expires) {
		return t.org
	}
	return -1
}

// withOrganization finds the organisation of a request, checks that the stream is not
// forbidden there, and calls next with its number.
func (g *GitHub) withOrganization(stream string, next func(http.ResponseWriter, *http.Request, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, isOrg := strings.CutPrefix(strings.ToLower(r.PathValue("org")), "org-")
		org, err := strconv.Atoi(text)
		if !isOrg || err != nil || !g.hasOrganization(org) || !g.covers(r, org) {
			writeGitHubError(w, http.StatusNotFound, "Not Found")
			return
		}
		if g.refuses(w, stream, org) {
			return
		}
		next(w, r, org)
	}
}

func (g *GitHub) hasOrganization(org int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.config.UserOwned && org >= 0 && org < g.host.server.RecordCount(GitHubOrganizations) && !g.deletedOrgs[org]
}

// covers reports whether the token of a request is for an organisation.
func (g *GitHub) covers(r *http.Request, org int) bool {
	installed := g.installationOf(r)
	return installed < 0 || installed == org
}

// refuses writes the refusal if a stream is forbidden in an organisation.
func (g *GitHub) refuses(w http.ResponseWriter, stream string, org int) bool {
	g.mu.Lock()
	config, isForbidden := g.config, g.forbidden[stream][-1] || g.forbidden[stream][org]
	g.mu.Unlock() // a response may take hours
	switch {
	case config.SignOn:
		w.Header().Set("X-GitHub-SSO", "required; url=https://github.com/orgs/org-"+strconv.Itoa(org)+"/sso?authorization_request=AQUB")
		writeGitHubError(w, http.StatusForbidden, "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization.")
		return true
	case !isForbidden:
		return false
	case config.ForbiddenNotFound:
		writeGitHubError(w, http.StatusNotFound, "Not Found")
		return true
	}
	w.Header().Set("X-Accepted-GitHub-Permissions", "simulated=read")
	writeGitHubError(w, http.StatusForbidden, "Resource not accessible by personal access token")
	return true
}

// withRepository finds the repository of a request, checks that the stream is neither
// forbidden nor disabled there, and calls next with its number.
func (g *GitHub) withRepository(stream string, next func(http.ResponseWriter, *http.Request, int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, isRepo := strings.CutPrefix(r.PathValue("repo"), "repo.")
		repo, err := strconv.Atoi(text)
		count := g.host.server.RecordCount(GitHubRepositories)
		if !isRepo || err != nil || repo < 0 || repo >= count || r.PathValue("owner") != g.Login(g.Organization(GitHubRepositories, repo)) || g.isGone(GitHubRepositories, repo) {
			writeGitHubError(w, http.StatusNotFound, "Not Found")
			return
		}
		if g.refuses(w, stream, g.Organization(GitHubRepositories, repo)) {
			return
		}
		if g.isGone(stream, repo) { // the feature is disabled
			refusal := gitHubDisabled[stream]
			writeGitHubError(w, refusal.status, refusal.message)
			return
		}
		next(w, r, repo)
	}
}

// gitHubDisabled are the responses for a feature that a repository does not have.
var gitHubDisabled = map[string]struct {
	status  int
	message string
}{
	GitHubDependabot: {http.StatusForbidden, "Dependabot alerts are disabled for this repository."},
	GitHubCode:       {http.StatusNotFound, "no analysis found"},
	GitHubSecrets:    {http.StatusNotFound, "Secret scanning is disabled on this repository."},
	GitHubRules:      {http.StatusForbidden, "Upgrade to GitHub Pro or make this repository public to enable this feature."},
}

// writeGitHubError writes an error in the API's format.
func writeGitHubError(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"message":%s,"documentation_url":"https://docs.github.com/rest","status":"%d"}`, quoteJSON(message), code)
}

// writeGitHubRecords writes records as an array, with a Link header to the next page.
func (g *GitHub) writeGitHubRecords(w http.ResponseWriter, r *http.Request, stream string, records []int, next string) {
	g.linkNext(w, r, next)
	_ = g.host.server.WriteRecords(w, "[", stream, slices.Values(records), "]")
}

// linkNext sets the headers of a page, with a Link to the next one; next is its parameter
// and value, or "" for none.
func (g *GitHub) linkNext(w http.ResponseWriter, r *http.Request, next string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if next != "" {
		q := r.URL.Query()
		name, value, _ := strings.Cut(next, "=")
		q.Set(name, value)
		address := g.host.URL() + r.URL.EscapedPath() + "?" + q.Encode()
		w.Header().Set("Link", `<`+address+`>; rel="next", <`+address+`>; rel="last"`)
	}
}
