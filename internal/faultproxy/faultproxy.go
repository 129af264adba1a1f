// Package faultproxy is a TCP proxy that breaks connections on request, for
// tests of what talks to servers.
package faultproxy

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"
)

// A Fault is what happens to a connection. The zero value lets it pass.
type Fault struct {
	// Refuse resets the connection before a byte has passed.
	Refuse bool
	// CutUp and CutDown reset it when so many bytes have passed to the server
	// or to the client; 0 means never.
	CutUp, CutDown int64
	// CutReplyTo resets it when the client has sent this text and the server
	// answers: the server has done it, the client never hears so.
	CutReplyTo string
	// StallUp keeps it open without passing anything further to the server
	// after so many bytes; 0 means never.
	StallUp int64
	// Latency delays each piece of data, in both directions.
	Latency time.Duration
}

// A Proxy passes connections on to one server.
type Proxy struct {
	network, target string
	listener        net.Listener
	wait            sync.WaitGroup
	done            chan struct{}

	mu       sync.Mutex
	fault    Fault
	up, down int64
	fired    int
	met      chan struct{} // closed when the first connection meets its fault
	open     map[net.Conn]bool
	closed   bool
}

// New listens on a free loopback port and passes connections to target.
func New(network, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{network: network, target: target, listener: l, done: make(chan struct{}), met: make(chan struct{}), open: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	return p, nil
}

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the proxy's port.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Set gives connections from now on a fault and sets the counts to zero.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.up, p.down, p.fired, p.met = f, 0, 0, 0, make(chan struct{})
}

// Passed returns how many bytes all connections have passed to the server and
// to clients since Set.
func (p *Proxy) Passed() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

// Fired returns how many connections met their fault since Set.
func (p *Proxy) Fired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

// Met is closed when the first connection since Set has met its fault.
func (p *Proxy) Met() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}

// Cut resets all open connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		reset(c)
	}
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.done)
	err := p.listener.Close()
	p.Cut()
	p.wait.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.wait.Go(func() { p.serve(client) })
		}
	}
}

// serve passes one connection.
func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault.Refuse {
		p.fire()
		reset(client)
		return
	}
	server, err := net.Dial(p.network, p.target)
	if err != nil {
		reset(client)
		return
	}
	l := &link{p: p, client: client, server: server, fault: fault}
	if !p.keep(client, server) {
		l.reset()
		return
	}
	defer p.drop(client, server)
	var both sync.WaitGroup
	both.Go(func() { l.pass(client, server, l.toServer) })
	both.Go(func() { l.pass(server, client, l.toClient) })
	both.Wait()
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
	return !p.closed
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		c.Close()
	}
}

func (p *Proxy) fire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fired++; p.fired == 1 {
		close(p.met)
	}
}

// reset closes a connection at once, so that its peer sees it break.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // else it closes in order, which breaks it as well
	}
	c.Close()
}

// A link is one connection through the proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	fault          Fault

	mu       sync.Mutex
	up, down int64
	tail     []byte // the end of what the client has sent
	armed    bool   // CutReplyTo has been seen
	broken   bool
}

// pass copies until the connection ends or breaks. count says how much of a
// piece may pass and whether the connection breaks there.
func (l *link) pass(from, to net.Conn, count func([]byte) (n int, breaks bool)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !l.p.delay(l.fault.Latency) {
				return
			}
			may, breaks := count(buf[:n])
			if _, err := to.Write(buf[:may]); err != nil {
				l.reset()
				return
			}
			if breaks {
				l.snap()
				return
			}
		}
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // it may be closed already
			}
			return
		}
	}
}

// delay waits and returns false when the proxy closes.
func (p *Proxy) delay(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-p.done:
		return false
	}
}

func (l *link) toServer(b []byte) (int, bool) {
	l.mu.Lock()
	before := l.up
	n, breaks := upTo(l.fault.CutUp, before, b)
	l.up += int64(n)
	if want := l.fault.CutReplyTo; want != "" {
		seen := append(l.tail, b[:n]...)
		l.armed = l.armed || bytes.Contains(seen, []byte(want))
		l.tail = append([]byte(nil), seen[max(0, len(seen)-len(want)+1):]...)
	}
	l.mu.Unlock()
	if may, stalls := upTo(l.fault.StallUp, before, b[:n]); stalls {
		l.p.count(int64(may), 0)
		_, _ = l.server.Write(b[:may]) // what it does not take is stalled as well
		l.p.fire()
		<-l.p.done
		return 0, true
	}
	l.p.count(int64(n), 0)
	return n, breaks
}

func (l *link) toClient(b []byte) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.armed {
		return 0, true
	}
	n, breaks := upTo(l.fault.CutDown, l.down, b)
	l.down += int64(n)
	l.p.count(0, int64(n))
	return n, breaks
}

// upTo says how much of b passes when limit bytes may and before have.
func upTo(limit, before int64, b []byte) (int, bool) {
	if limit <= 0 || before+int64(len(b)) < limit {
		return len(b), false
	}
	return int(max(0, limit-before)), true
}

func (p *Proxy) count(up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up += up
	p.down += down
}

// snap resets the connection for its fault.
func (l *link) snap() {
	l.mu.Lock()
	first := !l.broken
	l.broken = true
	l.mu.Unlock()
	if first {
		l.p.fire()
	}
	l.reset()
}

func (l *link) reset() {
	reset(l.client)
	reset(l.server)
}
