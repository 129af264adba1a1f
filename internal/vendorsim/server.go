package vendorsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultBase is the present time of the generated data when [Options.Base] is
// zero. It is fixed, so that the same seed gives the same bytes every day.
var DefaultBase = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// Options configure a [Server]. The zero value of every field except Vendors is
// a usable default.
type Options struct {
	// Vendors are the simulated vendors; at least one.
	Vendors []Vendor
	// Seed selects the data; equal seeds give equal bytes.
	Seed uint64
	// Counts is the number of records by stream; a stream that is not in it has
	// the default of its vendor.
	Counts map[string]int
	// RecordBytes is the mean record size by stream in bytes.
	RecordBytes map[string]int
	// EdgeEvery makes every n-th record contain awkward content (see
	// [EdgeMembers]). 0 means 50. A negative value means never; then streams
	// have no huge record either.
	EdgeEvery int
	// Base is the present time of the data: no record is newer. The default is
	// [DefaultBase].
	Base time.Time
	// Now is the clock for tokens, lifetimes of jobs, rate limits and polling
	// rules. The default is [time.Now].
	Now func() time.Time
	// Latency is added before each response.
	Latency time.Duration
	// PageLimits limits the page size below the vendor's maximum, by stream.
	PageLimits map[string]int
	// Limits replaces numbers of the vendors' rate limits, by the name of the
	// limit. Positive fields replace the vendor's.
	Limits map[string]LimitNumbers
	// Gzip defines how responses are compressed for clients that accept gzip.
	Gzip GzipMode
	// Listen is the address of the first vendor's listener. The default is
	// "127.0.0.1:0". With a fixed port, the other vendors listen on the
	// following ports.
	Listen string
	// Memory replaces TCP with in-memory connections, so that the server can
	// run in a testing/synctest bubble. The client must then be
	// [Server.Client].
	Memory bool
}

// Vendor is one simulated vendor API.
type Vendor interface {
	// Name is the name of the vendor and of its host, such as "tenable".
	Name() string
	// Specs describes the streams of the vendor. It is called once, before
	// Routes.
	Specs(g Gen) []Spec
	// Routes returns the vendor's API. It is called once at the start, after
	// every host has its URL.
	Routes(h *Host) *http.ServeMux
	// Limits are the vendor's rate limits.
	Limits() []Limit
	// Env returns environment settings, as NAME=value, that point a client at
	// url.
	Env(url string) []string
}

// Server hosts simulated vendors until Close is called. Its methods are safe
// for concurrent use.
type Server struct {
	opts    Options
	gen     Gen
	hosts   []*Host
	byName  map[string]*Host
	streams map[string]*stream
	names   map[string][]string // names of streams, by vendor
	client  *http.Client
	network memoryNetwork
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

// besideServer is a vendor that has servers of its own, beside that of its host.
type besideServer interface{ closeServers() }

// Host is one vendor of a [Server], with its address, its faults and its
// statistics.
type Host struct {
	server *Server
	vendor Vendor
	url    string
	http   *http.Server
	ln     net.Listener
	mux    *http.ServeMux

	monitor  monitor
	faults   faults
	limits   []*limiter
	keys     keyring
	handlers sync.RWMutex // held for reading by each handler
	serial   atomic.Uint64
}

// Start starts a server. The caller must call Close.
func Start(opts Options) (*Server, error) {
	if len(opts.Vendors) == 0 {
		return nil, errors.New("start vendorsim: no vendors given")
	}
	if opts.Base.IsZero() {
		opts.Base = DefaultBase
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.EdgeEvery == 0 {
		opts.EdgeEvery = 50
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	s := &Server{
		opts:    opts,
		gen:     Gen{Seed: opts.Seed, Base: opts.Base.UTC()},
		byName:  map[string]*Host{},
		streams: map[string]*stream{},
		names:   map[string][]string{},
	}
	if err := s.compileStreams(); err != nil {
		return nil, err
	}
	if err := s.openListeners(); err != nil {
		s.closeListeners()
		return nil, err
	}
	s.startHosts()
	return s, nil
}

// compileStreams compiles the streams of all vendors.
func (s *Server) compileStreams() error {
	for _, v := range s.opts.Vendors {
		for _, spec := range v.Specs(s.gen) {
			if n, ok := s.opts.RecordBytes[spec.Name]; ok {
				spec.Bytes = n
			}
			if n, ok := s.opts.Counts[spec.CountOf]; ok && spec.CountOf != "" {
				spec.Count = n
			}
			if n, ok := s.opts.Counts[spec.Name]; ok {
				spec.Count = n
			}
			st, err := compileStream(spec, s.gen, s.opts.EdgeEvery)
			if err != nil {
				return fmt.Errorf("start vendorsim: stream %s: %w", spec.Name, err)
			}
			s.streams[spec.Name] = st
			s.names[v.Name()] = append(s.names[v.Name()], spec.Name)
		}
	}
	for name := range s.opts.Counts {
		if s.streams[name] == nil {
			return fmt.Errorf("start vendorsim: count of %q: no such stream", name)
		}
	}
	return nil
}

// openListeners opens a listener for each vendor.
func (s *Server) openListeners() error {
	addr, port, err := net.SplitHostPort(s.opts.Listen)
	if err != nil {
		return fmt.Errorf("start vendorsim: listen on %s: %w", s.opts.Listen, err)
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("start vendorsim: listen on %s: port is not a number", s.opts.Listen)
	}
	network := memoryNetwork{}
	s.network = network
	for i, v := range s.opts.Vendors {
		if s.byName[v.Name()] != nil {
			return fmt.Errorf("start vendorsim: vendor %s given twice", v.Name())
		}
		h := &Host{server: s, vendor: v}
		if s.opts.Memory {
			h.ln = network.listenMemory(v.Name() + ".localhost:80")
			network[storagePrefix+v.Name()+".localhost:80"] = h.ln.(*memoryListener)
			h.url = "http://" + v.Name() + ".localhost"
		} else {
			p := first
			if first != 0 {
				p += i
			}
			if h.ln, err = net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(p))); err != nil {
				return fmt.Errorf("start vendorsim: %w", err)
			}
			h.url = "http://" + h.ln.Addr().String()
		}
		s.hosts = append(s.hosts, h)
		s.byName[v.Name()] = h
	}
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	if s.opts.Memory {
		s.client.Transport.(*http.Transport).DialContext = network.dialMemory
	}
	return nil
}

// startHosts starts the HTTP servers of all hosts.
func (s *Server) startHosts() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	for _, h := range s.hosts {
		h.monitor.initialize(s.opts.Now)
		for _, l := range h.vendor.Limits() {
			h.limits = append(h.limits, newLimiter(l, s.opts.Limits[l.Name]))
		}
		h.mux = h.vendor.Routes(h)
		h.http = &http.Server{
			Handler:     http.HandlerFunc(h.serveHTTP),
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    log.New(io.Discard, "", 0),
		}
		s.serving.Go(func() { _ = h.http.Serve(h.ln) })
	}
}

