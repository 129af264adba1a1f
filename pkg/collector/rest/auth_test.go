package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// tokenServer is a vendor with a token endpoint. It serves requests that have
// its latest token.
type tokenServer struct {
	mu       sync.Mutex
	life     string        // the member expires_in of a token response
	slow     time.Duration // how long a token request takes
	status   int           // of the token response
	fail     http.HandlerFunc
	issued   int
	asked    int // token requests
	requests int // other requests
	forms    []url.Values
	sent     []sentToken
	extra    string // more members of a token response
}

// sentToken is what a token request contained.
type sentToken struct{ authorization, contentType, body string }

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth2/token" {
		s.token(w, r)
		return
	}
	s.mu.Lock()
	s.requests++
	good := r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", s.issued)
	s.mu.Unlock()
	switch {
	case r.URL.Path == "/forbidden":
		respond(403, "scope missing")(w, r)
	case r.URL.Path == "/refused" || !good:
		respond(401, "token is not valid")(w, r)
	default:
		respond(200, "{}")(w, r)
	}
}

func (s *tokenServer) token(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	_ = r.ParseForm()
	s.mu.Lock()
	s.asked++
	s.sent = append(s.sent, sentToken{r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body)})
	s.forms = append(s.forms, r.PostForm)
	slow, fail := s.slow, s.fail
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return
	}
	if fail != nil {
		fail(w, r)
		return
	}
	s.mu.Lock()
	s.issued++
	text := fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer"%s%s}`, s.issued, s.life, s.extra)
	s.mu.Unlock()
	respond(max(200, s.status), text, "X-Region", "eu-1")(w, r)
}

// revoke invalidates the tokens issued so far.
func (s *tokenServer) revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued += 100
}

func (s *tokenServer) counts() (asked, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.requests
}

// startTokenServer returns a client of a, for a test with a fake clock.
func startTokenServer(t *testing.T, a *tokenServer) (*Client, *ClientCredentials, func()) {
	c, stop := startInMemory(t, a)
	tokens := *c
	auth := &ClientCredentials{Client: &tokens, Path: "/oauth2/token", Params: url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"s3cr3t/+ value"},
	}}
	c.Auth = auth
	return c, auth, stop
}

func getPath(c *Client, path string) error {
	_, err := c.Get(context.Background(), Request{Path: path})
	return err
}

// runConcurrently makes n requests at once and returns their errors.
func runConcurrently(n int, ask func() error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = ask() })
	}
	all.Wait()
	return errs
}

func TestTokenIsFetchedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{slow: 3 * time.Second, status: 201, life: `,"expires_in":3600`}
		c, auth, stop := startTokenServer(t, a)
		defer stop()
		var region string
		auth.Base = func(r TokenResponse) (*url.URL, error) {
			region = r.Header.Get("X-Region")
			return nil, nil
		}
		// A shared limiter with one slot must not block the request for the token.
		c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 1}})
		auth.Client.Limits = c.Limits
		for _, err := range runConcurrently(30, func() error { return getPath(c, "/x") }) {
			if err != nil {
				t.Error(err)
			}
		}
		if asked, requests := a.counts(); asked != 1 || requests != 30 || region != "eu-1" {
			t.Errorf("%d token requests, %d others, region %q", asked, requests, region)
		}
		if f := a.forms[0]; f.Get("client_secret") != "s3cr3t/+ value" || f.Get("grant_type") != "client_credentials" {
			t.Errorf("form %v", f)
		}
	})
}

