package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// authority is a vendor with a token endpoint. It serves requests that show
// its latest token.
type authority struct {
	mu       sync.Mutex
	life     string        // what a token says of its own life
	slow     time.Duration // how long a token takes
	status   int           // of the token's answer
	fail     http.HandlerFunc
	issued   int
	asked    int // token requests
	requests int // others
	forms    []url.Values
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oauth2/token" {
		a.token(w, r)
		return
	}
	a.mu.Lock()
	a.requests++
	good := r.Header.Get("Authorization") == fmt.Sprintf("Bearer token-%d", a.issued)
	a.mu.Unlock()
	switch {
	case r.URL.Path == "/forbidden":
		says(403, "scope missing")(w, r)
	case r.URL.Path == "/refused" || !good:
		says(401, "token is not valid")(w, r)
	default:
		says(200, "{}")(w, r)
	}
}

func (a *authority) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	a.mu.Lock()
	a.asked++
	a.forms = append(a.forms, r.PostForm)
	slow, fail := a.slow, a.fail
	a.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return
	}
	if fail != nil {
		fail(w, r)
		return
	}
	a.mu.Lock()
	a.issued++
	text := fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer"%s}`, a.issued, a.life)
	a.mu.Unlock()
	says(max(200, a.status), text, "X-Region", "eu-1")(w, r)
}

// revoke makes the tokens issued so far worthless.
func (a *authority) revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued += 100
}

func (a *authority) counts() (asked, requests int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked, a.requests
}

// withTokens returns a client of a, in a bubble.
func withTokens(t *testing.T, a *authority) (*Client, *ClientCredentials, func()) {
	c, stop := inMemory(t, a)
	tokens := *c
	auth := &ClientCredentials{Client: &tokens, Path: "/oauth2/token", Form: url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"s3cr3t/+ value"},
	}}
	c.Auth = auth
	return c, auth, stop
}

func get(c *Client, path string) error {
	_, err := c.Get(context.Background(), Request{Path: path})
	return err
}

