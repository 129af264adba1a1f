package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/query"
)

// The limits of a query. A result on the status page has lower ones than a file.
const (
	queryTimeout  = 30 * time.Second
	maxShownRows  = 1000
	maxShownBytes = 4 << 20
	maxRows       = 1_000_000
	maxBytes      = 256 << 20
)

// queryData is the data of query.html.
type queryData struct {
	baseData
	Tables []queryTable
	All    bool // whether the tables have the rows of several tenancies
	Offers bool // whether the operator offers queries
}

// A queryTable is a stream that has data, and the number of its records.
type queryTable struct {
	Stream  string
	Records int64
}

// serveQueryForm serves the form for queries. It contains no data and needs no token.
func (u *ui) serveQueryForm(w http.ResponseWriter, r *http.Request) {
	streams, err := u.readStreams(r)
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	u.renderQueryForm(w, r, queryData{Tables: newQueryTables(streams)})
}

// renderQueryForm serves the form for queries over tables.
func (u *ui) renderQueryForm(w http.ResponseWriter, r *http.Request, data queryData) {
	data.baseData, data.Offers = u.newBaseData(r.Context(), "Query"), u.Offered.dir != ""
	if !data.Query {
		u.serveMissing(w, r, "Queries are off", "Queries on this page are off: "+queriesOff+".")
		return
	}
	u.render(w, r, http.StatusOK, "query.html", data)
}

// newQueryTables returns the tables of streams, of which several tenancies may have the same.
// They are ordered by collector and stream.
func newQueryTables(streams []freshness.Stream) (tables []queryTable) {
	order := func(a, b freshness.Stream) int {
		return cmp.Or(strings.Compare(a.Collector, b.Collector), strings.Compare(a.Stream, b.Stream))
	}
	for _, s := range slices.SortedStableFunc(slices.Values(streams), order) {
		switch last := len(tables) - 1; {
		case s.Taken.IsZero():
		case last >= 0 && tables[last].Stream == s.Stream:
			tables[last].Records += s.Records
		default:
			tables = append(tables, queryTable{s.Stream, s.Records})
		}
	}
	return tables
}

// queriesOff says how to switch queries on.
const queriesOff = "HTTP_QUERY=true together with HTTP_TOKEN switches them on"

// queryRequest is the body of POST /api/v1/query.
type queryRequest struct {
	SQL    string `json:"sql"`
	Format string `json:"format"`
	// Raw leaves text in CSV as it is that a spreadsheet program could execute.
	Raw bool `json:"raw"`
	// Complete refuses a result that exceeds the limits instead of truncating it.
	Complete bool `json:"complete"`
}

// resultFormat is a format of a result in the API.
type resultFormat struct {
	format      query.Format
	contentType string
}

// resultFormats has the formats by their names. "html" is for the status page.
var resultFormats = map[string]resultFormat{
	"json":    {query.JSONFormat, "application/json; charset=utf-8"},
	"csv":     {query.CSVFormat, "text/csv; charset=utf-8"},
	"parquet": {query.ParquetFormat, "application/vnd.apache.parquet"},
	"html":    {query.RowsFormat, "text/html; charset=utf-8"},
}

// serveQuery executes a queryRequest and responds with its result.
func (u *ui) serveQuery(w http.ResponseWriter, r *http.Request) {
	if u.Queries == nil {
		u.writeError(w, http.StatusForbidden, "queries over HTTP are off: "+queriesOff)
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		u.writeError(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	q := queryRequest{Format: "json"}
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(&q); err != nil {
		u.writeBodyError(w, err, `{"sql": "SELECT …", "format": "json"}`)
		return
	}
	kind, known := resultFormats[q.Format]
	if !known {
		u.writeError(w, http.StatusBadRequest, "format is html, csv, json or parquet")
		return
	}
	u.executeQuery(w, r, q, kind)
}

// executeQuery executes a query and responds with its result in a format.
func (u *ui) executeQuery(w http.ResponseWriter, r *http.Request, q queryRequest, kind resultFormat) {
	limits := query.Limits{Time: u.QueryTime, Rows: maxRows, Bytes: maxBytes}
	switch {
	case q.Format == "html":
		limits.Rows, limits.Bytes = maxShownRows, maxShownBytes
	case q.Format == "csv" && q.Raw:
		kind.format = query.RawCSVFormat
	}
	result, summary, err := u.Queries.QueryToFile(r.Context(), q.SQL, kind.format, limits)
	extendDeadline(w)
	if err != nil {
		u.writeQueryError(w, r, err)
		return
	}
	defer result.Close()
	if q.Complete && summary.Truncated {
		u.writeError(w, http.StatusBadRequest, fmt.Sprintf(
			"the result has more than the %s rows or %s that a response may have: select fewer rows or columns, or use collectord query on the machine of the service",
			humanize.Comma(limits.Rows), humanize.IBytes(uint64(limits.Bytes))))
		return
	}
	w.Header().Set("X-Collectord-Truncated", strconv.FormatBool(summary.Truncated))
	w.Header().Set("X-Collectord-Rows", strconv.FormatInt(summary.Rows, 10))
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
	w.Header().Set("Content-Type", kind.contentType)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment",
		map[string]string{"filename": resultFileName(summary.Streams, u.Now(), q.Format)}))
	_, _ = io.Copy(newPacedWriter(w), result)
}

// maxNamedStreams is the number of streams in the name of a file.
const maxNamedStreams = 3

// resultFileName returns the name of the file of a result, such as
// "query_okta_users_20261124T070000Z.csv".
func resultFileName(streams []query.UsedStream, now time.Time, ending string) string {
	name := "query"
	for _, s := range streams[:min(len(streams), maxNamedStreams)] {
		name += "_" + s.Stream
	}
	return name + "_" + now.UTC().Format("20060102T150405Z") + "." + ending
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
func (r *resultTable) IsNumber(i int) bool { return r.Order(i) == "number" }

// Order returns how the page sorts a column: as "number", as "text" of people, or by "code"
// points, which is the order of times in ISO 8601 and of UUIDs.
func (r *resultTable) Order(i int) string {
	word, _, _ := strings.Cut(r.List[i].Type, "(")
	switch word {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM",
		"FLOAT", "DOUBLE", "DECIMAL":
		if !strings.HasSuffix(r.List[i].Type, "]") { // not a list of numbers
			return "number"
		}
	case "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "UUID", "BOOLEAN":
		return "code"
	}
	return "text"
}
