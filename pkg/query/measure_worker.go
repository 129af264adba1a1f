package query

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	driver "github.com/duckdb/duckdb-go/v2"
	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/internal/duckdb"
)

// registerName is the name of the register in the directory of a task.
const registerName = "register.csv"

// A workerMeasure is a Measure of a task.
type workerMeasure struct {
	Index   int
	Queries []workerQuery
}

// A workerQuery is a query of a workerMeasure.
type workerQuery struct {
	Index int
	Text  string
}

// The names of the tables and the view of a measure.
const (
	measureView   = "measure_query"
	measureTable  = "measure_rows"
	measureJoined = "measure_joined"
	registerTable = "measure_register"
)

// createRegister creates the table of the register, which is empty without one.
func (s *session) createRegister(ctx context.Context) error {
	if s.task.Kind != measureTask {
		return nil
	}
	_, err := s.db.ExecContext(ctx, "CREATE TEMP TABLE "+registerTable+
		" (resource VARCHAR, resource_type VARCHAR, business_unit VARCHAR, team VARCHAR, location VARCHAR)")
	if err == nil && s.task.Register {
		err = s.loadRegister(ctx)
	}
	if err != nil {
		return fmt.Errorf("query: read the register: %w", duckdb.Brief(err))
	}
	return nil
}

// loadRegister inserts the rows of the register. DuckDB's own reader of CSV needs more
// memory than the rest of a small measure.
func (s *session) loadRegister(ctx context.Context) (err error) {
	file, err := os.Open(filepath.Join(s.task.Dir, registerName))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := csv.NewReader(file)
	columns := []duckdb.Column{{Name: "resource"}, {Name: "resource_type"}, {Name: "business_unit"}, {Name: "team"}, {Name: "location"}}
	r.FieldsPerRecord, r.ReuseRecord = len(columns), true
	if _, err := r.Read(); err != nil { // the header
		return err
	}
	source, err := s.db.Source("measure_register_rows", columns, func(row *duckdb.Row) error {
		fields, err := r.Read()
		if err != nil {
			return err
		}
		for i, text := range fields {
			row.SetText(i, []byte(text))
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, "INSERT INTO "+registerTable+
		" SELECT lower(resource), lower(resource_type), business_unit, team, location FROM measure_register_rows()")
	return source.Result(err)
}

// runMeasures runs the measures of the task and writes a measureEvent per line to w.
func (s *session) runMeasures(ctx context.Context, w io.Writer) error {
	out := &eventWriter{w: bufio.NewWriterSize(w, 64<<10)}
	out.encoder = json.NewEncoder(out.w)
	for _, m := range s.task.Measures {
		if err := out.writeNow(measureEvent{Begin: &m.Index}); err != nil {
			return err
		}
		end := &measureEnd{}
		err := s.runMeasure(ctx, m, out, &end.Result)
		var failed *MeasureError
		if errors.As(err, &failed) {
			end.Query, end.Line = failed.Query, failed.Line
		}
		end.report = newReport(Summary{}, classify(s.checkGone(err)))
		if err := out.writeNow(measureEvent{End: end}); err != nil {
			return err
		}
		if errors.Is(end.err(), ErrMemory) {
			return nil // this process may have no memory for the others: they have another
		}
	}
	return nil
}

// eventWriter writes events. It keeps its first error.
type eventWriter struct {
	w       *bufio.Writer
	encoder *json.Encoder
}

func (e *eventWriter) writeNow(event measureEvent) error {
	return errors.Join(e.encoder.Encode(event), e.w.Flush())
}

// runMeasure runs one measure.
func (s *session) runMeasure(ctx context.Context, m workerMeasure, out *eventWriter, result *MeasureResult) (err error) {
	defer func() { err = errors.Join(err, s.dropMeasure(ctx)) }()
	if _, err := s.db.ExecContext(ctx, "CREATE TEMP TABLE "+measureTable+
		" (resource VARCHAR, resource_type VARCHAR, compliance DOUBLE, detail VARCHAR, business_unit VARCHAR, team VARCHAR, location VARCHAR)"); err != nil {
		return err
	}
	for _, q := range m.Queries {
		err := s.addRows(ctx, q.Text)
		if err == nil {
			err = s.checkCompliance(ctx)
		}
		if err == nil {
			err = s.checkTexts(ctx)
		}
		if err != nil {
			return &MeasureError{Query: q.Index, Line: errorLine(q.Text, err), Err: explainMeasure(err)}
		}
		result.Streams = s.addUsed(result.Streams, q.Text)
	}
	return s.summarize(ctx, out, result)
}

// dropMeasure removes what a measure has created.
func (s *session) dropMeasure(ctx context.Context) error {
	for _, statement := range []string{
		"DROP VIEW IF EXISTS temp." + measureView, "DROP TABLE IF EXISTS temp." + measureTable, "DROP TABLE IF EXISTS temp." + measureJoined,
	} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("query: %w", duckdb.Brief(err))
		}
	}
	return nil
}

