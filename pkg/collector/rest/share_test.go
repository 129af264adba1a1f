package rest

import (
	"net/http"
	"net/url"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// newSharing returns a client whose requests per minute and at once are limited, and shared
// by a key.
func newSharing(shared *collector.Shared, key string, perMinute, concurrent int) *Client {
	c := &Client{
		Base: &url.URL{Scheme: "https", Host: "api.test"}, Auth: Bearer(key),
		Limits: NewLimiter(map[string]Limit{"": {Concurrent: concurrent, Rates: []Rate{{N: perMinute, Per: time.Minute}}}}),
	}
	c.Share(shared)
	return c
}

// TestLowestLimitsApply checks that clients with one credential have together the lowest of
// their limits, that earlier requests count, and that the limits of a client end with it.
func TestLowestLimitsApply(t *testing.T) {
	var shared collector.Shared
	synctest.Test(t, func(t *testing.T) {
		requests := func(c *Client) (n int) {
			for {
				if wait, _ := c.Limits.reserveStart(c.Limits.classOf(""), time.Now()); wait > 0 {
					return n
				}
				n++
			}
		}
		high := newSharing(&shared, "key", 60, 8)
		if n := requests(high); n != 60 {
			t.Errorf("%d requests in a minute, want 60", n)
		}
		time.Sleep(time.Minute)
		low := newSharing(&shared, "key", 10, 2)
		other := newSharing(&shared, "other key", 60, 8)
		if high.Limits != low.Limits || other.Limits == low.Limits {
			t.Fatal("one Limiter is not that of one key")
		}
		if n := requests(high) + requests(low); n != 10 {
			t.Errorf("%d requests in a minute, want 10", n)
		}
		if class := low.Limits.classOf(""); class.limit.Concurrent != 2 || class.allowed != 2 {
			t.Errorf("%d requests at once, %v allowed, want 2", class.limit.Concurrent, class.allowed)
		}
		runtime.KeepAlive(low)
		time.Sleep(30 * time.Second)
		waitForRelease(t, high.Limits)
		if n := requests(high); n != 50 { // 10 of the minute before
			t.Errorf("%d further requests after the client with the lower limits was released, want 50", n)
		}
		if class := high.Limits.classOf(""); class.limit.Concurrent != 8 || class.allowed != 8 {
			t.Errorf("%d requests at once, %v allowed, want 8", class.limit.Concurrent, class.allowed)
		}
		runtime.KeepAlive(high)
	})
}

// waitForRelease collects garbage until a Limiter has one client.
func waitForRelease(t *testing.T, l *Limiter) {
	t.Helper()
	for range 100 {
		runtime.GC()
		if l.dropReleased(); len(l.shares) == 1 {
			return
		}
	}
	t.Fatal("the client is not released")
}

// BenchmarkShareLimits shares the limits of one credential by 100 clients, as at the start of a
// service with 100 tenancies.
func BenchmarkShareLimits(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var shared collector.Shared
		clients := make([]*Client, 100)
		for i := range clients {
			clients[i] = newSharing(&shared, "key", 1620, 8)
		}
		runtime.KeepAlive(clients)
	}
}

// A vendor whose responses must begin sooner has connections of its own: it does not change those
// of the others.
func TestNewHTTPWithin(t *testing.T) {
	with := &collector.Shared{}
	usual := NewHTTP(with)
	within := NewHTTPWithin(with, time.Minute)
	again := NewHTTPWithin(with, time.Minute)
	if usual.Transport == within.Transport || within.Transport != again.Transport || NewHTTP(with).Transport != usual.Transport {
		t.Error("the transports are not shared by the time that a response may take")
	}
	if got := within.Transport.(*http.Transport).ResponseHeaderTimeout; got != time.Minute {
		t.Errorf("a response must begin within %v, want a minute", got)
	}
	if got := usual.Transport.(*http.Transport).ResponseHeaderTimeout; got != 5*time.Minute {
		t.Errorf("other responses must begin within %v, want 5 minutes", got)
	}
}
