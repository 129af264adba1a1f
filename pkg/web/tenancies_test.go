package web

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// several is a fixture with several tenancies.
type several struct {
	*fixture
	list    []Tenancy
	daemons map[string]*fakeDaemon
	options TenanciesOptions
}

// newSeveral returns a fixture without tenancies.
func newSeveral(t testing.TB) *several {
	s := &several{fixture: newFixture(t), daemons: map[string]*fakeDaemon{}}
	s.options = TenanciesOptions{
		State: s.state, Access: Access{Loopback: true}, Version: "v1.0.0", Now: func() time.Time { return shownAt },
		List:  func() []Tenancy { return s.list },
		Alive: func() error { return nil }, Ready: func() error { return nil },
		Reload: func(context.Context) error { return nil }, LastReload: func() (time.Time, error) { return shownAt, nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = io.WriteString(w, "collectord_up{tenancy=\"umbrella\"} 1\n")
		}),
	}
	return s
}

// switchTo adds a tenancy. What is added to the fixture after that belongs to it.
func (s *several) switchTo(name string) {
	s.daemon, s.tenancy = &fakeDaemon{}, name
	s.daemon.operator = &operation.Operator{
		State: s.state, Tenancy: name, Streams: []string{"okta_users"}, Destinations: []string{"file"},
		Policy: state.Policy{Sinks: []string{"file"}}, Log: zap.NewNop(),
	}
	s.daemons[name] = s.daemon
	engine := query.New(query.Options{State: s.state, Tenancy: name, Dir: filepath.Join(s.dir, "query"+url.PathEscape(name)), Memory: 1 << 30, Parallel: 2})
	s.Cleanup(engine.Close)
	server := New(Options{State: s.state, Daemon: s.daemon, Tenancy: name, ShowData: true, Profiles: engine, Queries: engine, QueryTime: time.Hour, Pprof: true,
		Metrics: s.options.Metrics, Token: "token-of-no-use", Prefix: "/of-no-use"})
	s.list = append(s.list, Tenancy{Name: name, Server: server})
	slices.SortFunc(s.list, func(a, b Tenancy) int { return strings.Compare(a.Name, b.Name) })
}

// addUnusable adds a tenancy whose settings cannot be used.
func (s *several) addUnusable(name, text string) {
	s.list = append(s.list, Tenancy{Name: name, Err: errors.New(text)})
	slices.SortFunc(s.list, func(a, b Tenancy) int { return strings.Compare(a.Name, b.Name) })
}

// addOkta adds the collector okta to the tenancy, whose last run was age ago and failed if
// failure is not "".
func (s *several) addOkta(age time.Duration, failure string) {
	s.Helper()
	s.addCollector("okta", 6*time.Hour, "okta_users")
	s.addSuccess("okta", "okta_users", age, []string{"file"}, fmt.Sprintf(`{"id":"user of %s"}`, s.tenancy))
	if failure != "" {
		s.addFailure("okta", "okta_users", time.Hour, failure)
	}
}

// newTwo returns a fixture with acme, umbrella and an unusable one.
func newTwo(t testing.TB) *several {
	s := newSeveral(t)
	s.switchTo("acme")
	s.addOkta(time.Hour, "")
	s.switchTo("umbrella")
	s.addOkta(40*time.Hour, "umbrella's vendor refuses")
	s.addUnusable("wayne", "/etc/collectord/tenancies/wayne.env:3: OKTA_ORG: want a URL")
	return s
}

// tokensText is a HTTP_TOKENS_FILE for newTwo. The last token is given as its hash.
const tokensText = `
- {name: portal, token: token-of-acme-all-1, tenancies: [acme], rights: [read, run, query]}
- {name: reader, token: token-of-acme-read, tenancies: [acme], rights: [read]}
- {name: runner, token: token-of-acme-run-1, tenancies: [acme], rights: [run]}
- {name: prometheus, token: token-of-all-read, tenancies: "*", rights: [read]}
- {name: operator, token: token-of-all-run-1, tenancies: "*", rights: [read, run]}
- name: both
  token_sha256: 2ca9a1e2adfd9ec3b0bbd9b9d9a0d2d2f7bd4ad8ed4dde9fa0aa3dd5c0f1a2b3
  tenancies: [umbrella, acme]
  rights: [read]
`

