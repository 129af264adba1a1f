package rest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asChild is the variable that makes the test program make one request instead of
// running tests, because net/http reads the proxy variables once per process.
const asChild = "REST_TEST_GET"

func TestMain(m *testing.M) {
	if address := os.Getenv(asChild); address != "" {
		base, _ := url.Parse(address)
		c := &Client{Base: base, HTTP: NewHTTP(nil), Retry: Retry{attempts: 1}}
		e, err := c.Get(context.Background(), Request{Path: "/x"})
		if err != nil {
			fmt.Println(err)
			os.Exit(0)
		}
		fmt.Println(e.Text("text"))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// testRetry has short waits, for tests with real sockets.
var testRetry = Retry{attempts: 4, First: time.Millisecond, Longest: 2 * time.Millisecond}

// startServer serves h on a real socket and returns its client.
func startServer(t *testing.T, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	c := newTestClient(t, s.URL)
	t.Cleanup(s.Close)
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

func newTestClient(t *testing.T, address string) *Client {
	t.Helper()
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Base: base, HTTP: NewHTTP(nil), Retry: testRetry, UserAgent: "collectord/test"}
}

// startInMemory serves h without sockets, for tests with the fake clock of
// synctest. The caller must call stop before the synctest bubble ends.
func startInMemory(t *testing.T, h http.Handler) (_ *Client, stop func()) {
	t.Helper()
	// The fake clock starts in 2000. Move it to a time whose Unix seconds
	// parseWait recognizes as a time.
	time.Sleep(26 * 365 * 24 * time.Hour)
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(p) }()
	c := newTestClient(t, "http://vendor.test")
	c.Retry = Retry{}
	transport := c.HTTP.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = p.dial
	return c, func() {
		transport.CloseIdleConnections()
		_ = s.Close()
	}
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// scriptedServer is a server whose nth response is the nth step. Later requests
// get the last step.
type scriptedServer struct {
	mu    sync.Mutex
	steps []http.HandlerFunc
	seen  []string // request URIs
	at    []time.Time
}

func newScript(s ...http.HandlerFunc) *scriptedServer { return &scriptedServer{steps: s} }

func (s *scriptedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	step := s.steps[min(len(s.seen), len(s.steps)-1)]
	s.seen = append(s.seen, r.URL.RequestURI())
	s.at = append(s.at, time.Now())
	s.mu.Unlock()
	step(w, r)
}

func (s *scriptedServer) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// respond returns a handler that responds with a status, a body and headers, which
// are pairs of name and value.
func respond(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// respondRaw returns a handler that sends raw bytes and then closes the
// connection, with a reset if reset is set.
func respondRaw(raw string, reset bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		if tcp, ok := conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// recordsOf returns the records n to m-1, separated by commas.
func recordsOf(n, m int) string {
	var all []string
	for ; n < m; n++ {
		all = append(all, fmt.Sprintf(`{"id":%d}`, n))
	}
	return strings.Join(all, ",")
}

// recordTexts returns the records of an output, separated by commas.
func recordTexts(g *MemoryOutput) string {
	var all []string
	for _, r := range g.Records() {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}

// assertError fails the test if err does not contain all texts.
func assertError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", want)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}
