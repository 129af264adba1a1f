// Package rest is the HTTP toolkit of all collectors: authorization, rate
// limits, retries, paging, export jobs, and the splitting of response bodies
// into records. It contains nothing that is specific to a vendor: the vendors'
// packages describe their APIs with its types.
package rest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
)

// A Client makes requests with one set of credentials. Its fields must not be
// changed after the first request.
type Client struct {
	// Base is the address that request paths are relative to. Requests to any
	// other host are refused, so that no other host gets the credentials.
	Base *url.URL
	// Address names the setting of Base and its value, for errors, such as
	// "OKTA_DOMAIN, which is https://acme.okta.com"; it may be empty.
	Address string
	// HTTP sends the requests; see NewHTTP.
	HTTP *http.Client
	// Auth authorizes each attempt; nil for none.
	Auth Auth
	// Limits paces the requests; nil for none.
	Limits *Limiter
	// limitShare keeps the limits of the client in force in a Limiter of several.
	limitShare *limitShare
	// Retry controls after which waits a request is repeated.
	Retry Retry
	// Classify handles statuses that have another meaning with this vendor; it
	// may be nil.
	Classify Classify
	// Hints are remedies by status, such as 401: "check OKTA_TOKEN".
	Hints map[int]string
	// BodyIdle is how long a read of a body may wait for its next byte; 2 min
	// when zero. It should be less than half of the life of a cursor.
	BodyIdle time.Duration
	// UserAgent is sent with every request.
	UserAgent string
	// OnResponse is called with the headers of every response, for example to
	// find those that announce the end of an API version. It may be nil. It may
	// be called from several goroutines.
	OnResponse func(http.Header)
	// Redact are values that errors must not show even if a vendor repeats them
	// in a response, in addition to those of the Auths of this package.
	Redact []string

	maxBody int64 // for tests; the constant when zero
	// onFailure is called after each failed attempt that is not the end of the context;
	// nil unless others wait for its requests.
	onFailure func(failedAttempt)
}

// A Request describes a request. The toolkit does not change it.
type Request struct {
	// Method is GET when empty.
	Method string
	// Path is a path below the client's base, or an address on its host. It may
	// contain a query.
	Path string
	// Query is added to the query of the path.
	Query url.Values
	// Header is added to the headers that the client sends.
	Header http.Header
	// Body is sent as ContentType, "application/json" when empty.
	Body        []byte
	ContentType string
	// Unless makes the request conditional: if the resource still has this version, Do
	// returns an error that wraps ErrNotModified, and read is not called. A vendor may
	// send the resource all the same.
	Unless Validator
	// Class is the endpoint class whose limits apply.
	Class string
	// Size sets the page size of each attempt; nil for none.
	Size *Size
	// Once prevents that a request is repeated after the vendor may have
	// processed it: a network error or a server error is final. It also applies
	// to GET requests.
	Once bool

	// expires is when the vendor forgets a position in a listing that the request
	// contains; zero for never.
	expires time.Time
}

// Step returns the request for logs and errors, such as "GET /api/v1/users",
// without its query, which may contain keys.
func (r Request) Step() string {
	path, _, _ := strings.Cut(r.Path, "?")
	if u, err := url.Parse(path); err == nil && u.Host != "" {
		path = u.Path
	}
	return r.methodOrGet() + " " + cmp.Or(path, "/")
}

func (r Request) methodOrGet() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// A Response is a response with a status of success.
type Response struct {
	Status int
	Header http.Header
	// Body is decoded, and its size is limited. Reading it is part of the
	// attempt, which fails if reading fails.
	Body io.Reader
}

// Do makes a request and passes the response to read. After a failure that may
// pass, also one in the middle of the body, it repeats the request and calls
// read again. So read must keep nothing from a call that failed. Errors name
// the request, and wrap collector.ErrRefused, collector.ErrForbidden or
// *StatusError where they apply, and ErrNotModified if r.Unless is set.
func (c *Client) Do(ctx context.Context, r Request, read func(*Response) error) error {
	retry := retryState{began: time.Now()}
	for {
		err := c.doAttempt(ctx, r, &retry, read)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return retry.contextError(ctx, r, c)
		}
		err = c.redactor().Error(err)
		retry.lastErr = err
		if c.onFailure != nil {
			c.onFailure(failedAttempt{retry.failures + 1, fmt.Errorf("%s: %w", r.Step(), c.withHint(err))})
		}
		plan, again := c.planRetry(ctx, &retry, r, err)
		if !again {
			return retry.finalError(r, err, c)
		}
		if !r.expires.IsZero() && time.Now().Add(plan.wait).After(r.expires) {
			return retry.finalError(r, fmt.Errorf("%w: %w", ErrCursorExpired, err), c)
		}
		retry.retryWait = max(0, plan.wait)
		retry.reportFailing(ctx, r, err)
		if waitErr := c.waitBeforeRetry(ctx, r, plan); waitErr != nil {
			var tooLong *waitTooLongError
			if errors.As(waitErr, &tooLong) {
				return retry.finalError(r, fmt.Errorf("%w: %w", err, waitErr), c)
			}
			return retry.contextError(ctx, r, c)
		}
	}
}

