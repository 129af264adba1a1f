package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/netadvice"
	"github.com/collectord/collectord/internal/redact"
	"github.com/collectord/collectord/pkg/collector"
)

// A Verdict says what an unsuccessful response means for the request.
type Verdict int

// The verdicts.
const (
	// Fatal ends the extraction: a retry cannot succeed.
	Fatal Verdict = iota
	// Transient may pass: the request is repeated for the run's retry time.
	Transient
	// Limited is a rate limit: the request is repeated after a wait, until the
	// run's deadline.
	Limited
	// Unauthorized means that the authorization must be renewed. If it cannot be
	// renewed, or the new one is refused too, the request is repeated only if
	// the vendor accepted the credentials before in the same extraction.
	Unauthorized
)

// A Classify function returns the verdict on an unsuccessful response. usual is
// the verdict by the usual rules.
type Classify func(s *StatusError, usual Verdict) Verdict

// A StatusError is a response with a status that is no success.
type StatusError struct {
	Status int
	Header http.Header
	// Body is the start of the body, up to 2 KB.
	Body []byte
	// Times is the number of attempts of this request that got this status,
	// including this one.
	Times int

	verdict Verdict
	req     *http.Request
	// accepted means that the vendor accepted the credentials before, in the
	// same extraction.
	accepted bool
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if body := e.bodyText(); body != "" {
		text += ": " + body
	}
	return text
}

// Request returns the method and the path of the request that got the response.
func (e *StatusError) Request() (method, path string) {
	if e.req == nil {
		return "", ""
	}
	return e.req.Method, e.req.URL.Path
}

// bodyText returns the start of the body in one line.
func (e *StatusError) bodyText() string {
	text := strings.TrimSpace(string(e.Body))
	if strings.HasPrefix(text, "<") {
		return "(" + describePage(e.Body) + ")"
	}
	return excerpt(text, 200)
}

// excerpt returns the first max bytes of text in one line.
func excerpt(text string, max int) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\ufffd")), " ")
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "") + redact.CutMark
	}
	return text
}

// Unwrap returns the class of the error, if it has one.
func (e *StatusError) Unwrap() error {
	switch {
	case e.isFromProxy(), e.accepted && e.verdict == Unauthorized:
		return nil
	case e.verdict == Unauthorized, e.Status == http.StatusUnauthorized:
		return collector.ErrRefused
	case e.Status == http.StatusForbidden && e.verdict == Fatal:
		return collector.ErrForbidden
	}
	return nil
}

// HasStatus reports whether err is a StatusError with one of the statuses, from
// the vendor: a page of a proxy says nothing about what was requested.
func HasStatus(err error, statuses ...int) bool {
	var s *StatusError
	return errors.As(err, &s) && slices.Contains(statuses, s.Status) && !s.isFromProxy()
}

// IsRedirect reports whether err is a redirect that was not followed, of a request
// or of the token request that it needed.
func IsRedirect(err error) bool {
	var token *authError
	if errors.As(err, &token) {
		err = token.err
	}
	return HasStatus(err, http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect)
}

// verdictOf returns the verdict by the usual rules.
func verdictOf(e *StatusError) Verdict {
	if e.isFromProxy() {
		return proxyVerdict(e)
	}
	switch e.Status {
	case http.StatusTooManyRequests:
		return Limited
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		// Content delivery networks use these when the vendor has a problem.
		520, 521, 522, 523, 524, 529:
		return Transient
	}
	return Fatal
}

// A BodyError means that the body of a successful response is incomplete or
// invalid, or is not what was requested.
type BodyError struct {
	Err error

	cut  bool // the connection failed before the end of the body
	page bool // the body is an HTML page
}

func (e *BodyError) Error() string { return "response: " + e.Err.Error() }

// Unwrap returns the cause and collector.ErrIncomplete.
func (e *BodyError) Unwrap() []error { return []error{e.Err, collector.ErrIncomplete} }

// errTransport means that a request failed on the way to the vendor or back.
var errTransport = errors.New("network")

// transportError returns the reason of a failed request without its address,
// whose query may contain keys.
func transportError(err error) error {
	var u *url.Error
	var host string
	if errors.As(err, &u) {
		err = u.Err
		if address, parseErr := url.Parse(u.URL); parseErr == nil {
			host = address.Host
		}
	}
	if errors.Is(err, errRedirect) {
		return err
	}
	return &networkError{err, host}
}

// networkError is a failure of the network. The timeouts of net/http match
// context.DeadlineExceeded; a networkError does not, because the context of the
// run has not ended and another attempt may succeed.
type networkError struct {
	err  error
	host string // that of the address
}

func (e *networkError) Error() string {
	text := e.err.Error()
	if !strings.Contains(text, e.host) {
		text = e.host + ": " + text
	}
	return "network: " + text
}

func (e *networkError) As(target any) bool { return errors.As(e.err, target) }
func (e *networkError) Is(target error) bool {
	return target == errTransport ||
		target != context.DeadlineExceeded && target != context.Canceled && errors.Is(e.err, target)
}

