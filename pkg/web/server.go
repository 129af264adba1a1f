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

// DefaultAddress is where the server listens unless it is told otherwise. The
// port is in none of the ranges that Prometheus' list of ports uses.
const DefaultAddress = "127.0.0.1:19610"

const (
	headerTime = 5 * time.Second  // for a request's header
	bodyTime   = 10 * time.Second // for a request
	answerTime = 60 * time.Second // for an answer; a profile takes 30 s
	idleTime   = 2 * time.Minute  // for a connection between two requests
	closeTime  = 5 * time.Second  // for what is under way when the server ends
	mostHeader = 32 << 10
	mostBody   = 64 << 10
)

// Options are what a Server is made of.
type Options struct {
	State  *state.State
	Daemon Daemon
	// Tenancy is the one that is told about.
	Tenancy string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Token permits whatever changes something; nobody may when it is "".
	Token string
	// ConfigFile is a web configuration file of the Prometheus exporter
	// toolkit, for TLS and basic auth; "" for neither.
	ConfigFile string
	// ShowData lets the status page show records and columns, which Profiles
	// describes.
	ShowData bool
	Profiles *query.Engine
	// Queries answers the query page; nil switches it off.
	Queries *query.Engine
	// Pprof serves /debug/pprof/.
	Pprof bool
	// Version is the program's.
	Version string
	Log     *zap.Logger
	// Now is the clock; time.Now when nil.
	Now func() time.Time
}

// A Server tells how the daemon stands and takes what it is to do.
type Server struct{ Options }

// New makes a Server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Server{o}
}

// Check tells what is wrong with a web configuration file; "" is none.
func Check(configFile string) error {
	if err := web.Validate(configFile); err != nil {
		return fmt.Errorf("HTTP_WEB_CONFIG_FILE: %s: %w", configFile, err)
	}
	return nil
}

// Handler serves everything but TLS and basic auth, which Serve adds.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.mountHealth(mux)
	s.mountAPI(mux)
	s.route(mux, "GET", "/metrics", s.Metrics.ServeHTTP)
	s.mountPages(mux)
	if s.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return s.guard(mux)
}

// Serve answers on l until ctx ends, and closes l. What is under way then may
// take some seconds more. The error says why it could not go on.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	log := slog.New(zapslog.NewHandler(s.Log.Core()))
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: mostHeader,
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
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err := server.Shutdown(patience)
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
