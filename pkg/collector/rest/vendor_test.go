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

// asChild makes the test program do something else than tests: the library
// reads the proxy variables once in a process.
const asChild = "REST_TEST_GET"

func TestMain(m *testing.M) {
	if address := os.Getenv(asChild); address != "" {
		base, _ := url.Parse(address)
		c := &Client{Base: base, HTTP: NewHTTP(), Retry: Retry{Attempts: 1}}
		e, err := c.Get(context.Background(), Request{Path: "/x"})
		if err != nil {
			fmt.Println(err)
			os.Exit(0)
		}
		fmt.Println(e.Text("answer"))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// quick keeps the waits of tests on real sockets short.
var quick = Retry{Attempts: 4, First: time.Millisecond, Longest: 2 * time.Millisecond}

// loopback serves h on a real socket and returns a client for it.
func loopback(t *testing.T, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	c := clientOf(t, s.URL)
	t.Cleanup(s.Close)
	t.Cleanup(c.HTTP.CloseIdleConnections)
	return c
}

func clientOf(t *testing.T, address string) *Client {
	t.Helper()
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Base: base, HTTP: NewHTTP(), Retry: quick, UserAgent: "collectord/test"}
}

// inMemory serves h without sockets, for tests whose time is that of a
// synctest bubble. stop must be called before the bubble ends.
func inMemory(t *testing.T, h http.Handler) (_ *Client, stop func()) {
	t.Helper()
	// Let the bubble's clock, which starts in 2000, reach an instant that
	// counts as one when it is written in Unix seconds.
	time.Sleep(26 * 365 * 24 * time.Hour)
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(p) }()
	c := clientOf(t, "http://vendor.test")
	c.Retry = Retry{}
	transport := c.HTTP.Transport.(*http.Transport)
	transport.Proxy = nil
	transport.DialContext = p.dial
	return c, func() {
		transport.CloseIdleConnections()
		_ = s.Close()
	}
}

// pipes is a listener in memory.
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

// script answers the nth request with the nth step, and all later ones with
// the last.
type script struct {
	mu    sync.Mutex
	steps []http.HandlerFunc
	seen  []string // request URIs
	at    []time.Time
}

func steps(s ...http.HandlerFunc) *script { return &script{steps: s} }

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	step := s.steps[min(len(s.seen), len(s.steps)-1)]
	s.seen = append(s.seen, r.URL.RequestURI())
	s.at = append(s.at, time.Now())
	s.mu.Unlock()
	step(w, r)
}

func (s *script) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// says answers with status and body; headers are pairs.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// wire answers with raw bytes and then cuts the connection, by a reset if
// wanted.
func wire(raw string, reset bool) http.HandlerFunc {
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

// recordsOf makes the records n to m-1, joined by commas.
func recordsOf(n, m int) string {
	var all []string
	for ; n < m; n++ {
		all = append(all, fmt.Sprintf(`{"id":%d}`, n))
	}
	return strings.Join(all, ",")
}

// texts are the gathered records.
func texts(g *Gathered) string {
	var all []string
	for _, r := range g.Records() {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}

// mustHold fails the test for each text that err does not hold.
func mustHold(t *testing.T, err error, want ...string) {
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