// readTokens reads a HTTP_TOKENS_FILE with a text.
func readTokens(t testing.TB, text string) *Tokens {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := ReadTokens(file, "")
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// request sends a request with a token, or "" for none, to a handler.
func request(handler http.Handler, method, path, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(`{"sql":"SELECT 1 AS n"}`))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// examplePath returns a path that matches the path of a route.
func examplePath(r route) string {
	return strings.NewReplacer("{name}", "okta_users", "{id}", "plain", "{file}", "style.css", "{$}", "").Replace(r.path)
}

// routesOfOne returns the routes of the Server of a tenancy, and those that it must not have.
func (s *several) routesOfOne() []route {
	routes := s.list[0].Server.routes()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/nothing", "/api/nothing"} {
		routes = append(routes, route{method: "GET", path: path})
	}
	return routes
}

// newQueries returns an engine for the queries over all tenancies.
func (s *several) newQueries() *query.Engine {
	engine := query.New(query.Options{State: s.state, Dir: filepath.Join(s.dir, "query"), Memory: 1 << 30, Parallel: 2})
	s.Cleanup(engine.Close)
	return engine
}

// TestTokenSeesOnlyItsTenancies tries every route of another tenancy, and looks for the other
// tenancies in every response at the root.
func TestTokenSeesOnlyItsTenancies(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens, s.options.Token, s.options.Pprof, s.options.Queries = readTokens(t, tokensText), "token-of-service", true, s.newQueries()
	s.options.Alive, s.options.Ready = func() error { return errors.New("umbrella stalls") }, func() error { return errors.New("umbrella is restored") }
	s.options.LastReload = func() (time.Time, error) { return shownAt, errors.New("umbrella.env: refused") }
	service := NewTenancies(s.options)
	handler := service.Handler()
	for _, r := range s.routesOfOne() {
		for _, method := range []string{r.method, "HEAD", "DELETE"} {
			other := request(handler, method, "/tenancies/umbrella"+examplePath(r), "token-of-acme-all-1")
			missing := request(handler, method, "/tenancies/nothere1"+examplePath(r), "token-of-acme-all-1")
			if other.Code != 404 || strings.ReplaceAll(other.Body.String(), "umbrella", "nothere1") != missing.Body.String() ||
				!maps.EqualFunc(other.Header(), missing.Header(), slices.Equal) {
				t.Errorf("%s %s of another tenancy: %d, of none: %d\n%s\n%s", method, r.path, other.Code, missing.Code, other.Body, missing.Body)
			}
			for token, want := range map[string]int{"": 401, "token-of-no-one-12": 401, "token-of-no-use": 401} {
				if w := request(handler, method, "/tenancies/umbrella"+examplePath(r), token); w.Code != want || strings.Contains(w.Body.String(), "umbrella") {
					t.Errorf("%s %s with %q: %d %s", method, r.path, token, w.Code, w.Body)
				}
			}
		}
		own := request(handler, r.method, "/tenancies/acme"+examplePath(r), "token-of-acme-all-1")
		if own.Code == 401 || strings.Contains(own.Body.String(), "umbrella") || strings.Contains(own.Body.String(), "wayne") {
			t.Errorf("%s %s of its own tenancy: %d %s", r.method, r.path, own.Code, own.Body)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		if w := request(handler, "GET", "/tenancies/acme"+path, "token-of-service"); w.Code != 404 {
			t.Errorf("%s below a tenancy: %d", path, w.Code)
		}
	}
	roots := append(service.routes(), route{method: "GET", path: "/debug/pprof/"}, route{method: "GET", path: "/tenancies"}, route{method: "GET", path: "/?label=late"},
		route{method: "GET", path: "/?search=umbrella"}, route{method: "GET", path: "/streams/okta_users"}, route{method: "GET", path: "/tenancies/"})
	for _, r := range roots {
		for _, token := range []string{"token-of-acme-all-1", "token-of-acme-read", "token-of-acme-run-1", "", "token-of-no-one-12"} {
			w := request(handler, r.method, examplePath(r), token)
			body := strings.ReplaceAll(w.Body.String(), `value="umbrella"`, "") // the search itself
			if strings.Contains(body, "umbrella") || strings.Contains(body, "wayne") {
				t.Errorf("%s %s with %q: %s", r.method, r.path, token, w.Body)
			}
			if isAnonymous := token == "" || token == "token-of-no-one-12"; isAnonymous && !r.public && w.Code != 401 {
				t.Errorf("%s %s with %q: %d, want 401", r.method, r.path, token, w.Code)
			}
		}
	}
}

// TestRightsOfTokens checks what each token may do.
func TestRightsOfTokens(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens, s.options.Token, s.options.Pprof = readTokens(t, tokensText), "token-of-service", true
	handler := NewTenancies(s.options).Handler()
	const portal, reader, runner, prometheus, operator, service = "token-of-acme-all-1", "token-of-acme-read", "token-of-acme-run-1",
		"token-of-all-read", "token-of-all-run-1", "token-of-service"
	for request1, statuses := range map[string]map[string]int{
		"GET /":                         {portal: 200, reader: 200, runner: 403, prometheus: 200, operator: 200, service: 200, "": 401},
		"GET /metrics":                  {portal: 403, reader: 403, runner: 403, prometheus: 200, operator: 200, service: 200, "": 401},
		"GET /-/healthy":                {portal: 200, reader: 200, runner: 200, prometheus: 200, operator: 200, service: 200, "": 200},
		"GET /-/ready":                  {runner: 200, "": 200},
		"GET /assets/style.css":         {runner: 200, "": 200},
		"GET /-/data":                   {portal: 200, reader: 200, runner: 403, prometheus: 503, "": 401},
		"POST /-/reload":                {portal: 403, reader: 403, runner: 403, prometheus: 403, operator: 200, service: 200, "": 401},
		"GET /debug/pprof/":             {portal: 403, prometheus: 200, service: 200, "": 401},
		"GET /api/v1/status":            {portal: 200, runner: 403, prometheus: 200, "": 401},
		"GET /tenancies/acme/":          {portal: 200, reader: 200, runner: 403, prometheus: 200, operator: 200, service: 200, "": 401},
		"GET /tenancies/umbrella/":      {portal: 404, reader: 404, runner: 404, prometheus: 200, operator: 200, service: 200, "": 401},
		"GET /tenancies/wayne/":         {portal: 404, prometheus: 503, service: 503, "": 401},
		"POST /tenancies/acme/-/reload": {portal: 403, operator: 200, service: 200},
		"GET /tenancies/acme/query":     {portal: 200, reader: 404, runner: 403},
		"GET /tenancies/acme/api/v1/streams/okta_users/records":  {portal: 200, reader: 200, runner: 403, prometheus: 200, service: 200, "": 401},
		"GET /tenancies/acme/streams/okta_users/data":            {portal: 200, reader: 200, runner: 403, service: 200, "": 401},
		"POST /tenancies/acme/api/v1/streams/okta_users/run":     {portal: 202, reader: 403, runner: 202, prometheus: 403, operator: 202, service: 202, "": 401},
		"POST /tenancies/umbrella/api/v1/streams/okta_users/run": {portal: 404, reader: 404, runner: 404, prometheus: 403, operator: 202, service: 202, "": 401},
		"POST /tenancies/acme/api/v1/query":                      {portal: 200, reader: 403, runner: 403, prometheus: 403, operator: 403, service: 200, "": 401},
		"GET /tenancies/acme/api/v1/queries":                     {portal: 200, reader: 403, service: 200},
	} {
		method, path, _ := strings.Cut(request1, " ")
		for token, want := range statuses {
			if w := request(handler, method, path, token); w.Code != want {
				t.Errorf("%s with %q: %d, want %d: %.300s", request1, token, w.Code, want, w.Body)
			}
		}
	}
	if got := strings.Join(s.daemons["acme"].started, " "); got != "okta_users okta_users okta_users okta_users" {
		t.Errorf("acme started %s", got)
	}
	// The page has the actions that the token permits, and never asks for one.
	for token, wantAction := range map[string]bool{portal: true, reader: false, operator: true} {
		page := request(handler, "GET", "/tenancies/acme/", token).Body.String()
		if strings.Contains(page, `data-post="/tenancies/acme/api/v1/streams/okta_users/run"`) != wantAction || strings.Contains(page, `id="token"`) {
			t.Errorf("the page with %q: %s", token, page)
		}
	}
}

// TestTokensAreSentInSeveralWays checks the headers of tokens, and the request for one.
func TestTokensAreSentInSeveralWays(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens = readTokens(t, tokensText)
	service := NewTenancies(s.options)
	handler := service.Handler()
	send := func(change func(*http.Request)) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "http://localhost/tenancies/acme/api/v1/status", nil)
		change(r)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	for name, change := range map[string]func(*http.Request){
		"bearer":                 func(r *http.Request) { r.Header.Set("Authorization", "bearer token-of-acme-read") },
		"header":                 func(r *http.Request) { r.Header.Set(tokenHeader, "token-of-acme-read") },
		"basic":                  func(r *http.Request) { r.SetBasicAuth("anyone", "token-of-acme-read") },
		"basic without a user":   func(r *http.Request) { r.SetBasicAuth("", "token-of-acme-read") },
		"the header goes before": func(r *http.Request) { r.SetBasicAuth("", "other"); r.Header.Set(tokenHeader, "token-of-acme-read") },
	} {
		if w := send(change); w.Code != 200 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for name, change := range map[string]func(*http.Request){
		"none":     func(*http.Request) {},
		"the user": func(r *http.Request) { r.SetBasicAuth("token-of-acme-read", "") },
		"a part":   func(r *http.Request) { r.SetBasicAuth("", "token-of-acme-rea") },
		"the hash": func(r *http.Request) {
			r.Header.Set(tokenHeader, "2ca9a1e2adfd9ec3b0bbd9b9d9a0d2d2f7bd4ad8ed4dde9fa0aa3dd5c0f1a2b3")
		},
		"empty":             func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") },
		"in the URL":        func(r *http.Request) { r.URL.RawQuery = "token=token-of-acme-read" },
		"of a Server alone": func(r *http.Request) { r.Header.Set(tokenHeader, "token-of-no-use") },
	} {
		w := send(change)
		asks := w.Header().Values("WWW-Authenticate")
		if w.Code != 401 && w.Code != 400 || w.Code == 401 && (len(asks) != 2 || !strings.HasPrefix(asks[0], "Basic ")) {
			t.Errorf("%s: %d %q %s", name, w.Code, asks, w.Body)
		}
	}
	// Browsers also send the password with requests of other sites' pages.
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r := httptest.NewRequest("POST", "http://localhost/tenancies/acme/api/v1/streams/okta_users/run", nil)
		r.SetBasicAuth("", "token-of-acme-all-1")
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, r); w.Code != 403 || len(s.daemons["acme"].started) > 0 {
			t.Errorf("with %s: %d %s", name, w.Code, w.Body)
		}
	}
	// A reload replaces the tokens. Without HTTP_TOKEN there is no other one.
	service.ReplaceTokens(readTokens(t, `[{name: new, token: another-token-of-acme, tenancies: [acme], rights: [read]}]`))
	for token, want := range map[string]int{"token-of-acme-read": 401, "another-token-of-acme": 200, "": 401} {
		if w := request(handler, "GET", "/tenancies/acme/", token); w.Code != want {
			t.Errorf("after the reload, with %q: %d, want %d", token, w.Code, want)
		}
	}
}

