package vendorsim

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// gitHubPageSize returns the page size of a request.
func (g *GitHub) gitHubPageSize(stream string, q url.Values) int {
	size := 30
	if n, err := strconv.Atoi(q.Get("per_page")); err == nil && n > 0 {
		size = min(n, maxGitHubPage)
	}
	return g.host.PageLimit(stream, size)
}

// serveNumbered returns a handler of an organisation's listing by page numbers.
func (g *GitHub) serveNumbered(stream string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, r *http.Request, org int) {
		g.servePage(w, r, stream, func(i int) bool { return g.Organization(stream, i) == org && !g.isGone(stream, i) })
	}
}

// servePage writes a page of those records that fit, by page number.
func (g *GitHub) servePage(w http.ResponseWriter, r *http.Request, stream string, fits func(i int) bool) {
	records, next := g.pageOf(r.URL.Query(), stream, fits)
	g.writeGitHubRecords(w, r, stream, records, next)
}

// pageOf returns the page of those records that fit which a query asks for, by page number,
// and the parameter of the next one; "" for none.
func (g *GitHub) pageOf(q url.Values, stream string, fits func(i int) bool) (records []int, next string) {
	size := g.gitHubPageSize(stream, q)
	page, err := strconv.Atoi(q.Get("page"))
	if err != nil || page < 1 {
		page = 1
	}
	for i, position := 0, 0; i < g.host.server.RecordCount(stream); i++ {
		if !fits(i) {
			continue
		}
		if position++; position > page*size {
			next = "page=" + strconv.Itoa(page+1)
			break
		}
		if position > (page-1)*size {
			records = append(records, i)
		}
	}
	return records, next
}

// serveCursor writes a page of those records that fit, by cursor. Page numbers are
// refused.
func (g *GitHub) serveCursor(w http.ResponseWriter, r *http.Request, stream string, fits func(i int) bool) {
	q := r.URL.Query()
	if q.Has("page") {
		writeGitHubError(w, http.StatusBadRequest, "Pagination using the `page` parameter is not supported.")
		return
	}
	size := g.gitHubPageSize(stream, q)
	from := 0
	if after := q.Get("after"); after != "" {
		text, isCursor := strings.CutPrefix(after, "Y3Vyc29yOnYy+/=")
		var err error
		if from, err = strconv.Atoi(text); err != nil || !isCursor {
			writeGitHubError(w, http.StatusUnprocessableEntity, "after is invalid")
			return
		}
	}
	var records []int
	for i := from; i < g.host.server.RecordCount(stream); i++ {
		if !fits(i) {
			continue
		}
		if len(records) == size {
			g.writeGitHubRecords(w, r, stream, records, "after=Y3Vyc29yOnYy+/="+strconv.Itoa(i))
			return
		}
		records = append(records, i)
	}
	g.writeGitHubRecords(w, r, stream, records, "")
}

// serveOrganizationAlerts returns a handler of an organisation's alerts.
func (g *GitHub) serveOrganizationAlerts(stream string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, r *http.Request, org int) {
		g.serveAlerts(w, r, stream, func(i int) bool { return g.Organization(stream, i) == org && !g.isGone(stream, i) })
	}
}

// serveRepositoryAlerts returns a handler of a repository's alerts.
func (g *GitHub) serveRepositoryAlerts(stream string) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, r *http.Request, repo int) {
		g.serveAlerts(w, r, stream, func(i int) bool { return g.Repository(stream, i) == repo })
	}
}

// serveAlerts writes alerts. Those of secret scanning have the secret unless the request
// asks to hide it.
func (g *GitHub) serveAlerts(w http.ResponseWriter, r *http.Request, stream string, fits func(i int) bool) {
	if stream == GitHubSecrets && (r.URL.Query().Get("hide_secret") != "true" || g.configuration().ShowSecrets) {
		w = &secretShower{ResponseWriter: w}
	}
	g.serveCursor(w, r, stream, fits)
}

// GitHubSecret is the secret that alerts of secret scanning show.
const GitHubSecret = "AKIASIMULATEDSECRET"

// secretShower replaces the hidden secrets of a response by [GitHubSecret].
type secretShower struct{ http.ResponseWriter }

func (s *secretShower) Write(p []byte) (int, error) {
	text := strings.ReplaceAll(string(p), `"secret":null`, `"secret":"`+GitHubSecret+`"`)
	_, err := io.WriteString(s.ResponseWriter, text)
	return len(p), err
}

func (g *GitHub) serveOrganization(w http.ResponseWriter, _ *http.Request, org int) {
	g.writeSingle(w, GitHubOrganizations, org)
}

func (g *GitHub) serveRepository(w http.ResponseWriter, _ *http.Request, repo int) {
	g.writeSingle(w, GitHubRepositories, repo)
}

// writeSingle writes one record.
func (g *GitHub) writeSingle(w http.ResponseWriter, stream string, i int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = g.host.server.WriteRecords(w, "", stream, slices.Values([]int{i}), "")
}

func (g *GitHub) serveMembers(w http.ResponseWriter, r *http.Request, org int) {
	if g.configuration().Outsider {
		http.Redirect(w, r, r.URL.EscapedPath()[:strings.LastIndex(r.URL.EscapedPath(), "/")]+"/public_members", http.StatusFound)
		return
	}
	g.serveNumbered(GitHubMembers)(w, r, org)
}

// serveRules writes the rules of a repository's default branch; none for another branch.
func (g *GitHub) serveRules(w http.ResponseWriter, r *http.Request, repo int) {
	isDefault := r.PathValue("branch") == g.Branch(repo)
	g.servePage(w, r, GitHubRules, func(i int) bool { return isDefault && g.Repository(GitHubRules, i) == repo })
}

