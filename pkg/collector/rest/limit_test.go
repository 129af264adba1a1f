package rest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/collector"
)

func TestRequestedWaits(t *testing.T) {
	within := func(d time.Duration) [2]time.Duration { return [2]time.Duration{d, d + 500*time.Millisecond} }
	for _, f := range []struct {
		name    string
		headers func(now time.Time) []string
		want    [2]time.Duration
	}{
		{"seconds", func(time.Time) []string { return []string{"Retry-After", "7"} }, within(7 * time.Second)},
		{"fraction", func(time.Time) []string { return []string{"Retry-After", " 1.5 "} }, within(1500 * time.Millisecond)},
		{"zero", func(time.Time) []string { return []string{"Retry-After", "0"} }, within(0)},
		{"date", func(now time.Time) []string {
			return []string{"Retry-After", now.Add(30 * time.Second).Format(http.TimeFormat)}
		}, within(30 * time.Second)},
		{"past date", func(now time.Time) []string {
			return []string{"Retry-After", now.Add(-time.Hour).Format(http.TimeFormat)}
		}, within(0)},
		{"huge", func(time.Time) []string { return []string{"Retry-After", "86400"} }, within(24 * time.Hour)},
		{"huge in another header", func(now time.Time) []string {
			return []string{"X-RateLimit-RetryAfter", fmt.Sprint(now.Unix() + 86400)}
		}, within(time.Minute)},
		{"epoch seconds", func(now time.Time) []string {
			return []string{"X-RateLimit-RetryAfter", fmt.Sprint(now.Unix() + 42)}
		}, within(42 * time.Second)},
		{"epoch milliseconds", func(now time.Time) []string {
			return []string{"X-RateLimit-RetryAfter", fmt.Sprint(now.UnixMilli() + 42_000)}
		}, within(42 * time.Second)},
		{"ISO 8601", func(now time.Time) []string {
			return []string{"X-RateLimit-RetryAfter", now.Add(20 * time.Second).In(time.FixedZone("", 7200)).Format(time.RFC3339)}
		}, within(20 * time.Second)},
		{"the first valid header", func(now time.Time) []string {
			return []string{"X-RateLimit-RetryAfter", "soon", "Retry-After", "9"}
		}, within(9 * time.Second)},
		{"the vendor's clock is an hour ahead", func(now time.Time) []string {
			now = now.Add(time.Hour)
			return []string{"Date", now.Format(http.TimeFormat), "X-RateLimit-RetryAfter", fmt.Sprint(now.Unix() + 20)}
		}, within(20 * time.Second)},
		{"the vendor's clock is an hour behind", func(now time.Time) []string {
			now = now.Add(-time.Hour)
			return []string{"Date", now.Format(http.TimeFormat), "Retry-After", now.Add(20 * time.Second).Format(http.TimeFormat)}
		}, within(20 * time.Second)},
		{"absent", func(time.Time) []string { return nil }, [2]time.Duration{500 * time.Millisecond, time.Second}},
		{"malformed", func(time.Time) []string { return []string{"Retry-After", "60, 30"} }, [2]time.Duration{500 * time.Millisecond, time.Second}},
		{"negative", func(time.Time) []string { return []string{"Retry-After", "-5"} }, [2]time.Duration{500 * time.Millisecond, time.Second}},
		{"infinite", func(time.Time) []string { return []string{"Retry-After", "Inf"} }, [2]time.Duration{500 * time.Millisecond, time.Second}},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(func(w http.ResponseWriter, r *http.Request) {
					respond(429, "slow down", f.headers(time.Now().UTC())...)(w, r)
				}, respond(200, secondPage))
				c, stop := startInMemory(t, s)
				defer stop()
				c.Retry.WaitHeaders = []string{"X-RateLimit-RetryAfter", "Retry-After"}
				c.Retry.MaxWait = time.Minute
				stats := new(collector.Stats)
				start := time.Now()
				if _, err := c.Get(collector.WithStats(context.Background(), stats), Request{Path: "/x"}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < f.want[0] || took > f.want[1] || stats.Progress().Waited != took {
					t.Errorf("took %v, want %v; counted %v", took, f.want, stats.Progress().Waited)
				}
			})
		})
	}
}

func TestTransientRequestedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(respond(503, "", "Retry-After", "120"), respond(200, secondPage))
		c, stop := startInMemory(t, s)
		defer stop()
		start := time.Now()
		if _, err := c.Get(context.Background(), Request{Path: "/x"}); err != nil || time.Since(start) != 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestEndlessRateLimit: if the rate limit does not end, the request ends at the
// deadline with an error that says so.
func TestEndlessRateLimit(t *testing.T) {
	for name, headers := range map[string][]string{
		"silent": nil, "now": {"Retry-After", "0"}, "later": {"Retry-After", "60"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(respond(429, "quota exhausted", headers...))
				c, stop := startInMemory(t, s)
				defer stop()
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				_, err := c.Get(ctx, Request{Path: "/x"})
				assertError(t, err, "GET /x", " attempts", "429 Too Many Requests: quota exhausted")
				if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took < 58*time.Minute || took > time.Hour {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if n := len(s.requests()); n > 130 {
					t.Errorf("%d requests in an hour", n)
				}
			})
		})
	}
}

// TestWaitBeyondTheRun: a wait that the vendor asks for and that ends after the
// run fails the request at once, and so does the next run, which asks again.
func TestWaitBeyondTheRun(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(respond(status, "quota exhausted", "Retry-After", "99999"))
				c, stop := startInMemory(t, s)
				defer stop()
				c.Limits = NewLimiter(nil)
				for range 2 {
					start := time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
					_, err := c.Get(ctx, Request{Path: "/x"})
					cancel()
					assertError(t, err, fmt.Sprint("GET /x: ", status), "quota exhausted: the vendor asks to wait until "+
						start.Add(99999*time.Second).UTC().Format("2006-01-02 15:"), "UTC, which is after the time limit of the run (RUN_TIMEOUT)")
					if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
						t.Errorf("%v after %v", err, time.Since(start))
					}
				}
				if n := len(s.requests()); n != 2 {
					t.Errorf("%d requests, want 2", n)
				}
				// Without a deadline the wait is as long as the vendor asks.
				s.mu.Lock()
				s.steps = append(s.steps, s.steps[0], s.steps[0], respond(200, "{}"))
				s.mu.Unlock()
				start := time.Now()
				if _, err := c.Get(context.Background(), Request{Path: "/x"}); err != nil || time.Since(start) < 99999*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
			})
		})
	}
}

// TestLongWaitsAreLogged: a wait of more than a minute is logged when it begins,
// once for all requests that wait for the same reason, and the progress says
// that the vendor asks for it.
func TestLongWaitsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var until time.Time
		c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if left := time.Until(until); left > 0 {
				respond(429, "slow down", "Retry-After", fmt.Sprint(int(left.Seconds())))(w, r)
				return
			}
			respond(200, "{}")(w, r)
		}))
		defer stop()
		until = time.Now().Add(3 * time.Hour)
		c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 4}})
		core, logs := observer.New(zap.InfoLevel)
		stats := new(collector.Stats)
		ctx := collector.WithLog(collector.WithStats(context.Background(), stats), zap.New(core))
		start := time.Now()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := c.Get(ctx, Request{Path: "/x"}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		if logs.Len() != 1 || logs.All()[0].Message != "waiting as long as the vendor asks" {
			t.Fatalf("the log has %v, want one line about the wait", logs.All())
		}
		want := start.Add(3 * time.Hour).UTC().Format("2006-01-02 15:04:05 UTC")
		if until := logs.All()[0].ContextMap()["until"]; until != want {
			t.Errorf("the log has until %v, want %v", until, want)
		}
		if p := stats.Progress(); !p.WaitRequested || p.WaitUntil.Before(start.Add(3*time.Hour)) {
			t.Errorf("the progress is %+v", p)
		}
		all.Wait()
		if logs.Len() != 1 {
			t.Errorf("the log has %d lines, want 1: %v", logs.Len(), logs.All())
		}
	})
}