// TestTokenGivenAsHash checks token_sha256, and that the empty token is none.
func TestTokenGivenAsHash(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens = readTokens(t, `
- {name: hashed, token_sha256: 41e68ca0fbac2f2c4ab8b7ae6a7e1dfd0e1af0de3d0d9e0cd2c1ecd25f1e5b00, tenancies: [acme], rights: [read]}
- {name: empty, token_sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, tenancies: "*", rights: [read, run]}
- {name: known, token_sha256: `+fmt.Sprintf("%x", sha256.Sum256([]byte("a-token-that-is-hashed")))+`, tenancies: [umbrella], rights: [read]}
`)
	if secrets := s.options.Tokens.Secrets(); len(secrets) != 0 {
		t.Errorf("secrets: %q", secrets)
	}
	handler := NewTenancies(s.options).Handler()
	for token, want := range map[string]int{"": 401, "a-token-that-is-hashed": 200} {
		if w := request(handler, "GET", "/tenancies/umbrella/", token); w.Code != want {
			t.Errorf("%q: %d, want %d", token, w.Code, want)
		}
	}
}

// TestTokensFileErrors checks that all errors of the file are reported at once, with its
// lines and without tokens.
func TestTokensFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const wantMembers = "want name, token or token_sha256, tenancies and rights"
	const wantTenancies = `want a list of tenancies, such as [acme, umbrella], or "*" for all`
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"empty":      {text: "", want: []string{":1: want a list of tokens"}},
		"no list":    {text: "name: x\n", want: []string{":1: want a list of tokens"}},
		"empty list": {text: "[]\n", want: []string{":1: want a list of tokens"}},
		"no YAML":    {text: "- name: x\n  token: \"secret-token-1234\n", want: []string{": it is not valid YAML"}},
		"no tokens":  {text: "- secret-token-1234\n", want: []string{":1: want a token with name"}},
		"many": {text: `- name: a
  token: secret-short
  tenancies: []
  rights: [read, write]
- token: secret-token-1234 with space
  token_sha256: abc
  rights: read
  secret-token-5678: x
- {name: b, token_sha256: zz, tenancies: ["*", acme], rights: [read]}
- {name: c, token: secret-token-1234, tenancies: [acme], rights: [read]}
- {name: d, token: secret-token-1234, tenancies: [acme], rights: [read]}
- {name: c, token: secret-token-9999, tenancies: [""], rights: [read]}
- {name: c, token: secret-token-8888, tenancies: [acme], rights: []}
- {name: c, name: c, token: secret-token-7777, tenancies: [acme], rights: [read]}
- {name: c, token: secret-token-6666, tenancies: [acme], rights: [read]}
`, want: []string{
			":2: token: want 16 to 256 characters", ":3: tenancies: " + wantTenancies, ":4: rights: want a list with some of read, run and query",
			":8: a member is unknown: " + wantMembers, ":5: name is missing", ":5: want either token or token_sha256", ":5: tenancies is missing: " + wantTenancies, ":5: rights: want",
			":9: token_sha256: want the SHA-256", `:9: tenancies: all is tenancies: "*"`,
			`:11: "d" has the same token as line 10`, ":12: tenancies: want", ":13: rights: want", ":14: name is given twice", `:15: the name "c" is that of line 10`,
		}},
	} {
		file := write("tokens.yaml", tc.text)
		_, err := ReadTokens(file, "")
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), "HTTP_TOKENS_FILE: "+file+want) {
				t.Errorf("%s: the error does not have %q:\n%v", name, want, err)
			}
		}
		if lines := strings.Count(err.Error(), "\n") + 1; lines != len(tc.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %d errors, want %d, without a token:\n%v", name, lines, len(tc.want), err)
		}
	}
	good := write("good.yaml", tokensText)
	for name, configFile := range map[string]string{
		"basic_auth_users": write("web.yml", "basic_auth_users:\n  alice: $2y$10$abc\n"), "HTTP_WEB_CONFIG_FILE": filepath.Join(dir, "missing.yml"),
	} {
		if _, err := ReadTokens(good, configFile); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("with %s: %v", configFile, err)
		}
	}
	certificates := write("mtls.yml", "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n")
	tokens, err := ReadTokens(good, certificates)
	if err != nil {
		t.Fatal(err)
	}
	if secrets := tokens.Secrets(); len(secrets) != 5 || secrets[0] != "token-of-acme-all-1" {
		t.Errorf("secrets: %q", secrets)
	}
	notes := tokens.Unknown([]string{"acme"})
	if len(notes) != 1 || !strings.Contains(notes[0], `good.yaml:7: the token "both" is for the tenancy "umbrella", which does not exist`) {
		t.Errorf("notes: %q", notes)
	}
	for _, file := range []string{filepath.Join(dir, "none.yaml"), dir} {
		if _, err := ReadTokens(file, ""); err == nil || !strings.Contains(err.Error(), "HTTP_TOKENS_FILE: "+file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestTenanciesWithoutTokensFile checks that everyone may read, and that changes need
// HTTP_TOKEN, as with one tenancy.
func TestTenanciesWithoutTokensFile(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Token = "token-of-service"
	handler := NewTenancies(s.options).Handler()
	for request1, statuses := range map[string][2]int{ // without and with HTTP_TOKEN
		"GET /": {200, 200}, "GET /metrics": {200, 200}, "GET /tenancies/umbrella/": {200, 200}, "GET /tenancies/wayne/": {503, 503}, "GET /tenancies/none/": {404, 404},
		"GET /tenancies/wayne/api/v1/status": {503, 503}, "POST /-/reload": {401, 200}, "POST /tenancies/acme/api/v1/streams/okta_users/run": {401, 202},
		"GET /tenancies/acme": {308, 308}, "POST /tenancies/acme/": {405, 405}, "GET /nothing": {404, 404}, "GET /api/v1/runs": {404, 404}, "GET /streams/okta_users": {404, 404},
		"DELETE /tenancies/acme/api/v1/status": {405, 405}, "POST /metrics": {405, 405}, "HEAD /tenancies/acme/": {200, 200}, "HEAD /": {200, 200},
		"GET /?label=nothing": {400, 400}, "GET /api/v1/status?x=1": {400, 400},
	} {
		method, path, _ := strings.Cut(request1, " ")
		for i, token := range []string{"", "token-of-service"} {
			w := request(handler, method, path, token)
			if w.Code != statuses[i] {
				t.Errorf("%s with %q: %d, want %d: %.300s", request1, token, w.Code, statuses[i], w.Body)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Errorf("%s: no header Allow", request1)
			}
		}
	}
	if w := request(handler, "GET", "/tenancies/acme", ""); w.Header().Get("Location") != "/tenancies/acme/" {
		t.Errorf("the tenancy without a slash: %v", w.Header())
	}
	for path, text := range map[string]string{"/tenancies/wayne/": "wayne.env:3: OKTA_ORG: want a URL", "/tenancies/wayne/api/v1/runs": "wayne.env:3: OKTA_ORG"} {
		if w := request(handler, "GET", path, ""); !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	page := request(handler, "GET", "/tenancies/acme/", "").Body.String()
	for _, want := range []string{`<a href="/">All tenancies</a>`, `data-root=""`, `data-prefix="/tenancies/acme"`, `<strong class="tenancy">acme</strong>`, `id="token"`, "<title>acme · collectord</title>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of a tenancy does not have %s", want)
		}
	}
	evil := httptest.NewRequest("GET", "http://evil.example/tenancies/acme/", nil)
	w := httptest.NewRecorder()
	if handler.ServeHTTP(w, evil); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another Host: %d", w.Code)
	}
}