// together runs n requests at once and returns their errors.
func together(n int, ask func() error) []error {
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
		a := &authority{slow: 3 * time.Second, status: 201, life: `,"expires_in":3600`}
		c, auth, stop := withTokens(t, a)
		defer stop()
		var region string
		auth.Fetched = func(h http.Header) { region = h.Get("X-Region") }
		// A shared limiter with one place must not lock the token out.
		c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 1}})
		auth.Client.Limits = c.Limits
		for _, err := range together(30, func() error { return get(c, "/x") }) {
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
		{`,"expires_in":3600`, 55 * time.Minute},
		{`,"expires_in":"3600"`, 55 * time.Minute},
		{`,"expires_in":1000`, 800 * time.Second},
		{`,"expires_in":60`, 48 * time.Second},
		{`,"expires_in":1e300`, 365*24*time.Hour - 5*time.Minute},
		{`,"expires_in":0`, 0},
		{`,"expires_in":-5`, 0},
		{`,"expires_in":null`, 0},
		{``, 0},
	} {
		t.Run(f.life, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &authority{life: f.life}
				c, _, stop := withTokens(t, a)
				defer stop()
				check := func(want int) {
					t.Helper()
					if err := get(c, "/x"); err != nil {
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

// A token that is born too old is used once, not fetched for ever.
func TestTokenOfNoLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{life: `,"expires_in":0.000000002`}
		c, _, stop := withTokens(t, a)
		defer stop()
		if err := get(c, "/x"); err != nil {
			t.Error(err)
		}
		if asked, _ := a.counts(); asked != 1 {
			t.Errorf("%d token requests", asked)
		}
	})
}

func TestRevokedTokenIsRenewedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{slow: time.Second}
		c, _, stop := withTokens(t, a)
		defer stop()
		if err := get(c, "/x"); err != nil {
			t.Fatal(err)
		}
		a.revoke()
		for _, err := range together(20, func() error { return get(c, "/x") }) {
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
		a := &authority{}
		c, _, stop := withTokens(t, a)
		defer stop()
		c.Hints = map[int]string{401: "check CLIENT_SECRET", 403: "grant the scope users:read"}
		start := time.Now()
		err := get(c, "/refused")
		mustHold(t, err, "GET /refused (2 attempts): 401 Unauthorized: token is not valid: check CLIENT_SECRET")
		if asked, requests := a.counts(); asked != 2 || requests != 2 || !errors.Is(err, collector.ErrRefused) {
			t.Errorf("%v: %d token requests, %d others", err, asked, requests)
		}
		err = get(c, "/forbidden")
		mustHold(t, err, "GET /forbidden: 403 Forbidden: scope missing: grant the scope users:read")
		if asked, requests := a.counts(); asked != 2 || requests != 3 || !errors.Is(err, collector.ErrForbidden) {
			t.Errorf("%v: %d token requests, %d others", err, asked, requests)
		}
		if time.Since(start) > 0 {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

// A token endpoint in trouble fails all who wait with one set of attempts.
func TestTokenEndpointFails(t *testing.T) {
	for _, f := range []struct {
		name  string
		fail  http.HandlerFunc
		asked int
		want  string
		class error
	}{
		{"500", says(500, "oops"), 6, "GET /x: token: POST /oauth2/token (6 attempts): 500 Internal Server Error: oops", nil},
		{"401", says(401, `{"error":"invalid_client"}`), 1, `GET /x: token: POST /oauth2/token: 401 Unauthorized: {"error":"invalid_client"}: check CLIENT_SECRET`, collector.ErrRefused},
		{"403", says(403, ""), 1, "GET /x: token: POST /oauth2/token: 403 Forbidden", collector.ErrForbidden},
		{"no token", says(200, `{"token_type":"bearer"}`), 6, "access_token is missing", nil},
		{"HTML", says(200, `<html>`), 6, "token: invalid character '<'", nil},
		{"cut", wire("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"acc", false), 6, "unexpected EOF", nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &authority{fail: f.fail, slow: time.Second}
				c, auth, stop := withTokens(t, a)
				defer stop()
				auth.Client.Hints = map[int]string{401: "check CLIENT_SECRET"}
				for _, err := range together(20, func() error { return get(c, "/x") }) {
					mustHold(t, err, f.want)
					if f.class != nil && !errors.Is(err, f.class) {
						t.Errorf("%v is not %v", err, f.class)
					}
				}
				if asked, requests := a.counts(); asked != f.asked || requests != 0 {
					t.Errorf("%d token requests, want %d; %d others", asked, f.asked, requests)
				}
			})
		})
	}
}

// Those who wait for another's token request can leave, and are not drawn
// into its end.
func TestWaitingForATokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &authority{slow: time.Minute}
		c, _, stop := withTokens(t, a)
		defer stop()
		gone := errors.New("stream cancelled")
		leader, leave := context.WithCancelCause(context.Background())
		time.AfterFunc(20*time.Second, func() { leave(gone) })
		impatient, hurry := context.WithTimeout(context.Background(), 10*time.Second)
		defer hurry()
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
		ask(leader, 0, gone, 20*time.Second)
		ask(impatient, time.Second, context.DeadlineExceeded, 10*time.Second)
		ask(context.Background(), time.Second, nil, 80*time.Second)
		ask(context.Background(), time.Second, nil, 80*time.Second)
		all.Wait()
		if asked, _ := a.counts(); asked != 2 {
			t.Errorf("%d token requests", asked)
		}
	})
}

func TestCredentialThatIsNoHeader(t *testing.T) {
	s := steps(says(200, "{}"))
	c := loopback(t, s)
	c.Auth = Bearer("secret-with-newline\n")
	err := get(c, "/x")
	mustHold(t, err, "GET /x: header Authorization: the value has a line break", "check the credential")
	if len(s.requests()) != 0 {
		t.Error("it was sent")
	}
}
