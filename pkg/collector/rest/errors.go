package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// A Verdict is what a refusing answer means for the request.
type Verdict int

// The verdicts.
const (
	// Fatal ends the extraction: asking again cannot help.
	Fatal Verdict = iota
	// Transient may pass: the request is repeated a few times.
	Transient
	// Limited asks for patience: the request is repeated after a wait, for as
	// long as the run may take.
	Limited
	// Unauthorized asks for a new token, once.
	Unauthorized
)

// Classify tells what is peculiar about a vendor's answers: it gets an answer
// that is no success with the verdict by the usual rules, and returns its own.
type Classify func(s *StatusError, usual Verdict) Verdict

// A StatusError is an answer that is no success.
type StatusError struct {
	Status int
	Header http.Header
	// Body is the start of the body, up to 2 KB.
	Body []byte
	// Times counts the attempts of this request that were answered with this
	// status, this one included.
	Times int

	verdict Verdict
	req     *http.Request
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if told := e.told(); told != "" {
		text += ": " + told
	}
	return text
}

// told is what the vendor said, in one short line.
func (e *StatusError) told() string {
	text := strings.TrimSpace(string(e.Body))
	if strings.HasPrefix(text, "<") {
		return "(an HTML page)"
	}
	return excerpt(text, 200)
}

// excerpt makes one line of at most max bytes of text.
func excerpt(text string, max int) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\ufffd")), " ")
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "") + cutMark
	}
	return text
}

// Unwrap tells callers which class a status belongs to.
func (e *StatusError) Unwrap() error {
	switch {
	case e.verdict == Unauthorized, e.Status == http.StatusUnauthorized:
		return collector.ErrRefused
	case e.Status == http.StatusForbidden && e.verdict == Fatal:
		return collector.ErrForbidden
	}
	return nil
}

// verdictOf holds the usual rules.
func verdictOf(e *StatusError) Verdict {
	switch e.Status {
	case http.StatusTooManyRequests:
		return Limited
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		// Content delivery networks' own words for a vendor in trouble.
		520, 521, 522, 523, 524, 529:
		return Transient
	}
	return Fatal
}

// A BodyError is a body that was cut, broken, or not what was asked for,
// under a status that says success.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return "answer: " + e.Err.Error() }

// Unwrap returns the cause and marks the answer as worth nothing.
func (e *BodyError) Unwrap() []error { return []error{e.Err, collector.ErrIncomplete} }

// errTransport marks failures between us and the vendor.
var errTransport = errors.New("network")

// transportError names the reason of a failed request without its address,
// whose query may hold keys.
func transportError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, errRedirect) {
		return err
	}
	return &networkError{err}
}

// networkError is a failure of the network. The library's time-outs of
// connections claim to be the end of a context; here they are not, since the
// context of the run goes on and another attempt may succeed.
type networkError struct{ err error }

func (e *networkError) Error() string      { return "network: " + e.err.Error() }
func (e *networkError) As(target any) bool { return errors.As(e.err, target) }
func (e *networkError) Is(target error) bool {
	return target == errTransport ||
		target != context.DeadlineExceeded && target != context.Canceled && errors.Is(e.err, target)
}

// lasting tells failures of the network that no retry mends.
func lasting(err error) bool {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	return errors.As(err, &dns) && dns.IsNotFound ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &record) ||
		errors.Is(err, http.ErrSchemeMismatch)
}

// try is the state of one Do.
type try struct {
	count   int // attempts that failed
	counted int // of these, the ones that wear out the patience
	renewed bool
	last    error         // why the last of them failed
	paused  time.Duration // before the present attempt
	times   map[int]int   // answers by status
}

// met counts an answer that is no success.
func (t *try) met(status int) int {
	if t.times == nil {
		t.times = map[int]int{}
	}
	t.times[status]++
	return t.times[status]
}

// ended makes the error of a request that ran out of time or was called off;
// it says what the vendor did until then.
func (t *try) ended(ctx context.Context, r Request) error {
	if t.last == nil {
		return fmt.Errorf("%s: %w", r.Step(), context.Cause(ctx))
	}
	// The last failure is told, not wrapped: the end is of the context's class.
	return fmt.Errorf("%s: %w after %d attempts, the last: %v", r.Step(), context.Cause(ctx), t.count, t.last)
}

// explain makes the final error of a request.
func (t *try) explain(r Request, err error, hints map[int]string) error {
	text := r.Step()
	if t.count > 1 {
		text += fmt.Sprintf(" (%d attempts)", t.count)
	}
	var s *StatusError
	if errors.As(err, &s) && hints[s.Status] != "" {
		return fmt.Errorf("%s: %w: %s", text, err, hints[s.Status])
	}
	return fmt.Errorf("%s: %w%s", text, err, networkHint(err))
}

// networkHint says what to do about a failure of the network.
func networkHint(err error) string {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return ": check the host's name and DNS"
	case errors.As(err, &unknown):
		return ": add the issuing authority by SSL_CERT_FILE"
	case errors.As(err, &host):
		return ": the certificate is for another name: check the address and HTTPS_PROXY"
	case errors.As(err, &invalid):
		return ": check the dates of the server's certificate and this machine's clock"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return ": the server does not speak TLS there: check the address and HTTPS_PROXY"
	case errors.Is(err, errTransport):
		return ": check the address, the network and HTTPS_PROXY"
	}
	return ""
}
