package rest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

func TestSizeLearns(t *testing.T) {
	type attempt struct {
		took time.Duration
		err  error
		next int
	}
	server := &StatusError{Status: http.StatusGatewayTimeout}
	for name, attempts := range map[string][]attempt{
		"quick pages grow fourfold, to the most":          {{0, nil, 1600}, {0, nil, 5000}, {0, nil, 5000}},
		"slower pages grow as far as they stay quick":     {{2 * time.Second, nil, 1000}, {4 * time.Second, nil, 1250}},
		"slow pages stay":                                 {{5 * time.Second, nil, 400}, {time.Hour, nil, 400}},
		"a failure halves, and its size is not met again": {{0, nil, 1600}, {0, server, 800}, {0, nil, 800}},
		"never below the least":                           {{0, server, 200}, {0, server, 100}, {0, server, 100}, {0, nil, 100}},
		"a cut body halves":                               {{0, &BodyError{Err: errors.New("cut")}, 200}},
		"the network halves":                              {{0, transportError(errors.New("reset")), 200}},
		"other failures say nothing of the size":          {{0, &StatusError{Status: 404}, 400}, {0, &StatusError{Status: 429}, 400}, {0, collector.ErrIdle, 400}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Size{Param: "limit", First: 400, Least: 100, Most: 5000}
			for i, a := range attempts {
				_, size := s.apply(Request{})
				s.learn(size, a.took, a.err)
				r, next := s.apply(Request{Query: url.Values{"q": {"1"}}})
				if next != a.next || r.Query.Get("limit") != strconv.Itoa(next) || r.Query.Get("q") != "1" {
					t.Errorf("attempt %d: the next size is %d, want %d; query %v", i, next, a.next, r.Query)
				}
			}
		})
	}
}

// An attempt that was begun with another size teaches nothing: of many that
// fail at once each would halve it.
func TestSizeLearnsOnce(t *testing.T) {
	s := &Size{Param: "limit", First: 800, Least: 100, Most: 5000}
	_, size := s.apply(Request{})
	for range 5 {
		s.learn(size, 0, &StatusError{Status: 500})
	}
	if _, size = s.apply(Request{}); size != 400 {
		t.Errorf("size %d after five failures at once, want 400", size)
	}
}

// Within one request the size shrinks from attempt to attempt, and the caller
// gets the page that could be served.
func TestSizeOfRequest(t *testing.T) {
	var asked []string
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("limit"))
		if n, err := strconv.Atoi(r.URL.Query().Get("limit")); err != nil || n > 250 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer vendor.Close()
	base, err := url.Parse(vendor.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := Client{Base: base, HTTP: vendor.Client(), Retry: Retry{First: time.Microsecond}}
	r := Request{Path: "/x", Size: &Size{Param: "limit", First: 800, Least: 100, Most: 5000}}
	if err := c.Do(t.Context(), r, func(*Response) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 || asked[0] != "800" || asked[1] != "400" || asked[2] != "200" {
		t.Errorf("asked for %v", asked)
	}
	if r.Query != nil {
		t.Errorf("the request was changed: %v", r.Query)
	}
}
