package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

// A Tenancy is one of several tenancies of a service.
type Tenancy struct {
	// Name is the Tenancy of its Server, and unique.
	Name string
	// Server serves its pages and its API. It is nil when its settings cannot be used, and
	// the same one while they are not replaced. Of its options, Cluster, Metrics, Token, Prefix,
	// Access, Hosts, ConfigFile, Pprof, Version and Now are those of the service.
	Server *Server
	// Err is why there is no Server, or else the error of the last reload of the
	// tenancy. Its text has no secrets.
	Err error
}

// TenanciesOptions configure a Tenancies.
type TenanciesOptions struct {
	State *state.State
	// List returns the tenancies, ordered by name. It is called for each request, also
	// concurrently.
	List func() []Tenancy
	// Alive, Ready, Reload and LastReload are those of a Daemon, for all tenancies.
	Alive, Ready func() error
	Reload       func(ctx context.Context) error
	LastReload   func() (at time.Time, err error)
	// Cluster is that of Options.
	Cluster Cluster
	// Metrics serves /metrics, of all tenancies.
	Metrics http.Handler
	// Token is that of Options, for all tenancies.
	Token string
	// Tokens are those of HTTP_TOKENS_FILE; nil for no file. With them, every request but
	// health checks needs a token.
	Tokens *Tokens
	// Queries runs queries over the data of tenancies at the root, with ForTenancies; nil
	// switches them off.
	Queries *query.Engine
	// QueryTime, Offered, Prefix, Access, Hosts, ConfigFile, Pprof, Version, Log and Now are
	// those of Options.
	QueryTime  time.Duration
	Offered    *QueryFiles
	Prefix     string
	Access     Access
	Hosts      []string
	ConfigFile string
	Pprof      bool
	Version    string
	Log        *zap.Logger
	Now        func() time.Time
}

// Tenancies serves several tenancies: what they have in common at the root, and each one
// with its own Server below /tenancies/NAME/.
type Tenancies struct {
	TenanciesOptions
	root   *Server // without a daemon
	tokens atomic.Pointer[Tokens]

	mu      sync.Mutex
	mounted map[*Server]http.Handler
}

// NewTenancies returns a Tenancies.
func NewTenancies(o TenanciesOptions) *Tenancies {
	root := New(Options{
		State: o.State, Cluster: o.Cluster, Metrics: o.Metrics, Token: o.Token, Prefix: o.Prefix, Access: o.Access, Hosts: o.Hosts, ConfigFile: o.ConfigFile,
		Queries: o.Queries, QueryTime: o.QueryTime, Offered: o.Offered, Pprof: o.Pprof, Version: o.Version, Log: o.Log, Now: o.Now,
	})
	t := &Tenancies{TenanciesOptions: o, root: root, mounted: map[*Server]http.Handler{}}
	t.tokens.Store(o.Tokens)
	return t
}

// ReplaceTokens replaces the tokens of HTTP_TOKENS_FILE, for the requests that follow. It
// may be called concurrently. nil means no file, and permits everyone to read.
func (t *Tenancies) ReplaceTokens(tokens *Tokens) { t.tokens.Store(tokens) }

// Serve is [Server.Serve].
func (t *Tenancies) Serve(ctx context.Context, l net.Listener) error {
	return t.root.serveHandler(ctx, l, t.Handler())
}

// Handler is [Server.Handler].
func (t *Tenancies) Handler() http.Handler {
	mux := http.NewServeMux()
	t.root.mountRoutes(mux, t.routes())
	t.root.mountProfiles(mux)
	t.root.handle(mux, "", tenanciesPath+"{tenancy}", t.serveTenancy)
	t.root.handle(mux, "", tenanciesPath+"{tenancy}/{rest...}", t.serveTenancy)
	t.root.handle(mux, "", "/", t.root.authorize(route{handler: t.root.serveNotFound}))
	return t.root.guardHandler(t.identify(mux))
}

// tenanciesPath is the start of the paths of the single tenancies.
const tenanciesPath = "/tenancies/"

// routes returns the routes of what all tenancies have in common, without those of Go's
// profiles.
func (t *Tenancies) routes() []route {
	alive, ready := t.checkHandler(t.Alive, "alive"), t.checkHandler(t.Ready, "ready")
	assets := &ui{Server: t.root}
	return slices.Concat(t.queryRoutes(), t.root.pauseRoutes(), []route{
		{method: "GET", path: "/-/healthy", handler: alive, public: true},
		{method: "GET", path: "/healthz", handler: alive, public: true},
		{method: "GET", path: "/livez", handler: alive, public: true},
		{method: "GET", path: "/-/ready", handler: ready, public: true},
		{method: "GET", path: "/readyz", handler: ready, public: true},
		{method: "GET", path: "/-/data", handler: t.serveDataCheck},
		{method: "POST", path: "/-/reload", handler: t.serveReload, right: RunRight, program: true},
		{method: "GET", path: "/metrics", handler: compressResponse(t.Metrics), program: true},
		{method: "GET", path: "/api/v1/openapi.yaml", handler: t.root.serveOpenAPI},
		{method: "GET", path: "/api/v1/status", handler: t.serveStatus},
		{method: "GET", path: "/api/v1/tenancies", handler: t.serveList},
		{method: "GET", path: "/{$}", handler: t.serveOverview},
		{method: "GET", path: "/assets/{file}", handler: assets.serveAsset, public: true},
	})
}

