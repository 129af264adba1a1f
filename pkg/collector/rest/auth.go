package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/pkg/collector"
)

// Auth authorizes requests. One Auth is used for all requests with the same
// credentials. Its methods are called from several goroutines.
type Auth interface {
	// Apply adds the authorization to req.
	Apply(ctx context.Context, req *http.Request) error
	// Renew is called when the vendor refused req as unauthorized. It reports
	// whether a new attempt will have another authorization.
	Renew(ctx context.Context, req *http.Request) (bool, error)
}

// A StaticHeader is a header with credentials that never change.
type StaticHeader struct{ Name, Value string }

// Apply implements Auth.
func (s StaticHeader) Apply(_ context.Context, req *http.Request) error {
	req.Header[http.CanonicalHeaderKey(s.Name)] = []string{s.Value}
	return nil
}

// Renew implements Auth: there is nothing to renew.
func (StaticHeader) Renew(context.Context, *http.Request) (bool, error) { return false, nil }

func (s StaticHeader) secrets() []string { return redact.FromHeader(s.Value) }

// Bearer returns the Authorization header for a token that never changes.
func Bearer(token string) StaticHeader {
	return StaticHeader{Name: "Authorization", Value: "Bearer " + token}
}

// ClientCredentials is the OAuth 2.0 grant of that name (RFC 6749, section 4.4).
// The token is fetched when it is first needed, again before it expires, and once
// after a request was refused. All requests share it. If it is missing, one request
// fetches it and the others wait; they fail if it fails.
type ClientCredentials struct {
	// Client makes the token requests, whose endpoint class is "token". Its Auth
	// must not be these ClientCredentials.
	Client *Client
	// Path is the token endpoint below the client's base.
	Path string
	// Params are the parameters of the token request: client_id, client_secret,
	// and what the vendor wants besides, such as grant_type and scope, audience or
	// resource. Errors do not show their values, except those of members that are
	// public.
	Params url.Values
	// Encoding is how the request contains the parameters.
	Encoding TokenEncoding
	// Base returns the address that requests with the token are sent to, for
	// vendors that name it in the token response; nil for the client's own. It is
	// called with each token response, before the token is used. Base itself may
	// be nil.
	Base func(TokenResponse) (*url.URL, error)
	// Parse returns the token of a response and how long it lives, for vendors whose
	// response has other members than access_token and expires_in; zero if it does
	// not expire. It may be nil.
	Parse func(TokenResponse) (text string, life time.Duration, err error)

	mu       sync.Mutex
	token    token
	previous string      // the text of the previous token, which errors must not show
	fetch    *tokenFetch // the current request for a token; nil if there is none
	began    time.Time   // when the last request for a token began
	failed   failedAttempt
	failedAt time.Time // of failed, the last failed attempt at a token that is still missing
}

// tokenFetcher is implemented by an Auth whose requests may have to wait for a token.
type tokenFetcher interface {
	// failedSince returns the last failed attempt at the token that is missing, if it was
	// after the given time or belongs to the last token request. Its number is 0 if that
	// has had no response.
	failedSince(t time.Time) failedAttempt
}

// failedSince implements tokenFetcher. It also serves those that wait for the slot of
// a request that waits for the token.
func (c *ClientCredentials) failedSince(t time.Time) failedAttempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.failedAt.Before(t) || !c.failedAt.Before(c.began):
		return c.failed
	case c.fetch != nil:
		return c.withoutResponse()
	}
	return failedAttempt{} // c.failed is of another run
}

// withoutResponse stands for a token request that has had no response.
func (c *ClientCredentials) withoutResponse() failedAttempt {
	r := Request{Method: http.MethodPost, Path: c.Path}
	return failedAttempt{0, &authError{fmt.Errorf("%s: no response yet", r.Step())}}
}

// setFailed records a failed attempt at the token.
func (c *ClientCredentials) setFailed(f failedAttempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed, c.failedAt = f, time.Now()
}

// token is one token. Its serial counts the tokens. If a request with an older
// token is refused, the token has already been renewed.
type token struct {
	text    string
	renewAt time.Time
	serial  int
	base    *url.URL // where requests with the token are sent; nil for the client's own
}

// tokenFetch is a token request that all requests share which need the token.
// Its other fields are set when done is closed.
type tokenFetch struct {
	done  chan struct{}
	stats *collector.Stats // of the extraction that makes the request
	token token
	err   error
	// canceled means that the request which fetched the token was canceled.
	// Those that wait then fetch it themselves.
	canceled bool
}

