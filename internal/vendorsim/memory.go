package vendorsim

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// memoryNetwork joins in-memory listeners by address.
type memoryNetwork map[string]*memoryListener

// memoryListener hands out one end of a net.Pipe for each dial of the other.
type memoryListener struct {
	addr   memoryAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  atomic.Uint64
}

func (n memoryNetwork) listen(addr string) net.Listener {
	l := &memoryListener{addr: memoryAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	n[addr] = l
	return l
}

// dial has the form of http.Transport.DialContext.
func (n memoryNetwork) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l := n[addr]
	if l == nil {
		return nil, fmt.Errorf("dial %s: no such simulated host", addr)
	}
	client, server := net.Pipe()
	// Every connection has a remote address of its own, as with TCP.
	peer := memoryAddr(fmt.Sprintf("client-%d:1", l.dials.Add(1)))
	select {
	case l.conns <- memoryConn{server, peer}:
		return client, nil
	case <-l.closed:
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

type memoryAddr string

func (a memoryAddr) Network() string { return "memory" }
func (a memoryAddr) String() string  { return string(a) }

type memoryConn struct {
	net.Conn
	remote memoryAddr
}

func (c memoryConn) RemoteAddr() net.Addr { return c.remote }
