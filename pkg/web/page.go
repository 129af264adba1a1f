package web

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/query"
)

//go:embed assets
var assets embed.FS

// pagePolicy lets a page use its own style and script, and nothing inline.
const pagePolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// pages is the status page.
type pages struct {
	*Server
	// profiles are kept by stream: computing one reads the whole snapshot.
	mu       sync.Mutex
	profiles map[string]query.Profile
}

func (s *Server) mountPages(mux *http.ServeMux) {
	p := &pages{Server: s, profiles: map[string]query.Profile{}}
	mux.HandleFunc("GET /{$}", p.overview)
	mux.HandleFunc("GET /streams/{stream}", p.stream)
	mux.HandleFunc("GET /streams/{stream}/data", p.data)
	mux.HandleFunc("GET /query", p.queryBox)
	s.route(mux, "POST", "/api/v1/query", s.permitted(p.query))
	mux.HandleFunc("GET /assets/{file}", p.asset)
}

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"ago": ago, "took": took, "count": humanize.Comma, "size": size, "instant": instant, "percent": percent,
}).ParseFS(assets, "assets/*.html"))

// show renders a page whole before the first byte goes out.
func (p *pages) show(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		p.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// asset serves the style and the script.
func (p *pages) asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if strings.HasSuffix(name, ".html") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, assets, "assets/"+name)
}

// frame is what every page has.
type frame struct {
	Title, Tenancy, Version string
	Now                     time.Time
	Query                   bool // there is a query page
	Token                   bool // actions are possible
	Alarm                   string
}

func (p *pages) frame(title string) frame {
	f := frame{
		Title: title, Tenancy: p.Tenancy, Version: p.Version, Now: p.Now().UTC(),
		Query: p.Queries != nil && p.Token != "", Token: p.Token != "",
	}
	if err := p.Daemon.Alive(); err != nil {
		f.Alarm = "The scheduler stands still: " + err.Error()
	} else if err := p.Daemon.Ready(); err != nil {
		f.Alarm = "Not ready yet: " + err.Error()
	} else if _, err := p.Daemon.LastReload(); err != nil {
		f.Alarm = "The settings could not be read anew, the old ones are in force: " + err.Error()
	}
	return f
}

// ago is the time between then and now in its largest one or two units.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "–"
	}
	d := now.Sub(then)
	if d < 0 {
		return "in " + took(-d)
	}
	return took(d)
}

// took is a duration for people.
func took(d time.Duration) string {
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

func size(n int64) string {
	return strings.ReplaceAll(humanize.IBytes(uint64(max(n, 0))), " ", "\u202f")
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
