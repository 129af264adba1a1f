package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/web"
)

// listen opens HTTP_LISTEN; nil when that is off. What stands in the way is an
// error of the settings.
func (d *daemon) listen(ctx context.Context) (net.Listener, error) {
	s := d.app.settings.HTTP
	if s.Listen == "" {
		return nil, nil
	}
	if err := web.Check(s.ConfigFile); err != nil {
		return nil, &exitError{exitSettings, err}
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return nil, &exitError{exitSettings, fmt.Errorf("HTTP_LISTEN: %w: choose another address, or off", err)}
	}
	d.log.Info("serving HTTP", zap.Stringer("address", l.Addr()))
	return l, nil
}

// serveHTTP serves on l, nil for nothing, until stop is called.
func (d *daemon) serveHTTP(l net.Listener) (stop func()) {
	if l == nil {
		return func() {}
	}
	a := d.app
	server := web.New(web.Options{
		State: d.state, Daemon: d, Tenancy: a.settings.Tenancy, Metrics: d.metrics.Handler(),
		Token: a.settings.HTTP.Token.Reveal(), ConfigFile: a.settings.HTTP.ConfigFile, Pprof: a.settings.HTTP.Pprof,
		Version: version, Log: d.log,
		ShowData: a.settings.HTTP.ShowData, Profiles: d.engine(a.settings.HTTP.ShowData), Queries: d.engine(a.settings.HTTP.Query),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			d.log.Error("HTTP is served no more", zap.Error(err))
		}
	})
	return func() {
		cancel()
		serving.Wait()
	}
}

// pageMemory bounds DuckDB's memory in bytes for one query of the status page.
const pageMemory = 256 << 20

// engine answers what the status page asks of the data, nil when it is off.
func (d *daemon) engine(on bool) *query.Engine {
	if !on {
		return nil
	}
	return query.New(query.Options{State: d.state, Tenancy: d.app.settings.Tenancy, Dir: filepath.Join(d.state.Dir(), "query"), Memory: pageMemory})
}

// sinkNames are the destinations that are on now.
func (d *daemon) sinkNames() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sinkNames(d.sinks)
}