// addUsed adds the streams that a query names.
func (s *session) addUsed(used []UsedStream, text string) []UsedStream {
	words := namesIn(text)
	for _, source := range s.task.Streams {
		one := UsedStream{Stream: source.Stream, UploadID: source.UploadID, Taken: source.Taken}
		if words.has(source.Stream) && !slices.Contains(used, one) {
			used = append(used, one)
		}
	}
	return used
}

// The columns of a measure: those that a query must return, and those that it may.
var (
	requiredColumns = []string{"resource", "resource_type", "compliance", "detail"}
	unitColumns     = []string{"business_unit", "team", "location"}
)

// addRows adds the rows of a query to the table of the measure.
func (s *session) addRows(ctx context.Context, text string) error {
	if err := s.db.Raw(func(c any) error { return checkSelect(c.(*driver.Conn), text) }); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, "CREATE OR REPLACE TEMP VIEW "+measureView+" AS "+text); err != nil {
		return err
	}
	columns, err := s.measureColumns(ctx)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range requiredColumns {
		if !slices.Contains(columns, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the query does not return %s: it must return %s", strings.Join(missing, ", "), strings.Join(requiredColumns, ", "))
	}
	values := []string{"resource::VARCHAR", "resource_type::VARCHAR", "compliance::DOUBLE", "detail::VARCHAR"}
	for _, name := range unitColumns {
		if slices.Contains(columns, name) {
			values = append(values, "nullif(trim("+name+"::VARCHAR), '')")
		} else {
			values = append(values, "NULL")
		}
	}
	_, err = s.db.ExecContext(ctx, "INSERT INTO "+measureTable+" SELECT "+strings.Join(values, ", ")+" FROM "+measureView)
	return err
}

// measureColumns returns the names of the columns of a query in lower case.
func (s *session) measureColumns(ctx context.Context) (names []string, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT lower(column_name) FROM (DESCRIBE "+measureView+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// checkCompliance returns an error when a compliance is not from 0 to 1.
func (s *session) checkCompliance(ctx context.Context) error {
	var wrong int64
	var compliance, resource sql.NullString
	err := s.db.QueryRowContext(ctx, "SELECT count(*), first(compliance)::VARCHAR, first(coalesce(resource, 'NULL')) FROM "+measureTable+
		" WHERE compliance < 0 OR compliance > 1 OR isnan(compliance)").Scan(&wrong, &compliance, &resource)
	if err != nil || wrong == 0 {
		return err
	}
	value := strings.Replace(compliance.String, "-nan", "nan", 1)
	text := fmt.Sprintf("%s a compliance that is not from 0 to 1, such as %s of the resource %s",
		english.Plural(int(wrong), "row has", "rows have"), value, shorten(resource.String))
	switch value {
	case "inf", "-inf", "nan":
		text += ": a division by 0 returns that: divide by nullif(x, 0), so that the row does not count"
	}
	return errors.New(text)
}

// maxRowBytes bounds the texts of a row, which the process that receives it has in memory.
const maxRowBytes = 1 << 20

// checkTexts returns an error when the texts of a row are too long.
func (s *session) checkTexts(ctx context.Context) error {
	var wrong int64
	var resource sql.NullString
	err := s.db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*), first(left(coalesce(resource, 'NULL'), 100)) FROM %s"+
		" WHERE strlen(concat(resource, resource_type, detail, business_unit, team, location)) > %d", measureTable, maxRowBytes)).Scan(&wrong, &resource)
	if err != nil || wrong == 0 {
		return err
	}
	return fmt.Errorf("%s texts of more than %s, such as that of the resource %s: shorten detail",
		english.Plural(int(wrong), "row has", "rows have"), humanize.IBytes(maxRowBytes), resource.String)
}

