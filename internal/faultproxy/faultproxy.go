// Package faultproxy provides a TCP proxy that breaks connections on request,
// for tests of clients of real servers.
package faultproxy

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"time"
)

// A Fault defines what happens to a connection. The zero value forwards it
// without a fault.
type Fault struct {
	// Refuse resets the connection before any byte is forwarded.
	Refuse bool
	// CutUp and CutDown reset the connection after that many bytes to the
	// server or to the client. 0 means never.
	CutUp, CutDown int64
	// CutReplyTo resets the connection when the client has sent this text and
	// the server responds: the server has processed the request, but the client
	// receives no response.
	CutReplyTo string
	// StallUp keeps the connection open but forwards nothing to the server
	// after that many bytes. 0 means never.
	StallUp int64
	// Latency delays each piece of data, in both directions.
	Latency time.Duration
}

// A Proxy forwards connections to one server.
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
	healed   chan struct{} // closed by Heal; nil without a partition
}

// New returns a proxy that listens on a free loopback port and forwards
// connections to target.
func New(network, target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{network: network, target: target, listener: l, done: make(chan struct{}), met: make(chan struct{}), open: map[net.Conn]bool{}}
	p.wait.Go(p.acceptConns)
	return p, nil
}

// Addr returns the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port returns the proxy's port.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Set sets the fault of new connections and resets the counts to zero.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.up, p.down, p.fired, p.met = f, 0, 0, 0, make(chan struct{})
}

// Passed returns the number of bytes that were forwarded to the server and to
// clients since Set.
func (p *Proxy) Passed() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

// Fired returns the number of connections that met their fault since Set.
func (p *Proxy) Fired() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fired
}

// Met returns a channel that is closed when the first connection since Set has
// met its fault.
func (p *Proxy) Met() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}

// Conns returns the number of connections that are open now.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) / 2 // one to the client, one to the server
}

// Cut resets all open connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		resetConn(c)
	}
	clear(p.open) // a stalled connection does not notice its end
}

// Partition stops all traffic in both directions, also that of new connections
// and the end of connections, until Heal. No side learns of it.
func (p *Proxy) Partition() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healed == nil {
		p.healed = make(chan struct{})
	}
}

// Heal ends a partition. What was sent meanwhile arrives now.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healed != nil {
		close(p.healed)
		p.healed = nil
	}
}

// waitHealed waits for the end of a partition. It returns false if the proxy is
// closed first.
func (p *Proxy) waitHealed() bool {
	p.mu.Lock()
	healed := p.healed
	p.mu.Unlock()
	if healed == nil {
		return true
	}
	select {
	case <-healed:
		return true
	case <-p.done:
		return false
	}
}

// Close closes the proxy and its connections.
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

func (p *Proxy) acceptConns() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.wait.Go(func() { p.proxyConn(client) })
		}
	}
}

// proxyConn forwards one connection.
func (p *Proxy) proxyConn(client net.Conn) {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault.Refuse {
		p.recordFault()
		resetConn(client)
		return
	}
	if !p.waitHealed() {
		resetConn(client)
		return
	}
	server, err := net.Dial(p.network, p.target)
	if err != nil {
		resetConn(client)
		return
	}
	l := &link{p: p, client: client, server: server, fault: fault}
	if !p.trackConns(client, server) {
		l.resetBoth()
		return
	}
	defer p.closeConns(client, server)
	var both sync.WaitGroup
	both.Go(func() { l.forward(client, server, l.toServer) })
	both.Go(func() { l.forward(server, client, l.toClient) })
	both.Wait()
}

func (p *Proxy) trackConns(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.open[c] = true
	}
	return !p.closed
}

func (p *Proxy) closeConns(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		c.Close()
	}
}

func (p *Proxy) recordFault() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fired++; p.fired == 1 {
		close(p.met)
	}
}

// resetConn closes a connection with a TCP reset.
func resetConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // without it the connection closes in order, which also breaks it
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
	tail     []byte // the last bytes that the client has sent
	replyDue bool   // the client has sent CutReplyTo
	broken   bool
}

// forward copies until the connection ends or breaks. count returns how many
// bytes of a piece may pass, and whether the connection breaks after them.
func (l *link) forward(from, to net.Conn, count func([]byte) (n int, breaks bool)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if !l.p.waitHealed() {
			return
		}
		if n > 0 {
			if !l.p.waitLatency(l.fault.Latency) {
				return
			}
			may, breaks := count(buf[:n])
			if _, err := to.Write(buf[:may]); err != nil {
				l.resetBoth()
				return
			}
			if breaks {
				l.breakLink()
				return
			}
		}
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // it may already be closed
			}
			return
		}
	}
}

// waitLatency waits for d. It returns false if the proxy is closed first.
func (p *Proxy) waitLatency(d time.Duration) bool {
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
	n, breaks := allowedBytes(l.fault.CutUp, before, b)
	l.up += int64(n)
	if want := l.fault.CutReplyTo; want != "" {
		seen := append(l.tail, b[:n]...)
		l.replyDue = l.replyDue || bytes.Contains(seen, []byte(want))
		l.tail = append([]byte(nil), seen[max(0, len(seen)-len(want)+1):]...)
	}
	l.mu.Unlock()
	if may, stalls := allowedBytes(l.fault.StallUp, before, b[:n]); stalls {
		l.p.countBytes(int64(may), 0)
		_, _ = l.server.Write(b[:may]) // bytes that are not accepted are stalled as well
		l.p.recordFault()
		<-l.p.done
		return 0, true
	}
	l.p.countBytes(int64(n), 0)
	return n, breaks
}

func (l *link) toClient(b []byte) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replyDue {
		return 0, true
	}
	n, breaks := allowedBytes(l.fault.CutDown, l.down, b)
	l.down += int64(n)
	l.p.countBytes(0, int64(n))
	return n, breaks
}

// allowedBytes returns how many bytes of b may pass under a limit after before
// bytes, and whether the limit is reached.
func allowedBytes(limit, before int64, b []byte) (int, bool) {
	if limit <= 0 || before+int64(len(b)) < limit {
		return len(b), false
	}
	return int(max(0, limit-before)), true
}

func (p *Proxy) countBytes(up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up += up
	p.down += down
}

// breakLink resets the connection and records its fault.
func (l *link) breakLink() {
	l.mu.Lock()
	first := !l.broken
	l.broken = true
	l.mu.Unlock()
	if first {
		l.p.recordFault()
	}
	l.resetBoth()
}

func (l *link) resetBoth() {
	resetConn(l.client)
	resetConn(l.server)
}
