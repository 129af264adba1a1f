package rest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/netadvice"
	"github.com/collectord/collectord/pkg/collector"
)

// Retry controls the waits between the attempts of a request. After server and
// network errors it is repeated for the retry time of the run, see
// collector.WithRetryTime; while a rate limit refuses it, until the run's
// deadline. The zero value has the defaults.
type Retry struct {
	// First and Longest are those of RetryPeriod.
	First, Longest time.Duration
	// WaitHeaders are the headers that say how long or until when to wait, by
	// precedence; Retry-After when empty. RateLimit stands for the standard
	// headers that Quota.Standard evaluates.
	WaitHeaders []string
	// MaxWait bounds a wait that a header other than Retry-After requests, for vendors whose headers
	// are not reliable; not bounded when zero. A wait that ends after the run's
	// deadline fails the request at once.
	MaxWait time.Duration
	// LimitedWait is the first wait after a rate limit that asks for none; it is
	// doubled with each further one, up to 32 times. First when zero.
	LimitedWait time.Duration

	attempts int // for tests: the largest number of attempts; no limit when zero
}

func orInt(n, or int) int {
	if n == 0 {
		return or
	}
	return n
}

func orDuration(d, or time.Duration) time.Duration {
	if d == 0 {
		return or
	}
	return d
}

// period returns a period that has not begun, with the waits of r.
func (r Retry) period() RetryPeriod { return RetryPeriod{First: r.First, Longest: r.Longest} }

// retryPlan is a wait before the next attempt.
type retryPlan struct {
	wait time.Duration
	// requested means that the vendor asks for the wait, and limited that this is
	// because of its rate limit.
	requested, limited bool
}

// planRetry decides whether the request is repeated after err, and after which
// wait.
func (c *Client) planRetry(ctx context.Context, retry *retryState, r Request, err error) (retryPlan, bool) {
	retry.failures++
	var s *StatusError
	var b *BodyError
	switch {
	case errors.As(err, &s):
		return c.planStatusRetry(ctx, retry, r, s)
	case errors.Is(err, errOversize):
		return retryPlan{}, false // it would be as long again
	case errors.As(err, &b):
		// An incomplete body may pass.
	case errors.Is(err, errTransport):
		// A name that was resolved and a certificate that was valid in this
		// extraction will probably be so again.
		if netadvice.IsPermanent(err) && !collector.StatsFrom(ctx).Accepted() {
			return retryPlan{}, false
		}
	default:
		return retryPlan{}, false
	}
	return c.planTimedRetry(ctx, retry, r, err)
}

func (c *Client) planStatusRetry(ctx context.Context, retry *retryState, r Request, s *StatusError) (retryPlan, bool) {
	if s.Status == http.StatusRequestEntityTooLarge && r.Size != nil {
		return c.planTimedRetry(ctx, retry, r, s) // with a smaller page
	}
	switch s.verdict {
	case Limited:
		retry.period.reset() // the vendor's servers are available
		return c.planLimitedRetry(retry, s), true
	case Unauthorized:
		wait, again := c.planUnauthorizedRetry(ctx, retry, s)
		return retryPlan{wait: wait}, again
	case Transient:
		plan, again := c.planTimedRetry(ctx, retry, r, s)
		if requested, ok := c.Retry.requestedWait(s.Header, time.Now()); ok && requested > plan.wait {
			plan = retryPlan{wait: requested, requested: true}
		}
		return plan, again
	}
	return retryPlan{}, false
}

// planLimitedRetry returns the wait for the vendor's rate limit.
func (c *Client) planLimitedRetry(retry *retryState, s *StatusError) retryPlan {
	period := c.Retry.period()
	wait, requested := c.Retry.requestedWait(s.Header, time.Now())
	if !requested {
		wait = max(period.backoff(retry.failures), c.Retry.LimitedWait<<min(retry.failures-1, 5))
		return retryPlan{wait: wait, limited: true}
	}
	if retry.failures > 1 { // the vendor may request no wait again and again
		wait = max(wait, period.backoff(retry.failures-1))
	}
	// Slightly later than requested, because other clients wait for the same time.
	return retryPlan{wait: wait + rand.N(time.Second/2), requested: true, limited: true}
}