// TestRetryTime: a request that fails is repeated for the retry time, with waits
// that grow up to a minute, and the log says so once.
func TestRetryTime(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"503": respond(503, "down"), "reset": respondRaw("", true), "cut": respondRaw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", false),
		"HTML": respond(200, "<html>"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript(fault)
				c, stop := startInMemory(t, s)
				defer stop()
				core, logs := observer.New(zap.InfoLevel)
				ctx := collector.WithRetryTime(collector.WithLog(t.Context(), zap.New(core)), 15*time.Minute)
				stats := new(collector.Stats)
				ctx = collector.WithStats(ctx, stats)
				if name == "reset" { // the address may be wrong until it has worked
					start := time.Now()
					_, err := c.Get(ctx, Request{Path: "/x"})
					assertError(t, err, "GET /x (", " attempts): network: ")
					if took := time.Since(start); took != 30*time.Second {
						t.Errorf("took %v before the address has worked, want 30s", took)
					}
				}
				stats.MarkAccepted()
				s.mu.Lock()
				s.at = nil
				s.mu.Unlock()
				start := time.Now()
				_, err := c.Get(ctx, Request{Path: "/x"})
				assertError(t, err, "GET /x (", " attempts in 15m0s): ")
				if took := time.Since(start); took != 15*time.Minute {
					t.Errorf("took %v, want 15m", took)
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				for i := 1; i < len(s.at); i++ {
					if wait := s.at[i].Sub(s.at[i-1]); wait > time.Minute {
						t.Errorf("wait %d is %v, want at most 1m", i, wait)
					}
				}
				if lines := logs.FilterMessage("a request keeps failing and is repeated").Len(); lines != 1 {
					t.Errorf("the log has %d lines about the failures, want 1", lines)
				}
			})
		})
	}
}

// TestRetryTimeAfterARateLimit: a response with a rate limit shows that the
// vendor is available, so the retry time begins again.
func TestRetryTimeAfterARateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := respond(503, "")
		s := newScript(down, down, respond(429, "", "Retry-After", "3600"), down, down, respond(200, "{}"))
		c, stop := startInMemory(t, s)
		defer stop()
		if _, err := c.Get(collector.WithRetryTime(t.Context(), time.Minute), Request{Path: "/x"}); err != nil {
			t.Error(err)
		}
	})
}

// TestRetryTimeEndsWithTheRun: the deadline of the run ends the attempts.
func TestRetryTimeEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := startInMemory(t, newScript(respond(503, "down")))
		defer stop()
		ctx, cancel := context.WithTimeout(collector.WithRetryTime(t.Context(), 15*time.Minute), 5*time.Minute)
		defer cancel()
		start := time.Now()
		_, err := c.Get(ctx, Request{Path: "/x"})
		assertError(t, err, "GET /x: context deadline exceeded after ", " attempts, the last: 503 Service Unavailable: down")
		if took := time.Since(start); took != 5*time.Minute {
			t.Errorf("took %v, want 5m", took)
		}
	})
}

// TestBackoff: the waits grow up to a maximum, and are partly random.
func TestBackoff(t *testing.T) {
	var p RetryPeriod
	seen := map[time.Duration]bool{}
	for n := 1; n < 100; n++ {
		most := min(time.Second<<min(n-1, 20), time.Minute)
		d := p.backoff(n)
		if d < most/2 || d > most {
			t.Errorf("wait %d is %v, want %v to %v", n, d, most/2, most)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different waits", len(seen))
	}
}

// TestRatesHold: at most N requests start in any period of Per, for several rates
// at once and any behaviour of the callers.
func TestRatesHold(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				limit := Limit{Concurrent: rnd.IntN(6)}
				for range 1 + rnd.IntN(3) {
					limit.Rates = append(limit.Rates, Rate{N: 1 + rnd.IntN(20), Per: time.Duration(1 + rnd.Int64N(int64(time.Minute)))})
				}
				l := NewLimiter(map[string]Limit{"a": limit})
				var mu sync.Mutex
				var sent []time.Time
				var under, most int
				var all sync.WaitGroup
				for range 1 + rnd.IntN(12) {
					pauses := make([]time.Duration, 15)
					for i := range pauses {
						pauses[i] = time.Duration(rnd.Int64N(int64(10 * time.Second)))
					}
					all.Go(func() {
						for _, pause := range pauses {
							ready := func() error { time.Sleep(pause / 7); return nil }
							leave, err := l.acquire(context.Background(), "a", ready)
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							sent = append(sent, time.Now())
							under++
							most = max(most, under)
							mu.Unlock()
							time.Sleep(pause)
							mu.Lock()
							under--
							mu.Unlock()
							leave()
						}
					})
				}
				all.Wait()
				slices.SortFunc(sent, time.Time.Compare)
				for _, r := range limit.Rates {
					for i := r.N; i < len(sent); i++ {
						if d := sent[i].Sub(sent[i-r.N]); d < r.Per {
							t.Fatalf("%d requests within %v, %d are allowed in %v", r.N+1, d, r.N, r.Per)
						}
					}
				}
				if limit.Concurrent > 0 && most > limit.Concurrent {
					t.Errorf("%d at once, want at most %d", most, limit.Concurrent)
				}
			})
		})
	}
}

