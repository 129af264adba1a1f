package rest

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

func TestSizeLearns(t *testing.T) {
	type attempt struct {
		took     time.Duration
		err      error
		failures int // of the request, this attempt included
		next     int
		after    time.Duration // between this attempt and the next
	}
	timeout := &StatusError{Status: http.StatusGatewayTimeout}
	unavailable := &StatusError{Status: http.StatusServiceUnavailable}
	cut := &BodyError{Err: errors.New("cut")}
	for name, attempts := range map[string][]attempt{
		"fast pages grow fourfold, to the maximum":        {{next: 1600}, {next: 5000}, {next: 5000}},
		"slower pages grow as long as they are fast":      {{took: 2 * time.Second, next: 1000}, {took: 4 * time.Second, next: 1250}},
		"slow pages do not grow":                          {{took: 5 * time.Second, next: 400}, {took: time.Hour, next: 400}},
		"a failure halves; its size is not tried at once": {{next: 1600}, {err: timeout, next: 800}, {next: 800}},
		"it is halved once a minute, to the minimum": {
			{err: timeout, next: 200}, {err: timeout, next: 200, after: time.Minute}, {err: timeout, next: 100, after: time.Minute},
			{err: timeout, next: 100}, {next: 100},
		},
		"a page that is too large halves at once": {{err: &StatusError{Status: 413}, next: 200}, {err: &StatusError{Status: 413}, next: 100}},
		"a network timeout halves":                {{err: transportError(os.ErrDeadlineExceeded), next: 200}},
		"a body that stalls halves":               {{err: &BodyError{Err: errStalled}, next: 200}},
		"an outage does not halve": {
			{err: unavailable, failures: 3, next: 400}, {err: transportError(errors.New("reset")), failures: 8, next: 400},
			{err: transportError(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}), failures: 8, next: 400},
			{err: &StatusError{Status: 502}, failures: 1, next: 400}, {err: cut, failures: 1, next: 400},
		},
		"a server error that persists halves": {{err: &StatusError{Status: 500}, failures: 4, next: 200}},
		"a cut body that persists halves":     {{err: cut, failures: 2, next: 200}},
		"other failures do not change the size": {
			{err: &StatusError{Status: 404}, failures: 8, next: 400}, {err: &StatusError{Status: 429}, failures: 8, next: 400}, {err: collector.ErrIdle, failures: 8, next: 400},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Size{Param: "limit", First: 400, Least: 100, Most: 5000}
				for i, a := range attempts {
					_, size, _ := s.setSize(Request{})
					s.adjust(size, a.took, a.err, a.failures)
					r, next, _ := s.setSize(Request{Query: url.Values{"q": {"1"}}})
					if next != a.next || r.Query.Get("limit") != strconv.Itoa(next) || r.Query.Get("q") != "1" {
						t.Errorf("attempt %d: the next size is %d, want %d; query %v", i, next, a.next, r.Query)
					}
					time.Sleep(a.after)
				}
			})
		})
	}
}

// TestSizeRecovers: a size that failed is tried again after a number of fast
// pages in a row, and later if it fails again.
func TestSizeRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Size{Param: "limit", First: 1000, Least: 100, Most: 5000}
		adjust := func(took time.Duration, err error) int {
			_, size, _ := s.setSize(Request{})
			s.adjust(size, took, err, 1)
			_, size, _ = s.setSize(Request{})
			return size
		}
		// pagesUntil returns the number of fast pages until the size is as wanted.
		pagesUntil := func(want int) (pages int) {
			for pages = 1; adjust(0, nil) != want && pages < 10_000; pages++ {
			}
			return pages
		}
		timeout := &StatusError{Status: http.StatusGatewayTimeout}
		adjust(0, timeout)
		if pages := pagesUntil(1000); pages != 20 {
			t.Errorf("the size doubles after %d pages, want 20", pages)
		}
		time.Sleep(time.Hour)
		adjust(0, timeout)
		for range 30 { // a slow page begins the count again
			adjust(0, nil)
		}
		adjust(time.Minute, nil)
		if pages := pagesUntil(1000); pages != 40 {
			t.Errorf("the size doubles after %d pages, want 40", pages)
		}
		if pages := pagesUntil(5000); pages > 200 {
			t.Errorf("the size reaches its maximum after %d pages, want fewer than 200", pages)
		}
	})
}

// TestSizeAfterOutage: after an outage of all cursors the pages are soon as large
// as before.
func TestSizeAfterOutage(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"503": respond(503, ""), "504": respond(504, ""), "reset": respondRaw("", true),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if down.Load() {
						fault(w, r)
						return
					}
					respond(200, "{}")(w, r)
				}))
				defer stop()
				ctx := collector.WithRetryTime(t.Context(), 15*time.Minute)
				size := &Size{Param: "limit", First: 400, Least: 50, Most: 5000}
				// request makes n requests with each of 8 cursors.
				request := func(n int) {
					var all sync.WaitGroup
					for range 8 {
						all.Go(func() {
							for range n {
								if err := c.Do(ctx, Request{Path: "/x", Size: size}, func(*Response) error { return nil }); err != nil {
									t.Error(err)
								}
							}
						})
					}
					all.Wait()
				}
				request(10)
				down.Store(true)
				time.AfterFunc(12*time.Second, func() { down.Store(false) })
				request(1)
				if _, now, _ := size.setSize(Request{}); now < 2500 {
					t.Errorf("the size is %d after the outage, want 2500 or more", now)
				}
				request(20)
				if _, now, _ := size.setSize(Request{}); now != 5000 {
					t.Errorf("the size is %d after 160 good pages, want 5000", now)
				}
			})
		})
	}
}

// TestSizeLearnsOnce: attempts that started with another size are ignored.
// Otherwise each of many that fail at once would halve the size.
func TestSizeLearnsOnce(t *testing.T) {
	s := &Size{Param: "limit", First: 800, Least: 100, Most: 5000}
	_, size, _ := s.setSize(Request{})
	for range 5 {
		s.adjust(size, 0, &StatusError{Status: 504}, 1)
	}
	if _, size, _ = s.setSize(Request{}); size != 400 {
		t.Errorf("size %d after five failures at once, want 400", size)
	}
}

// TestSizeOfRequest: the size of one request shrinks from attempt to attempt
// until the server can serve the page.
func TestSizeOfRequest(t *testing.T) {
	for _, status := range []int{http.StatusGatewayTimeout, http.StatusInternalServerError, http.StatusRequestEntityTooLarge} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requested []string
				c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requested = append(requested, r.URL.Query().Get("limit"))
					if n, err := strconv.Atoi(r.URL.Query().Get("limit")); err != nil || n > 250 {
						w.WriteHeader(status)
					}
				}))
				defer stop()
				r := Request{Path: "/x", Size: &Size{Param: "limit", First: 800, Least: 100, Most: 5000}}
				ctx := collector.WithRetryTime(t.Context(), 15*time.Minute)
				if err := c.Do(ctx, r, func(*Response) error { return nil }); err != nil {
					t.Fatal(err)
				}
				if got := slices.Compact(requested); !slices.Equal(got, []string{"800", "400", "200"}) {
					t.Errorf("requested %v", got)
				}
				if r.Query != nil {
					t.Errorf("the request was changed: %v", r.Query)
				}
			})
		})
	}
}