// unauthorizedState is the state of one Do for responses that the authorization
// is not valid.
type unauthorizedState struct {
	last    time.Time // of the last such response
	renewed bool      // the authorization was renewed
	waits   int       // waits after which the same authorization was used again
}

// unauthorizedApart is the time after which a refused authorization is no
// consequence of the previous one. A request may wait for hours, in which its
// token expires more than once.
const unauthorizedApart = 5 * time.Minute

// unauthorizedWaits are the waits before the attempts with an authorization
// that was refused, although the vendor accepted the credentials before.
var unauthorizedWaits = [...]time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}

// planUnauthorizedRetry decides about a request whose authorization was
// refused. The authorization is renewed if that is possible. Otherwise, one
// server of the vendor may refuse what the others accept, for a short time.
func (c *Client) planUnauthorizedRetry(ctx context.Context, retry *retryState, s *StatusError) (time.Duration, bool) {
	if c.Auth == nil {
		return 0, false
	}
	state := &retry.unauthorized
	now := time.Now()
	if now.Sub(state.last) > unauthorizedApart {
		*state = unauthorizedState{}
	}
	state.last = now
	if !state.renewed {
		state.renewed = true
		if renewed, err := c.Auth.Renew(ctx, s.req); renewed && err == nil {
			return 0, true
		}
	}
	if !s.accepted || state.waits >= len(unauthorizedWaits) {
		return 0, false
	}
	state.waits++
	return unauthorizedWaits[state.waits-1], true
}

// planTimedRetry decides about a failure of the network or of the vendor's
// servers.
func (c *Client) planTimedRetry(ctx context.Context, retry *retryState, r Request, err error) (retryPlan, bool) {
	if retry.period.failures == 0 {
		retry.period = c.Retry.period()
	}
	wait, again := retry.period.NextWait(ctx, err)
	if r.Once || c.Retry.attempts > 0 && retry.period.failures >= c.Retry.attempts {
		again = false
	}
	return retryPlan{wait: wait}, again
}

// requestedWait returns the wait that the headers request, and whether they do.
func (r Retry) requestedWait(h http.Header, now time.Time) (time.Duration, bool) {
	names := r.WaitHeaders
	if len(names) == 0 {
		names = []string{"Retry-After"}
	}
	for _, name := range names {
		wait, ok := parseWait(h.Get(name), serverTime(h, now))
		if name == "RateLimit" {
			wait, ok = standardWait(h, 0, 0)
			ok = ok && wait > 0
		}
		if ok {
			if name == "Retry-After" { // the vendor's own words
				return max(wait, 0), true
			}
			return min(max(wait, 0), orDuration(r.MaxWait, math.MaxInt64)), true
		}
	}
	return 0, false
}

// serverTime returns the vendor's time of a response, so that the times in its
// headers are evaluated correctly even if the local clock is wrong.
func serverTime(h http.Header, now time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return now
}

// maxWaitSeconds bounds a wait in seconds, so that it is a time.Duration.
const maxWaitSeconds = 100 * 365 * 24 * 3600

// parseWait parses a wait in any of the forms that vendors use: seconds, or a
// time in Unix seconds, in Unix milliseconds, as an HTTP date or in RFC 3339.
func parseWait(text string, now time.Time) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, false
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 && n < 1e14 {
		switch {
		case n > 1e11:
			return time.UnixMilli(int64(n)).Sub(now), true
		case n > 1e8: // a wait of three years is unlikely
			return time.Unix(int64(n), 0).Sub(now), true
		}
		return time.Duration(min(n, maxWaitSeconds) * float64(time.Second)), true
	}
	if t, err := http.ParseTime(text); err == nil {
		return t.Sub(now), true
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.Sub(now), true
	}
	return 0, false
}