// TestReplacedServerIsUsed checks that a request after a reload uses the new Server, and
// that the old one is forgotten.
func TestReplacedServerIsUsed(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	service := NewTenancies(s.options)
	handler := service.Handler()
	for _, hidden := range []bool{false, true} {
		if hidden {
			options := s.list[0].Server.Options
			options.ShowData = false
			s.list = slices.Clone(s.list)
			s.list[0].Server = New(options)
		}
		want := map[bool]int{false: 200, true: 403}[hidden]
		if w := request(handler, "GET", "/tenancies/acme/streams/okta_users/data", ""); w.Code != want {
			t.Errorf("hidden: %v: %d %s", hidden, w.Code, w.Body)
		}
	}
	if len(service.mounted) != 1 {
		t.Errorf("%d handlers are kept", len(service.mounted))
	}
}

// hrefs finds the links of a page.
var hrefs = regexp.MustCompile(`(?:href|src|data-post|data-part)="([^"]+)"`)

// TestOddNamesOfTenancies follows every link of the pages of tenancies whose names have
// characters with a meaning in URLs, patterns and HTML.
func TestOddNamesOfTenancies(t *testing.T) {
	t.Parallel()
	names := []string{
		"acme.eu", "a b", `Ümläut & Söhne "50%" <i>`, "{tenancy}", "{rest...}", "what?x=1#y", "a;b,c:d@e", "a+b", "%2e%2e", "%2F", "it's", "-", "api", "~$", "日本",
	}
	s := newSeveral(t)
	for _, name := range names {
		s.switchTo(name)
		s.addOkta(time.Hour, "")
	}
	for _, prefix := range []string{"", "/proxy/collectord"} {
		s.options.Prefix, s.options.Token = prefix, "token-of-service"
		handler := NewTenancies(s.options).Handler()
		seen, todo := map[string]bool{}, []string{prefix + "/", prefix + "/?label=fresh"}
		shown := map[string]int{}
		for len(todo) > 0 {
			path := todo[0]
			todo = todo[1:]
			if seen[path] {
				continue
			}
			seen[path] = true
			method := "GET"
			if strings.HasSuffix(path, "/run") || strings.HasSuffix(path, "/retry") || strings.Contains(path, "/deliveries") {
				method = "POST"
			}
			w := request(handler, method, path, "token-of-service")
			if w.Code != 200 && w.Code != 202 {
				t.Errorf("%s %s: %d %.200s", method, path, w.Code, w.Body)
				continue
			}
			if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
				continue
			}
			body := w.Body.String()
			for _, name := range names {
				if strings.Contains(body, `<strong class="tenancy">`+html.EscapeString(name)+"</strong>") ||
					strings.Contains(body, "<strong class=\"tenancy\">"+strings.ReplaceAll(html.EscapeString(name), "+", "&#43;")+"</strong>") {
					shown[name]++
				}
			}
			for _, link := range hrefs.FindAllStringSubmatch(body, -1) {
				target := html.UnescapeString(link[1])
				if strings.HasPrefix(target, "?") {
					continue
				}
				if !strings.HasPrefix(target, prefix+"/") {
					t.Errorf("%s links to %s", path, target)
				}
				todo = append(todo, target)
			}
		}
		for _, name := range names {
			if shown[name] < 3 { // the overview, the stream and the queries
				t.Errorf("with the prefix %q, %q has %d pages", prefix, name, shown[name])
			}
			if started := s.daemons[name].started; len(started) == 0 || started[0] != "okta_users" {
				t.Errorf("with the prefix %q, %q started %q", prefix, name, started)
			}
			s.daemons[name].started = nil
		}
	}
}