// Close closes all connections, including hanging ones, and waits until every
// handler has returned.
func (s *Server) Close() {
	s.cancel()
	for _, h := range s.hosts {
		_ = h.http.Close()
		if beside, ok := h.vendor.(besideServer); ok {
			beside.closeServers()
		}
	}
	s.serving.Wait()
	for _, h := range s.hosts {
		h.waitForHandlers()
	}
	s.client.CloseIdleConnections()
}

// listenBeside opens another listener of the vendor, in memory at the given
// address, or on a port of this machine.
func (h *Host) listenBeside(address string) (net.Listener, error) {
	if h.server.opts.Memory {
		return h.server.network.listenMemory(address), nil
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// waitForHandlers waits for the handlers that are running.
func (h *Host) waitForHandlers() {
	h.handlers.Lock()
	defer h.handlers.Unlock()
}

func (s *Server) closeListeners() {
	for _, h := range s.hosts {
		_ = h.ln.Close()
	}
}

// Client returns a client for the server, which also works with Memory. Close
// closes its idle connections.
func (s *Server) Client() *http.Client { return s.client }

// Host returns the host of a vendor. It panics if the server has no such
// vendor.
func (s *Server) Host(vendor string) *Host {
	h := s.byName[vendor]
	if h == nil {
		panic("vendorsim: the server does not host " + vendor)
	}
	return h
}

// Hosts returns all hosts in the order of [Options.Vendors].
func (s *Server) Hosts() []*Host { return append([]*Host(nil), s.hosts...) }

// VendorURL returns the base URL of a vendor, without a trailing slash. It panics if
// the server has no such vendor.
func (s *Server) VendorURL(vendor string) string { return s.Host(vendor).URL() }

// URL returns the base URL of the host, without a trailing slash.
func (h *Host) URL() string { return h.url }

// Name returns the name of the hosted vendor.
func (h *Host) Name() string { return h.vendor.Name() }

// Env returns environment settings, as NAME=value, that point a client at the
// host.
func (h *Host) Env() []string { return h.vendor.Env(h.url) }

// Server returns the server that the host belongs to.
func (h *Host) Server() *Server { return h.server }

// Now returns the simulated time.
func (h *Host) Now() time.Time { return h.server.opts.Now() }

// Gen returns the generator of the server's data.
func (h *Host) Gen() Gen { return h.server.gen }

// PageLimit returns the largest page size that a stream serves: the vendor's
// maximum unless [Options.PageLimits] sets a smaller one.
func (h *Host) PageLimit(stream string, vendorMax int) int {
	if n := h.server.opts.PageLimits[stream]; n > 0 && n < vendorMax {
		return n
	}
	return vendorMax
}

// Unique returns a number that grows by one with each call. It serves for
// tokens and job ids, which must be unique in one server and the same in the
// next.
func (h *Host) Unique() uint64 { return h.serial.Add(1) }

// Vendor returns the hosted vendor.
func (h *Host) Vendor() Vendor { return h.vendor }
