package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

const (
	headerTimeout = 5 * time.Second  // for the header of a request
	readTimeout   = 10 * time.Second // for a request
	writeTimeout  = 60 * time.Second // for a response; a profile takes 30 s
	idleTimeout   = 2 * time.Minute  // for a connection between two requests
	closeTimeout  = 2 * time.Second  // for requests in progress when the server stops

	maxHeaderBytes = 32 << 10
	maxBodyBytes   = 64 << 10
)

// Options configure a Server.
type Options struct {
	State  *state.State
	Daemon Daemon
	// Tenancy is the tenancy whose streams are shown.
	Tenancy string
	// Cluster is the services that share the state; nil when it is not shared.
	Cluster Cluster
	// Metrics serves /metrics; nil for none.
	Metrics http.Handler
	// Token permits requests that change something; "" permits none of them.
	Token string
	// Prefix is the path below which a proxy serves the server, such as "/collectord"; ""
	// for none. The server responds below it and at its root.
	Prefix string
	// Access is who can reach the server, and Hosts the names under which a server on
	// loopback may be requested, in addition to those of loopback itself.
	Access Access
	Hosts  []string
	// ConfigFile is a web configuration file of the Prometheus exporter
	// toolkit, for TLS and basic auth; "" for neither.
	ConfigFile string
	// ShowData makes the status page show records and columns. Profiles describes the
	// columns.
	ShowData bool
	Profiles *query.Engine
	// Queries executes SQL queries; nil switches queries off.
	Queries *query.Engine
	// QueryTime bounds the time of a query, and of a profile of columns; 0 means 30 s.
	QueryTime time.Duration
	// Offered are the queries that the operator offers; nil for none.
	Offered *QueryFiles
	// Controls returns where the controls come from; nil switches them off.
	Controls func() ControlSource
	// Pprof serves /debug/pprof/.
	Pprof bool
	// Version is the version of the program.
	Version string
	Log     *zap.Logger
	// Now returns the current time; nil means time.Now.
	Now func() time.Time
}

// A Server serves the status of a Daemon and takes its commands.
type Server struct {
	Options
	// path is before the path of each link, and root before the path of each link to what
	// all tenancies have; they are equal when there is one tenancy.
	path, root string
	downloads  chan struct{} // holds a token for each download that decompresses
}

// New returns a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.QueryTime == 0 {
		o.QueryTime = queryTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Offered == nil {
		o.Offered = NewQueryFiles("", o.Log)
	}
	return &Server{o, o.Prefix, o.Prefix, make(chan struct{}, maxDownloads)}
}

// Check returns an error if the web configuration file is invalid; "" means no file.
func Check(configFile string) error {
	if err := web.Validate(configFile); err != nil {
		return fmt.Errorf("HTTP_WEB_CONFIG_FILE: %s: %w", configFile, err)
	}
	return nil
}

// Handler returns the handler of all requests, without TLS and basic auth, which Serve adds.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.mountRoutes(mux, s.routes())
	s.handle(mux, "", "/", s.serveNotFound)
	s.mountProfiles(mux)
	return s.guardHandler(mux)
}

// mountProfiles adds the profiles of Go if they are on. Other methods get 404.
func (s *Server) mountProfiles(mux *http.ServeMux) {
	if !s.Pprof {
		return
	}
	for name, handler := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		s.handle(mux, "GET ", "/debug/pprof/"+name, s.authorize(route{handler: handler, protected: true, program: true}))
	}
}

// Serve accepts connections on l until ctx is cancelled, and closes l. It then waits a few
// seconds for requests in progress. It returns an error when it cannot serve any longer.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serveHandler(ctx, l, s.Handler())
}

// serveHandler is Serve with another handler.
func (s *Server) serveHandler(ctx context.Context, l net.Listener, handler http.Handler) error {
	log := slog.New(zapslog.NewHandler(s.Log.Core()))
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	ended := make(chan struct{})
	stopped := make(chan error, 1)
	go func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		shutdownCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err := server.Shutdown(shutdownCtx)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		stopped <- err
	}()
	err := web.Serve(l, server, &web.FlagConfig{WebConfigFile: &s.ConfigFile}, log)
	close(ended)
	stop := <-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return stop
	}
	return errors.Join(fmt.Errorf("HTTP_LISTEN %s: %w", l.Addr(), err), l.Close())
}