// TestOverviewOfTenancies checks the order, the filter and the figures of the overview.
func TestOverviewOfTenancies(t *testing.T) {
	t.Parallel()
	s := newSeveral(t)
	for name, add := range map[string]func(){
		"fresh": func() { s.addOkta(time.Hour, "") },
		"late":  func() { s.addOkta(40*time.Hour, "") },
		"worse": func() {
			s.addOkta(40*time.Hour, "")
			s.addSuccess("okta", "okta_groups", 50*time.Hour, nil, `{}`)
			s.daemon.statuses[0].Streams = append(s.daemon.statuses[0].Streams, s.planOf("okta_groups"))
		},
		"failing": func() { s.addOkta(5*time.Hour, "the vendor refuses "+hostileText) },
		"never":   func() { s.addCollector("okta", 6*time.Hour, "okta_users") },
		"off":     func() { s.addCollector("okta", 0, "okta_users") },
		"restored": func() {
			s.addCollector("okta", 6*time.Hour, "okta_users")
			s.addRestored("okta", "okta_users", time.Hour, `{"id":1}`)
		},
		"reloaded":    func() { s.addOkta(time.Hour, "") },
		"refused":     func() { s.addOkta(time.Hour, ""); s.failDeliveries(state.Refused) },
		"retrying":    func() { s.addOkta(time.Hour, ""); s.failDeliveries(state.Transient) },
		"bad refused": func() { s.addOkta(5*time.Hour, "the vendor refuses"); s.failDeliveries(state.Refused) },
	} {
		s.switchTo(name)
		add()
	}
	s.addUnusable("broken", "broken.env:1: SCHEDULE: wrong")
	for i := range s.list {
		if s.list[i].Name == "reloaded" {
			s.list[i].Err = errors.New("OKTA_ORG: want a URL; the old settings stay in force")
		}
	}
	handler := NewTenancies(s.options).Handler()
	rows := func(query string) (names []string) {
		page := request(handler, "GET", "/"+query, "").Body.String()
		for _, row := range regexp.MustCompile(`<tbody id="t\.([^"]+)"`).FindAllStringSubmatch(page, -1) {
			names = append(names, row[1])
		}
		return names
	}
	if got := strings.Join(rows(""), " "); got != "broken worse late never bad%20refused failing refused retrying restored reloaded fresh off" {
		t.Errorf("the order is %s", got)
	}
	for query, want := range map[string]string{
		"?label=late": "worse late", "?search=LATE": "late", "?search=okta_groups": "worse", "?search=bro": "broken", "?label=late&search=groups": "worse",
		"?search=okta":   "worse late never bad%20refused failing refused retrying restored reloaded fresh off",
		"?label=refused": "bad%20refused refused", "?label=retrying": "retrying", "?search=nothing": "",
	} {
		if got := strings.Join(rows(query), " "); got != want {
			t.Errorf("%s has %q, want %q", query, got, want)
		}
	}
	page := request(handler, "GET", "/", "").Body.String()
	for _, want := range []string{
		`<td id="t.refused.state" data-live><span class="state refused">refused</span></td>`, `<span class="n refused">1 refused</span>, <span class="n fresh">1 fresh</span>`,
		`href="/?label=refused">2 refused</a>`,
		"1 tenancy unusable</span>; streams: ", ">3 late<", "broken.env:1: SCHEDULE: wrong", "The last reload: OKTA_ORG: want a URL", `<span class="n late">2 late</span>`, "form-action",
	} {
		if !strings.Contains(page+request(handler, "GET", "/", "").Header().Get("Content-Security-Policy"), want) {
			t.Errorf("the overview does not have %q", want)
		}
	}
	if strings.Contains(page, `id="s.`) || strings.Contains(page, hostileText) {
		t.Error("the overview has streams without a search, or a text as it is")
	}
	found := request(handler, "GET", "/?label=failing", "").Body.String()
	if !strings.Contains(found, `href="/tenancies/failing/streams/okta_users"`) || !strings.Contains(found, html.EscapeString("the vendor refuses <script>")) || strings.Contains(found, hostileText) {
		t.Errorf("the failing stream is not shown: %s", found)
	}

	w := request(handler, "GET", "/-/data", "")
	if text := w.Body.String(); w.Code != 503 || !strings.Contains(text, "of late, worse; settings cannot be used, of broken") ||
		!strings.Contains(text, `"tenancy":"worse","collector":"okta","stream":"okta_groups"`) {
		t.Errorf("/-/data: %d %s", w.Code, text)
	}
	var list struct{ Tenancies []map[string]any }
	decodeJSON(t, request(handler, "GET", "/api/v1/tenancies", "").Body.String(), &list)
	worse := list.Tenancies[slices.IndexFunc(list.Tenancies, func(one map[string]any) bool { return one["tenancy"] == "worse" })]
	if len(list.Tenancies) != 12 || worse["streams"] != 2.0 || worse["overdue"] != 2.0 || worse["queued_deliveries"] != 1.0 || worse["path"] != "/tenancies/worse" ||
		worse["oldest_data"] != shownAt.Add(-50*time.Hour).Format(time.RFC3339) || worse["next"] != shownAt.Add(2*time.Hour).Format(time.RFC3339) {
		t.Errorf("tenancies: %v", worse)
	}
	for _, one := range list.Tenancies {
		name, _ := one["tenancy"].(string)
		want := map[string]string{"refused": "1 1 0", "bad refused": "1 1 0", "retrying": "1 0 1", "fresh": "1 0 0"}[name]
		if got := fmt.Sprint(one["queued_deliveries"], " ", one["refused_deliveries"], " ", one["retried_deliveries"]); want != "" && got != want {
			t.Errorf("%s has %s queued, refused and retried deliveries, want %s", name, got, want)
		}
	}
	var status struct {
		Streams []struct{ Tenancy, Stream string }
	}
	decodeJSON(t, request(handler, "GET", "/api/v1/status", "").Body.String(), &status)
	if len(status.Streams) != 12 || status.Streams[0].Tenancy != "bad refused" {
		t.Errorf("streams: %v", status.Streams)
	}
}

