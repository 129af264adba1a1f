package rest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Retry says how often a request is repeated and how long the waits are. Its
// zero value is the default.
type Retry struct {
	// Attempts bounds how often a request is made when the vendor or the
	// network is in trouble; 6 when zero. Waits for a rate limit do not count:
	// only the run's own deadline ends them.
	Attempts int
	// First is the first wait, 1 s when zero; each next one doubles, up to
	// Longest, 60 s when zero. Half of each wait is left to chance.
	First, Longest time.Duration
	// WaitHeaders are the headers in which the vendor says how long to wait or
	// until when, in order; Retry-After when empty.
	WaitHeaders []string
	// MostAsked bounds a wait that the vendor asks for; 15 min when zero.
	MostAsked time.Duration
}

func (p Retry) attempts() int { return orInt(p.Attempts, 6) }

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

// backoff is the wait before attempt n+1, n from 1.
func (p Retry) backoff(n int) time.Duration {
	longest := orDuration(p.Longest, time.Minute)
	d := orDuration(p.First, time.Second)
	for i := 1; i < n && d < longest; i++ {
		d *= 2
	}
	d = min(d, longest)
	return d/2 + rand.N(d/2+1)
}

// again decides whether the request is repeated, and after which wait.
func (c *Client) again(ctx context.Context, t *try, r Request, err error) (time.Duration, bool) {
	t.count++
	var s *StatusError
	var b *BodyError
	switch {
	case errors.As(err, &s):
		return c.againStatus(ctx, t, r, s)
	case errors.Is(err, errOversize):
		return 0, false // it would be as long the next time
	case errors.As(err, &b):
		// A body that broke off was an answer: asking again is as safe as the
		// request itself.
	case errors.Is(err, errTransport):
		if lasting(err) {
			return 0, false
		}
	default:
		return 0, false
	}
	return c.patience(t, r)
}

func (c *Client) againStatus(ctx context.Context, t *try, r Request, s *StatusError) (time.Duration, bool) {
	switch s.verdict {
	case Limited:
		wait, ok := c.Retry.asked(s.Header, time.Now())
		if !ok {
			return c.Retry.backoff(t.count), true
		}
		if t.count > 1 { // being told "now" again and again is no reason to hammer
			wait = max(wait, c.Retry.backoff(t.count-1))
		}
		// A little later than told: at the very instant others wait, too.
		return wait + rand.N(time.Second/2), true
	case Unauthorized:
		if c.Auth == nil || t.renewed {
			return 0, false
		}
		t.renewed = true
		renewed, err := c.Auth.Renew(ctx, s.req)
		return 0, renewed && err == nil
	case Transient:
		wait, again := c.patience(t, r)
		if asked, ok := c.Retry.asked(s.Header, time.Now()); ok {
			wait = max(wait, asked)
		}
		return wait, again
	}
	return 0, false
}

// patience counts an attempt that failed for no fault of ours.
func (c *Client) patience(t *try, r Request) (time.Duration, bool) {
	t.counted++
	if r.Once || t.counted >= c.Retry.attempts() {
		return 0, false
	}
	return c.Retry.backoff(t.counted), true
}

// asked reads how long the vendor asks to wait.
func (p Retry) asked(h http.Header, now time.Time) (time.Duration, bool) {
	names := p.WaitHeaders
	if len(names) == 0 {
		names = []string{"Retry-After"}
	}
	for _, name := range names {
		if wait, ok := parseWait(h.Get(name), sent(h, now)); ok {
			return min(max(wait, 0), orDuration(p.MostAsked, 15*time.Minute)), true
		}
	}
	return 0, false
}

// sent is the vendor's own time of an answer, so that a wrong clock here does
// not spoil what it says about instants.
func sent(h http.Header, now time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return now
}

// parseWait reads a wait in any of the forms that vendors use: seconds, the
// instant as Unix seconds or milliseconds, an HTTP date, or RFC 3339.
func parseWait(text string, now time.Time) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, false
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 && n < 1e14 {
		switch {
		case n > 1e11:
			return time.UnixMilli(int64(n)).Sub(now), true
		case n > 1e8: // as a wait it would be three years
			return time.Unix(int64(n), 0).Sub(now), true
		}
		return time.Duration(n * float64(time.Second)), true
	}
	if t, err := http.ParseTime(text); err == nil {
		return t.Sub(now), true
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.Sub(now), true
	}
	return 0, false
}