// retryState is the state of one Do.
type retryState struct {
	began        time.Time
	failures     int         // failed attempts
	period       RetryPeriod // of failures of the network or of the vendor's servers
	unauthorized unauthorizedState
	lastErr      error         // of the last failed attempt
	retryWait    time.Duration // before the current attempt
	statusCounts map[int]int   // unsuccessful responses by status
}

// countStatus counts an unsuccessful response and returns how many had its
// status.
func (retry *retryState) countStatus(status int) int {
	if retry.statusCounts == nil {
		retry.statusCounts = map[int]int{}
	}
	retry.statusCounts[status]++
	return retry.statusCounts[status]
}

// contextError returns the error of a request that was canceled or reached its
// deadline. It includes the last failure and its remedy: that of the token request, if the request
// waits for one, and otherwise its own.
func (retry *retryState) contextError(ctx context.Context, r Request, c *Client) error {
	last := failedAttempt{retry.failures, c.withHint(retry.lastErr)}
	if a, ok := c.Auth.(tokenFetcher); ok {
		if failed := a.failedSince(retry.began); failed.number > 0 || last.err == nil {
			last = failed
		}
	}
	if last.err == nil {
		return fmt.Errorf("%s: %w", r.Step(), context.Cause(ctx))
	}
	// The last failure is not wrapped: the error has the class of the context.
	if last.number == 0 {
		return fmt.Errorf("%s: %w: %v", r.Step(), context.Cause(ctx), last.err)
	}
	return fmt.Errorf("%s: %w after %s, the last: %v", r.Step(), context.Cause(ctx), english.Plural(last.number, "attempt", ""), last.err)
}

// failedAttempt is an attempt at a request that failed.
type failedAttempt struct {
	number int // of the attempt, from 1; 0 for a token request without a response
	err    error
}

// finalError returns the error of a request that is not repeated, with the
// remedy.
func (retry *retryState) finalError(r Request, err error, c *Client) error {
	text := r.Step()
	switch lasted := retry.period.duration(); {
	case lasted >= time.Minute:
		text += fmt.Sprintf(" (%d attempts in %v)", retry.failures, lasted.Round(time.Second))
	case retry.failures > 1:
		text += fmt.Sprintf(" (%d attempts)", retry.failures)
	}
	return fmt.Errorf("%s: %w", text, c.withHint(err))
}

// withHint returns err with what to do about it, if that is known.
func (c *Client) withHint(err error) error {
	if hint := c.hintFor(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

// reportFailing logs a request that has failed for a minute and is repeated. Of
// the requests that fail at the same time, only one is logged.
func (retry *retryState) reportFailing(ctx context.Context, r Request, err error) {
	if retry.period.duration() < longWait {
		return
	}
	until := retry.period.end(ctx)
	if !collector.StatsFrom(ctx).FirstFailing(until) {
		return
	}
	collector.LogFrom(ctx).Warn("a request keeps failing and is repeated", zap.String("request", r.Step()),
		zap.String("until", formatUntil(until)), zap.Error(err))
}

// hintFor returns what to do about err; "" if that is unknown.
func (c *Client) hintFor(err error) string {
	var s *StatusError
	var p *proxyError
	var b *BodyError
	hints := c.Hints
	switch {
	case errors.As(err, &s) && s.isFromProxy():
		hint := c.proxyHint(s)
		if s.verdict == Fatal && hints[s.Status] != "" { // nothing is found at the address
			hint += "; " + hints[s.Status]
		}
		return hint
	case errors.As(err, &s) && s.Status == http.StatusNotModified:
		return "the request had no condition: check the proxy or cache before the vendor"
	case errors.As(err, &s) && s.accepted && s.verdict == Unauthorized:
		return strings.TrimSuffix("the vendor accepted the same credentials before in this run: "+hints[s.Status], ": ")
	case errors.As(err, &s) && hints[s.Status] != "":
		return hints[s.Status]
	case errors.As(err, &s) && (s.Status == http.StatusNotFound || s.Status == http.StatusGone) && c.Address != "":
		return "check " + c.Address
	case errors.As(err, &s):
		return ""
	case errors.As(err, &b) && b.cut, errors.Is(err, errOversize):
		return ""
	case errors.As(err, &b) && b.page:
		return "it may be from a proxy or firewall: check HTTPS_PROXY and " + cmp.Or(c.Address, "the address")
	case errors.As(err, &b) && c.Address != "":
		return "check " + c.Address
	case errors.As(err, &p):
		return "check HTTPS_PROXY, its user and password, and that the proxy allows this host"
	case errors.Is(err, errTransport):
		hint := netadvice.For(err)
		if setting, _, named := strings.Cut(c.Address, ","); named && strings.Contains(hint, "check the address") {
			hint += "; the address is that of " + setting
		}
		return hint
	}
	return ""
}
