package rest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// withStats returns a context with Stats, as an extraction has it.
func withStats() context.Context {
	return collector.WithStats(context.Background(), new(collector.Stats))
}

// TestStrayRefusal: a response 401 to credentials that the vendor accepted
// before in the same extraction is repeated, and is no refusal of the
// credentials if it stays.
func TestStrayRefusal(t *testing.T) {
	refuse := respond(401, `{"statusCode":401}`)
	good := respond(200, `{}`)
	for _, tc := range []struct {
		name     string
		script   *scriptedServer
		once     bool
		requests int
		took     time.Duration
		wantErr  string
		refused  bool
	}{
		{name: "passes at once", script: newScript(good, refuse, good), requests: 3, took: 10 * time.Second},
		{name: "passes after three", script: newScript(good, refuse, refuse, refuse, good), requests: 5, took: time.Minute},
		{name: "passes, request that must not be repeated", script: newScript(good, refuse, good), once: true, requests: 3, took: 10 * time.Second},
		{
			name: "stays", script: newScript(good, refuse), requests: 5, took: time.Minute,
			wantErr: `GET /x (4 attempts): 401 Unauthorized: {"statusCode":401}: the vendor accepted the same credentials before in this run: check VENDOR_TOKEN`,
		},
		{
			name: "never accepted", script: newScript(refuse), requests: 1, refused: true,
			wantErr: `GET /x: 401 Unauthorized: {"statusCode":401}: check VENDOR_TOKEN`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := startInMemory(t, tc.script)
				defer stop()
				c.Auth = Bearer("0123456789abcdef")
				c.Hints = map[int]string{401: "check VENDOR_TOKEN"}
				ctx, began := withStats(), time.Now()
				_, err := c.Get(ctx, Request{Path: "/x", Once: tc.once})
				if err == nil {
					_, err = c.Get(ctx, Request{Path: "/x", Once: tc.once})
				}
				if tc.wantErr == "" && err != nil {
					t.Error(err)
				} else if tc.wantErr != "" {
					assertError(t, err, tc.wantErr)
				}
				if errors.Is(err, collector.ErrRefused) != tc.refused {
					t.Errorf("%v: ErrRefused is %v", err, !tc.refused)
				}
				if took := time.Since(began); len(tc.script.requests()) != tc.requests || took != tc.took {
					t.Errorf("%d requests in %v, want %d in %v", len(tc.script.requests()), took, tc.requests, tc.took)
				}
			})
		})
	}
}

// TestTokenExpiresTwiceInOneRequest: a request that waits for a rate limit
// renews its token as often as the token expires.
func TestTokenExpiresTwiceInOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{}
		n := 0
		c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				n++
			}
			if n == 3 && r.URL.Path == "/x" {
				a.revoke() // the new token expires during the wait
				respond(429, "", "Retry-After", "600")(w, r)
				return
			}
			a.ServeHTTP(w, r)
		}))
		defer stop()
		tokens := *c
		c.Auth = &ClientCredentials{Client: &tokens, Path: "/oauth2/token"}
		if err := getPath(c, "/x"); err != nil {
			t.Fatal(err)
		}
		a.revoke()
		if err := getPath(c, "/x"); err != nil {
			t.Error(err)
		}
		if asked, _ := a.counts(); asked != 3 || n != 5 {
			t.Errorf("%d token requests and %d others, want 3 and 5", asked, n)
		}
	})
}

// TestFreshTokenIsRefused: if a token that was just renewed is also refused, the
// request waits, without more tokens.
func TestFreshTokenIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{}
		c, _, stop := startTokenServer(t, a)
		defer stop()
		ctx, began := withStats(), time.Now()
		if _, err := c.Get(ctx, Request{Path: "/x"}); err != nil {
			t.Fatal(err)
		}
		_, err := c.Get(ctx, Request{Path: "/refused"})
		assertError(t, err, "GET /refused (5 attempts): 401 Unauthorized: token is not valid")
		if errors.Is(err, collector.ErrRefused) {
			t.Errorf("%v is ErrRefused", err)
		}
		if asked, requests := a.counts(); asked != 2 || requests != 6 || time.Since(began) != time.Minute {
			t.Errorf("%d token requests, %d others in %v, want 2 and 6 in 1m", asked, requests, time.Since(began))
		}
	})
}

