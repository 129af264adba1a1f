package rest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/collectord/collectord/pkg/collector"
)

// A Rate allows N requests in any period of the length Per. If N or Per is
// zero, the Rate is not limited.
type Rate struct {
	N   int
	Per time.Duration
}

// A Limit is what the vendor allows for one class of endpoints.
type Limit struct {
	// Rates all apply at the same time.
	Rates []Rate
	// Concurrent is the largest number of requests at once; unlimited when zero.
	// A rate limit response halves it, once per wait, and successful responses
	// increase it again.
	Concurrent int
	// Quota evaluates the remaining quota in response headers, if it is set.
	Quota Quota
}

// A Quota names the headers that report the remaining requests of a limit that
// other programs share. While less than Reserve of the limit is left, the class
// waits until the limit is reset.
type Quota struct {
	// Standard evaluates the standard headers, in any version of their draft:
	// RateLimit with RateLimit-Policy, or RateLimit-Limit, RateLimit-Remaining
	// and RateLimit-Reset. Limit, Remaining and Reset are then not used.
	Standard bool
	// Limit and Remaining contain numbers. Limit may be a list, such as
	// "160, 160;w=1, 1620;w=60", whose first item is the limit that Remaining
	// refers to. Other values are ignored.
	Limit, Remaining string
	// Reset contains the time of the reset or the number of seconds until then,
	// in any form of Retry.WaitHeaders.
	Reset string
	// Pause is the wait if there is no Reset, as with a sliding window; none
	// when zero.
	Pause time.Duration
	// Reserve is the share of Limit, between 0 and 1, that is left to other
	// programs.
	Reserve float64
	// MaxWait bounds the wait; 60 s when zero.
	MaxWait time.Duration
}

// A Limiter limits the rate of the requests with one set of credentials, of one client or
// several.
type Limiter struct {
	declared map[string]Limit

	mu      sync.Mutex
	classes map[string]*endpointClass
	// shares are those of the clients that share the Limiter.
	shares []weak.Pointer[limitShare]
}

// endpointClass is the state of one endpoint class.
type endpointClass struct {
	limit       Limit
	starts      [][]time.Time // per rate, the start times of the last N requests
	oldest      []int         // per rate, where the oldest of N is; the next start replaces it
	pausedUntil time.Time
	allowed     float64 // how many requests may run now
	running     int
	slotFreed   chan struct{} // closed when a slot may have become free
	// holders are the extractions whose requests have slots, with the numbers of
	// the slots. Those that wait for a slot wait for them.
	holders map[*collector.Stats]int
}

// tokenClass is the class of token requests. No other request may have it: a
// request that needs a token occupies a slot of its own class while the token
// is fetched.
const tokenClass = "token"

// NewLimiter returns a Limiter with a Limit for each endpoint class. The Limit
// of the class "" applies to all classes without a Limit, except for the class
// "token" of the requests for tokens.
func NewLimiter(limits map[string]Limit) *Limiter {
	l := &Limiter{declared: maps.Clone(limits), classes: map[string]*endpointClass{"": newClass(Limit{}), tokenClass: newClass(Limit{})}}
	for name, limit := range limits {
		l.classes[name] = newClass(limit)
	}
	return l
}

func newClass(limit Limit) *endpointClass {
	limit = limit.withoutUnlimited()
	return &endpointClass{
		limit: limit, allowed: float64(limit.Concurrent), slotFreed: make(chan struct{}), holders: map[*collector.Stats]int{},
		starts: make([][]time.Time, len(limit.Rates)), oldest: make([]int, len(limit.Rates)),
	}
}

// withoutUnlimited returns the limit without the rates that limit nothing.
func (l Limit) withoutUnlimited() Limit {
	l.Rates = slices.DeleteFunc(slices.Clone(l.Rates), func(r Rate) bool { return r.N <= 0 || r.Per <= 0 })
	return l
}

func (l *Limiter) classOf(name string) *endpointClass {
	if c, ok := l.classes[name]; ok {
		return c
	}
	return l.classes[""]
}

// acquire waits until a request of the class may start. The caller calls release
// when the request has ended. ready prepares the request. It is called again
// after each wait, because it may itself wait, for example for a token, and
// there must be no wait between the counted start of the request and its start.
func (l *Limiter) acquire(ctx context.Context, name string, ready func() error) (release func(), err error) {
	if l == nil {
		return func() {}, ready()
	}
	l.dropReleased()
	c := l.classOf(name)
	holder := collector.StatsFrom(ctx)
	if err := l.acquireSlot(ctx, c, holder); err != nil {
		return nil, err
	}
	for {
		if err := ready(); err != nil {
			l.releaseSlot(c, holder)
			return nil, err
		}
		wait, requested := l.reserveStart(c, time.Now())
		if wait <= 0 {
			return func() { l.releaseSlot(c, holder) }, nil
		}
		if err := (waiting{what: "rate limit", requested: requested, limited: true}).sleep(ctx, wait); err != nil {
			l.releaseSlot(c, holder)
			return nil, err
		}
	}
}

