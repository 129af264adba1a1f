package rest

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// TestCursorLife: a request whose cursor has expired is not repeated, and its
// listing starts again. The first page and cursors that do not expire are
// requested until the vendor is available.
func TestCursorLife(t *testing.T) {
	for _, tc := range []struct {
		name      string
		life      time.Duration
		downFrom  int // the number of the request with which the outage begins
		wantFirst int // successful requests for the first page
		wantErr   bool
		expired   func(error) bool
	}{
		{name: "expires", life: 2 * time.Minute, downFrom: 2, wantFirst: 2, expired: func(error) bool { return false }},
		{name: "expires and cannot start again", life: 2 * time.Minute, downFrom: 2, wantFirst: 1, wantErr: true},
		{name: "does not expire", downFrom: 2, wantFirst: 1},
		{name: "first page", life: 2 * time.Minute, downFrom: 1, wantFirst: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var until time.Time
				requests, first := 0, 0
				c, stop := startInMemory(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if requests++; requests == tc.downFrom {
						until = time.Now().Add(10 * time.Minute)
					}
					switch {
					case time.Now().Before(until):
						respond(503, "")(w, r)
					case r.URL.Query().Get("cursor") == "":
						first++
						respond(200, firstPage)(w, r)
					default:
						respond(200, secondPage)(w, r)
					}
				}))
				defer stop()
				var out MemoryOutput
				began := time.Now()
				_, err := c.Walk(collector.WithRetryTime(t.Context(), 15*time.Minute), Listing{
					Request: Request{Path: "/list"}, Shape: Shape{Records: "data"},
					Pager: Cursor{Path: "next", Param: "cursor", Life: tc.life}, Expired: tc.expired,
				}, &out)
				if first != tc.wantFirst {
					t.Errorf("the first page was read %d times, want %d", first, tc.wantFirst)
				}
				if tc.wantErr {
					if took := time.Since(began); !errors.Is(err, ErrCursorExpired) || !HasStatus(err, 503) || took > 2*time.Minute {
						t.Errorf("error %v after %v, want an expired cursor within 2m", err, took)
					}
					return
				}
				if err != nil || recordTexts(&out) != recordsOf(0, 4) {
					t.Errorf("records %s, error %v", recordTexts(&out), err)
				}
			})
		})
	}
}