// doAttempt makes one attempt.
func (c *Client) doAttempt(ctx context.Context, r Request, retry *retryState, read func(*Response) error) (err error) {
	stats := collector.StatsFrom(ctx)
	queued := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var req *http.Request
	var size int
	release, err := c.Limits.acquire(ctx, r.Class, func() (err error) {
		var sized Request
		if sized, size, err = r.Size.setSize(r); err != nil {
			return err
		}
		req, err = c.newRequest(ctx, sized)
		return err
	})
	if err != nil {
		return err
	}
	defer release()
	began := time.Now()
	defer func() { r.Size.adjust(size, time.Since(began), err, retry.failures+1) }()
	x := c.startExchange(ctx, retry, req, retry.retryWait+began.Sub(queued))
	defer func() { x.endExchange(err) }()
	stats.CountRequest(r.Step(), retry.failures+1)
	resp, err := c.sender(r).Do(req)
	if err != nil {
		stats.CountResponse(0)
		return transportError(err)
	}
	defer resp.Body.Close()
	stats.CountResponse(resp.StatusCode)
	c.Limits.observeResponse(r.Class, resp.StatusCode < 300, resp.Header)
	if c.OnResponse != nil {
		c.OnResponse(resp.Header)
	}
	raw := newBody(ctx, cancel, resp.Body, orDuration(c.BodyIdle, bodyIdle))
	x.setResponse(resp.StatusCode, raw)
	c.startCoolDown(ctx, r, resp)
	if r.isNotModified(resp.StatusCode) {
		stats.MarkAccepted()
		return ErrNotModified
	}
	if err := c.checkStatus(req, resp, raw, retry); err != nil {
		return err
	}
	if r.Class != tokenClass { // a token may be valid elsewhere only
		stats.MarkAccepted()
	}
	plain, err := decodeBody(raw, resp.Header.Get("Content-Encoding"), c.maxBody)
	if err != nil {
		return &BodyError{Err: err}
	}
	if err := read(&Response{Status: resp.StatusCode, Header: resp.Header, Body: plain}); err != nil {
		var b *BodyError
		var f *records.FormatError
		switch {
		case errors.As(err, &b):
			b.cut = raw.cut
		case plain.failed != nil, errors.As(err, &f):
			return &BodyError{Err: err, cut: raw.cut}
		}
		return err
	}
	// The rest of the body must also arrive: if the connection is closed there,
	// more than white space may be missing.
	if _, err := io.Copy(io.Discard, io.LimitReader(plain, 64<<10)); err != nil {
		return &BodyError{Err: err, cut: raw.cut}
	}
	return nil
}

// sender returns the HTTP client for r.
func (c *Client) sender(r Request) *http.Client {
	if !r.Once {
		return c.HTTP
	}
	once := *c.HTTP
	once.Transport = onceTransport{next: c.HTTP.Transport}
	if c.HTTP.Transport == nil {
		once.Transport = onceTransport{next: http.DefaultTransport}
	}
	return &once
}

// newRequest returns the request of one attempt, with its authorization.
func (c *Client) newRequest(ctx context.Context, r Request) (*http.Request, error) {
	u, err := c.resolveURL(r.Path)
	if err != nil {
		return nil, err
	}
	if len(r.Query) > 0 {
		u.RawQuery = mergeQuery(u.RawQuery, r.Query)
	}
	var payload io.Reader
	if r.Body != nil {
		payload = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.methodOrGet(), u.String(), payload)
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
	r.Unless.addTo(req.Header)
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if c.Auth != nil {
		if err := c.Auth.Apply(ctx, req); err != nil {
			return nil, err
		}
	}
	return req, checkHeader(req.Header)
}

// checkHeader returns an error if a value cannot be sent as a header, such as a
// credential that ends with the line break of its file.
func checkHeader(h http.Header) error {
	for name, values := range h {
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fmt.Errorf("header %s: the value has a line break or another control character: check the credential", name)
			}
		}
	}
	return nil
}

// checkStatus returns an error if the status of a response is no success.
func (c *Client) checkStatus(req *http.Request, resp *http.Response, b io.Reader, retry *retryState) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	if plain, err := decodeBody(b, resp.Header.Get("Content-Encoding"), 0); err == nil {
		b = plain
	}
	text, _ := io.ReadAll(io.LimitReader(b, 4<<10)) // part of an error text is better than none
	// Cut after redacting: half of a secret at the end would not be recognized.
	text = []byte(c.redactor().Redact(string(text)))
	text = text[:min(len(text), 2<<10)]
	s := &StatusError{Status: resp.StatusCode, Header: resp.Header, Body: text, Times: retry.countStatus(resp.StatusCode), req: req}
	s.accepted = collector.StatsFrom(req.Context()).Accepted()
	s.verdict = verdictOf(s)
	if c.Classify != nil && !s.isFromProxy() {
		s.verdict = c.Classify(s, s.verdict)
	}
	return s
}

// waitBeforeRetry waits for the next attempt.
func (c *Client) waitBeforeRetry(ctx context.Context, r Request, plan retryPlan) error {
	w := waiting{what: "retry of " + r.Step(), requested: plan.requested}
	if plan.limited {
		w.what, w.limited = "rate limit of "+r.Step(), true
		if until := time.Now().Add(plan.wait); !isAfterDeadline(ctx, until) {
			c.Limits.pauseClass(r.Class, until)
		}
	}
	return w.sleep(ctx, plan.wait)
}

// startCoolDown pauses the other requests of the class as soon as a response
// says for how long, while its body is still read.
// A wait that ends after the run's deadline does not last: the request fails, and
// the next run asks the vendor again.
func (c *Client) startCoolDown(ctx context.Context, r Request, resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return
	}
	now := time.Now()
	wait, ok := c.Retry.requestedWait(resp.Header, now)
	if until := now.Add(wait); ok && wait > 0 && !isAfterDeadline(ctx, until) {
		c.Limits.pauseClass(r.Class, until)
	}
}
