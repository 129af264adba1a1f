package web

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/query"
)

// The limits of a query. A result on the status page has lower ones than CSV and JSON.
const (
	queryTimeout  = 30 * time.Second
	maxShownRows  = 1000
	maxShownBytes = 4 << 20
	maxRows       = 100_000
	maxBytes      = 32 << 20
)

// queryData is the data of query.html.
type queryData struct {
	baseData
	Streams []freshness.Stream
}

// serveQueryForm serves the form for queries. It contains no data and needs no token.
func (u *ui) serveQueryForm(w http.ResponseWriter, r *http.Request) {
	if u.Queries == nil || u.Token == "" {
		u.serveMissing(w, r, "Queries are off", "Queries on this page are off: "+queriesOff+".")
		return
	}
	data := queryData{baseData: u.newBaseData("Query")}
	streams, err := freshness.Read(r.Context(), u.State, u.Daemon, u.Tenancy, data.Now)
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	for _, s := range streams {
		if !s.Taken.IsZero() {
			data.Streams = append(data.Streams, s)
		}
	}
	u.render(w, r, http.StatusOK, "query.html", data)
}

// queriesOff says how to switch queries on.
const queriesOff = "HTTP_QUERY=true together with HTTP_TOKEN switches them on"

// queryRequest is the body of POST /api/v1/query.
type queryRequest struct {
	SQL    string `json:"sql"`
	Format string `json:"format"`
	// Raw leaves text in CSV as it is that a spreadsheet program could execute.
	Raw bool `json:"raw"`
}

// serveQuery executes a queryRequest and responds with its result in the format "html", "csv" or
// "json".
func (u *ui) serveQuery(w http.ResponseWriter, r *http.Request) {
	if u.Queries == nil {
		u.writeError(w, http.StatusForbidden, "queries over HTTP are off: "+queriesOff)
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		u.writeError(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	var q queryRequest
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(&q); err != nil {
		u.writeBodyError(w, err, `{"sql": "SELECT …", "format": "json"}`)
		return
	}
	limits := query.Limits{Time: queryTimeout, Rows: maxRows, Bytes: maxBytes}
	format, kind := query.Format(q.Format), "application/json; charset=utf-8"
	switch q.Format {
	case "", "json":
		format = query.JSONFormat
	case "csv":
		kind = "text/csv; charset=utf-8"
		if q.Raw {
			format = query.RawCSVFormat
		}
	case "html":
		format, limits.Rows, limits.Bytes = query.RowsFormat, maxShownRows, maxShownBytes
	default:
		u.writeError(w, http.StatusBadRequest, "format is html, csv or json")
		return
	}
	result, err := os.CreateTemp("", "collectord-result-*")
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	defer result.Close()
	// Without a name, nothing of it is left when the process is killed.
	if err := os.Remove(result.Name()); err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	summary, err := u.Queries.Query(r.Context(), q.SQL, format, limits, result)
	extendDeadline(w)
	if err != nil {
		u.writeQueryError(w, r, err)
		return
	}
	if _, err := result.Seek(0, io.SeekStart); err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	w.Header().Set("X-Collectord-Truncated", strconv.FormatBool(summary.Truncated))
	if q.Format == "html" {
		table, err := readTable(result)
		if err != nil {
			u.writeInternalError(w, r, err)
			return
		}
		table.Summary = summary
		u.render(w, r, http.StatusOK, "grid.html", table)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = io.Copy(w, result)
}

// writeQueryError writes the error of a query.
func (u *ui) writeQueryError(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, query.ErrBusy):
		u.writeUnavailable(w, err)
	case errors.Is(err, query.ErrTime):
		u.writeError(w, http.StatusGatewayTimeout, err.Error())
	case errors.Is(err, query.ErrNotRun):
		u.writeInternalError(w, r, err)
	default:
		u.writeError(w, http.StatusBadRequest, err.Error())
	}
}

// resultTable is a result for grid.html.
type resultTable struct {
	query.Summary
	List  []query.Column
	Cells [][]cell
}

type cell struct {
	Text string
	Null bool
}

// readTable reads a result in query.RowsFormat.
func readTable(r io.Reader) (*resultTable, error) {
	table, d := &resultTable{}, json.NewDecoder(r)
	if err := d.Decode(&table.List); err != nil {
		return nil, err
	}
	for d.More() {
		var row []*string
		if err := d.Decode(&row); err != nil {
			return nil, err
		}
		cells := make([]cell, len(row))
		for i, text := range row {
			if cells[i].Null = text == nil; text != nil {
				cells[i].Text = *text
			}
		}
		table.Cells = append(table.Cells, cells)
	}
	return table, nil
}

// IsNumber reports whether a column has numbers, which are aligned right.
func (r *resultTable) IsNumber(i int) bool {
	switch r.List[i].Type {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "FLOAT", "DOUBLE":
		return true
	}
	return false
}