func (g *GitHub) serveUser(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintf(w, `{"login":%q,"id":1,"type":"User"}`, GitHubUser)
}

// serveVisible writes the organisations of the token's user in their short form.
func (g *GitHub) serveVisible(w http.ResponseWriter, r *http.Request) {
	config := g.configuration()
	if config.HiddenOrganizations > 0 {
		w.Header().Set("X-GitHub-SSO", "partial-results; organizations="+strings.TrimSuffix(strings.Repeat("21955855,", config.HiddenOrganizations), ","))
	}
	g.serveShort(w, r, g.hasOrganization, func(org int) any {
		return map[string]any{"login": g.Login(org), "id": 9000 + org, "description": "short"}
	})
}

// serveShort writes a page of what short returns for each organisation that exists.
func (g *GitHub) serveShort(w http.ResponseWriter, r *http.Request, exists func(org int) bool, short func(org int) any) {
	q := r.URL.Query()
	size := g.gitHubPageSize(GitHubOrganizations, q)
	page, _ := strconv.Atoi(q.Get("page"))
	page = max(1, page)
	var all []any
	for org := range g.host.server.RecordCount(GitHubOrganizations) {
		if exists(org) {
			all = append(all, short(org))
		}
	}
	from, to := min(len(all), (page-1)*size), min(len(all), page*size)
	if to < len(all) {
		w.Header().Set("Link", "<"+g.host.URL()+r.URL.Path+"?page="+strconv.Itoa(page+1)+`>; rel="next"`)
	}
	_ = json.NewEncoder(w).Encode(append([]any{}, all[from:to]...))
}

func (g *GitHub) serveUserRepositories(w http.ResponseWriter, r *http.Request) {
	if g.installationOf(r) >= 0 {
		writeGitHubError(w, http.StatusForbidden, "Resource not accessible by integration")
		return
	}
	g.servePage(w, r, GitHubRepositories, g.isUserRepository)
}

func (g *GitHub) isUserRepository(i int) bool {
	return g.configuration().UserOwned && !g.isGone(GitHubRepositories, i)
}

// serveInstallationRepositories writes a page of the repositories of the installation whose
// token the request has.
func (g *GitHub) serveInstallationRepositories(w http.ResponseWriter, r *http.Request) {
	org := g.installationOf(r)
	if org < 0 {
		writeGitHubError(w, http.StatusForbidden, "You must authenticate with an installation access token in order to list repositories for an installation.")
		return
	}
	if g.refuses(w, GitHubRepositories, org) {
		return
	}
	fits := func(i int) bool {
		return g.Organization(GitHubRepositories, i) == org && !g.isGone(GitHubRepositories, i)
	}
	total := 0
	for i := range g.host.server.RecordCount(GitHubRepositories) {
		if fits(i) {
			total++
		}
	}
	records, next := g.pageOf(r.URL.Query(), GitHubRepositories, fits)
	g.linkNext(w, r, next)
	_ = g.host.server.WriteRecords(w, fmt.Sprintf(`{"total_count":%d,"repository_selection":"all","repositories":[`, total), GitHubRepositories, slices.Values(records), "]}")
}

// hasInstallation reports whether the App is installed in an organisation, or by the user,
// who has number 0.
func (g *GitHub) hasInstallation(org int) bool {
	return g.hasOrganization(org) || org == 0 && g.configuration().UserOwned
}

// installationRecord returns the record of an installation.
func (g *GitHub) installationRecord(org int) any {
	var suspended any
	if g.configuration().Suspended == org+1 {
		suspended = g.host.Gen().Base.Format(time.RFC3339)
	}
	kind := "Organization"
	if g.configuration().UserOwned {
		kind = "User"
	}
	return map[string]any{
		"id": 7000 + org, "app_id": 424242, "account": map[string]any{"login": g.Login(org), "type": kind}, "suspended_at": suspended,
	}
}

func (g *GitHub) serveInstallations(w http.ResponseWriter, r *http.Request) {
	g.serveShort(w, r, g.hasInstallation, g.installationRecord)
}

func (g *GitHub) serveInstallation(w http.ResponseWriter, r *http.Request) {
	if org, ok := g.installedOrganization(r); ok {
		_ = json.NewEncoder(w).Encode(g.installationRecord(org))
		return
	}
	writeGitHubError(w, http.StatusNotFound, "Not Found")
}

// installedOrganization returns the organisation of the installation in the path.
func (g *GitHub) installedOrganization(r *http.Request) (int, bool) {
	id, err := strconv.Atoi(r.PathValue("id"))
	return id - 7000, err == nil && g.hasInstallation(id-7000)
}

func (g *GitHub) serveInstallationToken(w http.ResponseWriter, r *http.Request) {
	org, ok := g.installedOrganization(r)
	config := g.configuration()
	if !ok || config.Suspended == org+1 {
		writeGitHubError(w, http.StatusNotFound, "Not Found")
		return
	}
	life := config.TokenLife
	if life == 0 {
		life = time.Hour
	}
	text, expires := fmt.Sprintf("ghs_simulated%d", g.host.Unique()), g.host.Now().Add(life)
	g.mu.Lock()
	g.issued[text] = gitHubToken{org: org, expires: expires}
	g.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"token":%q,"expires_at":%q,"permissions":{"metadata":"read"},"repository_selection":"all"}`, text, expires.UTC().Format(time.RFC3339))
}
