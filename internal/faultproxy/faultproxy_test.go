package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An echoServer responds to each line with the same line and stores what it has
// received.
type echoServer struct {
	l    net.Listener
	wait sync.WaitGroup

	mu       sync.Mutex
	received strings.Builder
	lines    chan string
}

func startEchoServer(t *testing.T) *echoServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echoServer{l: l, lines: make(chan string, 100)}
	e.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.wait.Go(func() { e.echoConn(c) })
		}
	})
	t.Cleanup(func() { l.Close(); e.wait.Wait() })
	return e
}

func (e *echoServer) echoConn(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		e.mu.Lock()
		e.received.WriteString(line)
		e.mu.Unlock()
		if err != nil {
			return
		}
		e.lines <- line
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

func (e *echoServer) allReceived() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.received.String()
}

func startProxy(t *testing.T, f faultproxy.Fault) (*echoServer, *faultproxy.Proxy, net.Conn) {
	t.Helper()
	e := startEchoServer(t)
	p, err := faultproxy.New("tcp", e.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.Set(f)
	return e, p, dialProxy(t, p)
}

// dialProxy connects to the proxy. It returns nil if dialing fails, because a
// proxy that refuses may reset the connection that early.
func dialProxy(t *testing.T, p *faultproxy.Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return nil
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends the lines one by one and returns the responses.
func exchange(c net.Conn, lines ...string) (string, error) {
	if c == nil {
		return "", net.ErrClosed
	}
	r := bufio.NewReader(c)
	var got strings.Builder
	for _, line := range lines {
		if _, err := io.WriteString(c, line); err != nil {
			return got.String(), err
		}
		back, err := r.ReadString('\n')
		got.WriteString(back)
		if err != nil {
			return got.String(), err
		}
	}
	return got.String(), nil
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name      string
		fault     faultproxy.Fault
		got       string
		breaks    bool
		heard     string
		heardOnly bool // the server must not have received anything else
	}{
		{name: "none", got: "one\ntwo\n", heard: "one\ntwo\n"},
		{name: "latency", fault: faultproxy.Fault{Latency: time.Millisecond}, got: "one\ntwo\n", heard: "one\ntwo\n"},
		{name: "refuse", fault: faultproxy.Fault{Refuse: true}, breaks: true, heardOnly: true},
		{name: "cut up", fault: faultproxy.Fault{CutUp: 6}, got: "one\n", breaks: true, heard: "one\n"},
		{name: "cut down", fault: faultproxy.Fault{CutDown: 6}, breaks: true, heard: "one\ntwo\n"},
		{name: "cut the reply", fault: faultproxy.Fault{CutReplyTo: "two"}, got: "one\n", breaks: true, heard: "one\ntwo\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, p, c := startProxy(t, test.fault)
			got, err := exchange(c, "one\n", "two\n")
			if breaks := err != nil; breaks != test.breaks {
				t.Fatalf("err = %v, want an error: %v", err, test.breaks)
			}
			if !strings.HasPrefix("one\ntwo\n", got) || !strings.HasPrefix(got, test.got) {
				t.Errorf("got %q, want %q", got, test.got)
			}
			if fired := p.Fired(); fired > 1 || (fired == 1) != test.breaks {
				t.Errorf("%d faults met", fired)
			}
			if !test.heardOnly {
				for range strings.Count(test.heard, "\n") {
					<-e.lines
				}
			}
			if !strings.HasPrefix(e.allReceived(), test.heard) || test.heardOnly && e.allReceived() != "" {
				t.Errorf("the server received %q, want %q", e.allReceived(), test.heard)
			}
		})
	}
}

func TestReplyIsFoundAcrossPieces(t *testing.T) {
	e, p, c := startProxy(t, faultproxy.Fault{CutReplyTo: "com\nmit"})
	if _, err := exchange(c, "com\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := exchange(c, "mit\n"); err == nil {
		t.Fatalf("got %q", got)
	}
	<-e.lines
	<-e.lines
	if p.Fired() != 1 {
		t.Errorf("%d faults met", p.Fired())
	}
}

func TestStall(t *testing.T) {
	e, p, c := startProxy(t, faultproxy.Fault{StallUp: 5})
	if got, err := exchange(c, "one\n"); err != nil || got != "one\n" {
		t.Fatal(got, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(c, "two\n"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v, want an open connection without a response", err)
	}
	<-p.Met()
	if up, _ := p.Passed(); up != 5 || strings.Contains(e.allReceived(), "two") {
		t.Errorf("%d bytes passed, the server received %q", up, e.allReceived())
	}
}

func TestCutOpenConnections(t *testing.T) {
	_, p, c := startProxy(t, faultproxy.Fault{})
	if _, err := exchange(c, "one\n"); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if got, err := exchange(c, "two\n"); err == nil {
		t.Fatalf("got %q", got)
	}
}

func TestDeadServer(t *testing.T) {
	e, _, c := startProxy(t, faultproxy.Fault{})
	_ = e.l.Close()
	_, _ = exchange(c, "one\n") // it may already have been accepted
	p, err := faultproxy.New("tcp", e.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got, err := exchange(dialProxy(t, p), "one\n"); err == nil {
		t.Fatalf("got %q", got)
	}
}

// A partition holds up what is sent through open and new connections, and nothing is lost.
func TestPartition(t *testing.T) {
	e, p, c := startProxy(t, faultproxy.Fault{})
	if _, err := exchange(c, "one\n"); err != nil {
		t.Fatal(err)
	}
	p.Partition()
	fresh := dialProxy(t, p)
	for _, conn := range []net.Conn{c, fresh} {
		if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(conn, "two\n"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("err = %v, want an open connection without a response", err)
		}
	}
	if e.allReceived() != "one\n" {
		t.Errorf("the server received %q", e.allReceived())
	}
	p.Heal()
	for _, conn := range []net.Conn{c, fresh} {
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got, err := bufio.NewReader(conn).ReadString('\n'); got != "two\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}
