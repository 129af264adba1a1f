// Package rest is the one HTTP toolkit of all vendors: authorization, rate
// limits, retries, paging, export jobs, and the splitting of streamed bodies
// into raw records. It knows no vendor; a vendor's file says in data what its
// API does, and the toolkit does it.
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
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// A Client makes the requests of one credential. Its fields are set before
// the first request and not changed after.
type Client struct {
	// Base is where relative request paths start. Requests to any other host
	// are refused, so that the credential never leaves it.
	Base *url.URL
	// HTTP sends the requests; NewHTTP makes it.
	HTTP *http.Client
	// Auth authorizes each attempt; nil for none.
	Auth Auth
	// Limits paces the requests; nil for none.
	Limits *Limiter
	// Retry says how often and after which waits a request is repeated.
	Retry Retry
	// Classify reads what is peculiar about a vendor's answers; nil for
	// nothing.
	Classify Classify
	// Hints says what to do about a refusing status, such as
	// 401: "check OKTA_TOKEN".
	Hints map[int]string
	// UserAgent is sent with every request.
	UserAgent string
	// Answered gets the headers of every answer, such as those that announce
	// the end of an API's version; nil for nothing. It may be called from
	// several goroutines.
	Answered func(http.Header)
	// Redact are values that no error may show even where a vendor echoes
	// them, besides those that the Auths of this package hold.
	Redact []string
	// MaxBody bounds a decoded body in bytes; 16 GiB when zero.
	MaxBody int64
}

// A Request says what to ask. It is a value; the toolkit never changes it.
type Request struct {
	// Method is GET when empty.
	Method string
	// Path is a path below the client's base, or an address on its host.
	// It may have a query of its own.
	Path string
	// Query is added to the path's own.
	Query url.Values
	// Header is added to what the client sends anyway.
	Header http.Header
	// Body is sent as ContentType, "application/json" when empty.
	Body        []byte
	ContentType string
	// Class is the endpoint class whose limits apply.
	Class string
	// Size sets the page size anew at each attempt; nil for none.
	Size *Size
	// Once keeps a request from being repeated after the vendor may have
	// acted on it: a failure of the network or of the vendor is final.
	Once bool
}

// Step names a request for people, without its query, which may hold keys.
func (r Request) Step() string {
	path, _, _ := strings.Cut(r.Path, "?")
	if u, err := url.Parse(path); err == nil && u.Host != "" {
		path = u.Path
	}
	return r.method() + " " + path
}

func (r Request) method() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// A Response is an answer whose status is a success.
type Response struct {
	Status int
	Header http.Header
	// Body is decoded and bounded. Reading it is part of the attempt: an error
	// of it makes the attempt fail.
	Body io.Reader
}

// Do asks and passes the answer to read. When the answer, or its body in the
// middle, is bad in a way that may pass, it asks again and calls read again,
// so read must keep nothing of a call that failed. Errors wrap ErrRefused,
// ErrForbidden or *StatusError where they apply, and name the request.
func (c *Client) Do(ctx context.Context, r Request, read func(*Response) error) error {
	var t try
	for {
		err := c.attempt(ctx, r, &t, read)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return t.ended(ctx, r)
		}
		err = hide(err, c.secrets())
		t.last = err
		wait, again := c.again(ctx, &t, r, err)
		if !again {
			return t.explain(r, err, c.Hints)
		}
		t.paused = max(0, wait)
		if c.pause(ctx, r, wait, err) != nil {
			return t.ended(ctx, r)
		}
	}
}

