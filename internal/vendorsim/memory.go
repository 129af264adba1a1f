package vendorsim

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// memoryNetwork holds in-memory listeners by address.
type memoryNetwork map[string]*memoryListener

// memoryListener accepts one end of a net.Pipe for each dial, which returns the
// other end.
type memoryListener struct {
	addr   memoryAddr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  atomic.Uint64
}

func (m memoryNetwork) listenMemory(addr string) net.Listener {
	l := &memoryListener{addr: memoryAddr(addr), conns: make(chan net.Conn), closed: make(chan struct{})}
	m[addr] = l
	return l
}

// dialMemory has the signature of http.Transport.DialContext.
func (m memoryNetwork) dialMemory(ctx context.Context, _, addr string) (net.Conn, error) {
	l := m[addr]
	if l == nil {
		return nil, fmt.Errorf("dial %s: no such simulated host", addr)
	}
	client, server := net.Pipe()
	// Every connection has its own remote address, as with TCP.
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

func (m *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memoryListener) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memoryListener) Addr() net.Addr { return m.addr }

type memoryAddr string

func (m memoryAddr) Network() string { return "memory" }
func (m memoryAddr) String() string  { return string(m) }

type memoryConn struct {
	net.Conn
	remote memoryAddr
}

func (m memoryConn) RemoteAddr() net.Addr { return m.remote }
