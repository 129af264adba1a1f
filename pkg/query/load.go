package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/collectord/collectord/internal/duckdb"
)

var wordPattern = regexp.MustCompile(`[\pL_][\pL\pN_]*`)

// names are the words of a query, in lower case. A word in a comment only costs the time
// to prepare its stream.
type names map[string]bool

func namesIn(text string) names {
	n := names{}
	for _, word := range wordPattern.FindAllString(strings.ToLower(text), -1) {
		n[word] = true
	}
	return n
}

// has reports whether the query names a stream.
func (n names) has(stream string) bool { return n[strings.ToLower(stream)] }

// readsCatalog reports whether the query may read any stream without naming it.
func (n names) readsCatalog() bool {
	for _, word := range []string{
		"information_schema", "duckdb_columns", "duckdb_views", "pg_catalog", "pg_attribute",
		"query", "query_table", // the name of the table may be computed
	} {
		if n[word] {
			return true
		}
	}
	return (n["show"] || n["describe"] || n["desc"]) && n["all"]
}

// mayRead reports whether the query may read a stream.
func (n names) mayRead(stream string) bool { return n.has(stream) || n.readsCatalog() }

// createViews creates a view of each stream.
func (s *session) createViews(ctx context.Context) error {
	if _, err := s.db.ExecContext(ctx, timestampMacro); err != nil {
		return fmt.Errorf("query: %w", duckdb.Brief(err))
	}
	used := namesIn(s.task.Text)
	for _, sources := range byStream(s.task.Streams) {
		stream := sources[0].Stream
		if err := s.createView(ctx, sources); err != nil {
			return s.checkGone(fmt.Errorf("query: read the columns of %s: %w", stream, duckdb.Brief(err)))
		}
		if used.has(stream) {
			s.summary.Streams = append(s.summary.Streams, usedStream(sources))
		}
	}
	return nil
}

// byStream returns the sources of each stream, one for each tenancy, in order.
func byStream(all []streamSource) (streams [][]streamSource) {
	places := map[string]int{}
	for _, source := range all {
		i, known := places[source.Stream]
		if !known {
			i = len(streams)
			places[source.Stream] = i
			streams = append(streams, nil)
		}
		streams[i] = append(streams[i], source)
	}
	return streams
}

// usedStream describes what a query reads of a stream.
func usedStream(sources []streamSource) UsedStream {
	used := UsedStream{Stream: sources[0].Stream, UploadID: sources[0].UploadID, Taken: sources[0].Taken}
	for _, source := range sources[1:] {
		used.UploadID = ""
		if source.Taken.Before(used.Taken) {
			used.Taken = source.Taken
		}
	}
	return used
}

// noRows is the SELECT of the rows of a stream that has none, or that no query names.
const noRows = "SELECT NULL::VARCHAR AS _tenancy, NULL::TIMESTAMP AS _upload_timestamp, NULL::UUID AS _upload_id WHERE false"

// rowsOf returns the SELECT of the rows of one source with a columnar copy.
func rowsOf(source streamSource) string {
	return "SELECT " + cmp.Or(source.View, "*") + " FROM " + parquetFile(source.Columns)
}

// createView creates the view of a stream with one source for each tenancy.
func (s *session) createView(ctx context.Context, sources []streamSource) error {
	optional := sources[0].Optional
	var withColumns []streamSource
	for _, source := range sources {
		if source.Columns != "" {
			withColumns = append(withColumns, source)
		}
	}
	switch len(withColumns) {
	case 0:
		return s.defineView(ctx, sources[0].Stream, optional, noRows)
	case 1:
		err := s.defineView(ctx, sources[0].Stream, optional, rowsOf(withColumns[0]))
		if err != nil && duckdb.KindOf(err) != duckdb.Memory {
			// A copy that is damaged, or of another user, is made again.
			_ = os.Remove(withColumns[0].Columns)
		}
		return err
	}
	rows := noRows
	if namesIn(s.task.Text).mayRead(sources[0].Stream) {
		var err error
		if rows, err = s.rowsOfTenancies(ctx, withColumns); err != nil {
			return err
		}
	}
	return s.defineView(ctx, sources[0].Stream, optional, rows)
}

// defineView defines the view of a stream, with its optional members unless the data has
// something else in their place. A profile is of the data alone.
func (s *session) defineView(ctx context.Context, stream string, optional []string, rows string) error {
	create := "CREATE VIEW " + duckdb.Quote(stream) + " AS "
	if len(optional) > 0 && s.task.Kind != profileTask {
		missing, err := s.missingOptional(ctx, rows, optional)
		if err != nil {
			return err
		}
		if _, err := s.db.ExecContext(ctx, create+withOptional(rows, missing)); err == nil {
			return nil
		}
	}
	_, err := s.db.ExecContext(ctx, create+rows)
	return err
}

// checkGone adds errGone to the error of a query of which a copy no longer exists. It
// removes a copy that DuckDB cannot read.
func (s *session) checkGone(err error) error {
	if err == nil || errors.Is(err, errGone) {
		return err
	}
	for _, source := range s.task.Streams {
		if source.Columns == "" {
			continue
		}
		if strings.Contains(err.Error(), "Failed to read file "+duckdb.Quote(source.Columns)) {
			_ = os.Remove(source.Columns)
		}
		if _, gone := os.Stat(source.Columns); errors.Is(gone, fs.ErrNotExist) {
			return withKind(errGone, err)
		}
	}
	return err
}

// allowFiles allows the files of the views, and the file of the result. DuckDB compares
// the pattern of a file, and then the file that it finds.
func (s *session) allowFiles() string {
	var paths []string
	if path := s.task.resultFile(); path != "" {
		paths = append(paths, duckdb.Literal(path))
	}
	for _, source := range s.task.Streams {
		if source.Columns != "" {
			paths = append(paths, duckdb.Literal(source.Columns), duckdb.Literal(duckdb.EscapeGlob(source.Columns)))
		}
	}
	return "SET allowed_paths = [" + strings.Join(paths, ", ") + "]"
}
