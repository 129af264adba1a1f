package web

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/collectord/collectord/pkg/query"
)

const (
	queryTime  = 30 * time.Second
	shownRows  = 1000
	shownBytes = 4 << 20
	givenRows  = 100_000
	givenBytes = 32 << 20
)

type queryPage struct {
	frame
	Streams []Stream
}

// queryBox is the page with the box. It holds no data, so it needs no token.
func (p *pages) queryBox(w http.ResponseWriter, r *http.Request) {
	page := queryPage{frame: p.frame("Query")}
	streams, err := Streams(r.Context(), p.State, p.Daemon, p.Tenancy, page.Now)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	for _, s := range streams {
		if !s.Taken.IsZero() {
			page.Streams = append(page.Streams, s)
		}
	}
	p.show(w, r, http.StatusOK, "query.html", page)
}

type question struct {
	SQL    string `json:"sql"`
	Format string `json:"format"`
}

// query answers {"sql": …, "format": "html", "csv" or "json"}.
func (p *pages) query(w http.ResponseWriter, r *http.Request) {
	if p.Queries == nil {
		p.refuse(w, http.StatusForbidden, "queries over HTTP are off: HTTP_QUERY=true switches them on")
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		p.refuse(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		p.refuse(w, http.StatusBadRequest, fmt.Sprintf("send {\"sql\": \"SELECT …\", \"format\": \"json\"}: %v", err))
		return
	}
	limits := query.Limits{Time: queryTime, Rows: givenRows, Bytes: givenBytes}
	var b bytes.Buffer
	var out query.Output
	kind := "application/json; charset=utf-8"
	grid := &grid{}
	switch q.Format {
	case "", "json":
		out = query.JSON(&b)
	case "csv":
		out, kind = query.CSV(&b), "text/csv; charset=utf-8"
	case "html":
		out, limits.Rows, limits.Bytes = grid, shownRows, shownBytes
	default:
		p.refuse(w, http.StatusBadRequest, "format is html, csv or json")
		return
	}
	sum, err := p.Queries.Query(r.Context(), q.SQL, limits, out)
	switch {
	case errors.Is(err, query.ErrBusy):
		p.refuse(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		p.refuse(w, http.StatusBadRequest, err.Error())
	case q.Format == "html":
		grid.Summary = sum
		p.show(w, r, http.StatusOK, "grid.html", grid)
	default:
		w.Header().Set("Content-Type", kind)
		w.Header().Set("X-Collectord-Truncated", fmt.Sprint(sum.Truncated))
		_, _ = w.Write(b.Bytes())
	}
}

// grid is an answer shown as a table.
type grid struct {
	query.Summary
	List  []query.Column
	Cells [][]cell
}

type cell struct {
	Text string
	Null bool
}

func (*grid) JSON() bool { return false }

func (g *grid) Columns(list []query.Column) error {
	g.List = list
	return nil
}

func (g *grid) Row(values []sql.NullString) error {
	var cells []cell
	for _, v := range values {
		cells = append(cells, cell{v.String, !v.Valid})
	}
	g.Cells = append(g.Cells, cells)
	return nil
}

func (*grid) End() error { return nil }

// Number tells whether a column is set flush right.
func (g *grid) Number(i int) bool {
	switch g.List[i].Type {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "FLOAT", "DOUBLE":
		return true
	}
	return false
}
