package e2e_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/test/harness"
)

// A holdingProxy forwards requests to an S3 server. When it is armed, it holds the first PUT
// of an object until it is released, and then makes it whether or not its client has gone.
type holdingProxy struct {
	*httptest.Server
	armed                     atomic.Bool
	arrived, released, passed chan struct{}
}

func newHoldingProxy(t *testing.T, endpoint, key string) *holdingProxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	h := &holdingProxy{arrived: make(chan struct{}), released: make(chan struct{}), passed: make(chan struct{})}
	// The signature is that of the proxy's address.
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/"+key) || !h.armed.CompareAndSwap(true, false) {
			forward.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		close(h.arrived)
		<-h.released
		forward.ServeHTTP(w, r)
		close(h.passed)
	}))
	t.Cleanup(h.Close)
	return h
}

// A process is stopped while it stores a snapshot, for longer than its lease. Another one
// stores a newer snapshot. The write of the first one goes on afterwards: the newer snapshot
// stays, and nothing is queued.
func TestSharedStateOvertaken(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"data/okta_users.json", "backup/okta_users/default.json"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			s := newSharedState(t)
			s.Env["STORE_POSTGRES_URL"], s.Env["STORE_POSTGRES_SCHEMA"], s.Env["STORE_POSTGRES_MODE"] = s.url, s.schema, "replace"
			other := s.onOtherMachine(t)
			proxy := newHoldingProxy(t, s.Env["AWS_ENDPOINT_URL_S3"], key)
			s.Env["AWS_ENDPOINT_URL_S3"] = proxy.URL
			s.AssertResult(s.Run("--once"), harness.ExitOK)

			proxy.armed.Store(true)
			slow := s.Command(t.Context(), "--once")
			var output bytes.Buffer
			slow.Stdout, slow.Stderr = &output, &output
			if err := slow.Start(); err != nil {
				t.Fatal(err)
			}
			<-proxy.arrived
			if err := slow.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2500 * time.Millisecond) // its locks end, and so does the second of its snapshot's time
			s.AssertResult(other.Run("--once"), harness.ExitOK)
			newest := s.Content(s.object(key))
			close(proxy.released)
			<-proxy.passed
			if err := slow.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			err := slow.Wait()
			t.Logf("the process that was stopped: %v", err)
			if got := s.Content(s.object(key)); got != newest {
				t.Errorf("the object was replaced by the process that was stopped:\n%s", output.String())
			}
			s.assertStoredLast(key)
		})
	}
}

// assertStoredLast checks that the object and the table have the last-known snapshot only, and
// that nothing is queued.
func (s *sharedState) assertStoredLast(key string) {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(s.Context())
	var last, table string
	var queued int
	schema := pgx.Identifier{s.schema}.Sanitize()
	err = conn.QueryRow(s.Context(), `SELECT (SELECT s.upload_id FROM `+schema+`.last_known l JOIN `+schema+`.snapshots s ON s.id = l.snapshot),
		(SELECT string_agg(DISTINCT json_data->>'_upload_id', ' ') FROM `+schema+`.okta_users), (SELECT count(*) FROM `+schema+`.deliveries)`).
		Scan(&last, &table, &queued)
	if err != nil {
		s.Fatal(err)
	}
	if n := strings.Count(s.Content(s.object(key)), last); n != s.users || table != last || queued != 0 {
		s.Errorf("the last snapshot is %s: the object has %d of its records, the table has %s, %d deliveries are queued", last, n, table, queued)
	}
}
