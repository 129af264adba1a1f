package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/query"
)

//go:embed assets
var assets embed.FS

// contentPolicy allows a document to use its own style and script, and nothing inline.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// ui serves the status page.
type ui struct {
	*Server
	// profiles has the column profiles by stream. Computing one reads the whole snapshot.
	mu       sync.Mutex
	profiles map[string]query.Profile
}

// pageRoutes returns the routes of the status page.
func (s *Server) pageRoutes() []route {
	u := &ui{Server: s, profiles: map[string]query.Profile{}}
	return []route{
		{method: "GET", path: "/{$}", handler: u.serveOverview},
		{method: "GET", path: "/streams/{name}", handler: u.serveStream},
		{method: "GET", path: "/streams/{name}/data", handler: u.serveStreamData, protected: true},
		{method: "GET", path: "/query", handler: u.serveQueryForm},
		{method: "POST", path: "/api/v1/query", handler: u.serveQuery, right: QueryRight},
		{method: "GET", path: "/api/v1/queries", handler: u.serveQueries, right: QueryRight},
		{method: "GET", path: "/controls", handler: u.serveControls},
		{method: "GET", path: "/controls/{id}", handler: u.serveControl},
		{method: "GET", path: "/controls/{id}/details", handler: u.serveControlDetails, protected: true},
		{method: "GET", path: "/assets/{file}", handler: u.serveAsset, public: true},
	}
}

// templates are parsed when the first page is requested: each query is a process, which
// has no pages.
var templates = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"age": formatAge, "duration": formatDuration, "count": humanize.Comma, "size": formatSize, "time": formatTime, "percent": percent,
		"score": formatScore, "limit": formatLimit,
	}).ParseFS(assets, "assets/*.html"))
})

// render executes a template completely before it writes the first byte.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates().ExecuteTemplate(&b, name, data); err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	policy := contentPolicy
	if name == "tenancies.html" { // which has a form to search
		policy = strings.Replace(policy, "form-action 'none'", "form-action 'self'", 1)
	}
	w.Header().Set("Content-Security-Policy", policy)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// missingData is the data of missing.html.
type missingData struct {
	baseData
	Why string
}

// serveMissing responds with 404 and a page.
func (s *Server) serveMissing(w http.ResponseWriter, r *http.Request, title, why string) {
	s.render(w, r, http.StatusNotFound, "missing.html", missingData{s.newBaseData(r.Context(), title), why})
}

// serveNotFound responds with 404: with a page, and for paths that programs request with an
// error as JSON.
func (s *Server) serveNotFound(w http.ResponseWriter, r *http.Request) {
	if isForPrograms(r.URL.Path) {
		s.writeError(w, http.StatusNotFound, "no such path: "+r.URL.Path)
		return
	}
	s.serveMissing(w, r, "Not found", "There is nothing at "+r.URL.Path+".")
}

// isForPrograms reports whether a path is one that programs request.
func isForPrograms(path string) bool {
	return slices.ContainsFunc([]string{"/api/", "/-/", "/debug/", "/assets/"}, func(start string) bool { return strings.HasPrefix(path, start) })
}

// assetTags has the entity tag of each asset, by its name.
var assetTags = sync.OnceValue(tagAssets)

func tagAssets() map[string]string {
	tags := map[string]string{}
	err := fs.WalkDir(assets, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := assets.ReadFile(name)
		tags[path.Base(name)] = fmt.Sprintf(`"%x"`, sha256.Sum256(content))
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	return tags
}

// serveAsset serves the style, the script and the icon.
func (u *ui) serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if strings.HasSuffix(name, ".html") {
		u.serveNotFound(w, r)
		return
	}
	if _, err := fs.Stat(assets, "assets/"+name); err != nil {
		u.serveNotFound(w, r)
		return
	}
	// After an upgrade a browser must not combine a new page with an old script.
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", assetTags()[name])
	http.ServeFileFS(w, r, assets, "assets/"+name)
}

// baseData is the data that every template needs.
type baseData struct {
	Title, Tenancy, Version string
	Prefix                  string // before the path of each link
	Root                    string // before the path of each link to what all tenancies have
	OneOfSeveral            bool   // whether the tenancy is one of several
	Now                     time.Time
	Query                   bool // whether queries are on
	HasControls             bool // whether controls are on
	Token                   bool // whether actions are possible
	AsksToken               bool // whether the page asks for the token of actions
	Granted                 bool // whether the browser sends a token of HTTP_TOKENS_FILE by itself
	Alarm                   string
	Notice                  string // of a service that follows
}

func (s *Server) newBaseData(ctx context.Context, title string) baseData {
	d := baseData{
		Title: title, Tenancy: s.Tenancy, Version: s.Version, Now: s.Now().UTC(), Prefix: s.path, Root: s.root, OneOfSeveral: s.path != s.root,
		Query: s.Queries != nil && s.Token != "", Token: s.Token != "", AsksToken: s.Token != "", HasControls: s.controlSource().Dir != "",
	}
	if v := visitorOf(ctx); v != nil {
		d.Query, d.Token, d.AsksToken, d.Granted = s.Queries != nil && v.permits(QueryRight), v.permits(RunRight), false, v.isKnown()
	}
	if s.Daemon == nil { // of several tenancies
		return d
	}
	if err := s.Daemon.Alive(); err != nil {
		d.Alarm = "The scheduler has stopped: " + err.Error()
	} else if d.setReadiness(ctx, s.Daemon.Ready(), s.Cluster); d.Alarm != "" {
		return d
	} else if _, err := s.Daemon.LastReload(); err != nil {
		d.Alarm = "The last reload of the settings: " + err.Error()
	}
	return d
}

// formatAge returns the time from then to now in its largest one or two units, such as
// "2 h 5 min", or "in 5 min" when then is in the future.
func formatAge(now, then time.Time) string {
	if then.IsZero() {
		return "–"
	}
	d := now.Sub(then)
	if d < 0 {
		return "in " + formatDuration(-d)
	}
	return formatDuration(d)
}

// formatDuration returns d in its largest one or two units.
func formatDuration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	unit := func(n int64, name string) string { return humanize.Comma(n) + "\u202f" + name }
	switch {
	case d < 0:
		return "–"
	case d < time.Second:
		return unit(d.Milliseconds(), "ms")
	case s < 60:
		return unit(s, "s")
	case s < 3600:
		return unit(s/60, "min")
	case s < 48*3600:
		if s < 10*3600 && s/60%60 > 0 {
			return unit(s/3600, "h") + " " + unit(s/60%60, "min")
		}
		return unit(s/3600, "h")
	}
	return unit(s/86400, "d")
}

// formatSize returns a size of n bytes, such as "1.5 MiB".
func formatSize(n int64) string {
	return strings.ReplaceAll(humanize.IBytes(uint64(max(n, 0))), " ", "\u202f")
}

// formatTime returns t in UTC, or "never" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
