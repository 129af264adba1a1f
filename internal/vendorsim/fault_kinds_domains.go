package vendorsim

import (
	"net"
	"sync"
)

// Servers of [Domains] beside that of RDAP, which is an HTTP API.
const (
	dnsServer = "dns"
	webServer = "web"
)

// Effects of faults of a DNS server.
const (
	dnsLost      = "lost"
	dnsFailure   = "SERVFAIL"
	dnsRefused   = "REFUSED"
	dnsOther     = "reply to another question"
	dnsTruncated = "truncated"
)

// Effects of faults of a web server, with and without TLS.
const (
	webClosed  = "closed"
	webStalled = "stalled"
	webGarbage = "garbage"
)

// A serverFault is a fault of a DNS or web server, which hits queries or connections.
type serverFault struct {
	owner          *serverFaults
	server, effect string
	skip, times    int
	hits           int
}

// serverFaults are those of a vendor.
type serverFaults struct {
	mu   sync.Mutex
	list []*serverFault
}

// Hits returns how many queries or connections the fault has hit.
func (s *serverFault) Hits() int {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	return s.hits
}

// Remove ends the fault.
func (s *serverFault) Remove() {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.times = 0
}

// next returns the effect on the next query or connection of a server; "" for none.
func (s *serverFaults) next(server string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.list {
		switch {
		case f.server != server || f.hits >= f.times:
		case f.skip > 0:
			f.skip--
		default:
			f.hits++
			return f.effect
		}
	}
	return ""
}

// serverFaultKind is a kind of fault of the DNS or web servers of domains.
func serverFaultKind(name, server, effect string) FaultKind {
	return FaultKind{Name: name, Vendor: "domains", inject: func(f *FaultInjection) {
		owner := &f.host.vendor.(*Domains).faults
		one := &serverFault{owner: owner, server: server, effect: effect, skip: f.skip(), times: f.times()}
		owner.mu.Lock()
		owner.list = append(owner.list, one)
		owner.mu.Unlock()
		f.injections = append(f.injections, one)
	}}
}

var domainsFaultKinds = []FaultKind{
	serverFaultKind("DNS: lost", dnsServer, dnsLost),
	serverFaultKind("DNS: SERVFAIL", dnsServer, dnsFailure),
	serverFaultKind("DNS: REFUSED", dnsServer, dnsRefused),
	serverFaultKind("DNS: replies to other questions", dnsServer, dnsOther),
	serverFaultKind("DNS: replies cut", dnsServer, dnsTruncated),
	serverFaultKind("connections of web servers closed", webServer, webClosed),
	serverFaultKind("connections of web servers stalled", webServer, webStalled),
	serverFaultKind("web servers that send garbage", webServer, webGarbage),
	domainsBehaves("no resolver", func(b *DomainsFaults) { b.ResolverDown = true }),
	domainsBehaves("list of registries is empty", func(b *DomainsFaults) { b.Bootstrap = `{"services":[]}` }),
}

func domainsBehaves(name string, set func(b *DomainsFaults)) FaultKind {
	return FaultKind{Name: name, Vendor: "domains", inject: func(f *FaultInjection) {
		d := f.host.vendor.(*Domains)
		f.undo = append(f.undo, func() { d.ChangeFaults(func(b *DomainsFaults) { *b = DomainsFaults{} }) })
		d.ChangeFaults(set)
	}}
}

// A faultyListener is the listener of a web server whose connections can have faults.
type faultyListener struct {
	net.Listener
	domains *Domains
}

// Accept returns the next connection without a fault.
func (f faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		switch f.domains.faults.next(webServer) {
		case webClosed:
			_ = conn.Close()
		case webStalled:
			f.domains.hold(conn)
		case webGarbage:
			f.domains.hold(conn)
			f.domains.serving.Go(func() {
				_, _ = conn.Write([]byte("\x00garbage in place of a response\r\n\r\n"))
				_ = conn.Close()
			})
		default:
			return conn, nil
		}
	}
}

// hold keeps a connection until the servers are closed.
func (d *Domains) hold(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = append(d.held, conn)
}