func TestTokenIsRenewedBeforeItExpires(t *testing.T) {
	for _, f := range []struct {
		life string
		want time.Duration // 0: never
	}{
		{life: `,"expires_in":3600`, want: 55 * time.Minute},
		{life: `,"expires_in":"3600"`, want: 55 * time.Minute},
		{life: `,"expires_in":1000`, want: 800 * time.Second},
		{life: `,"expires_in":60`, want: 48 * time.Second},
		{life: `,"expires_in":1e300`, want: 365*24*time.Hour - 5*time.Minute},
		{life: `,"expires_in":0`},
		{life: `,"expires_in":-5`},
		{life: `,"expires_in":null`},
		{life: ``},
	} {
		t.Run(f.life, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &tokenServer{life: f.life}
				c, _, stop := startTokenServer(t, a)
				defer stop()
				check := func(want int) {
					t.Helper()
					if err := getPath(c, "/x"); err != nil {
						t.Fatal(err)
					}
					if asked, _ := a.counts(); asked != want {
						t.Errorf("%d token requests, want %d", asked, want)
					}
				}
				check(1)
				if f.want == 0 {
					time.Sleep(1000 * time.Hour)
					check(1)
					return
				}
				time.Sleep(f.want - time.Second)
				check(1)
				time.Sleep(time.Second)
				check(2)
			})
		})
	}
}

// TestTokenOfNoLife: a token that expires at once is used once and not fetched
// forever.
func TestTokenOfNoLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{life: `,"expires_in":0.000000002`}
		c, _, stop := startTokenServer(t, a)
		defer stop()
		if err := getPath(c, "/x"); err != nil {
			t.Error(err)
		}
		if asked, _ := a.counts(); asked != 1 {
			t.Errorf("%d token requests", asked)
		}
	})
}

func TestRevokedTokenIsRenewedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{slow: time.Second}
		c, _, stop := startTokenServer(t, a)
		defer stop()
		if err := getPath(c, "/x"); err != nil {
			t.Fatal(err)
		}
		a.revoke()
		for _, err := range runConcurrently(20, func() error { return getPath(c, "/x") }) {
			if err != nil {
				t.Error(err)
			}
		}
		if asked, requests := a.counts(); asked != 2 || requests > 1+40 {
			t.Errorf("%d token requests, %d others", asked, requests)
		}
	})
}

func TestRefusalsEndQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{}
		c, _, stop := startTokenServer(t, a)
		defer stop()
		c.Hints = map[int]string{401: "check CLIENT_SECRET", 403: "grant the scope users:read"}
		start := time.Now()
		err := getPath(c, "/refused")
		assertError(t, err, "GET /refused (2 attempts): 401 Unauthorized: token is not valid: check CLIENT_SECRET")
		if asked, requests := a.counts(); asked != 2 || requests != 2 || !errors.Is(err, collector.ErrRefused) {
			t.Errorf("%v: %d token requests, %d others", err, asked, requests)
		}
		err = getPath(c, "/forbidden")
		assertError(t, err, "GET /forbidden: 403 Forbidden: scope missing: grant the scope users:read")
		if asked, requests := a.counts(); asked != 2 || requests != 3 || !errors.Is(err, collector.ErrForbidden) {
			t.Errorf("%v: %d token requests, %d others", err, asked, requests)
		}
		if time.Since(start) > 0 {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

// TestTokenEndpointFails: if the token endpoint fails, all waiting requests fail
// after one set of attempts.
func TestTokenEndpointFails(t *testing.T) {
	for _, f := range []struct {
		name  string
		fail  http.HandlerFunc
		asked int
		want  string
		class error
	}{
		{name: "500", fail: respond(500, "oops"), asked: 5, want: "500 Internal Server Error: oops"},
		{
			name: "401", fail: respond(401, `{"error":"invalid_client"}`), asked: 1,
			want:  `GET /x: token: POST /oauth2/token: 401 Unauthorized: {"error":"invalid_client"}: check CLIENT_SECRET`,
			class: collector.ErrRefused,
		},
		{name: "403", fail: respond(403, ""), asked: 1, want: "GET /x: token: POST /oauth2/token: 403 Forbidden", class: collector.ErrForbidden},
		{name: "no token", fail: respond(200, `{"token_type":"bearer"}`), asked: 5, want: "access_token is missing"},
		{name: "HTML", fail: respond(200, `<html>`), asked: 5, want: "token: body is an HTML page, want JSON: it may be from a proxy or firewall: check HTTPS_PROXY"},
		{name: "empty", fail: respond(200, ""), asked: 5, want: "token: body is empty, want JSON"},
		{name: "text", fail: respond(200, "OK"), asked: 5, want: "token: body is not a JSON object with access_token"},
		{name: "cut", fail: respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"acc", false), asked: 5, want: "unexpected EOF"},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &tokenServer{fail: f.fail, slow: time.Second}
				c, auth, stop := startTokenServer(t, a)
				defer stop()
				auth.Client.Hints = map[int]string{401: "check CLIENT_SECRET"}
				for _, err := range runConcurrently(20, func() error { return getPath(c, "/x") }) {
					assertError(t, err, f.want)
					if f.class != nil && !errors.Is(err, f.class) {
						t.Errorf("%v is not %v", err, f.class)
					}
				}
				asked, requests := a.counts()
				if asked < f.asked || f.asked == 1 && asked > 1 || asked > 9 || requests != 0 { // the waits are random
					t.Errorf("%d token requests, want %d or a few more; %d others", asked, f.asked, requests)
				}
			})
		})
	}
}

