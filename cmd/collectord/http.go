package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/listen"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/web"
)

// listenHTTP listens on HTTP_LISTEN. The listener is nil when that is off.
func (a *assembly) listenHTTP(ctx context.Context) (net.Listener, error) {
	s := a.settings.HTTP
	if s.Listen == "" {
		return nil, nil
	}
	if err := web.Check(s.ConfigFile); err != nil {
		return nil, &exitError{exitSettings, err}
	}
	if err := web.NewQueryFiles(a.settings.HTTP.Queries, a.log).CheckDir(); err != nil {
		return nil, &exitError{exitSettings, err}
	}
	l, err := a.listenWhenFree(ctx, s.Listen)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, &exitError{exitSettings, fmt.Errorf("HTTP_LISTEN: %w: choose a port above 1023, a socket in a directory of this user, or off", err)}
	case err != nil:
		return nil, fmt.Errorf("HTTP_LISTEN: %w: choose another address, or off", err)
	}
	a.log.Info("serving HTTP", zap.String("address", listen.AddressOf(l)))
	if text := a.describeOpenServer(); text != "" {
		a.log.Warn(text)
	}
	return l, nil
}

// listenTimeout is how long the start waits for an address: that of a process which
// is still stopping, or of a network that is not up yet.
const listenTimeout = 30 * time.Second

// listenWhenFree listens on an address. While it is in use, or not one of the
// machine's, it is tried again until listenTimeout is over.
func (a *assembly) listenWhenFree(ctx context.Context, address string) (net.Listener, error) {
	deadline := time.Now().Add(listenTimeout)
	for warned := false; ; warned = true {
		l, err := listen.Listen(ctx, address)
		mayPass := errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL)
		if !mayPass || time.Now().After(deadline) {
			return l, err
		}
		if !warned {
			a.log.Warn("HTTP_LISTEN cannot be used yet", zap.Error(err), zap.Duration("timeout", listenTimeout))
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// serveHTTP serves HTTP on l until stop is called. A nil listener serves nothing.
func (d *daemon) serveHTTP(l net.Listener) (stop func()) {
	if l == nil {
		return func() {}
	}
	t := d.listTenants()[0]
	s := t.settings()
	access, err := web.AccessTo(listen.AddressOf(l), s.HTTP.ConfigFile)
	if err != nil { // the file was checked before: it was changed since
		d.log.Error("HTTP_WEB_CONFIG_FILE", zap.Error(err))
	}
	options := web.Options{
		State: d.state, Daemon: t, Tenancy: s.Tenancy, Metrics: d.metrics.Handler(),
		Access: access, Hosts: s.HTTP.Hosts, Prefix: s.HTTP.Prefix, Token: s.HTTP.Token.Reveal(), ConfigFile: s.HTTP.ConfigFile, Pprof: s.HTTP.Pprof,
		Version: version, Log: d.log,
		ShowData: s.HTTP.ShowData, Profiles: t.queries, Controls: t.controlSource,
	}
	if s.HTTP.Query {
		options.Queries, options.Offered = t.queries, web.NewQueryFiles(s.HTTP.Queries, d.log)
	}
	server := web.New(options)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { // which logs the files that are not valid
		if _, _, err := server.Offered.Read(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the queries cannot be offered", zap.Error(err))
		}
	})
	serving.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			d.log.Error("HTTP server stopped", zap.Error(err))
		}
	})
	return func() {
		cancel()
		serving.Wait()
	}
}

// newServiceEngine returns the engine for the controls, and for the queries and the columns
// of the status page, of a tenancy. It shares the bounds of another one, which may be nil.
func newServiceEngine(a *assembly, other *query.Engine) *query.Engine {
	return query.New(query.Options{
		Bounds: other,
		State:  a.state, Tenancy: a.settings.Tenancy, Dir: filepath.Join(a.state.Dir(), "query"),
		Memory: int64(a.settings.HTTP.QueryMemory), MemorySetting: "HTTP_QUERY_MEMORY", Parallel: a.settings.HTTP.QueryParallel, Optional: optionalMembers(),
		Declared: control.DeclaredMembers(),
	})
}
