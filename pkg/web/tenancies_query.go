package web

import (
	"context"
	"net/http"
	"slices"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/query"
)

// noVisibleTenancy is the error of a query for which there is no data.
const noVisibleTenancy = "there is no tenancy whose data this could read"

// queryRoutes returns the routes of queries over the data of all tenancies that the visitor of
// a request sees.
func (t *Tenancies) queryRoutes() []route {
	return []route{
		{method: "GET", path: "/query", handler: t.serveQueryForm},
		{method: "POST", path: "/api/v1/query", handler: t.serveQuery, right: QueryRight},
		{method: "GET", path: "/api/v1/queries", handler: (&ui{Server: t.root}).serveQueries, right: QueryRight},
	}
}

// serveQueryForm serves the form for queries over the data of several tenancies.
func (t *Tenancies) serveQueryForm(w http.ResponseWriter, r *http.Request) {
	all, err := t.readStatuses(r.Context())
	if err != nil {
		t.root.writeInternalError(w, r, err)
		return
	}
	var streams []freshness.Stream
	for _, one := range all {
		streams = append(streams, one.streams...)
	}
	(&ui{Server: t.root}).renderQueryForm(w, r, queryData{Tables: newQueryTables(streams), All: true})
}

// serveQuery executes a query over the data of the tenancies that the visitor sees, and of no
// others: the process of the query can open no file of theirs.
func (t *Tenancies) serveQuery(w http.ResponseWriter, r *http.Request) {
	server := &Server{Options: t.root.Options, path: t.root.path, root: t.root.root, downloads: t.root.downloads}
	if t.root.Queries != nil {
		if server.Queries = t.engineFor(r.Context()); server.Queries == nil {
			t.root.writeError(w, http.StatusForbidden, noVisibleTenancy)
			return
		}
	}
	(&ui{Server: server}).serveQuery(w, r)
}

// engineFor returns the engine for the tenancies that the visitor sees; nil when there is none.
// That of a single one has the bound of this one, so that a visitor cannot have more than its
// queries by using both.
func (t *Tenancies) engineFor(ctx context.Context) *query.Engine {
	list := t.visibleTenancies(ctx)
	if len(list) == 0 {
		return nil
	}
	if len(list) == 1 && list[0].Server != nil && list[0].Server.Queries != nil {
		return list[0].Server.Queries
	}
	var names []string
	for _, one := range list {
		names = append(names, one.Name)
	}
	return t.root.Queries.ForTenancies(slices.Compact(names))
}