// TestWaitingForATokenEnds: a request that waits for another's token request can
// be canceled, and is not canceled with it.
func TestWaitingForATokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{slow: time.Minute}
		c, _, stop := startTokenServer(t, a)
		defer stop()
		canceled := errors.New("stream canceled")
		leader, cancelLeader := context.WithCancelCause(context.Background())
		time.AfterFunc(20*time.Second, func() { cancelLeader(canceled) })
		waiter, cancelWaiter := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancelWaiter()
		start := time.Now()
		var all sync.WaitGroup
		ask := func(ctx context.Context, after time.Duration, want error, at time.Duration) {
			all.Go(func() {
				time.Sleep(after)
				_, err := c.Get(ctx, Request{Path: "/x"})
				if !errors.Is(err, want) || time.Since(start) != at {
					t.Errorf("%v at %v, want %v at %v", err, time.Since(start), want, at)
				}
			})
		}
		ask(leader, 0, canceled, 20*time.Second)
		ask(waiter, time.Second, context.DeadlineExceeded, 10*time.Second)
		ask(context.Background(), time.Second, nil, 80*time.Second)
		ask(context.Background(), time.Second, nil, 80*time.Second)
		all.Wait()
		if asked, _ := a.counts(); asked != 2 {
			t.Errorf("%d token requests", asked)
		}
	})
}

func TestCredentialThatIsNoHeader(t *testing.T) {
	s := newScript(respond(200, "{}"))
	c := startServer(t, s)
	c.Auth = Bearer("secret-with-newline\n")
	err := getPath(c, "/x")
	assertError(t, err, "GET /x: header Authorization: the value has a line break", "check the credential")
	if len(s.requests()) != 0 {
		t.Error("the request was sent")
	}
}

func TestTokenEncodings(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, tc := range []struct {
		name     string
		encoding TokenEncoding
		more     url.Values
		want     sentToken
	}{
		{
			name: "form", encoding: TokenForm, more: url.Values{"scope": {"https://api.test/.default"}},
			want: sentToken{contentType: form, body: "client_id=id&client_secret=s3cr3t%2F%2B+value&grant_type=client_credentials&scope=https%3A%2F%2Fapi.test%2F.default"},
		},
		{
			name: "basic", encoding: TokenBasic, more: url.Values{"audience": {"api"}},
			// id:s3cr3t%2F%2B+value
			want: sentToken{authorization: "Basic aWQ6czNjcjN0JTJGJTJCK3ZhbHVl", contentType: form, body: "audience=api&grant_type=client_credentials"},
		},
		{
			name: "JSON", encoding: TokenJSON,
			want: sentToken{contentType: "application/json", body: `{"client_id":"id","client_secret":"s3cr3t/+ value","grant_type":"client_credentials"}`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &tokenServer{}
				c, auth, stop := startTokenServer(t, a)
				defer stop()
				auth.Encoding = tc.encoding
				for name, values := range tc.more {
					auth.Params[name] = values
				}
				if err := getPath(c, "/x"); err != nil {
					t.Fatal(err)
				}
				if got := a.sent[0]; got != tc.want {
					t.Errorf("sent %+v\nwant %+v", got, tc.want)
				}
			})
		})
	}
}

