package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// Auth authorizes requests. One Auth serves all requests of a credential, and
// its methods are called from several goroutines.
type Auth interface {
	// Apply adds the authorization to req.
	Apply(ctx context.Context, req *http.Request) error
	// Renew is called when the vendor refused req as unauthorized. It reports
	// whether a new attempt has another authorization to show.
	Renew(ctx context.Context, req *http.Request) (bool, error)
}

// A StaticHeader is a credential that never changes, sent as a header.
type StaticHeader struct{ Name, Value string }

// Apply implements Auth.
func (h StaticHeader) Apply(_ context.Context, req *http.Request) error {
	req.Header[http.CanonicalHeaderKey(h.Name)] = []string{h.Value}
	return nil
}

// Renew implements Auth: there is nothing to renew.
func (StaticHeader) Renew(context.Context, *http.Request) (bool, error) { return false, nil }

func (h StaticHeader) secrets() []string { return inHeader(h.Value) }

// Bearer is the usual header of a token that never changes.
func Bearer(token string) StaticHeader {
	return StaticHeader{Name: "Authorization", Value: "Bearer " + token}
}

// ClientCredentials is OAuth 2.0's grant of that name (RFC 6749, section 4.4)
// with the credential in a form body. The token is fetched when it is first
// needed, again before it expires, and once after a request was refused; all
// requests share it, and of those that find it missing only one fetches it:
// the others wait, and fail when it fails.
type ClientCredentials struct {
	// Client makes the token requests; its own Auth must be nil. Their
	// endpoint class is "token".
	Client *Client
	// Path is the token endpoint below the client's base.
	Path string
	// Form is the request's body. No error shows its values, but for those of
	// the members that are public.
	Form url.Values
	// Fetched is called with the headers of each token answer before the token
	// is used; nil for nothing.
	Fetched func(http.Header)

	mu     sync.Mutex
	token  token
	former string    // the text of the token before, which must stay hidden
	fetch  *fetching // under way, nil when none is
}

// token is one token. Its serial counts the tokens: the refusal of a request
// that showed an older one has been answered by a renewal already.
type token struct {
	text    string
	renewAt time.Time
	serial  int
}

// fetching is a token request that is shared by all who need its token. Its
// other members are set when done is closed.
type fetching struct {
	done  chan struct{}
	token token
	err   error
	// left means that who asked gave up for reasons of its own, which are none
	// of those who wait.
	left bool
}

type tokenKey struct{}

// Apply implements Auth.
func (a *ClientCredentials) Apply(ctx context.Context, req *http.Request) error {
	t, err := a.current(ctx)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.text)
	*req = *req.WithContext(context.WithValue(req.Context(), tokenKey{}, t.serial))
	return nil
}

// Renew implements Auth.
func (a *ClientCredentials) Renew(_ context.Context, req *http.Request) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Context().Value(tokenKey{}) == a.token.serial {
		a.former, a.token.text = a.token.text, "" // nobody has renewed it since: the next Apply does
	}
	return true, nil
}

// current returns a token that is good now.
func (a *ClientCredentials) current(ctx context.Context) (token, error) {
	for {
		t, f, mine := a.join()
		switch {
		case f == nil:
			return t, nil
		case mine:
			a.ask(ctx, f)
			return f.token, f.err
		}
		select {
		case <-ctx.Done():
			return token{}, context.Cause(ctx)
		case <-f.done:
		}
		if !f.left {
			return f.token, f.err
		}
	}
}

// join returns the token when it is good, and otherwise the request for a new
// one; mine tells that it is the caller's to make.
func (a *ClientCredentials) join() (_ token, f *fetching, mine bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token.text != "" && (a.token.renewAt.IsZero() || time.Now().Before(a.token.renewAt)) {
		return a.token, nil, false
	}
	if a.fetch != nil {
		return token{}, a.fetch, false
	}
	a.fetch = &fetching{done: make(chan struct{})}
	return token{}, a.fetch, true
}

// ask asks for a token and shares what comes of it.
func (a *ClientCredentials) ask(ctx context.Context, f *fetching) {
	f.left = true // unless it returns
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if f.err == nil && !f.left {
			f.token.serial = a.token.serial + 1
			if a.token.text != "" {
				a.former = a.token.text
			}
			a.token = f.token
		}
		a.fetch = nil
		close(f.done)
	}()
	f.token, f.err = a.request(ctx)
	f.left = f.err != nil && ctx.Err() != nil
}

// request makes the token request.
func (a *ClientCredentials) request(ctx context.Context) (token, error) {
	var answer struct {
		Token   string      `json:"access_token"`
		Expires json.Number `json:"expires_in"` // some vendors send it as text
	}
	client := *a.Client
	client.Redact = append(a.secrets(), client.Redact...)
	err := client.Do(ctx, Request{
		Method: http.MethodPost, Path: a.Path, Class: tokenClass,
		Body: []byte(a.Form.Encode()), ContentType: "application/x-www-form-urlencoded",
	}, func(r *Response) error {
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&answer); err != nil {
			return &BodyError{Err: fmt.Errorf("token: %w", err)}
		}
		if answer.Token == "" {
			return &BodyError{Err: errors.New("token: access_token is missing")}
		}
		if a.Fetched != nil {
			a.Fetched(r.Header)
		}
		return nil
	})
	if err != nil {
		return token{}, &authError{err}
	}
	t := token{text: answer.Token}
	if seconds, err := answer.Expires.Float64(); err == nil && seconds > 0 {
		life := time.Duration(min(seconds, maxTokenLife.Seconds()) * float64(time.Second))
		t.renewAt = time.Now().Add(life - min(5*time.Minute, life/5))
	}
	return t, nil
}

// maxTokenLife bounds what a vendor may say of a token's life.
const maxTokenLife = 365 * 24 * time.Hour

func (a *ClientCredentials) secrets() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := []string{a.token.text, a.former}
	for name, values := range a.Form {
		switch name {
		case "grant_type", "client_id", "scope", "audience", "resource":
		default:
			all = append(all, values...)
		}
	}
	return all
}

// authError keeps a failed token request from being taken for a failure of
// the request that needed the token: it has been retried already.
type authError struct{ err error }

func (e *authError) Error() string { return "token: " + e.err.Error() }

// Is reports the classes that callers act on, but not the types that would
// make the toolkit repeat the request.
func (e *authError) Is(target error) bool {
	return (target == collector.ErrRefused || target == collector.ErrForbidden) && errors.Is(e.err, target)
}
