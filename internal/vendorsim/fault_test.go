package vendorsim_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestEffects(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	h := s.Host("toy")
	good := string(s.Record("toy_items", 1))
	for name, tc := range map[string]struct {
		do    vendorsim.Effect
		check func(response) bool
	}{
		"status with body and headers": {
			do: vendorsim.Status(503, `{"error":"x"}`, "Retry-After", "7"),
			check: func(r response) bool {
				return r.code == 503 && r.body == `{"error":"x"}` && r.header.Get("Retry-After") == "7" &&
					strings.HasPrefix(r.header.Get("Content-Type"), "application/json")
			},
		},
		"HTML page at 200": {
			do: vendorsim.HTML(200),
			check: func(r response) bool {
				return r.code == 200 && r.header.Get("Content-Type") == "text/html" && r.body == vendorsim.HTMLPage
			},
		},
		"errors array at 200": {
			do: vendorsim.Errors(`say "no"`),
			check: func(r response) bool {
				return r.code == 200 && json.Valid([]byte(r.body)) && strings.Contains(r.body, `"errors":[{`)
			},
		},
		"chunked body without end": {
			do: vendorsim.Truncate(100),
			check: func(r response) bool {
				return r.code == 200 && r.body == good[:100] && errors.Is(r.err, io.ErrUnexpectedEOF)
			},
		},
		"whole body without end of transfer": {
			do:    vendorsim.Truncate(1 << 20),
			check: func(r response) bool { return r.body == good && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"cut in the middle": {
			do:    vendorsim.Truncate(vendorsim.Half),
			check: func(r response) bool { return r.body == good[:len(good)/2] && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"reset in the middle": {
			do:    vendorsim.Reset(100),
			check: func(r response) bool { return errors.Is(r.err, syscall.ECONNRESET) },
		},
		"Content-Length too long": {
			do:    vendorsim.LongLength(10),
			check: func(r response) bool { return r.body == good && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"body cut, transfer whole": {
			do:    vendorsim.CutBody(100),
			check: func(r response) bool { return r.code == 200 && r.err == nil && r.body == good[:100] },
		},
		"gzip cut": {
			do:    vendorsim.CutGzip(vendorsim.Half),
			check: func(r response) bool { return errors.Is(r.err, io.ErrUnexpectedEOF) && strings.HasPrefix(good, r.body) },
		},
		"response lost": {
			do:    vendorsim.LoseResponse(504, "gone"),
			check: func(r response) bool { return r.code == 504 && r.body == "gone" },
		},
		"rewritten": {
			do:    vendorsim.Rewrite(func(b []byte) []byte { return append([]byte("x"), b...) }),
			check: func(r response) bool { return r.body == "x"+good },
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := h.Inject(vendorsim.Fault{Method: "GET", Path: "/items/*", Do: tc.do})
			if r := sendRequest(t, s, "GET", h.URL()+"/items/1", nil); !tc.check(r) {
				t.Errorf("status %d, error %v, %d bytes: %.200q", r.code, r.err, len(r.body), r.body)
			}
			if r := sendRequest(t, s, "GET", h.URL()+"/items/1", nil); r.code != 200 || r.err != nil || r.body != good {
				t.Errorf("fault still active: status %d, error %v", r.code, r.err)
			}
			if in.Hits() != 1 {
				t.Errorf("%d hits, want 1", in.Hits())
			}
		})
	}
}

func TestFaultMatching(t *testing.T) {
	// want holds the indices of the requests that the fault hits.
	paths := []string{"/items/1", "/items/2", "/keys", "/items/1", "/items/3", "/items", "/items/1", "/items/9"}
	for name, tc := range map[string]struct {
		fault vendorsim.Fault
		want  string
	}{
		"first only":       {fault: vendorsim.Fault{}, want: "0"},
		"all":              {fault: vendorsim.Fault{Times: vendorsim.Forever}, want: "01234567"},
		"one segment":      {fault: vendorsim.Fault{Path: "/items/*", Times: vendorsim.Forever}, want: "013467"},
		"route form":       {fault: vendorsim.Fault{Path: "/items/{n}", Times: vendorsim.Forever}, want: "013467"},
		"rest":             {fault: vendorsim.Fault{Path: "/items/**", Times: 3}, want: "013"},
		"exact":            {fault: vendorsim.Fault{Path: "/items", Times: vendorsim.Forever}, want: "5"},
		"third and fourth": {fault: vendorsim.Fault{Path: "/items/*", From: 3, Times: 2}, want: "34"},
		"from third on":    {fault: vendorsim.Fault{From: 3, Times: vendorsim.Forever}, want: "234567"},
		"other method":     {fault: vendorsim.Fault{Method: "POST", Times: vendorsim.Forever}, want: ""},
		"predicate": {
			fault: vendorsim.Fault{When: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "1") }, Times: vendorsim.Forever},
			want:  "036",
		},
		"predicate and nth": {
			fault: vendorsim.Fault{When: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "1") }, From: 2},
			want:  "3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startToy(t, vendorsim.Options{})
			tc.fault.Do = vendorsim.Status(418, "")
			in := s.Host("toy").Inject(tc.fault)
			got := ""
			for i, p := range paths {
				if sendRequest(t, s, "GET", s.VendorURL("toy")+p, nil).code == 418 {
					got += strconv.Itoa(i)
				}
			}
			if got != tc.want || in.Hits() != len(tc.want) {
				t.Errorf("hit %q (%d), want %q", got, in.Hits(), tc.want)
			}
			in.Remove()
			if sendRequest(t, s, "GET", s.VendorURL("toy")+paths[0], nil).code == 418 {
				t.Error("removed fault still hits")
			}
		})
	}
}

