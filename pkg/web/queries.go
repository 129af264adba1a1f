package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/query"
)

// maxQueryBytes bounds the file of a query. Its text has to fit into the body of a request.
const maxQueryBytes = maxBodyBytes / 2

// An OfferedQuery is a query that the operator offers on the status page: a file in the
// directory HTTP_QUERIES.
type OfferedQuery struct {
	// Name is the name of the file without its ending, Title its first line without "--".
	Name  string `json:"name"`
	Title string `json:"title"`
	SQL   string `json:"sql"`
}

// A QueryFileError is the error of one file in the directory HTTP_QUERIES.
type QueryFileError struct {
	File string
	Err  error
}

func (e *QueryFileError) Error() string { return "HTTP_QUERIES: " + e.File + ": " + e.Err.Error() }

func (e *QueryFileError) Unwrap() error { return e.Err }

// QueryFiles are the queries that the operator offers: the files *.sql of a directory. Its
// methods may be called concurrently.
type QueryFiles struct {
	dir string // "" is none
	log *zap.Logger

	mu     sync.Mutex
	parsed map[string]bool // the valid SQL of the files that Read has found last
	logged map[string]bool // the texts of the errors that were logged and last
}

// NewQueryFiles returns the files of a directory; "" is none. Errors of files are logged,
// each once while it lasts.
func NewQueryFiles(dir string, log *zap.Logger) *QueryFiles { return &QueryFiles{dir: dir, log: log} }

// CheckDir returns an error when the directory cannot be read.
func (q *QueryFiles) CheckDir() error {
	_, err := q.list()
	return err
}

// list returns the names of the files, in order. Hidden files and subdirectories are ignored.
func (q *QueryFiles) list() (names []string, err error) {
	if q.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(q.dir)
	if err != nil {
		return nil, fmt.Errorf("HTTP_QUERIES: %w: it is a directory with files *.sql that the user of the service can read", err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".sql") && !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Read returns the queries, ordered by the names of the files, and the errors of the files
// that are not valid, also of those that are not exactly one SELECT.
func (q *QueryFiles) Read(ctx context.Context) (queries []OfferedQuery, invalid []*QueryFileError, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	names, err := q.list()
	if err != nil {
		return nil, nil, err
	}
	before := q.parsed
	q.parsed = map[string]bool{}
	for _, name := range names {
		path := filepath.Join(q.dir, name)
		one, err := readQueryFile(path)
		if err == nil {
			err = q.parse(ctx, one.SQL, before)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			invalid = append(invalid, &QueryFileError{path, err})
			continue
		}
		one.Name = strings.TrimSuffix(name, ".sql")
		queries = append(queries, one)
	}
	q.logInvalid(invalid)
	return queries, invalid, nil
}

// parse returns the error of SQL. What was valid before is not parsed again.
func (q *QueryFiles) parse(ctx context.Context, sql string, before map[string]bool) error {
	if !before[sql] {
		if err := query.CheckSyntax(ctx, sql); err != nil {
			return err
		}
	}
	q.parsed[sql] = true
	return nil
}

func (q *QueryFiles) logInvalid(invalid []*QueryFileError) {
	before := q.logged
	q.logged = map[string]bool{}
	for _, e := range invalid {
		q.logged[e.Error()] = true
		if !before[e.Error()] {
			q.log.Warn("a query is not offered", zap.Error(e))
		}
	}
}

// readQueryFile reads the file of a query. The result has no name.
func readQueryFile(path string) (OfferedQuery, error) {
	// Not the entry of the directory: the file may be behind a link, as in a ConfigMap of
	// Kubernetes. Opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return OfferedQuery{}, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return OfferedQuery{}, errors.New("it is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return OfferedQuery{}, withoutPath(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxQueryBytes+1))
	if err != nil {
		return OfferedQuery{}, withoutPath(err)
	}
	return parseQueryFile(text)
}

// withoutPath returns the cause of the error of a file, whose path the caller adds.
func withoutPath(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return fmt.Errorf("%s: %w", failed.Op, failed.Err)
	}
	return err
}

// parseQueryFile returns the query in the text of a file.
func parseQueryFile(text []byte) (OfferedQuery, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	switch {
	case len(text) > maxQueryBytes:
		return OfferedQuery{}, fmt.Errorf("it is larger than %d bytes", maxQueryBytes)
	case !utf8.Valid(text) || bytes.ContainsRune(text, 0):
		return OfferedQuery{}, errors.New("it is not text in UTF-8")
	}
	sql := strings.ReplaceAll(string(text), "\r\n", "\n")
	first, rest, _ := strings.Cut(sql, "\n")
	isComment := strings.HasPrefix(first, "--")
	title := strings.TrimSpace(strings.TrimLeft(first, "-"))
	switch {
	case !isComment || title == "":
		return OfferedQuery{}, errors.New("the first line is not a comment with the title of the query, such as: -- Users without MFA")
	case strings.TrimSpace(rest) == "":
		return OfferedQuery{}, errors.New("there is no query after the first line")
	}
	return OfferedQuery{Title: title, SQL: sql}, nil
}

// CheckQueries returns the errors of the directory HTTP_QUERIES and of all its files.
func CheckQueries(ctx context.Context, dir string) error {
	_, invalid, err := NewQueryFiles(dir, zap.NewNop()).Read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range invalid {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// queriesView is the response to GET /api/v1/queries.
type queriesView struct {
	Queries []OfferedQuery `json:"queries"`
	// Errors are those of the files that are not valid.
	Errors []string `json:"errors,omitempty"`
}

// serveQueries responds with the queries that the operator offers. The directory is read for
// each request, so that a new file needs no restart.
func (u *ui) serveQueries(w http.ResponseWriter, r *http.Request) {
	if u.Queries == nil {
		u.writeError(w, http.StatusForbidden, "queries over HTTP are off: "+queriesOff)
		return
	}
	queries, invalid, err := u.Offered.Read(r.Context())
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	view := queriesView{Queries: queries}
	if queries == nil {
		view.Queries = []OfferedQuery{}
	}
	for _, e := range invalid {
		view.Errors = append(view.Errors, e.Error())
	}
	u.writeJSON(w, http.StatusOK, view)
}
