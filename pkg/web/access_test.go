package web_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/web"
)

func TestAccessTo(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"users": "basic_auth_users:\n  alice: $2y$10$abc\n",
		"tls":   "tls_server_config:\n  cert_file: a\n  key_file: b\n",
		"mtls":  "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n",
		"empty": "",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		address, file string
		open          bool
	}{
		{address: "127.0.0.1:1"}, {address: "127.8.9.10:1"}, {address: "[::1]:1"}, {address: "localhost:1"},
		{address: ":1", open: true}, {address: "0.0.0.0:1", open: true}, {address: "[::]:1", open: true}, {address: "10.0.0.1:1", open: true},
		{address: ":1", file: "users"}, {address: ":1", file: "mtls"}, {address: ":1", file: "tls", open: true}, {address: ":1", file: "empty", open: true},
	} {
		file := ""
		if tc.file != "" {
			file = filepath.Join(dir, tc.file)
		}
		a, err := web.AccessTo(tc.address, file)
		if err != nil || a.Open() != tc.open {
			t.Errorf("%s with %q: %+v, %v, want open: %v", tc.address, tc.file, a, err, tc.open)
		}
	}
	if _, err := web.AccessTo(":1", filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file is no error")
	}
}

// TestHostsOfLoopback checks that a server on loopback responds only to names of this
// machine: a page of another site may let its own name resolve to 127.0.0.1.
func TestHostsOfLoopback(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host  string
		local bool
	}{
		{host: "localhost", local: true}, {host: "LOCALHOST:19610", local: true}, {host: "localhost.:80", local: true}, {host: "a.localhost:80", local: true},
		{host: "127.0.0.1:19610", local: true}, {host: "127.9.9.9", local: true}, {host: "[::1]:19610", local: true}, {host: "[::1]", local: true},
		{host: "proxy.example:443", local: true}, {host: "Proxy.Example", local: true},
		{host: "evil.example:19610"}, {host: "evil.example"}, {host: "localhost.evil.example"}, {host: "127.0.0.1.evil.example"}, {host: "10.0.0.1:80"},
		{host: "0.0.0.0"}, {host: "evil.proxy.example"},
	} {
		t.Run(tc.host, func(t *testing.T) {
			s := startServer(t, noon, func(o *web.Options) { o.Hosts = []string{"proxy.example"} })
			r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/api/v1/status", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = tc.host
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			want := http.StatusMisdirectedRequest
			if tc.local {
				want = http.StatusOK
			}
			if response.StatusCode != want {
				t.Errorf("status %d, want %d", response.StatusCode, want)
			}
		})
	}
}

// TestOpenServerProtectsRecords checks what needs the token where other machines can
// send requests without authentication.
func TestOpenServerProtectsRecords(t *testing.T) {
	t.Parallel()
	open := func(o *web.Options) { o.Access, o.Pprof = web.Access{}, true }
	s := startServer(t, noon, open)
	for _, path := range []string{"/streams/okta_users/data", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
		s.assertResponse(401, "HTTP_TOKEN", "GET", path)
		s.assertResponse(401, "HTTP_TOKEN", "GET", path, "Authorization", "Bearer wrong")
	}
	s.assertResponse(200, "goroutine", "GET", "/debug/pprof/", "Authorization", bearer)
	s.assertResponse(403, "HTTP_SHOW_DATA", "GET", "/streams/okta_users/data", "Authorization", bearer)
	s.assertResponse(200, "", "GET", "/api/v1/status")
	s.assertResponse(200, "m 1", "GET", "/metrics")

	s = startServer(t, noon, func(o *web.Options) { open(o); o.Token = "" })
	s.assertResponse(403, "HTTP_TOKEN is not set", "GET", "/streams/okta_users/data")
	s = startServer(t, noon, func(o *web.Options) { open(o); o.Access.Authenticated = true })
	s.assertResponse(200, "goroutine", "GET", "/debug/pprof/")
}
