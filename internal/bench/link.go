package main

import (
	"context"
	"net"
	"sync"

	limiter "golang.org/x/time/rate"
)

// linkChunk is the largest number of bytes that are forwarded at once.
const linkChunk = 64 << 10

// A link is a proxy for connections to a server. It limits the bytes per second
// of all connections together in each direction, as a network does.
type link struct {
	listener net.Listener
	target   string
	up, down *limiter.Limiter
	wait     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
}

func newLink(target string, bytesPerSecond int) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	limit := func() *limiter.Limiter { return limiter.NewLimiter(limiter.Limit(bytesPerSecond), linkChunk) }
	l := &link{listener: listener, target: target, up: limit(), down: limit(), open: map[net.Conn]bool{}}
	l.wait.Go(l.acceptConns)
	return l, nil
}

func (l *link) addr() string { return l.listener.Addr().String() }

func (l *link) acceptConns() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = client.Close() // the client sees its connection end
			continue
		}
		l.trackConns(client, server)
		l.wait.Go(func() { copyLimited(server, client, l.up) })
		l.wait.Go(func() { copyLimited(client, server, l.down) })
	}
}

func (l *link) trackConns(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.open[c] = true
	}
}

// copyLimited copies until one side closes, then closes both.
func copyLimited(to, from net.Conn, limit *limiter.Limiter) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, linkChunk)
	for {
		n, err := from.Read(buf)
		if limit.WaitN(context.Background(), n) != nil || err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// closeAll closes the link and its connections.
func (l *link) closeAll() {
	_ = l.listener.Close()
	l.mu.Lock()
	for c := range l.open {
		_ = c.Close() // it may already be closed
	}
	l.mu.Unlock()
	l.wait.Wait()
}