type tokenKey struct{}

// Apply implements Auth.
func (c *ClientCredentials) Apply(ctx context.Context, req *http.Request) error {
	t, err := c.currentToken(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.text)
	if t.base != nil {
		req.URL.Scheme, req.URL.Host, req.Host = t.base.Scheme, t.base.Host, t.base.Host
	}
	*req = *req.WithContext(context.WithValue(req.Context(), tokenKey{}, t.serial))
	return nil
}

// Renew implements Auth.
func (c *ClientCredentials) Renew(_ context.Context, req *http.Request) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if req.Context().Value(tokenKey{}) == c.token.serial {
		c.previous, c.token.text = c.token.text, "" // the next Apply fetches a new one
	}
	return true, nil
}

// currentToken returns a valid token.
func (c *ClientCredentials) currentToken(ctx context.Context) (token, error) {
	for {
		t, f, mine := c.joinFetch(ctx)
		switch {
		case f == nil:
			return t, nil
		case mine:
			c.fetchToken(ctx, f)
			return f.token, f.err
		}
		if err := WaitOn(ctx, f.done, "a token", f.stats); err != nil {
			return token{}, err
		}
		if ctx.Err() != nil { // with that of the request that was waited for
			return token{}, context.Cause(ctx)
		}
		if !f.canceled {
			return f.token, f.err
		}
	}
}

// joinFetch returns the token if it is valid, and otherwise the request for a
// new one. mine reports whether the caller must make the request.
func (c *ClientCredentials) joinFetch(ctx context.Context) (_ token, f *tokenFetch, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token.text != "" && (c.token.renewAt.IsZero() || time.Now().Before(c.token.renewAt)) {
		return c.token, nil, false
	}
	if c.fetch != nil {
		return token{}, c.fetch, false
	}
	c.fetch = &tokenFetch{done: make(chan struct{}), stats: collector.StatsFrom(ctx)}
	c.began = time.Now()
	return token{}, c.fetch, true
}

// fetchToken requests a token and shares the result.
func (c *ClientCredentials) fetchToken(ctx context.Context, f *tokenFetch) {
	f.canceled = true // if requestToken panics
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.err == nil && !f.canceled {
			f.token.serial = c.token.serial + 1
			if c.token.text != "" {
				c.previous = c.token.text
			}
			c.token = f.token
		}
		switch { // those that wait may end with a canceled request, and need the cause
		case !f.canceled:
			c.failed, c.failedAt = failedAttempt{}, time.Time{}
		case c.failedAt.Before(c.began):
			c.failed, c.failedAt = c.withoutResponse(), time.Now()
		}
		c.fetch = nil
		close(f.done)
	}()
	f.token, f.err = c.requestToken(ctx)
	f.canceled = f.err != nil && ctx.Err() != nil
}

// requestToken makes the token request.
func (c *ClientCredentials) requestToken(ctx context.Context) (token, error) {
	request, err := c.tokenRequest()
	if err != nil {
		return token{}, &authError{err}
	}
	var t token
	client := *c.Client
	client.Redact = append(c.secrets(), client.Redact...)
	client.onFailure = func(f failedAttempt) { c.setFailed(failedAttempt{f.number, &authError{f.err}}) }
	err = client.Do(ctx, request, func(r *Response) (err error) {
		t, err = c.parseToken(r)
		return err
	})
	if err != nil {
		return token{}, &authError{err}
	}
	return t, nil
}

// maxTokenLife bounds the life of a token that a vendor declares.
const maxTokenLife = 365 * 24 * time.Hour

func (c *ClientCredentials) secrets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []string{c.token.text, c.previous}
	for name, values := range c.Params {
		switch name {
		case "grant_type", "client_id", "scope", "audience", "resource":
		default:
			all = append(all, values...)
		}
	}
	if c.Encoding == TokenBasic {
		all = append(all, redact.FromHeader(c.basicHeader())...)
	}
	return all
}

// authError is the failure of a token request. It hides the types that would
// make the toolkit repeat the request that needed the token: the token request
// has already been repeated.
type authError struct{ err error }

func (e *authError) Error() string { return "token: " + e.err.Error() }

// Is reports whether the error is of one of the classes that callers act on.
func (e *authError) Is(target error) bool {
	return (target == collector.ErrRefused || target == collector.ErrForbidden) && errors.Is(e.err, target)
}