// TestTokenErrorsHideTheCredentials: a vendor that repeats the token request in its
// refusal does not bring the secret into an error.
func TestTokenErrorsHideTheCredentials(t *testing.T) {
	for _, encoding := range []TokenEncoding{TokenForm, TokenBasic, TokenJSON} {
		synctest.Test(t, func(t *testing.T) {
			a := &tokenServer{}
			a.fail = func(w http.ResponseWriter, r *http.Request) {
				a.mu.Lock()
				sent := a.sent[len(a.sent)-1]
				a.mu.Unlock()
				respond(400, sent.authorization+" "+sent.body)(w, r)
			}
			c, auth, stop := startTokenServer(t, a)
			defer stop()
			auth.Encoding, auth.Client.Classify = encoding, ClassifyToken
			err := getPath(c, "/x")
			if !errors.Is(err, collector.ErrRefused) {
				t.Errorf("error %v, want that the credentials are refused", err)
			}
			for _, secret := range []string{"s3cr3t", "czNjcjN0"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows %q: %v", secret, err)
				}
			}
		})
	}
}

// TestBaseOfTheToken: requests are sent to the address that the token response names,
// also those to a next page on that address.
func TestBaseOfTheToken(t *testing.T) {
	learn := func(r TokenResponse) (*url.URL, error) { return url.Parse(TextOf(Member(r.Body, "instance_url"))) }
	for _, tc := range []struct {
		name, instance string
		learn          func(TokenResponse) (*url.URL, error)
		want           string // of the host that the requests reach; "" if they fail
		wantErr        string
	}{
		{name: "another host", instance: "http://other.test", learn: learn, want: "other.test"},
		{name: "none", instance: "http://other.test", want: "vendor.test"},
		{name: "no address", instance: "nowhere", learn: learn, wantErr: `GET /x: token: POST /oauth2/token: the token response names the address "nowhere"`},
		{name: "another scheme", instance: "ftp://other.test", learn: learn, wantErr: "want one that begins with https://"},
		{name: "refused by the collector", learn: func(TokenResponse) (*url.URL, error) { return nil, errors.New("no instance of this account") },
			wantErr: "GET /x: token: POST /oauth2/token: no instance of this account"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &tokenServer{extra: fmt.Sprintf(`,"instance_url":%q`, tc.instance)}
				c, auth, stop := startTokenServer(t, a)
				defer stop()
				base := *c.Base
				base.Host = "vendor.test"
				c.Base, auth.Client.Base, auth.Base = &base, &base, tc.learn
				reached := &hostRecorder{next: c.HTTP.Transport}
				c.HTTP = &http.Client{Transport: reached}
				err := getPath(c, "/x")
				if tc.wantErr != "" {
					assertError(t, err, tc.wantErr)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if reached.last != tc.want {
					t.Errorf("the request reached %s, want %s", reached.last, tc.want)
				}
				if err := getPath(c, "http://"+tc.want+"/next"); err != nil {
					t.Errorf("next page on the same host: %v", err)
				}
				if err := getPath(c, "http://elsewhere.test/next"); err == nil {
					t.Error("a next page on another host was requested")
				}
			})
		})
	}
}

// hostRecorder records the host of the last request.
type hostRecorder struct {
	next http.RoundTripper
	last string
}

func (h *hostRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	h.last = req.URL.Host
	return h.next.RoundTrip(req)
}

// TestSharedConnections: the clients of a process use one pool of connections.
func TestSharedConnections(t *testing.T) {
	var shared collector.Shared
	one, other, alone := NewHTTP(&shared), NewHTTP(&shared), NewHTTP(nil)
	if one.Transport != other.Transport {
		t.Error("clients with the same Shared have different pools")
	}
	if one.Transport == alone.Transport {
		t.Error("without Shared the client has the pool of others")
	}
}