// TestRatesAreUsed: the limiter does not wait longer than necessary.
func TestRatesAreUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(map[string]Limit{"": {Rates: []Rate{{N: 10, Per: time.Second}, {}, {N: 100, Per: time.Minute}}}})
		start := time.Now()
		for range 200 {
			leave, err := l.acquire(context.Background(), "unnamed", func() error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			leave()
		}
		if took := time.Since(start); took != time.Minute+9*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestRequestsReachTheVendorAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(respond(200, "{}"))
		mux := http.NewServeMux()
		mux.Handle("/", s)
		mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(9 * time.Second) // longer than the rest of a period
			respond(200, `{"access_token":"t","expires_in":15}`)(w, r)
		})
		c, stop := startInMemory(t, mux)
		defer stop()
		tokens := *c
		c.Auth = &ClientCredentials{Client: &tokens, Path: "/token"}
		c.Limits = NewLimiter(map[string]Limit{"": {Rates: []Rate{{N: 3, Per: 10 * time.Second}}}})
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				if _, err := c.Get(context.Background(), Request{Path: "/x"}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i := 3; i < len(s.at); i++ {
			if d := s.at[i].Sub(s.at[i-3]); d < 10*time.Second {
				t.Errorf("4 requests within %v", d)
			}
		}
	})
}

// TestCoolDownIsShared: a rate limit response pauses all requests of the class,
// and no other class.
func TestCoolDownIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(respond(429, "", "Retry-After", "60"), respond(200, "{}"))
		c, stop := startInMemory(t, s)
		defer stop()
		c.Limits = NewLimiter(map[string]Limit{"lists": {}, "others": {}})
		start := time.Now()
		var all sync.WaitGroup
		ask := func(class string, after, least, most time.Duration) {
			all.Go(func() {
				time.Sleep(after)
				if _, err := c.Get(context.Background(), Request{Path: "/x", Class: class}); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < least || took > most {
					t.Errorf("class %s, requested after %v: response after %v", class, after, took)
				}
			})
		}
		ask("lists", 0, time.Minute, 61*time.Second)
		for i := range 5 {
			ask("lists", time.Duration(1+i)*time.Second, time.Minute, 61*time.Second)
		}
		ask("others", time.Second, 0, time.Second)
		all.Wait()
		if n := len(s.requests()); n != 8 {
			t.Errorf("%d requests, want one refused and seven successful", n)
		}
	})
}

func TestConcurrencyHalvesAndGrowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(map[string]Limit{"": {Concurrent: 8}})
		width := func() int { return int(l.classes[""].allowed) }
		cool := func(d time.Duration) { l.pauseClass("", time.Now().Add(d)) }
		for range 8 { // all eight running requests are refused
			cool(time.Minute)
		}
		if width() != 4 {
			t.Errorf("width %d after the first refusals, want 4", width())
		}
		time.Sleep(time.Minute)
		cool(time.Minute)
		if width() != 2 {
			t.Errorf("width %d, want 2", width())
		}
		for range 5 {
			time.Sleep(time.Minute)
			cool(time.Minute)
		}
		if width() != 1 {
			t.Errorf("width %d, want 1", width())
		}
		l.observeResponse("", false, http.Header{})
		if l.classes[""].allowed != 1 {
			t.Error("the number of slots grows after a failure")
		}
		n := 0
		for ; width() < 8 && n < 1000; n++ {
			l.observeResponse("", true, http.Header{})
		}
		if n < 8 || n > 60 {
			t.Errorf("back after %d successes", n)
		}
		for range 100 {
			l.observeResponse("", true, http.Header{})
		}
		if width() != 8 {
			t.Errorf("width %d, want 8", width())
		}
	})
}