// acquireSlot waits for a slot of the class, which has Concurrent slots.
func (l *Limiter) acquireSlot(ctx context.Context, c *endpointClass, holder *collector.Stats) error {
	for {
		l.mu.Lock()
		if c.limit.Concurrent == 0 || c.running < max(1, int(c.allowed)) {
			c.running++
			c.holders[holder]++
			l.mu.Unlock()
			return nil
		}
		free, holders := c.slotFreed, slices.Collect(maps.Keys(c.holders))
		l.mu.Unlock()
		if err := WaitOn(ctx, free, "other requests", holders...); err != nil {
			return err
		}
	}
}

func (l *Limiter) releaseSlot(c *endpointClass, holder *collector.Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.running--
	if c.holders[holder]--; c.holders[holder] == 0 {
		delete(c.holders, holder)
	}
	c.wakeWaiting()
}

// wakeWaiting makes the requests that wait for a slot look again. The caller holds mu.
func (e *endpointClass) wakeWaiting() {
	close(e.slotFreed)
	e.slotFreed = make(chan struct{})
}

// reserveStart counts a request that starts now and returns 0, or returns how
// long the request must wait, and whether the vendor asks for that.
func (l *Limiter) reserveStart(c *endpointClass, now time.Time) (wait time.Duration, requested bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait = c.pausedUntil.Sub(now)
	requested = wait > 0
	for i, r := range c.limit.Rates {
		if len(c.starts[i]) < r.N {
			continue
		}
		if oldest := c.starts[i][c.oldest[i]]; oldest.Add(r.Per).Sub(now) > wait {
			wait, requested = oldest.Add(r.Per).Sub(now), false
		}
	}
	if wait > 0 {
		return wait, requested
	}
	for i, r := range c.limit.Rates {
		c.addStart(i, r.N, now)
	}
	return 0, false
}

// addStart adds the start of a request to the last most of a rate.
func (e *endpointClass) addStart(rate, most int, now time.Time) {
	if len(e.starts[rate]) < most {
		e.starts[rate] = append(e.starts[rate], now)
		return
	}
	e.starts[rate][e.oldest[rate]] = now
	e.oldest[rate] = (e.oldest[rate] + 1) % most
}

// pauseClass lets no request of the class start until the given time.
func (l *Limiter) pauseClass(name string, until time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.classOf(name)
	// Requests that were already running when the pause began may get the same
	// response. Only the first one halves the number of slots.
	if !time.Now().Before(c.pausedUntil) {
		c.allowed = max(1, c.allowed/2)
	}
	if until.After(c.pausedUntil) {
		c.pausedUntil = until
	}
}

// observeResponse evaluates the headers of a response.
func (l *Limiter) observeResponse(name string, success bool, h http.Header) {
	if l == nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.classOf(name)
	if success && c.allowed < float64(c.limit.Concurrent) {
		c.allowed = min(float64(c.limit.Concurrent), c.allowed+1/max(1, c.allowed))
	}
	if wait, ok := c.limit.Quota.quotaWait(h, now); ok {
		if until := now.Add(wait); until.After(c.pausedUntil) {
			c.pausedUntil = until
		}
	}
}

// quotaWait returns how long the class must wait, and whether it must.
func (q Quota) quotaWait(h http.Header, now time.Time) (time.Duration, bool) {
	if q.Standard {
		wait, ok := standardWait(h, q.Reserve, q.Pause)
		return min(wait, orDuration(q.MaxWait, time.Minute)), ok && wait > 0
	}
	if q.Remaining == "" {
		return 0, false
	}
	first, _, _ := strings.Cut(h.Get(q.Limit), ",")
	limit, err1 := strconv.ParseFloat(strings.TrimSpace(first), 64)
	left, err2 := strconv.ParseFloat(h.Get(q.Remaining), 64)
	// Some vendors report a limit of zero for limits other than rates.
	if err1 != nil || err2 != nil || limit <= 0 || left > q.Reserve*limit {
		return 0, false
	}
	wait, ok := parseWait(h.Get(q.Reset), serverTime(h, now))
	if !ok {
		wait = q.Pause
	}
	if wait <= 0 {
		return 0, false
	}
	return min(wait, orDuration(q.MaxWait, time.Minute)), true
}