// TestRefusalsOfAProxy: an HTML page with 401 or 403, and any 407, is not the
// vendor's word about the credentials.
func TestRefusalsOfAProxy(t *testing.T) {
	const page, hint = "<!DOCTYPE html><title>Blocked</title>", "the page is not a response of the vendor's API, it is from a proxy or firewall: check HTTPS_PROXY and the address"
	html := []string{"Content-Type", "text/html; charset=utf-8"}
	for _, tc := range []struct {
		name    string
		fault   http.HandlerFunc
		wantErr string // if the fault stays
		final   error  // the class of an error that the vendor itself sent
	}{
		{name: "403 page", fault: respond(403, page), wantErr: `403 Forbidden: (an HTML page with the title "Blocked"): ` + hint},
		{name: "401 page", fault: respond(401, "\n<HTML><body>no</body></HTML>"), wantErr: "401 Unauthorized: (an HTML page): " + hint},
		{name: "403 page by its type", fault: respond(403, "<h1>no</h1>", html...), wantErr: "403 Forbidden: (an HTML page): the page"},
		{name: "407", fault: respond(407, "who are you?"), wantErr: "407 Proxy Authentication Required: who are you?: a proxy or firewall refused the request: check HTTPS_PROXY, its user and password"},
		{name: "403 XML", fault: respond(403, `<?xml version="1.0"?><error/>`), wantErr: "check the scope", final: collector.ErrForbidden},
		{name: "403 text of type HTML", fault: respond(403, "no", html...), wantErr: "check the scope", final: collector.ErrForbidden},
		{name: "401 JSON", fault: respond(401, "{}"), wantErr: "check the token", final: collector.ErrRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := func(s *scriptedServer) *Client {
				c := startServer(t, s)
				c.Hints = map[int]string{401: "check the token", 403: "check the scope"}
				c.Classify = func(s *StatusError, usual Verdict) Verdict {
					if s.Status == 403 { // as a vendor may say it of its token endpoint
						return Fatal
					}
					return usual
				}
				c.Auth = Bearer("0123456789abcdef")
				return c
			}
			s := newScript(tc.fault)
			_, err := start(s).Get(context.Background(), Request{Path: "/x"})
			assertError(t, err, tc.wantErr)
			if tc.final != nil {
				if n := len(s.requests()); n != 1 || !errors.Is(err, tc.final) {
					t.Errorf("%v after %d requests, want %v after 1", err, n, tc.final)
				}
				return
			}
			if n := len(s.requests()); n != 4 || errors.Is(err, collector.ErrRefused) || errors.Is(err, collector.ErrForbidden) {
				t.Errorf("%v after %d requests, want no class after 4", err, n)
			}
			if strings.Contains(err.Error(), "check the") && strings.Contains(err.Error(), "scope") {
				t.Errorf("the error blames the permission: %v", err)
			}
			s = newScript(tc.fault, tc.fault, respond(200, "{}"))
			if _, err := start(s).Get(context.Background(), Request{Path: "/x"}); err != nil || len(s.requests()) != 3 {
				t.Errorf("%v after %d requests, want none after 3", err, len(s.requests()))
			}
		})
	}
}

// TestProxyRefuses: the error names the proxy if it refuses a request or a
// connection.
func TestProxyRefuses(t *testing.T) {
	var requests atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		respond(407, "no user")(w, r)
	}))
	defer proxy.Close()
	host := strings.TrimPrefix(proxy.URL, "http://")
	for _, tc := range []struct{ name, address, want string }{
		{
			name: "request", address: "http://vendor.test",
			want: "407 Proxy Authentication Required: no user: the proxy " + host + " refused the request: check HTTPS_PROXY, its user and password",
		},
		{
			name: "connection", address: "https://vendor.test",
			want: "the proxy " + host + " refused the connection: 407 Proxy Authentication Required: check HTTPS_PROXY, its user and password, and that the proxy allows this host",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requests.Store(0)
			setting := strings.Replace(proxy.URL, "http://", "http://user:pa55word@", 1)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), asChild+"="+tc.address, "HTTP_PROXY="+setting, "http_proxy="+setting,
				"HTTPS_PROXY="+setting, "https_proxy="+setting, "NO_PROXY=", "no_proxy=")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tc.want) || strings.Contains(string(out), "pa55word") {
				t.Errorf("%v: %s, want %s", err, out, tc.want)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

// TestNameIsUnknownOnce: a name that was resolved in the same extraction is
// looked up again.
func TestNameIsUnknownOnce(t *testing.T) {
	unknown := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "api.vendor.test", IsNotFound: true}}
	for _, tc := range []struct {
		name      string
		failures  int32 // of the dials after the first good response
		dials     int32
		wantError string
	}{
		{name: "once", failures: 1, dials: 2},
		{name: "always", failures: 100, dials: 4, wantError: "dial tcp: lookup api.vendor.test: no such host: the name cannot be resolved"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startServer(t, respond(200, `{}`))
			ctx := withStats()
			if _, err := c.Get(ctx, Request{Path: "/x"}); err != nil {
				t.Fatal(err)
			}
			c.HTTP.CloseIdleConnections()
			var dials atomic.Int32
			transport := c.HTTP.Transport.(*http.Transport)
			dial := transport.DialContext
			transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if dials.Add(1) <= tc.failures {
					return nil, unknown
				}
				return dial(ctx, network, address)
			}
			_, err := c.Get(ctx, Request{Path: "/x"})
			if tc.wantError != "" {
				assertError(t, err, tc.wantError)
			} else if err != nil {
				t.Error(err)
			}
			if dials.Load() != tc.dials {
				t.Errorf("%d lookups, want %d", dials.Load(), tc.dials)
			}
		})
	}
}

// TestOnceHoldsForGET: net/http does not repeat a GET request with Once on a
// reused connection that ends before the response, and a redirect is followed.
func TestOnceHoldsForGET(t *testing.T) {
	var requests atomic.Int32
	c := startServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); len(body) > 0 || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
			t.Errorf("the request has a body: %q, %d, %v", body, r.ContentLength, r.TransferEncoding)
		}
		switch requests.Add(1) {
		case 1:
			http.Redirect(w, r, "/scroll", http.StatusPermanentRedirect)
		case 3:
			respondRaw("", false)(w, r)
		default:
			respond(200, "{}")(w, r)
		}
	}))
	if _, err := c.Get(context.Background(), Request{Path: "/old", Once: true}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Get(context.Background(), Request{Path: "/scroll", Once: true})
	assertError(t, err, "GET /scroll: network: ")
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}