func TestConcurrencyAsSeenByTheVendor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under, most, total := 0, 0, 0
		c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			under++
			total++
			most = max(most, under)
			if total == 17 { // the first request after the refusals
				most = under
			}
			n := total
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			under--
			mu.Unlock()
			if n > 8 && n <= 16 {
				respond(429, "", "Retry-After", "10")(w, r)
				return
			}
			respond(200, "{}")(w, r)
		}))
		defer stop()
		c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 8}})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 3 {
					if _, err := c.Get(context.Background(), Request{Path: "/x"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if total != 32 || most < 4 || most > 6 {
			t.Errorf("%d requests, after the refusals at most %d at once", total, most)
		}
	})
}

// TestOneRefusalHalvesOnce: one response halves the slots once, whatever wait it
// requests.
func TestOneRefusalHalvesOnce(t *testing.T) {
	for _, wait := range []string{"", "0", "30"} {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(respond(429, "", "Retry-After", wait), respond(404, ""))
			c, stop := startInMemory(t, s)
			defer stop()
			c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 8}})
			if _, err := c.Get(context.Background(), Request{Path: "/x"}); err == nil {
				t.Error("no error")
			}
			if width := c.Limits.classes[""].allowed; width != 4 {
				t.Errorf("Retry-After %q: width %v, want 4", wait, width)
			}
		})
	}
}

func TestQuota(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	q := Quota{Limit: "L", Remaining: "R", Reset: "T", Reserve: 0.1}
	for _, f := range []struct {
		name               string
		q                  Quota
		limit, left, reset string
		want               time.Duration
		skewed             time.Duration
	}{
		{name: "plenty", q: q, limit: "100", left: "50", reset: "30"},
		{name: "above the reserve", q: q, limit: "100", left: "11", reset: "30"},
		{name: "at the reserve", q: q, limit: "100", left: "10", reset: "30", want: 30 * time.Second},
		{name: "below", q: q, limit: "100", left: "0", reset: "30", want: 30 * time.Second},
		{name: "instant", q: q, limit: "100", left: "5", reset: fmt.Sprint(now.Unix() + 25), want: 25 * time.Second},
		{name: "instant by a wrong clock", q: q, limit: "100", left: "5", reset: fmt.Sprint(now.Unix() + 3600 + 25), want: 25 * time.Second, skewed: time.Hour},
		{name: "instant in the past", q: q, limit: "100", left: "5", reset: fmt.Sprint(now.Unix() - 25)},
		{name: "far", q: q, limit: "100", left: "5", reset: "7200", want: time.Minute},
		{name: "far, allowed", q: Quota{Limit: "L", Remaining: "R", Reset: "T", Reserve: 0.1, MaxWait: time.Hour}, limit: "100", left: "5", reset: "7200", want: time.Hour},
		{name: "no reserve", q: Quota{Limit: "L", Remaining: "R", Reset: "T"}, limit: "100", left: "1", reset: "30"},
		{name: "no reserve, empty", q: Quota{Limit: "L", Remaining: "R", Reset: "T"}, limit: "100", left: "0", reset: "30", want: 30 * time.Second},
		{name: "limit of zero", q: q, limit: "0", left: "0", reset: "30"},
		{name: "a list", q: q, limit: "100, 100;w=60", left: "5", reset: "30", want: 30 * time.Second},
		{name: "malformed", q: q, limit: "a lot", left: "5", reset: "30"},
		{name: "no headers", q: q},
		{name: "no reset", q: q, limit: "100", left: "5"},
		{name: "not read", limit: "100", left: "0", reset: "30"},
	} {
		t.Run(f.name, func(t *testing.T) {
			h := http.Header{"Date": {now.Add(f.skewed).Format(http.TimeFormat)}, "L": {f.limit}, "R": {f.left}, "T": {f.reset}}
			if got, ok := f.q.quotaWait(h, now); got != f.want || ok != (f.want > 0) {
				t.Errorf("%v %v, want %v", got, ok, f.want)
			}
		})
	}
}