// summarize joins the rows with the register, and returns their sums and, if the task
// says so, the rows themselves.
func (s *session) summarize(ctx context.Context, out *eventWriter, result *MeasureResult) error {
	unit := func(name string) string {
		return fmt.Sprintf("coalesce(m.%s, nullif(trim(r.%s), ''), nullif(trim(a.%s), ''), 'undefined') AS %s", name, name, name, name)
	}
	_, err := s.db.ExecContext(ctx, fmt.Sprintf(`CREATE TEMP TABLE %s AS SELECT m.resource, m.resource_type, m.compliance, m.detail, %s, %s, %s
		FROM %s m
		LEFT JOIN %s r ON r.resource = lower(m.resource) AND r.resource_type = lower(m.resource_type) AND r.resource_type <> ''
		LEFT JOIN %s a ON a.resource = lower(m.resource) AND a.resource_type = ''`,
		measureJoined, unit("business_unit"), unit("team"), unit("location"), measureTable, registerTable, registerTable))
	if err != nil {
		return fmt.Errorf("query: %w", duckdb.Brief(err))
	}
	if err := s.db.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE compliance < 1) FROM "+measureJoined).Scan(&result.Rows, &result.NotFull); err != nil {
		return fmt.Errorf("query: %w", duckdb.Brief(err))
	}
	if result.Parts, err = s.readParts(ctx); err != nil || !s.task.Detail {
		return err
	}
	return s.writeRows(ctx, out)
}

// readParts returns the sums by unit.
func (s *session) readParts(ctx context.Context) (parts []MeasurePart, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT business_unit, team, location, coalesce(fsum(compliance), 0), count(compliance) FROM "+
		measureJoined+" GROUP BY ALL ORDER BY ALL")
	if err != nil {
		return nil, fmt.Errorf("query: %w", duckdb.Brief(err))
	}
	defer rows.Close()
	for rows.Next() {
		var p MeasurePart
		if err := rows.Scan(&p.BusinessUnit, &p.Team, &p.Location, &p.OK, &p.Total); err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

// resourceMembers and unitMembers are the SQL of the members of MeasureRow. A compliance of 0
// or 1 has no fraction.
const (
	resourceMembers = `'"resource":' || to_json(coalesce(resource, '')) || ',"resource_type":' || to_json(coalesce(resource_type, '')) ||
		',"compliance":' || CASE WHEN compliance IS NULL THEN 'null' WHEN compliance = 0 THEN '0' WHEN compliance = 1 THEN '1'
			ELSE to_json(compliance) END || ',"detail":' || to_json(coalesce(detail, ''))`
	unitMembers = `'"business_unit":' || to_json(business_unit) || ',"team":' || to_json(team) || ',"location":' || to_json(location)`
)

// writeRows writes all rows.
func (s *session) writeRows(ctx context.Context, out *eventWriter) error {
	rows, err := s.db.QueryContext(ctx, "SELECT "+resourceMembers+", "+unitMembers+" FROM "+measureJoined+
		" ORDER BY resource, resource_type, compliance, detail, business_unit, team, location")
	if err != nil {
		return fmt.Errorf("query: %w", duckdb.Brief(err))
	}
	defer rows.Close()
	var resource, unit sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&resource, &unit); err != nil {
			return fmt.Errorf("query: %w", err)
		}
		_ = out.w.WriteByte(rowMark)
		_, _ = out.w.Write(resource)
		_ = out.w.WriteByte(rowGap)
		_, _ = out.w.Write(unit)
		if err := out.w.WriteByte('\n'); err != nil { // the writer returns its first error again
			return err
		}
	}
	return rows.Err()
}

// explainMeasure returns the error of a query with the names that it may mean, and
// without the excerpt of the query.
func explainMeasure(err error) error {
	var text []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "LINE ") {
			break
		}
		if line != "" {
			text = append(text, line)
		}
	}
	return &explainedMeasureError{strings.Join(text, " "), err}
}

// An explainedMeasureError is an error with another text.
type explainedMeasureError struct {
	text string
	error
}

func (e *explainedMeasureError) Error() string { return e.text }
func (e *explainedMeasureError) Unwrap() error { return e.error }

var (
	linePattern   = regexp.MustCompile(`(?m)^LINE (\d+):`)
	memberPattern = regexp.MustCompile(`Could not find key "([^"]+)" in struct`)
)

// errorLine returns the line of a query that an error is about; 0 when it is not known.
// DuckDB does not say the line of an unknown member.
func errorLine(text string, err error) int {
	if match := linePattern.FindStringSubmatch(err.Error()); match != nil {
		line, _ := strconv.Atoi(match[1]) // the pattern has digits only
		return line
	}
	if match := memberPattern.FindStringSubmatch(err.Error()); match != nil {
		if before, _, found := strings.Cut(strings.ToLower(text), "."+strings.ToLower(match[1])); found {
			return strings.Count(before, "\n") + 1
		}
	}
	return 0
}
