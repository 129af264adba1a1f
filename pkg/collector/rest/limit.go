package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Rate allows N requests in any span of Per; one with a zero in it allows
// any number.
type Rate struct {
	N   int
	Per time.Duration
}

// A Limit is what one class of endpoints permits.
type Limit struct {
	// Rates all hold at the same time.
	Rates []Rate
	// Concurrent bounds the requests under way at once; nothing does when it is
	// zero. An answer that asks for patience halves it, once per wait, and
	// successes let it grow back.
	Concurrent int
	// Quota reads what the vendor says is left; the zero Quota reads nothing.
	Quota Quota
}

// A Quota names the headers in which a vendor says what is left of a bucket
// that other programs draw from, too. When less than Reserve of it is left,
// the class waits until the bucket is full again.
type Quota struct {
	// Limit and Remaining hold plain numbers. Limit may be a list, such as
	// "160, 160;w=1, 1620;w=60", whose first item is the bucket that Remaining
	// is about. Anything else is passed over.
	Limit, Remaining string
	// Reset holds the instant or the number of seconds until the bucket is
	// full, in any form of Retry.WaitHeaders.
	Reset string
	// Pause is the wait where the vendor names no Reset, as with a window that
	// slides; none when zero.
	Pause time.Duration
	// Reserve is the share of Limit, between 0 and 1, that is left to others.
	Reserve float64
	// Most bounds the wait; 60 s when zero.
	Most time.Duration
}

// A Limiter paces the requests of one credential. Collectors that share a
// credential share its Limiter.
type Limiter struct {
	mu      sync.Mutex
	classes map[string]*class
}

// class is the state of one endpoint class.
type class struct {
	limit    Limit
	sent     [][]time.Time // per rate, a ring of the last N starts
	next     []int
	coolEnds time.Time
	width    float64 // how many may be under way now
	under    int
	free     chan struct{} // closed when a place may have become free
}

// tokenClass is the class of token requests. It is never that of another
// request: one that needs a token holds a place of its own class while the
// token is fetched.
const tokenClass = "token"

// NewLimiter makes a Limiter with a Limit for each endpoint class. Requests
// of a class that is not named are paced by the class "", except those for
// tokens, whose class is "token".
func NewLimiter(limits map[string]Limit) *Limiter {
	l := &Limiter{classes: map[string]*class{"": newClass(Limit{}), tokenClass: newClass(Limit{})}}
	for name, limit := range limits {
		l.classes[name] = newClass(limit)
	}
	return l
}

func newClass(limit Limit) *class {
	limit.Rates = slices.DeleteFunc(slices.Clone(limit.Rates), func(r Rate) bool { return r.N <= 0 || r.Per <= 0 })
	c := &class{limit: limit, width: float64(limit.Concurrent), free: make(chan struct{})}
	for _, r := range limit.Rates {
		c.sent = append(c.sent, make([]time.Time, r.N))
	}
	c.next = make([]int, len(limit.Rates))
	return c
}

func (l *Limiter) class(name string) *class {
	if c, ok := l.classes[name]; ok {
		return c
	}
	return l.classes[""]
}

// enter waits until a request of the class may start; release is called when
// it has ended. ready makes the request, and again after each wait: what it
// waits for itself, such as a token, must not come between the moment that is
// counted and the sending.
func (l *Limiter) enter(ctx context.Context, name string, ready func() error) (release func(), err error) {
	if l == nil {
		return func() {}, ready()
	}
	c := l.class(name)
	if err := l.place(ctx, c); err != nil {
		return nil, err
	}
	for {
		if err := ready(); err != nil {
			l.leave(c)
			return nil, err
		}
		wait := l.start(c, time.Now())
		if wait <= 0 {
			return func() { l.leave(c) }, nil
		}
		if err := Sleep(ctx, wait, "rate limit", true); err != nil {
			l.leave(c)
			return nil, err
		}
	}
}

// place waits for one of the class's concurrent places.
func (l *Limiter) place(ctx context.Context, c *class) error {
	for {
		l.mu.Lock()
		if c.limit.Concurrent == 0 || c.under < max(1, int(c.width)) {
			c.under++
			l.mu.Unlock()
			return nil
		}
		free := c.free
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-free:
		}
	}
}

func (l *Limiter) leave(c *class) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.under--
	close(c.free)
	c.free = make(chan struct{})
}

// start notes a request that starts now, or returns how long it must wait.
func (l *Limiter) start(c *class, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := c.coolEnds.Sub(now)
	for i, r := range c.limit.Rates {
		if oldest := c.sent[i][c.next[i]]; !oldest.IsZero() {
			wait = max(wait, oldest.Add(r.Per).Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for i := range c.sent {
		c.sent[i][c.next[i]] = now
		c.next[i] = (c.next[i] + 1) % len(c.sent[i])
	}
	return 0
}

// cool keeps the whole class from starting requests until then.
func (l *Limiter) cool(name string, until time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.class(name)
	// Answers to requests that were under way when a wait began say the same
	// once more; they are no reason to halve again.
	if !time.Now().Before(c.coolEnds) {
		c.width = max(1, c.width/2)
	}
	if until.After(c.coolEnds) {
		c.coolEnds = until
	}
}

// learn reads an answer's headers; good tells that it is a success.
func (l *Limiter) learn(name string, good bool, h http.Header) {
	if l == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.class(name)
	if good && c.width < float64(c.limit.Concurrent) {
		c.width = min(float64(c.limit.Concurrent), c.width+1/max(1, c.width))
	}
	if wait, ok := c.limit.Quota.wait(h, now); ok {
		if until := now.Add(wait); until.After(c.coolEnds) {
			c.coolEnds = until
		}
	}
}

// wait tells how long to leave the bucket alone, when it is nearly empty.
func (q Quota) wait(h http.Header, now time.Time) (time.Duration, bool) {
	if q.Remaining == "" {
		return 0, false
	}
	first, _, _ := strings.Cut(h.Get(q.Limit), ",")
	limit, err1 := strconv.ParseFloat(strings.TrimSpace(first), 64)
	left, err2 := strconv.ParseFloat(h.Get(q.Remaining), 64)
	// A limit of zero is a vendor's way to report another limit than a rate.
	if err1 != nil || err2 != nil || limit <= 0 || left > q.Reserve*limit {
		return 0, false
	}
	wait, ok := parseWait(h.Get(q.Reset), sent(h, now))
	if !ok {
		wait = q.Pause
	}
	if wait <= 0 {
		return 0, false
	}
	return min(wait, orDuration(q.Most, time.Minute)), true
}
