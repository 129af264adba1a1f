package collector

import (
	"context"
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
		t.Error("two settings share their memory")
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
			t.Error("the context lost them")
		}
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				s.Request("GET /x", i%10 == 0)
				s.Status(200)
				s.Receive(7)
				s.Keep(3, 30)
			})
		}
		all.Wait()
		for _, code := range []int{0, 100, 301, 404, 503, 600, 999, -1} {
			s.Status(code)
		}
		time.Sleep(time.Hour)
		r := s.Read()
		want := Reading{
			Records: 300, Bytes: 3000, Pages: 100, Requests: 100, Retries: 10, Received: 700,
			Statuses: [6]int64{2, 1, 100, 1, 1, 1}, Step: "GET /x", Active: r.Active,
		}
		if r != want {
			t.Errorf("%+v\nwant %+v", r, want)
		}
		if time.Since(r.Active) != time.Hour {
			t.Errorf("active %v ago", time.Since(r.Active))
		}
		s.StartOver()
		if r := s.Read(); r.Records != 0 || r.Bytes != 0 || r.Pages != 0 || r.Requests != 100 || r.Received != 700 {
			t.Errorf("after StartOver: %+v", r)
		}
	})
}

// What arrives is activity; what is asked or waited for is none.
func TestStatsActivity(t *testing.T) {
	for name, f := range map[string]struct {
		do     func(*Stats)
		active bool
	}{
		"request":   {func(s *Stats) { s.Request("GET /x", false) }, false},
		"step":      {func(s *Stats) { s.Step("GET /x") }, false},
		"no answer": {func(s *Stats) { s.Status(0) }, false},
		"no bytes":  {func(s *Stats) { s.Receive(0) }, false},
		"answer":    {func(s *Stats) { s.Status(500) }, true},
		"bytes":     {func(s *Stats) { s.Receive(1) }, true},
		"page":      {func(s *Stats) { s.Keep(0, 0) }, true},
		"wait ends": {func(s *Stats) { s.Wait(time.Now(), "x", true)() }, true},
		"waiting":   {func(s *Stats) { s.Wait(time.Now().Add(time.Hour), "x", true) }, false},
	} {
		s := new(Stats)
		f.do(s)
		if r := s.Read(); r.Active.IsZero() == f.active {
			t.Errorf("%s: %v", name, r.Active)
		}
	}
}

func TestStatsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Stats)
		start := time.Now()
		at := func(d time.Duration) time.Time { return start.Add(d) }
		shown := func(until time.Duration, what string) {
			t.Helper()
			want := time.Time{}
			if what != "" {
				want = at(until)
			}
			if r := s.Read(); !r.WaitUntil.Equal(want) || r.WaitFor != what {
				t.Errorf("at %v: waits until %v for %q, want %v for %q", time.Since(start), r.WaitUntil, r.WaitFor, want, what)
			}
		}
		shown(0, "")
		short := s.Wait(at(10*time.Second), "rate limit", true)
		shown(10*time.Second, "rate limit")
		long := s.Wait(at(time.Minute), "export job", false)
		shown(time.Minute, "export job")
		between := s.Wait(at(30*time.Second), "rate limit", true)
		shown(time.Minute, "export job")
		time.Sleep(10 * time.Second)
		short()
		shown(time.Minute, "export job")
		long() // called off
		shown(30*time.Second, "rate limit")
		time.Sleep(20 * time.Second)
		between()
		shown(0, "")
		if r := s.Read(); r.Waited != 40*time.Second {
			t.Errorf("waited %v", r.Waited)
		}
	})
}

func TestNoStats(t *testing.T) {
	s := StatsFrom(context.Background())
	if s != nil {
		t.Fatal(s)
	}
	s.Request("GET /x", true)
	s.Status(200)
	s.Receive(1)
	s.Keep(1, 1)
	s.StartOver()
	s.Step("x")
	s.Wait(time.Now(), "x", true)()
	if r := s.Read(); r != (Reading{}) {
		t.Errorf("%+v", r)
	}
}
