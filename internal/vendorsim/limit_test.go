package vendorsim_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func violationKinds(vs []vendorsim.Violation) string {
	var out []string
	for _, v := range vs {
		out = append(out, v.Kind)
	}
	return strings.Join(out, ",")
}

func TestRateLimit(t *testing.T) {
	clock := vendorsim.NewClock(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	s := startToy(t, vendorsim.Options{
		Now:    clock.Now,
		Limits: map[string]vendorsim.LimitNumbers{"toy": {Max: 2, Window: time.Minute}},
	})
	h := s.Host("toy")
	get := func(want int) response {
		t.Helper()
		r := sendRequest(t, s, "GET", h.URL()+"/items/1", nil)
		if r.code != want {
			t.Fatalf("status %d, want %d", r.code, want)
		}
		return r
	}
	if r := get(200); r.header.Get("X-Remaining") != "1" {
		t.Errorf("remaining %q, want 1", r.header.Get("X-Remaining"))
	}
	clock.Advance(10 * time.Second)
	get(200)
	if r := get(429); r.header.Get("Retry-After") != "50" || r.header.Get("X-Remaining") != "0" {
		t.Errorf("headers: %v", r.header)
	}
	if v := h.Stats().Violations; len(v) != 0 {
		t.Errorf("violations before the client is early: %v", v)
	}
	clock.Advance(49 * time.Second)
	get(429)
	clock.Advance(time.Second)
	get(200)
	st := h.Stats()
	if st.Throttled != 2 || violationKinds(st.Violations) != vendorsim.TooEarly {
		t.Errorf("throttled %d, violations %v, want 2 and one too early", st.Throttled, st.Violations)
	}
	h.SetLimit("toy", vendorsim.LimitNumbers{Max: 1, RetryAfter: 2 * time.Second})
	get(200)
	if r := get(429); r.header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q, want 2", r.header.Get("Retry-After"))
	}
}

func TestConcurrencyLimit(t *testing.T) {
	s := startToy(t, vendorsim.Options{Limits: map[string]vendorsim.LimitNumbers{"toy": {Concurrent: 1}}})
	h := s.Host("toy")
	entered, leave := make(chan struct{}), make(chan struct{})
	h.Inject(vendorsim.Fault{Do: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-leave
			next.ServeHTTP(w, r)
		})
	}})
	var wg sync.WaitGroup
	wg.Go(func() {
		if r := sendRequest(t, s, "GET", h.URL()+"/items/1", nil); r.code != 200 {
			t.Errorf("first request: %d", r.code)
		}
	})
	<-entered
	if r := sendRequest(t, s, "GET", h.URL()+"/items/1", nil); r.code != 429 {
		t.Errorf("second request at once: %d, want 429", r.code)
	}
	close(leave)
	wg.Wait()
	if got := violationKinds(h.Stats().Violations); got != vendorsim.TooManyAtOnce {
		t.Errorf("violations %q", got)
	}
}

func TestViolationOfInjectedWaits(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		header []string
		want   string
	}{
		"seconds":      {header: []string{"Retry-After", "30"}, want: vendorsim.TooEarly},
		"date":         {header: []string{"Retry-After", start.Add(30 * time.Second).Format(http.TimeFormat)}, want: vendorsim.TooEarly},
		"epoch":        {header: []string{"X-Ratelimit-RetryAfter", "1772323230"}, want: vendorsim.TooEarly},
		"reset header": {header: []string{"X-Rate-Limit-Reset", "1772323230"}, want: vendorsim.TooEarly},
		"no wait":      {header: nil, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			clock := vendorsim.NewClock(start)
			s := startToy(t, vendorsim.Options{Now: clock.Now})
			h := s.Host("toy")
			h.Inject(vendorsim.Fault{Do: vendorsim.HTML(429, tc.header...)})
			for _, wait := range []time.Duration{0, 29 * time.Second, time.Second} {
				clock.Advance(wait)
				sendRequest(t, s, "GET", h.URL()+"/items/1", nil)
			}
			if got := h.Stats().Violations; violationKinds(got) != tc.want {
				t.Errorf("violations %v, want %q", got, tc.want)
			}
		})
	}
}

func TestViolationAfter401(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	h := s.Host("toy")
	for _, key := range []string{"Bearer good", "Bearer bad", "Bearer good", "Bearer bad"} {
		sendRequest(t, s, "GET", h.URL()+"/keys", nil, "Authorization", key)
	}
	st := h.Stats()
	if violationKinds(st.Violations) != vendorsim.AfterUnauthorized {
		t.Fatalf("violations %v, want one", st.Violations)
	}
	if strings.Contains(st.Violations[0].String(), "bad") {
		t.Error("the violation shows the credential")
	}
	h.Forgive()
	sendRequest(t, s, "GET", h.URL()+"/keys", nil, "Authorization", "Bearer bad")
	if n := len(h.Stats().Violations); n != 1 {
		t.Errorf("%d violations after Forgive, want 1", n)
	}
}
