package web

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// queryTokens are further tokens with the right to query.
const queryTokens = `
- {name: analyst, token: token-of-all-query, tenancies: "*", rights: [read, query]}
- {name: two, token: token-of-two-query, tenancies: [acme, umbrella, nothere1], rights: [read, query]}
- {name: nothing, token: token-of-no-tenancy, tenancies: [nothere1], rights: [read, query]}
`

// postQuery sends a query in CSV with a token to the root of a service.
func postQuery(handler http.Handler, sql, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "http://localhost/api/v1/query", strings.NewReader(`{"format":"csv","sql":"`+sql+`"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// TestQueriesOverTenancies checks which tenancies' data, names and errors a query at the root
// shows to each token.
func TestQueriesOverTenancies(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens, s.options.Token, s.options.Queries = readTokens(t, tokensText+queryTokens), "token-of-service", s.newQueries()
	handler := NewTenancies(s.options).Handler()
	const sql = "SELECT _tenancy, id FROM okta_users ORDER BY ALL"
	const acme, both = "_tenancy,id\nacme,user of acme\n", "_tenancy,id\nacme,user of acme\numbrella,user of umbrella\n"
	for _, tc := range []struct {
		token  string
		status int
		want   string
	}{
		{"token-of-acme-all-1", 200, acme},
		{"token-of-two-query", 200, both},
		{"token-of-all-query", 200, both},
		{"token-of-service", 200, both},
		{"token-of-acme-read", 403, "does not have the right to query"},
		{"token-of-all-run-1", 403, "does not have the right to query"},
		{"token-of-no-tenancy", 403, noVisibleTenancy},
		{"token-of-no-one-12", 401, "this needs a token of HTTP_TOKENS_FILE"},
	} {
		w := postQuery(handler, sql, tc.token)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) || w.Code == 200 && w.Body.String() != tc.want {
			t.Errorf("%s: %d %s, want %d %s", tc.token, w.Code, w.Body, tc.status, tc.want)
		}
	}
	for token, want := range map[string]string{"token-of-acme-all-1": "1 record<", "token-of-two-query": "2 records<"} {
		if page := request(handler, "GET", "/query", token).Body.String(); !strings.Contains(page, ">okta_users</button> <span class=\"dim\">"+want) {
			t.Errorf("the form with %s: %s", token, page)
		}
	}
	if page := request(handler, "GET", "/", "token-of-acme-all-1").Body.String(); !strings.Contains(page, `href="/query"`) {
		t.Errorf("the overview has no link to the queries: %s", page)
	}
	if page := request(handler, "GET", "/", "token-of-acme-read").Body.String(); strings.Contains(page, `href="/query"`) {
		t.Errorf("the overview has a link to the queries without the right: %s", page)
	}

	// What is damaged is named to those alone who see its tenancy.
	files, err := filepath.Glob(filepath.Join(s.state.Dir(), "snapshots", "okta_users", "umbrella", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the snapshots of umbrella: %q, %v", files, err)
	}
	if err := os.RemoveAll(files[0]); err != nil {
		t.Fatal(err)
	}
	if w := postQuery(handler, sql, "token-of-all-query"); w.Code == 200 || !strings.Contains(w.Body.String(), "tenancy umbrella") {
		t.Errorf("a damaged snapshot: %d %s", w.Code, w.Body)
	}
	if w := postQuery(handler, sql, "token-of-acme-all-1"); w.Code != 200 || w.Body.String() != acme {
		t.Errorf("while the snapshot of another tenancy is damaged: %d %s", w.Code, w.Body)
	}
	w := postQuery(handler, "SELECT umbrella FROM okta_users, wayne", "token-of-acme-all-1")
	if text := strings.ReplaceAll(w.Body.String(), "SELECT umbrella FROM okta_users, wayne", ""); w.Code != 400 || strings.Contains(text, s.state.Dir()) {
		t.Errorf("a table that does not exist: %d %s", w.Code, w.Body)
	}
}

// TestQueriesWithoutTokensFile checks that HTTP_TOKEN is needed, and that queries may be off.
func TestQueriesWithoutTokensFile(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Token = "token-of-service"
	if w := postQuery(NewTenancies(s.options).Handler(), "SELECT 1", "token-of-service"); w.Code != 403 || !strings.Contains(w.Body.String(), "queries over HTTP are off") {
		t.Errorf("while queries are off: %d %s", w.Code, w.Body)
	}
	s.options.Queries = s.newQueries()
	handler := NewTenancies(s.options).Handler()
	for token, want := range map[string]int{"": 401, "token-of-acme-all-1": 401, "token-of-service": 200} {
		if w := postQuery(handler, "SELECT DISTINCT _tenancy FROM okta_users ORDER BY 1", token); w.Code != want || want == 200 && w.Body.String() != "_tenancy\nacme\numbrella\n" {
			t.Errorf("%q: %d %s, want %d", token, w.Code, w.Body, want)
		}
	}
	if page := request(handler, "GET", "/query", ""); page.Code != 200 || !strings.Contains(page.Body.String(), `id="token"`) || !strings.Contains(page.Body.String(), "the rows of all tenancies") {
		t.Errorf("the form: %d %s", page.Code, page.Body)
	}
}

// TestQueriesOfOneTenancyHaveItsBound checks that a token of one tenancy has no further queries
// at the root.
func TestQueriesOfOneTenancyHaveItsBound(t *testing.T) {
	t.Parallel()
	s := newTwo(t)
	s.options.Tokens, s.options.Queries = readTokens(t, tokensText+queryTokens), s.newQueries()
	service := NewTenancies(s.options)
	engineOf := func(token string) any {
		r := httptest.NewRequest("POST", "/api/v1/query", nil)
		r.Header.Set(tokenHeader, token)
		var found any
		service.identify(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { found = service.engineFor(r.Context()) })).ServeHTTP(httptest.NewRecorder(), r)
		return found
	}
	if engineOf("token-of-acme-all-1") != any(s.list[0].Server.Queries) {
		t.Error("a token of acme has another engine than that of acme")
	}
	if engineOf("token-of-two-query") == any(s.list[0].Server.Queries) {
		t.Error("a token of two tenancies has the engine of one")
	}
}
