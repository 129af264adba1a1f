package main

import (
	"context"
	"net"
	"sync"

	limiter "golang.org/x/time/rate"
)

// linkChunk is how much passes a link at once.
const linkChunk = 64 << 10

// A link passes connections on to a server, all of them together at no more
// than so many bytes a second in each direction, as a network does.
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
	l.wait.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = client.Close() // the client meets the end of its connection
			continue
		}
		l.keep(client, server)
		l.wait.Go(func() { pass(server, client, l.up) })
		l.wait.Go(func() { pass(client, server, l.down) })
	}
}

func (l *link) keep(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.open[c] = true
	}
}

// pass copies until one side ends, and ends both.
func pass(to, from net.Conn, limit *limiter.Limiter) {
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

// close ends the link and its connections.
func (l *link) close() {
	_ = l.listener.Close()
	l.mu.Lock()
	for c := range l.open {
		_ = c.Close() // it may be closed already
	}
	l.mu.Unlock()
	l.wait.Wait()
}
