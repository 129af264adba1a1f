package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/listen"
	"github.com/collectord/collectord/pkg/config"
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

// An httpServer is a web.Server, or a web.Tenancies with several.
type httpServer interface {
	Serve(ctx context.Context, l net.Listener) error
}

// newHTTPServer returns the server of the only tenancy, or of all.
func (d *daemon) newHTTPServer() (httpServer, error) {
	s := d.sharedSettings().HTTP
	if s.Listen == "" {
		return nil, nil
	}
	if !d.base.hasTenancies() {
		return d.tenants[0].server, nil
	}
	tokens, _, err := d.base.loadTokens() // the start logs the warnings of all settings
	if err != nil {
		return nil, &exitError{exitSettings, err}
	}
	options := web.TenanciesOptions{
		State: d.state, List: d.listWebTenancies, Alive: d.Alive, Ready: d.Ready, Reload: d.Reload, LastReload: d.LastReload,
		Cluster: d.webCluster(), Metrics: d.scrapes, Token: s.Token.Reveal(), Tokens: tokens, Prefix: s.Prefix, Access: d.base.accessTo(s.Listen),
		Hosts: s.Hosts, ConfigFile: s.ConfigFile, Pprof: s.Pprof, Version: version, Log: d.log,
	}
	if s.Query {
		d.queries = newServiceEngine(d.base, d.base.engine)
		options.Queries, options.Offered = d.queries, d.offered
		if d.base.engine == nil { // there is no tenancy yet
			d.base.engine = d.queries
		}
	}
	d.web = web.NewTenancies(options)
	return d.web, nil
}

// newServer returns the server of the tenancy; nil when HTTP is off.
func (t *tenant) newServer(s config.HTTP) *web.Server {
	if s.Listen == "" {
		return nil
	}
	options := web.Options{
		State: t.state, Daemon: t, Cluster: t.webCluster(), Tenancy: t.tenancyName(), Metrics: t.scrapes,
		Access: t.assembly.accessTo(s.Listen), Hosts: s.Hosts, Prefix: s.Prefix, Token: s.Token.Reveal(), ConfigFile: s.ConfigFile, Pprof: s.Pprof,
		Version: version, Log: t.log,
		ShowData: s.ShowData, Profiles: t.queries, Controls: t.controlSource,
	}
	if s.Query {
		options.Queries, options.Offered = t.queries, t.offered
	}
	return web.New(options)
}

// webCluster returns the services that share the state; nil when it is not shared.
func (d *daemon) webCluster() web.Cluster {
	if d.cluster == nil {
		return nil
	}
	return d.cluster
}

// accessTo returns who can reach the server at an address.
func (a *assembly) accessTo(address string) web.Access {
	access, _ := web.AccessTo(address, a.settings.HTTP.ConfigFile) // both are checked when the server listens
	access.Authenticated = access.Authenticated || a.settings.HTTP.TokensFile != ""
	return access
}

// listWebTenancies returns the tenancies, ordered by name, also those that cannot be used.
func (d *daemon) listWebTenancies() (all []web.Tenancy) {
	for _, t := range d.listTenants() {
		_, err := t.LastReload()
		all = append(all, web.Tenancy{Name: t.tenancyName(), Server: t.server, Err: err})
	}
	for name, one := range d.refusals() {
		if !d.isWorking(name) {
			all = append(all, web.Tenancy{Name: name, Err: one.err})
		}
	}
	slices.SortFunc(all, func(a, b web.Tenancy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// serveHTTP serves HTTP on l until stop is called. A nil listener serves nothing.
func (d *daemon) serveHTTP(server httpServer, l net.Listener) (stop func()) {
	if l == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	if d.sharedSettings().HTTP.Query {
		serving.Go(func() { // which logs the files that are not valid
			if _, _, err := d.offered.Read(ctx); err != nil && ctx.Err() == nil {
				d.log.Error("the queries cannot be offered", zap.Error(err))
			}
		})
	}
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
// of the status page, of a tenancy, or for the queries of all. It shares the bounds of another
// one, which may be nil.
func newServiceEngine(a *assembly, other *query.Engine) *query.Engine {
	return query.New(query.Options{
		Bounds: other,
		State:  a.state, Tenancy: a.settings.Tenancy, Dir: filepath.Join(a.state.Dir(), "query"),
		Memory: int64(a.settings.HTTP.QueryMemory), MemorySetting: "HTTP_QUERY_MEMORY", Parallel: a.settings.HTTP.QueryParallel, Optional: optionalMembers(),
		Declared: control.DeclaredMembers(),
	})
}
