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

// An echo answers each line with the same line and remembers what it heard.
type echo struct {
	l    net.Listener
	wait sync.WaitGroup

	mu    sync.Mutex
	heard strings.Builder
	lines chan string
}

func newEcho(t *testing.T) *echo {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{l: l, lines: make(chan string, 100)}
	e.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.wait.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); e.wait.Wait() })
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		e.mu.Lock()
		e.heard.WriteString(line)
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

func (e *echo) all() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard.String()
}

func start(t *testing.T, f faultproxy.Fault) (*echo, *faultproxy.Proxy, net.Conn) {
	t.Helper()
	e := newEcho(t)
	p, err := faultproxy.New("tcp", e.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.Set(f)
	return e, p, dial(t, p)
}

// dial connects. A proxy that refuses may reset the connection so early that
// dialling fails; then the connection is nil.
func dial(t *testing.T, p *faultproxy.Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return nil
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// talk sends the lines one by one and returns what came back.
func talk(c net.Conn, lines ...string) (string, error) {
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
		heardOnly bool // the server may have heard no more than this
	}{
		{name: "none", got: "one\ntwo\n", heard: "one\ntwo\n"},
		{name: "latency", fault: faultproxy.Fault{Latency: time.Millisecond}, got: "one\ntwo\n", heard: "one\ntwo\n"},
		{name: "refuse", fault: faultproxy.Fault{Refuse: true}, breaks: true, heardOnly: true},
		{name: "cut up", fault: faultproxy.Fault{CutUp: 6}, got: "one\n", breaks: true, heard: "one\n"},
		{name: "cut down", fault: faultproxy.Fault{CutDown: 6}, breaks: true, heard: "one\ntwo\n"},
		{name: "cut the reply", fault: faultproxy.Fault{CutReplyTo: "two"}, got: "one\n", breaks: true, heard: "one\ntwo\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, p, c := start(t, test.fault)
			got, err := talk(c, "one\n", "two\n")
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
			if !strings.HasPrefix(e.all(), test.heard) || test.heardOnly && e.all() != "" {
				t.Errorf("the server heard %q, want %q", e.all(), test.heard)
			}
		})
	}
}

func TestReplyIsFoundAcrossPieces(t *testing.T) {
	e, p, c := start(t, faultproxy.Fault{CutReplyTo: "com\nmit"})
	if _, err := talk(c, "com\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := talk(c, "mit\n"); err == nil {
		t.Fatalf("got %q", got)
	}
	<-e.lines
	<-e.lines
	if p.Fired() != 1 {
		t.Errorf("%d faults met", p.Fired())
	}
}

func TestStall(t *testing.T) {
	e, p, c := start(t, faultproxy.Fault{StallUp: 5})
	if got, err := talk(c, "one\n"); err != nil || got != "one\n" {
		t.Fatal(got, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := talk(c, "two\n"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v, want a connection that is open and silent", err)
	}
	<-p.Met()
	if up, _ := p.Passed(); up != 5 || strings.Contains(e.all(), "two") {
		t.Errorf("%d bytes passed, the server heard %q", up, e.all())
	}
}

func TestCutOpenConnections(t *testing.T) {
	_, p, c := start(t, faultproxy.Fault{})
	if _, err := talk(c, "one\n"); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if got, err := talk(c, "two\n"); err == nil {
		t.Fatalf("got %q", got)
	}
}

func TestDeadServer(t *testing.T) {
	e, _, c := start(t, faultproxy.Fault{})
	_ = e.l.Close()
	_, _ = talk(c, "one\n") // it may have been accepted before
	p, err := faultproxy.New("tcp", e.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if got, err := talk(dial(t, p), "one\n"); err == nil {
		t.Fatalf("got %q", got)
	}
}