func TestRepeatServesTheFirstResponseAgain(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	h := s.Host("toy")
	h.Inject(vendorsim.Fault{Path: "/items/*", From: 2, Times: vendorsim.Forever, Do: vendorsim.Repeat()})
	var got []string
	for _, p := range []string{"/items/1", "/items/2", "/items/3", "/items/4"} {
		got = append(got, sendRequest(t, s, "GET", h.URL()+p, nil).body)
	}
	two := string(s.Record("toy_items", 2))
	if got[0] != string(s.Record("toy_items", 1)) || got[1] != two || got[2] != two || got[3] != two {
		t.Error("responses are not 1, 2, 2, 2")
	}
}

func TestHangLastsUntilTheClientLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		do    vendorsim.Effect
		bytes int
	}{"before the header": {do: vendorsim.Hang(), bytes: 0}, "in mid body": {do: vendorsim.HangAfter(64), bytes: 64}} {
		t.Run(name, func(t *testing.T) {
			s := startToy(t, vendorsim.Options{})
			s.Host("toy").Inject(vendorsim.Fault{Do: tc.do})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", s.VendorURL("toy")+"/items", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := s.Client().Do(req)
			n := 0
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				n = len(body)
				_ = resp.Body.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) || n != tc.bytes {
				t.Errorf("%d bytes, error %v, want %d and a deadline", n, err, tc.bytes)
			}
		})
	}
}

func TestSlowFaultsOnAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{toy{}}, Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		h := s.Host("toy")
		h.Inject(vendorsim.Fault{Do: vendorsim.Slow(90 * time.Second)})
		h.Inject(vendorsim.Fault{From: 1, Do: vendorsim.Drip(1, time.Second)})
		want := s.Record("toy_items", 1)
		for _, wait := range []time.Duration{90 * time.Second, time.Duration(len(want)) * time.Second} {
			began := time.Now()
			resp, err := s.Client().Get(s.VendorURL("toy") + "/items/1")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != string(want) {
				t.Fatalf("%d bytes, error %v", len(body), err)
			}
			if d := time.Since(began); d != wait {
				t.Errorf("took %v, want %v", d, wait)
			}
		}
	})
}
