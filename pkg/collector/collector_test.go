package collector

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDefine(t *testing.T) {
	type settings struct{ Token string }
	s := Define(Info{Name: "okta"}, func(s *settings, o Options) (*Collector, error) {
		return &Collector{Name: s.Token + o.Version}, nil
	})
	filled := s.Settings()
	filled.(*settings).Token = "t"
	if other := s.Settings().(*settings); other.Token != "" {
		t.Error("two settings structs share their memory")
	}
	c, err := s.Open(filled, Options{Version: "1"})
	if err != nil || c.Name != "t1" || s.Name != "okta" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestStatsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Stats)
		if ctx := WithStats(context.Background(), s); StatsFrom(ctx) != s {
			t.Error("StatsFrom does not return the Stats of WithStats")
		}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				attempt := 1
				if i < 10 {
					attempt = 2
				}
				s.CountRequest("GET /x", attempt)
				s.CountResponse(200)
				s.CountReceived(7)
				s.CountBatch(3, 30)
			})
		}
		all.Wait()
		for _, code := range []int{0, 100, 301, 404, 503, 600, 999, -1} {
			s.CountResponse(code)
		}
		time.Sleep(time.Hour)
		r := s.Progress()
		want := Progress{
			Records: 300, Bytes: 3000, Pages: 100, Requests: 100, Retries: 10, Received: 700,
			Statuses: [6]int64{2, 1, 100, 1, 1, 1}, Step: "GET /x", Active: r.Active,
		}
		if r != want {
			t.Errorf("%+v\nwant %+v", r, want)
		}
		if time.Since(r.Active) != time.Hour {
			t.Errorf("active %v ago, want 1h", time.Since(r.Active))
		}
		s.ResetBatches()
		if r := s.Progress(); r.Records != 0 || r.Bytes != 0 || r.Pages != 0 || r.Requests != 100 || r.Received != 700 {
			t.Errorf("after ResetBatches: %+v", r)
		}
	})
}

// TestStatsActivity: something that arrives from the vendor is activity; requests
// and waits are not.
func TestStatsActivity(t *testing.T) {
	for name, tc := range map[string]struct {
		do         func(*Stats)
		wantActive bool
	}{
		"request":     {do: func(s *Stats) { s.CountRequest("GET /x", 1) }},
		"step":        {do: func(s *Stats) { s.SetStep("GET /x") }},
		"no response": {do: func(s *Stats) { s.CountResponse(0) }},
		"no bytes":    {do: func(s *Stats) { s.CountReceived(0) }},
		"response":    {do: func(s *Stats) { s.CountResponse(500) }, wantActive: true},
		"bytes":       {do: func(s *Stats) { s.CountReceived(1) }, wantActive: true},
		"batch":       {do: func(s *Stats) { s.CountBatch(0, 0) }, wantActive: true},
		"wait ends":   {do: func(s *Stats) { s.BeginWait(Wait{Until: time.Now(), For: "x", RateLimit: true})() }, wantActive: true},
		"waiting":     {do: func(s *Stats) { s.BeginWait(Wait{Until: time.Now().Add(time.Hour), For: "x", RateLimit: true}) }},
	} {
		s := new(Stats)
		tc.do(s)
		at := s.Progress().Active
		if active := !at.IsZero(); active != tc.wantActive {
			t.Errorf("%s: active %v, want %v", name, active, tc.wantActive)
		}
		// Otherwise a clock that is set ends the run as idle, or keeps one that hangs.
		if hasMonotonic := strings.Contains(at.String(), " m="); hasMonotonic != tc.wantActive {
			t.Errorf("%s: active at %v, with a monotonic clock reading: %v, want %v", name, at, hasMonotonic, tc.wantActive)
		}
	}
}

func TestStatsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Stats)
		start := time.Now()
		at := func(d time.Duration) time.Time { return start.Add(d) }
		assertWait := func(until time.Duration, what string) {
			t.Helper()
			want := time.Time{}
			if what != "" {
				want = at(until)
			}
			if r := s.Progress(); !r.WaitUntil.Equal(want) || r.WaitFor != what {
				t.Errorf("at %v: waits until %v for %q, want %v for %q", time.Since(start), r.WaitUntil, r.WaitFor, want, what)
			}
		}
		assertWait(0, "")
		short := s.BeginWait(Wait{Until: at(10 * time.Second), For: "rate limit", RateLimit: true})
		assertWait(10*time.Second, "rate limit")
		long := s.BeginWait(Wait{Until: at(time.Minute), For: "export job"})
		assertWait(time.Minute, "export job")
		between := s.BeginWait(Wait{Until: at(30 * time.Second), For: "rate limit", RateLimit: true})
		assertWait(time.Minute, "export job")
		time.Sleep(10 * time.Second)
		short()
		assertWait(time.Minute, "export job")
		long() // canceled
		assertWait(30*time.Second, "rate limit")
		time.Sleep(20 * time.Second)
		between()
		assertWait(0, "")
		if r := s.Progress(); r.Waited != 40*time.Second {
			t.Errorf("waited %v, want 40s", r.Waited)
		}
	})
}

// TestStatsWaitOn: an extraction that waits for another has the activity, the
// waits and the step of the other, and of those that the other waits for.
func TestStatsWaitOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		waiter, middle, worker := new(Stats), new(Stats), new(Stats)
		assertProgress := func(want Progress) {
			t.Helper()
			if got := waiter.Progress(); got != want {
				t.Errorf("after %v: %+v, want %+v", time.Since(start), got, want)
			}
		}
		endWaiter := waiter.BeginWaitOn("a token", middle, nil)
		assertProgress(Progress{WaitFor: "a token"})
		endMiddle := middle.BeginWaitOn("other requests", worker)
		endLoop := worker.BeginWaitOn("other requests", waiter)
		worker.CountRequest("GET /list", 1)
		assertProgress(Progress{WaitFor: "a token", Step: "GET /list"})
		time.Sleep(time.Minute)
		worker.CountReceived(10)
		active := time.Now()
		assertProgress(Progress{WaitFor: "a token", Step: "GET /list", Active: active})
		endRateLimit := worker.BeginWait(Wait{Until: start.Add(time.Hour), For: "rate limit", RateLimit: true})
		assertProgress(Progress{WaitFor: "rate limit", WaitUntil: start.Add(time.Hour), Step: "GET /list", Active: active})
		endMiddle()
		middleActive := time.Now()
		time.Sleep(time.Minute)
		worker.CountReceived(10)
		assertProgress(Progress{WaitFor: "a token", Active: middleActive})
		time.Sleep(time.Minute)
		endWaiter()
		assertProgress(Progress{Active: time.Now()})
		endRateLimit()
		endLoop()
	})
}

func TestNoStats(t *testing.T) {
	s := StatsFrom(context.Background())
	if s != nil {
		t.Fatal(s)
	}
	s.CountRequest("GET /x", 2)
	s.CountResponse(200)
	s.CountReceived(1)
	s.CountBatch(1, 1)
	s.ResetBatches()
	s.SetStep("x")
	s.BeginWait(Wait{Until: time.Now(), For: "x"})()
	s.BeginWait(Wait{Until: time.Now(), For: "x", RateLimit: true})()
	s.BeginWaitOn("x", new(Stats))()
	if r := s.Progress(); r != (Progress{}) {
		t.Errorf("%+v", r)
	}
}