// failDeliveries records that all queued deliveries of the tenancy have failed.
func (s *several) failDeliveries(class state.Class) {
	s.Helper()
	queue, err := s.state.Queue.List(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, d := range queue {
		if d.Tenancy != s.tenancy {
			continue
		}
		if err := s.state.Queue.ScheduleRetry(s.Context(), d, errors.New("no permission"), class, shownAt.Add(time.Hour)); err != nil {
			s.Fatal(err)
		}
	}
}

// planOf returns the plan of the first stream of the tenancy for another one.
func (s *several) planOf(stream string) schedule.StreamStatus {
	plan := s.daemon.statuses[0].Streams[0]
	plan.Stream = stream
	return plan
}

// TestResponsesOfTenanciesMatchOpenAPI compares the responses at the root of a service with
// several tenancies, and some below one, with openapi.yaml.
func TestResponsesOfTenanciesMatchOpenAPI(t *testing.T) {
	t.Parallel()
	rc := &responseChecker{T: t, doc: loadOpenAPI(t), seen: map[string]bool{}, refuses: []int{401, 403}}
	s := newTwo(t)
	s.options.Tokens, s.options.Queries = readTokens(t, tokensText+queryTokens), s.newQueries()
	s.options.Cluster = newFakeCluster()
	service := NewTenancies(s.options)
	handler := service.Handler()
	for _, r := range service.routes() {
		send := func(token string) *httptest.ResponseRecorder {
			w := request(handler, r.method, examplePath(r), token)
			asked := httptest.NewRequest(r.method, examplePath(r), nil)
			asked.Pattern = r.method + " " + r.path
			rc.checkResponse(asked, w)
			return w
		}
		for _, token := range []string{"token-of-all-run-1", "token-of-acme-read", "token-of-all-query"} {
			w := send(token)
			mayRefuse := r.program && token == "token-of-acme-read" || r.right != "" && !s.options.Tokens.find(token).permits(r.right)
			isMissing := r.path == "/query" && !s.options.Tokens.find(token).permits(QueryRight) && w.Code == 404
			if w.Code != 200 && !(mayRefuse && w.Code == 403) && !(r.path == "/-/data" && w.Code == 503) && !isMissing {
				t.Errorf("%s %s with %s: %d %.200s", r.method, r.path, token, w.Code, w.Body)
			}
		}
		if r.public {
			continue
		}
		if w := send(""); w.Code != 401 {
			t.Errorf("%s %s without a token: %d", r.method, r.path, w.Code)
		}
	}
	for _, name := range []string{"/api/v1/status", "/api/v1/tenancies", "/api/v1/collectors"} {
		w := request(handler, "GET", "/tenancies/acme"+name, "token-of-acme-read")
		var value any
		decodeJSON(t, w.Body.String(), &value)
		if err := rc.doc.Paths.Value(name).Get.Responses.Status(200).Value.Content["application/json"].Schema.Value.VisitJSON(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// cpuTime returns the time of processors that the process has used, also for the garbage.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkOverviewOfTenancies serves the overview of 100 tenancies with 13 streams and 30
// runs each. The goal is 50 ms. On a machine with other work, cpu-ms/page is what counts.
func BenchmarkOverviewOfTenancies(b *testing.B) {
	s := newSeveral(b)
	for i := range 100 {
		s.switchTo(fmt.Sprintf("customer %d", i))
		for j := range 13 {
			collector, stream := fmt.Sprintf("vendor%d", j/4), fmt.Sprintf("vendor%d_stream%d", j/4, j)
			s.addHistory(collector, stream, 30, time.Hour)
			s.addSuccess(collector, stream, time.Hour, []string{"file"}, `{"id":1}`)
			s.addCollector(collector, 6*time.Hour, stream)
		}
	}
	handler := NewTenancies(s.options).Handler()
	for _, path := range []string{"/", "/?label=fresh", "/api/v1/tenancies", "/api/v1/status", "/-/data", "/tenancies/customer%2050/"} {
		b.Run(path, func(b *testing.B) {
			before := cpuTime(b)
			for b.Loop() {
				if w := request(handler, "GET", path, ""); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/page")
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/page")
		})
	}
}