// identify adds the visitor to each request when there is a tokens file.
func (t *Tenancies) identify(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(t.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens := t.tokens.Load()
		if tokens == nil {
			next.ServeHTTP(w, r)
			return
		}
		given := anyToken(r)
		v, got := tokens.find(given), sha256.Sum256([]byte(given))
		if t.Token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			v = &visitor{name: "HTTP_TOKEN", all: true, rights: allRights}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, v)))
	})
}

// checkHandler is [Server.checkHandler]. Only visitors that see all tenancies see the
// error, which may name one.
func (t *Tenancies) checkHandler(check func() error, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t.root.checkHandler(func() error { return t.hideFrom(r, check()) }, status)(w, r)
	}
}

// visibleTenancies returns the tenancies that the visitor of a request sees.
func (t *Tenancies) visibleTenancies(ctx context.Context) []Tenancy {
	v := visitorOf(ctx)
	all := t.List()
	if v == nil || v.all {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(one Tenancy) bool { return !v.sees(one.Name) })
}

// serveTenancy serves one tenancy. For a token of another one it does not exist.
func (t *Tenancies) serveTenancy(w http.ResponseWriter, r *http.Request) {
	if v := visitorOf(r.Context()); v != nil && !v.isKnown() {
		t.root.askForToken(w, withoutTenancy(r))
		return
	}
	name := r.PathValue("tenancy")
	for _, one := range t.visibleTenancies(r.Context()) {
		if one.Name == name {
			t.serveOne(w, r, one)
			return
		}
	}
	why := "There is no tenancy " + name + "."
	if isPageRequest(withoutTenancy(r)) {
		t.root.serveMissing(w, r, "No such tenancy", why)
		return
	}
	t.root.writeError(w, http.StatusNotFound, why)
}

// serveOne serves a tenancy that the visitor sees.
func (t *Tenancies) serveOne(w http.ResponseWriter, r *http.Request, one Tenancy) {
	inner := withoutTenancy(r)
	switch {
	case inner.URL.Path == "":
		http.Redirect(w, r, t.pathOf(one.Name)+"/", http.StatusPermanentRedirect)
	case one.Server == nil:
		t.root.authorize(route{handler: func(w http.ResponseWriter, r *http.Request) { t.serveUnusable(w, r, one) }})(w, inner)
	default:
		t.handlerOf(one).ServeHTTP(w, inner)
	}
}

// serveUnusable responds with 503 for a tenancy whose settings cannot be used.
func (t *Tenancies) serveUnusable(w http.ResponseWriter, r *http.Request, one Tenancy) {
	text := "The settings of " + one.Name + " cannot be used: " + errorText(one.Err)
	w.Header().Set("Retry-After", retryAfter)
	if isPageRequest(r) {
		t.root.render(w, r, http.StatusServiceUnavailable, "missing.html", missingData{t.root.newBaseData(r.Context(), one.Name), text})
		return
	}
	t.root.writeError(w, http.StatusServiceUnavailable, text)
}

// pathOf returns the path of a tenancy in links.
func (t *Tenancies) pathOf(name string) string {
	return t.Prefix + tenanciesPath + url.PathEscape(name)
}

// withoutTenancy returns a request below the path of a tenancy as one of its Server. The
// path is "" for that of the tenancy without a slash.
func withoutTenancy(r *http.Request) *http.Request {
	_, rest, hasRest := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), tenanciesPath), "/")
	inner, u := new(http.Request), new(url.URL)
	*inner, *u = *r, *r.URL
	inner.URL, u.Path, u.RawPath = u, "", ""
	if hasRest {
		u.Path, u.RawPath = "/"+rest, "/"+rest
		if path, err := url.PathUnescape(u.RawPath); err == nil { // the path of a request was parsed before
			u.Path = path
		}
	}
	return inner
}

// handlerOf returns the handler of the Server of a tenancy.
func (t *Tenancies) handlerOf(one Tenancy) http.Handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	handler := t.mounted[one.Server]
	if handler == nil {
		t.forgetReplaced()
		handler = one.Server.mountBelow(t.root, t.pathOf(one.Name))
		t.mounted[one.Server] = handler
	}
	return handler
}

// forgetReplaced removes the handlers of Servers that are not in use any more.
func (t *Tenancies) forgetReplaced() {
	used := map[*Server]bool{}
	for _, one := range t.List() {
		used[one.Server] = true
	}
	for server := range t.mounted {
		if !used[server] {
			delete(t.mounted, server)
		}
	}
}

// mountBelow returns the handler of a Server for requests below a path, without that path.
// What is of all tenancies, such as the metrics, is not served there.
func (s *Server) mountBelow(root *Server, path string) http.Handler {
	m := &Server{Options: s.Options, path: path, root: root.path, downloads: root.downloads}
	m.Metrics, m.Pprof, m.Prefix = nil, false, ""
	m.Cluster = root.Cluster
	m.Token, m.Access, m.Hosts, m.ConfigFile, m.Version, m.Now = root.Token, root.Access, root.Hosts, root.ConfigFile, root.Version, root.Now
	mux := http.NewServeMux()
	m.mountRoutes(mux, m.routes())
	m.handle(mux, "", "/", m.serveNotFound)
	return mux
}
