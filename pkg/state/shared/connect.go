package shared

import (
	"context"
	"database/sql/driver"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/collectord/collectord/pkg/state"
)

// A connector connects to the first of the servers in CLUSTER_POSTGRES_URL that accepts a
// connection. It begins with the one that accepted the last: the others may be machines that
// do not respond, and the time in which a statement must be done would end with them.
type connector struct {
	servers []driver.Connector

	mu    sync.Mutex
	first int // index of the server that is tried first
	open  map[net.Conn]bool
	ended context.Context // see interrupt
	end   context.CancelFunc
}

// errInterrupted is the error of connecting after interrupt was called.
var errInterrupted = errors.New("this process ends and does not wait for the database any more")

// newConnector returns a connector to the servers of a configuration.
func newConnector(config *pgx.ConnConfig, waits limits) *connector {
	c := &connector{open: map[net.Conn]bool{}}
	c.ended, c.end = context.WithCancel(context.Background())
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return c.track(&patientConn{Conn: conn, limit: waits.response, closed: c.forget})
	}
	closesOn := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		// A server that has become a standby keeps its connections, which are of no use.
		return err.Code != readOnlyCode && closesOn(conn, err)
	}
	servers := splitServers(config)
	for _, server := range servers {
		if len(servers) > 1 {
			server.ConnectTimeout = min(server.ConnectTimeout, waits.command)
		}
		c.servers = append(c.servers, stdlib.GetConnector(*server, stdlib.OptionAfterConnect(registerTypes), stdlib.OptionShouldPing(needsPing)))
	}
	return c
}

// pingAfter is how long a connection was idle that is tested before it is used again. One in
// regular use need not be: that would be a statement for each.
const pingAfter = 3 * time.Second

// needsPing reports whether a connection is tested before it is used again.
func needsPing(_ context.Context, p stdlib.ShouldPingParams) bool { return p.IdleDuration > pingAfter }

// splitServers returns a configuration for each server of one. Those that follow each other
// with the same address are one server, with and without TLS.
func splitServers(config *pgx.ConnConfig) (servers []*pgx.ConnConfig) {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, one := range all {
		if n := len(servers); n > 0 && servers[n-1].Host == one.Host && servers[n-1].Port == one.Port {
			servers[n-1].Fallbacks = append(servers[n-1].Fallbacks, one)
			continue
		}
		server := config.Copy()
		server.Host, server.Port, server.TLSConfig, server.Fallbacks = one.Host, one.Port, one.TLSConfig, nil
		servers = append(servers, server)
	}
	return servers
}

// Connect implements [driver.Connector].
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	c.mu.Lock()
	first := c.first
	c.mu.Unlock()
	if c.ended.Err() != nil {
		return nil, errInterrupted
	}
	var errs []error
	for i := range c.servers {
		at := (first + i) % len(c.servers)
		conn, err := c.servers[at].Connect(ctx)
		if err == nil {
			c.beginWith(at)
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			c.beginWith(at + 1) // the next attempt has time for another one
			break
		}
	}
	return nil, errors.Join(errs...)
}

// beginWith makes the next attempt begin with a server.
func (c *connector) beginWith(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = at % len(c.servers)
}

// Driver implements [driver.Connector].
func (c *connector) Driver() driver.Driver { return c.servers[0].Driver() }

// track adds a connection to those that interrupt closes.
func (c *connector) track(conn *patientConn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended.Err() != nil {
		return nil, errors.Join(errInterrupted, conn.Conn.Close())
	}
	c.open[conn.Conn] = true
	return conn, nil
}

// forget removes a connection that was closed.
func (c *connector) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// interrupt closes all connections, and refuses new ones.
func (c *connector) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	for conn := range c.open {
		_ = conn.Close() // its user receives the error
	}
}

// registerTypes tells the driver the types of the texts and numbers that package database
// passes as types of its own.
func registerTypes(_ context.Context, conn *pgx.Conn) error {
	types := conn.TypeMap()
	for _, text := range []any{state.Outcome(""), state.Class(""), state.DeliveryEnd(""), state.Source("")} {
		types.RegisterDefaultPgType(text, "text")
	}
	types.RegisterDefaultPgType(state.RunID(0), "int8")
	return nil
}

// A patientConn is a connection whose reads fail after a limit, unless the driver has
// set another limit, as it does when a context ends.
type patientConn struct {
	net.Conn
	limit   time.Duration
	closed  func(net.Conn)
	mu      sync.Mutex
	limited bool
}

// SetDeadline implements [net.Conn].
func (p *patientConn) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limited = !t.IsZero()
	return p.Conn.SetDeadline(t)
}

// Read implements [net.Conn].
func (p *patientConn) Read(b []byte) (int, error) {
	if err := p.limitRead(); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

// limitRead sets the limit of the next read.
func (p *patientConn) limitRead() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limited {
		return nil
	}
	return p.SetReadDeadline(time.Now().Add(p.limit))
}

// Close implements [net.Conn].
func (p *patientConn) Close() error {
	p.closed(p.Conn)
	return p.Conn.Close()
}
