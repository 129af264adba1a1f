package vendorsim_test

import (
	"context"
	"io"
	"iter"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// toy is a minimal vendor that uses all features of the simulator.
type toy struct{}

func (toy) Name() string { return "toy" }

func (toy) Env(url string) []string { return []string{"TOY_URL=" + url} }

func (toy) Specs(g vendorsim.Gen) []vendorsim.Spec {
	return []vendorsim.Spec{{
		Name: "toy_items", Count: 10, Bytes: 2000, HugeBytes: 600 << 10,
		Templates: []string{
			`{"id":"<<id>>","n":<<n>>,"text":"<<text>>"<<edge>>}`,
			`{"n":<<n>>,"id":"<<id>>","other-shape":true,"text":"<<text>>"<<edge>>}`,
		},
		Slots: map[string]vendorsim.Slot{
			"id": func(dst []byte, r vendorsim.Rec) []byte { return vendorsim.AppendUUID(dst, r.Hash) },
			"n":  func(dst []byte, r vendorsim.Rec) []byte { return vendorsim.AppendInt(dst, int64(r.Index)) },
		},
		ID: func(dst []byte, r vendorsim.Rec) []byte { return vendorsim.AppendUUID(dst, r.Hash) },
	}}
}

func (toy) Limits() []vendorsim.Limit {
	return []vendorsim.Limit{{
		Name:    "toy",
		Headers: func(h http.Header, q vendorsim.Quota) { h.Set("X-Remaining", strconv.Itoa(q.Remaining)) },
		Reject: func(w http.ResponseWriter, _ *http.Request, q vendorsim.Quota) {
			w.Header().Set("Retry-After", q.ResetSeconds())
			w.WriteHeader(http.StatusTooManyRequests)
		},
	}}
}

func (toy) Routes(h *vendorsim.Host) *http.ServeMux {
	s := h.Server()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items", func(w http.ResponseWriter, _ *http.Request) {
		_ = s.WriteRecords(w, "[", "toy_items", upTo(s.RecordCount("toy_items")), "]")
	})
	mux.HandleFunc("GET /items/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.PathValue("n"))
		_, _ = w.Write(s.Record("toy_items", n))
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return mux
}

func upTo(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// startToy starts a server with the toy vendor for the duration of a test.
func startToy(t *testing.T, opts vendorsim.Options) *vendorsim.Server {
	t.Helper()
	opts.Vendors = []vendorsim.Vendor{toy{}}
	return startServer(t, opts)
}

func startServer(t *testing.T, opts vendorsim.Options) *vendorsim.Server {
	t.Helper()
	s, err := vendorsim.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// response is a response as far as it could be read.
type response struct {
	code   int
	header http.Header
	body   string
	err    error // of the request or of reading the body
}

// sendRequest sends one request. header holds names and values in turn.
func sendRequest(t *testing.T, s *vendorsim.Server, method, url string, body io.Reader, header ...string) response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return response{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return response{code: resp.StatusCode, header: resp.Header, body: string(b), err: err}
}