// attempt asks once.
func (c *Client) attempt(ctx context.Context, r Request, t *try, read func(*Response) error) (err error) {
	stats := collector.StatsFrom(ctx)
	asked := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var req *http.Request
	var size int
	release, err := c.Limits.enter(ctx, r.Class, func() (err error) {
		var sized Request
		sized, size = r.Size.apply(r)
		req, err = c.request(ctx, sized)
		return err
	})
	if err != nil {
		return err
	}
	defer release()
	began := time.Now()
	defer func() { r.Size.learn(size, time.Since(began), err) }()
	x := c.tell(ctx, t, req, t.paused+began.Sub(asked))
	defer func() { x.end(err) }()
	stats.Request(r.Step(), t.count > 0)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		stats.Status(0)
		return transportError(err)
	}
	defer resp.Body.Close()
	stats.Status(resp.StatusCode)
	c.Limits.learn(r.Class, resp.StatusCode < 300, resp.Header)
	if c.Answered != nil {
		c.Answered(resp.Header)
	}
	raw := newBody(ctx, cancel, resp.Body)
	x.answered(resp.StatusCode, raw)
	c.warned(r, resp)
	if err := c.status(req, resp, raw, t); err != nil {
		return err
	}
	plain, err := decode(raw, resp.Header.Get("Content-Encoding"), c.MaxBody)
	if err != nil {
		return &BodyError{Err: err}
	}
	if err := read(&Response{Status: resp.StatusCode, Header: resp.Header, Body: plain}); err != nil {
		var b *BodyError
		if plain.failed != nil && !errors.As(err, &b) {
			return &BodyError{Err: err}
		}
		return err
	}
	// What follows the part that read wanted must be whole, too: a connection
	// cut there may have cut more than white space.
	if _, err := io.Copy(io.Discard, io.LimitReader(plain, 64<<10)); err != nil {
		return &BodyError{Err: err}
	}
	return nil
}

// request builds one attempt, with fresh authorization.
func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	u, err := c.resolve(r.Path)
	if err != nil {
		return nil, err
	}
	if len(r.Query) > 0 {
		u.RawQuery = merge(u.RawQuery, r.Query)
	}
	var payload io.Reader
	if r.Body != nil {
		payload = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method(), u.String(), payload)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("User-Agent", c.UserAgent)
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
		if r.ContentType != "" {
			req.Header.Set("Content-Type", r.ContentType)
		}
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if c.Auth != nil {
		if err := c.Auth.Apply(ctx, req); err != nil {
			return nil, err
		}
	}
	return req, sendable(req.Header)
}

// sendable refuses what cannot be a header, such as a credential with a line
// break from the file that it was in.
func sendable(h http.Header) error {
	for name, values := range h {
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("header %s: the value has a line break or another control character: check the credential", name)
			}
		}
	}
	return nil
}

// status turns an answer that is no success into an error.
func (c *Client) status(req *http.Request, resp *http.Response, b io.Reader, t *try) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	if plain, err := decode(b, resp.Header.Get("Content-Encoding"), 0); err == nil {
		b = plain
	}
	text, _ := io.ReadAll(io.LimitReader(b, 4<<10)) // a cut error text is still a text
	// Cut after hiding: half a secret at the end would not be known as one.
	text = []byte(hideIn(string(text), c.secrets()))
	text = text[:min(len(text), 2<<10)]
	s := &StatusError{Status: resp.StatusCode, Header: resp.Header, Body: text, Times: t.met(resp.StatusCode), req: req}
	s.verdict = verdictOf(s)
	if c.Classify != nil {
		s.verdict = c.Classify(s, s.verdict)
	}
	return s
}

// pause waits before the next attempt.
func (c *Client) pause(ctx context.Context, r Request, wait time.Duration, cause error) error {
	var s *StatusError
	limited := errors.As(cause, &s) && s.verdict == Limited
	what := "retry"
	if limited {
		what = "rate limit"
		c.Limits.cool(r.Class, time.Now().Add(wait))
	}
	return Sleep(ctx, wait, what+" of "+r.Step(), limited)
}

// warned keeps the class's other requests back from the moment at which the
// vendor asks for patience, while this one still reads what it says.
func (c *Client) warned(r Request, resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return
	}
	now := time.Now()
	if wait, ok := c.Retry.asked(resp.Header, now); ok && wait > 0 {
		c.Limits.cool(r.Class, now.Add(wait))
	}
}

// Sleep waits for d, shown in the run's progress as waiting for what; limited
// tells that the vendor's rate limit is the cause. It returns the context's
// cause when that ends first.
func Sleep(ctx context.Context, d time.Duration, what string, limited bool) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	done := collector.StatsFrom(ctx).Wait(time.Now().Add(d), what, limited)
	defer done()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