// TestSharedCredentials: clients with the same credentials have one token and one
// limiter; those of another scope or a new secret have a token of their own.
func TestSharedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &tokenServer{slow: time.Second}
		_, _, stop := startTokenServer(t, a)
		defer stop()
		var shared collector.Shared
		var all []*Client
		open := func(secret, scope, host string, limit int) *Client {
			c, auth, stopOne := startTokenServer(t, a)
			t.Cleanup(stopOne)
			auth.Params.Set("client_secret", secret)
			auth.Params.Set("scope", scope)
			base := *c.Base
			c.Base = &base
			if host != "" {
				base.Host = host
			}
			c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: limit}})
			c.Share(&shared)
			all = append(all, c)
			return c
		}
		entra := open("one", "graph", "", 4)
		for _, tc := range []struct {
			name                   string
			secret, scope, host    string
			limit                  int
			wantToken, wantLimiter bool // the same
		}{
			{name: "same", secret: "one", scope: "graph", limit: 4, wantToken: true, wantLimiter: true},
			{name: "other scope and API", secret: "one", scope: "defender", host: "defender.test", limit: 4},
			{name: "new secret", secret: "two", scope: "graph", limit: 4, wantLimiter: true},
			{name: "other limits", secret: "one", scope: "graph", limit: 5, wantToken: true, wantLimiter: true},
		} {
			c := open(tc.secret, tc.scope, tc.host, tc.limit)
			if got := c.Auth == entra.Auth; got != tc.wantToken {
				t.Errorf("%s: one token: %v, want %v", tc.name, got, tc.wantToken)
			}
			if got := c.Limits == entra.Limits; got != tc.wantLimiter {
				t.Errorf("%s: one limiter: %v, want %v", tc.name, got, tc.wantLimiter)
			}
		}
		var wait sync.WaitGroup
		for _, c := range all[:2] {
			wait.Go(func() {
				if err := getPath(c, "/x"); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if asked, _ := a.counts(); asked != 1 {
			t.Errorf("two collectors made %d token requests, want 1", asked)
		}
		headers := func(value string) *Client {
			c, _, stopOne := startTokenServer(t, a)
			t.Cleanup(stopOne)
			c.Auth, c.Limits = Bearer(value), NewLimiter(map[string]Limit{"": {Concurrent: 4}})
			c.Share(&shared)
			return c
		}
		first := headers("key-one")
		if second, other := headers("key-one"), headers("key-two"); second.Limits != first.Limits || other.Limits == first.Limits {
			t.Errorf("the same key has one limiter: %v; another key has it: %v", second.Limits == first.Limits, other.Limits == first.Limits)
		}
		alone, _, stopAlone := startTokenServer(t, a)
		defer stopAlone()
		before := alone.Auth
		if alone.Share(nil); alone.Auth != before {
			t.Error("without Shared the client has the credentials of another")
		}
	})
}

// TestRunEndsWhileTheTokenFails: the error of each request that needs the token says why
// there is none, also if the request waits for the slot of another one.
func TestRunEndsWhileTheTokenFails(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"body is an HTML page, want JSON: it may be from a proxy": respond(200, "<html>"),
		"body is empty, want JSON":                                respond(200, ""),
		"500 Internal Server Error: oops":                         respond(500, "oops"),
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &tokenServer{fail: fail}
			c, _, stop := startTokenServer(t, a)
			defer stop()
			c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 2}})
			ended := errors.New("the run took longer than 20s")
			ctx, cancel := context.WithTimeoutCause(collector.WithRetryTime(context.Background(), time.Hour), 20*time.Second, ended)
			defer cancel()
			for _, err := range runConcurrently(7, func() error {
				_, err := c.Get(ctx, Request{Path: "/x"})
				return err
			}) {
				assertError(t, err, "GET /x: the run took longer than 20s after ")
				assertError(t, err, "the last: token: POST /oauth2/token: ")
				assertError(t, err, name)
				if !errors.Is(err, ended) || errors.Is(err, collector.ErrIncomplete) {
					t.Errorf("the class of %v is not that of the context", err)
				}
			}
			// A later run has a token request of its own, to which there is no response.
			time.Sleep(time.Hour)
			a.fail, a.slow = nil, time.Minute
			later, cancelLater := context.WithTimeoutCause(context.Background(), time.Second, ended)
			defer cancelLater()
			if _, err := c.Get(later, Request{Path: "/x"}); !errors.Is(err, ended) ||
				!strings.HasSuffix(err.Error(), "GET /x: the run took longer than 20s: token: POST /oauth2/token: no response yet") {
				t.Errorf("later run: %v", err)
			}
		})
	}
}