func TestQuotaReadsLists(t *testing.T) {
	q := Quota{Limit: "X-Ratelimit-Limit", Remaining: "X-Ratelimit-Remaining", Reset: "X-Ratelimit-Reset", Reserve: 0.05}
	list := `160, 160;w=1;name="a", 1620;w=60;name="b", 97200;w=3600;name="c"`
	for name, tc := range map[string]struct {
		limit, remaining, reset string
		want                    time.Duration
	}{
		"list, plenty left":  {limit: list, remaining: "100", reset: "1"},
		"list, nearly empty": {limit: list, remaining: "8", reset: "1", want: time.Second},
		"plain":              {limit: "160", remaining: "8", reset: "30", want: 30 * time.Second},
		"no number":          {limit: `"default";q=160`, remaining: "0", reset: "30"},
		"remaining absent":   {limit: list, reset: "30"},
		"zeros":              {limit: "0", remaining: "0", reset: "30"},
		"reset absent":       {limit: list, remaining: "0"},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			for name, v := range map[string]string{q.Limit: tc.limit, q.Remaining: tc.remaining, q.Reset: tc.reset} {
				if v != "" {
					h.Set(name, v)
				}
			}
			if got, _ := q.quotaWait(h, time.Now()); got != tc.want {
				t.Errorf("waits %v, want %v", got, tc.want)
			}
		})
	}
}

func TestQuotaPausesTheClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(respond(200, "{}", "X-Limit", "100", "X-Remaining", "3", "X-Reset", "30"), respond(200, "{}"))
		c, stop := startInMemory(t, s)
		defer stop()
		c.Limits = NewLimiter(map[string]Limit{"": {Concurrent: 4, Quota: Quota{Limit: "X-Limit", Remaining: "X-Remaining", Reset: "X-Reset", Reserve: 0.05}}})
		start := time.Now()
		for range 2 {
			if _, err := c.Get(context.Background(), Request{Path: "/x"}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(map[string]Limit{"rate": {Rates: []Rate{{N: 1, Per: time.Hour}}}, "slots": {Concurrent: 1}})
		ready := func() error { return nil }
		cause := errors.New("shutting down")
		for _, name := range []string{"rate", "slots"} {
			leave, err := l.acquire(context.Background(), name, ready)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(cause) })
			start := time.Now()
			if _, err := l.acquire(ctx, name, ready); !errors.Is(err, cause) || time.Since(start) != time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
			leave()
		}
		// A canceled request does not keep its slot.
		leave, err := l.acquire(context.Background(), "slots", ready)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		broken := errors.New("no token")
		if _, err := l.acquire(context.Background(), "slots", func() error { return broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
		leave, err = l.acquire(context.Background(), "slots", ready)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	})
}

// TestClassify: the verdict of Classify replaces the usual one.
func TestClassify(t *testing.T) {
	throttled := func(s *StatusError, usual Verdict) Verdict {
		switch {
		case s.Status == 403 && strings.Contains(string(s.Body), "throttled"):
			return Limited
		case s.Status == 403 && strings.Contains(string(s.Body), "trouble"):
			return Transient
		case s.Status == 404:
			return Transient
		case s.Status == 500:
			return Fatal
		case s.Status == 400:
			return Unauthorized
		}
		return usual
	}
	for _, f := range []struct {
		name      string
		response  http.HandlerFunc
		requests  int
		refused   bool
		forbidden bool
	}{
		{name: "403 that may pass", response: respond(403, "trouble"), requests: 4},
		{name: "403 that is final", response: respond(403, "no"), requests: 1, forbidden: true},
		{name: "404 that may pass", response: respond(404, ""), requests: 4},
		{name: "500 that is final", response: respond(500, ""), requests: 1},
		{name: "400 that refuses", response: respond(400, ""), requests: 1, refused: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := newScript(f.response)
			c := startServer(t, s)
			c.Classify = throttled
			_, err := c.Get(context.Background(), Request{Path: "/x", Query: url.Values{"a": {"b"}}})
			if len(s.requests()) != f.requests || errors.Is(err, collector.ErrRefused) != f.refused || errors.Is(err, collector.ErrForbidden) != f.forbidden {
				t.Errorf("%v after %d requests", err, len(s.requests()))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newScript(respond(403, "throttled", "Retry-After", "30"), respond(200, "{}"))
		c, stop := startInMemory(t, s)
		defer stop()
		c.Classify = throttled
		start := time.Now()
		if _, err := c.Get(context.Background(), Request{Path: "/x", Once: true}); err != nil || time.Since(start) < 30*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
