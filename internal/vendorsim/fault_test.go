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
		check func(reply) bool
	}{
		"status with body and headers": {
			vendorsim.Status(503, `{"error":"x"}`, "Retry-After", "7"),
			func(r reply) bool {
				return r.code == 503 && r.body == `{"error":"x"}` && r.header.Get("Retry-After") == "7" && strings.HasPrefix(r.header.Get("Content-Type"), "application/json")
			},
		},
		"HTML page at 200": {
			vendorsim.HTML(200),
			func(r reply) bool {
				return r.code == 200 && r.header.Get("Content-Type") == "text/html" && r.body == vendorsim.HTMLPage
			},
		},
		"errors array at 200": {
			vendorsim.Errors(`say "no"`),
			func(r reply) bool {
				return r.code == 200 && json.Valid([]byte(r.body)) && strings.Contains(r.body, `"errors":[{`)
			},
		},
		"chunked body without end": {
			vendorsim.Truncate(100),
			func(r reply) bool {
				return r.code == 200 && r.body == good[:100] && errors.Is(r.err, io.ErrUnexpectedEOF)
			},
		},
		"whole body without end of transfer": {
			vendorsim.Truncate(1 << 20),
			func(r reply) bool { return r.body == good && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"cut in the middle": {
			vendorsim.Truncate(vendorsim.Half),
			func(r reply) bool { return r.body == good[:len(good)/2] && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"reset in the middle": {
			vendorsim.Reset(100),
			func(r reply) bool { return errors.Is(r.err, syscall.ECONNRESET) },
		},
		"Content-Length too long": {
			vendorsim.LongLength(10),
			func(r reply) bool { return r.body == good && errors.Is(r.err, io.ErrUnexpectedEOF) },
		},
		"body cut, transfer whole": {
			vendorsim.CutBody(100),
			func(r reply) bool { return r.code == 200 && r.err == nil && r.body == good[:100] },
		},
		"gzip cut": {
			vendorsim.CutGzip(vendorsim.Half),
			func(r reply) bool { return errors.Is(r.err, io.ErrUnexpectedEOF) && strings.HasPrefix(good, r.body) },
		},
		"acted but answered otherwise": {
			vendorsim.Worked(504, "gone"),
			func(r reply) bool { return r.code == 504 && r.body == "gone" },
		},
		"rewritten": {
			vendorsim.Rewrite(func(b []byte) []byte { return append([]byte("x"), b...) }),
			func(r reply) bool { return r.body == "x"+good },
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := h.Inject(vendorsim.Fault{Method: "GET", Path: "/items/*", Do: tc.do})
			if r := call(t, s, "GET", h.URL()+"/items/1", nil); !tc.check(r) {
				t.Errorf("status %d, error %v, %d bytes: %.200q", r.code, r.err, len(r.body), r.body)
			}
			if r := call(t, s, "GET", h.URL()+"/items/1", nil); r.code != 200 || r.err != nil || r.body != good {
				t.Errorf("fault stays: status %d, error %v", r.code, r.err)
			}
			if in.Hits() != 1 {
				t.Errorf("%d hits, want 1", in.Hits())
			}
		})
	}
}

func TestFaultMatching(t *testing.T) {
	// Each case names the requests, of eight, that meet the fault.
	paths := []string{"/items/1", "/items/2", "/keys", "/items/1", "/items/3", "/items", "/items/1", "/items/9"}
	for name, tc := range map[string]struct {
		fault vendorsim.Fault
		want  string
	}{
		"first only":        {vendorsim.Fault{}, "0"},
		"all":               {vendorsim.Fault{Times: vendorsim.Forever}, "01234567"},
		"one segment":       {vendorsim.Fault{Path: "/items/*", Times: vendorsim.Forever}, "013467"},
		"route form":        {vendorsim.Fault{Path: "/items/{n}", Times: vendorsim.Forever}, "013467"},
		"rest":              {vendorsim.Fault{Path: "/items/**", Times: 3}, "013"},
		"exact":             {vendorsim.Fault{Path: "/items", Times: vendorsim.Forever}, "5"},
		"third and fourth":  {vendorsim.Fault{Path: "/items/*", From: 3, Times: 2}, "34"},
		"from third on":     {vendorsim.Fault{From: 3, Times: vendorsim.Forever}, "234567"},
		"other method":      {vendorsim.Fault{Method: "POST", Times: vendorsim.Forever}, ""},
		"predicate":         {vendorsim.Fault{When: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "1") }, Times: vendorsim.Forever}, "036"},
		"predicate and nth": {vendorsim.Fault{When: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "1") }, From: 2}, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startToy(t, vendorsim.Options{})
			tc.fault.Do = vendorsim.Status(418, "")
			in := s.Host("toy").Inject(tc.fault)
			got := ""
			for i, p := range paths {
				if call(t, s, "GET", s.URL("toy")+p, nil).code == 418 {
					got += strconv.Itoa(i)
				}
			}
			if got != tc.want || in.Hits() != len(tc.want) {
				t.Errorf("hit %q (%d), want %q", got, in.Hits(), tc.want)
			}
			in.Remove()
			if call(t, s, "GET", s.URL("toy")+paths[0], nil).code == 418 {
				t.Error("removed fault still hits")
			}
		})
	}
}

func TestRepeatServesTheFirstAnswerAgain(t *testing.T) {
	s := startToy(t, vendorsim.Options{})
	h := s.Host("toy")
	h.Inject(vendorsim.Fault{Path: "/items/*", From: 2, Times: vendorsim.Forever, Do: vendorsim.Repeat()})
	var got []string
	for _, p := range []string{"/items/1", "/items/2", "/items/3", "/items/4"} {
		got = append(got, call(t, s, "GET", h.URL()+p, nil).body)
	}
	two := string(s.Record("toy_items", 2))
	if got[0] != string(s.Record("toy_items", 1)) || got[1] != two || got[2] != two || got[3] != two {
		t.Error("answers are not 1, 2, 2, 2")
	}
}

func TestHangLastsUntilTheClientLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		do    vendorsim.Effect
		bytes int
	}{"before the header": {vendorsim.Hang(), 0}, "in mid body": {vendorsim.HangAfter(64), 64}} {
		t.Run(name, func(t *testing.T) {
			s := startToy(t, vendorsim.Options{})
			s.Host("toy").Inject(vendorsim.Fault{Do: tc.do})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", s.URL("toy")+"/items", nil)
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
			resp, err := s.Client().Get(s.URL("toy") + "/items/1")
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
