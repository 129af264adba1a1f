package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// httpGet sends a GET request and returns the status code, the headers and the body.
func httpGet(t testing.TB, address string) (int, http.Header, string) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// TestUIResponses checks the status code and the headers of every path of the status page.
func TestUIResponses(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServer("secret-token")
	for path, want := range map[string]int{
		"/": 200, "/streams/okta_users": 200, "/streams/okta_users/data": 200, "/query": 200, "/assets/style.css": 200, "/assets/page.js": 200,
		"/assets/icon.svg": 200, "/streams/none": 404, "/assets/layout.html": 404, "/assets/none": 404, "/streams/crowdstrike_zta/data": 200,
	} {
		code, header, text := httpGet(t, server.URL+path)
		if code != want {
			t.Errorf("%s: %d, want %d: %.200s", path, code, want, text)
		}
		if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if header.Get("Set-Cookie") != "" || strings.Contains(text, "secret-token") {
			t.Errorf("%s: the response has a cookie or the token", path)
		}
		if strings.Contains(text, " style=") || strings.Contains(text, "onclick") {
			t.Errorf("%s: the response has an inline style or script", path)
		}
	}
}

// TestAssetsAreNotOutdated checks that a browser asks for an asset each time, and receives
// it again only when it has another content.
func TestAssetsAreNotOutdated(t *testing.T) {
	t.Parallel()
	server := newFixture(t).startServer("")
	tags := map[string]bool{}
	for _, name := range []string{"page.js", "query.js", "style.css", "controls.css", "icon.svg"} {
		address := server.URL + "/assets/" + name
		_, header, _ := httpGet(t, address)
		if header.Get("Cache-Control") != "no-cache" || header.Get("ETag") == "" {
			t.Errorf("%s: Cache-Control %q, ETag %q", name, header.Get("Cache-Control"), header.Get("ETag"))
		}
		tags[header.Get("ETag")] = true
		for tag, want := range map[string]int{header.Get("ETag"): http.StatusNotModified, `"other"`: http.StatusOK} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("If-None-Match", tag)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if response.Body.Close(); response.StatusCode != want {
				t.Errorf("%s with the tag %s: status code %d, want %d", name, tag, response.StatusCode, want)
			}
		}
	}
	if len(tags) != 5 {
		t.Errorf("%d different tags of 5 assets", len(tags))
	}
}

// httpPost sends a POST request and returns the status code and the body.
func httpPost(t *testing.T, address, body string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestQueryOverHTTP(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	server := f.startServer("secret-token")
	const sql = `{"sql": "SELECT id FROM okta_users ORDER BY id", "format": "%s"}`
	// headers returns the headers of a JSON request with a token, changed by pairs.
	headers := func(token string, changes ...string) map[string]string {
		h := map[string]string{"Content-Type": "application/json"}
		if token != "" {
			h["Authorization"] = "Bearer " + token
		}
		for i := 0; i < len(changes); i += 2 {
			h[changes[i]] = changes[i+1]
		}
		return h
	}
	for _, c := range []struct {
		body     string
		header   map[string]string
		wantCode int
		wantText string
	}{
		{body: fmt.Sprintf(sql, "csv"), header: headers("secret-token"), wantCode: 200, wantText: "id\n00u1\n00u2\n"},
		{
			body: fmt.Sprintf(sql, "json"), header: headers("secret-token"),
			wantCode: 200, wantText: "[\n{\"id\":\"00u1\"},\n{\"id\":\"00u2\"}\n]\n",
		},
		{body: fmt.Sprintf(sql, "html"), header: headers("secret-token"), wantCode: 200, wantText: "00u2"},
		{body: fmt.Sprintf(sql, "xml"), header: headers("secret-token"), wantCode: 400, wantText: "html, csv, json or parquet"},
		{
			body: `{"sql": "COPY (SELECT 1) TO '/tmp/x'"}`, header: headers("secret-token"),
			wantCode: 400, wantText: "disabled by configuration",
		},
		{body: `{"sql": "DROP TABLE okta_users"}`, header: headers("secret-token"), wantCode: 400, wantText: "error"},
		{body: `nonsense`, header: headers("secret-token"), wantCode: 400, wantText: "send"},
		{body: fmt.Sprintf(sql, "csv"), header: headers(""), wantCode: 401, wantText: "HTTP_TOKEN"},
		{body: fmt.Sprintf(sql, "csv"), header: headers("other"), wantCode: 401, wantText: "HTTP_TOKEN"},
		{
			body: fmt.Sprintf(sql, "csv"), header: headers("secret-token", "Content-Type", "text/plain"),
			wantCode: 415, wantText: "application/json",
		},
		{
			body: fmt.Sprintf(sql, "csv"), header: headers("secret-token", "Sec-Fetch-Site", "cross-site"),
			wantCode: 403, wantText: "another site",
		},
		{
			body: fmt.Sprintf(sql, "csv"), header: headers("secret-token", "Origin", "https://evil.example"),
			wantCode: 403, wantText: "another site",
		},
	} {
		if code, text := httpPost(t, server.URL+"/api/v1/query", c.body, c.header); code != c.wantCode || !strings.Contains(text, c.wantText) {
			t.Errorf("%s %v: %d %s, want %d %s", c.body, c.header, code, text, c.wantCode, c.wantText)
		}
	}
}

// TestSwitchedOff checks a server without a token, queries and data.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	f := newFullFixture(t)
	handler := New(Options{
		State: f.state, Daemon: f.daemon, Tenancy: "acme", Access: Access{Loopback: true}, Metrics: http.NotFoundHandler(),
		Now: func() time.Time { return shownAt },
	}).Handler()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if _, _, text := httpGet(t, server.URL+"/"); strings.Contains(text, "data-post") || strings.Contains(text, `href="/query"`) {
		t.Error("the overview has actions or queries without a token")
	}
	if _, _, text := httpGet(t, server.URL+"/streams/okta_users"); !strings.Contains(text, "HTTP_SHOW_DATA=false") {
		t.Error("the text does not say that data is hidden")
	}
	if code, _, text := httpGet(t, server.URL+"/streams/okta_users/data"); code != 403 || strings.Contains(text, "00u1") {
		t.Errorf("data: %d %s", code, text)
	}
	header := map[string]string{"Content-Type": "application/json"}
	if code, _ := httpPost(t, server.URL+"/api/v1/query", `{"sql":"SELECT 1"}`, header); code != 403 {
		t.Errorf("query: %d", code)
	}
}

// BenchmarkOverview serves an overview of 100 streams with 10,000 runs. The goal is 50 ms.
func BenchmarkOverview(b *testing.B) {
	f := newFixture(b)
	for i := range 10 {
		var names []string
		for j := range 10 {
			name := fmt.Sprintf("vendor%d_stream%d", i, j)
			names = append(names, name)
			f.addHistory(fmt.Sprintf("vendor%d", i), name, 100, 6*time.Hour)
			f.addSuccess(fmt.Sprintf("vendor%d", i), name, time.Hour, []string{"file", "duckdb"}, `{"id":1}`)
		}
		f.addCollector(fmt.Sprintf("vendor%d", i), 6*time.Hour, names...)
	}
	handler := New(Options{
		State: f.state, Daemon: f.daemon, Tenancy: "acme", Access: Access{Loopback: true}, Metrics: http.NotFoundHandler(),
		Now: func() time.Time { return shownAt },
	}).Handler()
	for _, path := range []string{"/", "/streams/vendor3_stream4"} {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/page")
		})
	}
}

func decodeJSON(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
