package web

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func get(t testing.TB, address string) (int, http.Header, string) {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

func TestPagesByHand(t *testing.T) {
	t.Parallel()
	s := everyState(t)
	server := s.server("secret-token")
	for path, want := range map[string]int{
		"/": 200, "/streams/okta_users": 200, "/streams/okta_users/data": 200, "/query": 200, "/assets/style.css": 200, "/assets/page.js": 200,
		"/assets/icon.svg": 200, "/streams/none": 404, "/assets/layout.html": 404, "/assets/none": 404, "/streams/crowdstrike_zta/data": 200,
	} {
		code, header, text := get(t, server.URL+path)
		if code != want {
			t.Errorf("%s: %d, want %d: %.200s", path, code, want, text)
		}
		if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if header.Get("Set-Cookie") != "" || strings.Contains(text, "secret-token") {
			t.Errorf("%s: a cookie or the token", path)
		}
		if strings.Contains(text, " style=") || strings.Contains(text, "onclick") {
			t.Errorf("%s: inline style or script", path)
		}
	}
}

func post(t *testing.T, address, body string, header map[string]string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestQueryOverHTTP(t *testing.T) {
	t.Parallel()
	s := everyState(t)
	server := s.server("secret-token")
	const sql = `{"sql": "SELECT id FROM okta_users ORDER BY id", "format": "%s"}`
	known := map[string]string{"Authorization": "Bearer secret-token", "Content-Type": "application/json"}
	for _, c := range []struct {
		body   string
		header map[string]string
		code   int
		want   string
	}{
		{fmt.Sprintf(sql, "csv"), known, 200, "id\n00u1\n00u2\n"},
		{fmt.Sprintf(sql, "json"), known, 200, "[\n{\"id\":\"00u1\"},\n{\"id\":\"00u2\"}\n]\n"},
		{fmt.Sprintf(sql, "html"), known, 200, "00u2"},
		{fmt.Sprintf(sql, "xml"), known, 400, "html, csv or json"},
		{`{"sql": "COPY (SELECT 1) TO '/tmp/x'"}`, known, 400, "disabled by configuration"},
		{`{"sql": "DROP TABLE okta_users"}`, known, 400, "error"},
		{`nonsense`, known, 400, "send"},
		{fmt.Sprintf(sql, "csv"), map[string]string{"Content-Type": "application/json"}, 401, "HTTP_TOKEN"},
		{fmt.Sprintf(sql, "csv"), map[string]string{"Authorization": "Bearer other", "Content-Type": "application/json"}, 401, "HTTP_TOKEN"},
		{fmt.Sprintf(sql, "csv"), map[string]string{"Authorization": "Bearer secret-token", "Content-Type": "text/plain"}, 415, "application/json"},
		{fmt.Sprintf(sql, "csv"), map[string]string{"Authorization": "Bearer secret-token", "Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403, "another site"},
		{fmt.Sprintf(sql, "csv"), map[string]string{"Authorization": "Bearer secret-token", "Content-Type": "application/json", "Origin": "https://evil.example"}, 403, "another site"},
	} {
		if code, text := post(t, server.URL+"/api/v1/query", c.body, c.header); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s %v: %d %s, want %d %s", c.body, c.header, code, text, c.code, c.want)
		}
	}
}

// TestSwitchedOff has neither a token nor queries nor data.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	s := everyState(t)
	handler := New(Options{State: s.state, Daemon: s.d, Tenancy: "acme", Metrics: http.NotFoundHandler(), Now: func() time.Time { return pageNow }}).Handler()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if _, _, text := get(t, server.URL+"/"); strings.Contains(text, "data-post") || strings.Contains(text, `href="/query"`) {
		t.Error("actions or the query without a token")
	}
	if _, _, text := get(t, server.URL+"/streams/okta_users"); !strings.Contains(text, "HTTP_SHOW_DATA=false") {
		t.Error("the data are not said to be off")
	}
	if code, _, text := get(t, server.URL+"/streams/okta_users/data"); code != 403 || strings.Contains(text, "00u1") {
		t.Errorf("data: %d %s", code, text)
	}
	if code, _ := post(t, server.URL+"/api/v1/query", `{"sql":"SELECT 1"}`, map[string]string{"Content-Type": "application/json"}); code != 403 {
		t.Errorf("query: %d", code)
	}
}

// BenchmarkOverview is 100 streams with 10,000 runs; the aim is 50 ms.
func BenchmarkOverview(b *testing.B) {
	s := newScene(b)
	for i := range 10 {
		var names []string
		for j := range 10 {
			name := fmt.Sprintf("vendor%d_stream%d", i, j)
			names = append(names, name)
			s.history(fmt.Sprintf("vendor%d", i), name, 100, 6*time.Hour)
			s.collected(fmt.Sprintf("vendor%d", i), name, time.Hour, []string{"file", "duckdb"}, `{"id":1}`)
		}
		s.on(fmt.Sprintf("vendor%d", i), 6*time.Hour, names...)
	}
	handler := New(Options{State: s.state, Daemon: s.d, Tenancy: "acme", Metrics: http.NotFoundHandler(), Now: func() time.Time { return pageNow }}).Handler()
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
