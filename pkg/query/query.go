// Package query answers SQL over the last-known snapshots, with the embedded
// DuckDB and nothing else: a query sees no file, no network and no setting.
package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	driver "github.com/duckdb/duckdb-go/v2"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/state"
)

// ErrRefused means that the text is not one SELECT.
var ErrRefused = errors.New("only one SELECT is answered")

// ErrBusy means that another query is being answered.
var ErrBusy = errors.New("another query is being answered: try again when it is done")

// Options say what queries may use.
type Options struct {
	// State holds the snapshots of Tenancy.
	State   *state.State
	Tenancy string
	// Dir is the folder in which the streams that a query names become tables,
	// as long as it takes.
	Dir string
	// Memory bounds DuckDB's memory in bytes; 0 is 768 MB.
	Memory int64
	// Disk bounds what a query may spill to disk beyond the tables, such as
	// "4GiB"; "" is that.
	Disk string
}

// An Engine answers queries, one at a time.
type Engine struct {
	o    Options
	slot chan struct{}
}

// New makes an engine. It does no I/O.
func New(o Options) *Engine {
	if o.Disk == "" {
		o.Disk = "4GiB"
	}
	return &Engine{o: o, slot: make(chan struct{}, 1)}
}

// Limits bound one query.
type Limits struct {
	// Time bounds loading and answering together; 0 is no bound.
	Time time.Duration
	// Rows and Bytes bound the result, 0 is no bound. What is beyond is left
	// out, and Summary.Truncated says so.
	Rows, Bytes int64
	// Wait makes a query wait for the one before it; without it the error is
	// ErrBusy.
	Wait bool
}

// Summary says what a query gave.
type Summary struct {
	Rows int64
	// Truncated tells that there was more than Limits allow.
	Truncated bool
	Took      time.Duration
	// Streams are those that the query names, with the time of their data.
	Streams []Used
}

// Used is a stream that a query was answered from.
type Used struct {
	Stream, UploadID string
	Taken            time.Time
}

// Query answers the SELECT in text into out.
func (e *Engine) Query(ctx context.Context, text string, l Limits, out Output) (sum Summary, err error) {
	err = e.within(ctx, text, l, &sum, func(ctx context.Context, db *duckdb.DB) error {
		return answer(ctx, db, l, out, &sum)
	})
	return sum, err
}

// within opens a database that holds the streams text names, and the view
// that is the answer, and calls do.
func (e *Engine) within(ctx context.Context, text string, l Limits, sum *Summary, do func(context.Context, *duckdb.DB) error) (err error) {
	began := time.Now()
	if l.Time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.Time, fmt.Errorf("the query took longer than %v", l.Time))
		defer cancel()
	}
	if err := e.enter(ctx, l.Wait); err != nil {
		return err
	}
	defer func() { <-e.slot }()
	defer func() {
		sum.Took = time.Since(began)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("query: %w", context.Cause(ctx))
		}
	}()
	room, err := e.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, room.close()) }()
	if sum.Streams, err = e.load(ctx, room.db, text); err != nil {
		return err
	}
	if err := e.confine(ctx, room.db); err != nil {
		return err
	}
	if err := e.define(ctx, room.db, text); err != nil {
		return err
	}
	return do(ctx, room.db)
}

func (e *Engine) enter(ctx context.Context, wait bool) error {
	select {
	case e.slot <- struct{}{}:
		return nil
	default:
	}
	if !wait {
		return ErrBusy
	}
	select {
	case e.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("query: %w", context.Cause(ctx))
	}
}

// confine takes files, network and settings away. What is open stays open:
// the tables and the folder for what does not fit in memory.
func (e *Engine) confine(ctx context.Context, db *duckdb.DB) error {
	for _, statement := range []string{
		"SET TimeZone = 'UTC'",
		"SET max_temp_directory_size = " + duckdb.Literal(e.o.Disk),
		"SET enable_external_access = false",
		"SET lock_configuration = true",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("query: %s: %w", statement, duckdb.Brief(err))
		}
	}
	return nil
}

// result is the view that is the answer. Making a view of the text, rather
// than running it, leaves the answer's form to this package.
const result = "query_result"

// define makes the view of the text, once DuckDB's own parser has found it to
// be one SELECT.
func (e *Engine) define(ctx context.Context, db *duckdb.DB, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("%w: the query is empty", ErrRefused)
	}
	if err := db.Raw(func(c any) error { return selects(c.(*driver.Conn), text) }); err != nil {
		return e.explain(ctx, err)
	}
	definition := text
	if inner, ok := describes(text); ok {
		definition = "FROM (" + inner + "\n)"
	}
	if _, err := db.ExecContext(ctx, "CREATE TEMP VIEW "+result+" AS "+definition); err != nil {
		return e.explain(ctx, err)
	}
	return nil
}

func selects(c *driver.Conn, text string) error {
	prepared, err := c.Prepare(text)
	if err != nil {
		if strings.Contains(err.Error(), "PrepareContext") {
			return fmt.Errorf("%w: there are several statements", ErrRefused)
		}
		return err
	}
	statement := prepared.(*driver.Stmt)
	kind, err := statement.StatementType()
	parameters := statement.NumInput()
	if err := errors.Join(err, statement.Close()); err != nil {
		return err
	}
	switch {
	case kind != driver.STATEMENT_TYPE_SELECT:
		return ErrRefused
	case parameters > 0:
		return fmt.Errorf("%w: it has parameters, and there is nothing to put in their place", ErrRefused)
	}
	return nil
}

// describes tells whether text is a DESCRIBE, SHOW or SUMMARIZE, which cannot
// stand in a view by itself, and returns it without its semicolon.
func describes(text string) (inner string, ok bool) {
	inner = strings.TrimRight(strings.TrimSpace(text), "; \t\r\n")
	word, _, _ := strings.Cut(strings.ToUpper(inner), " ")
	switch word {
	case "DESCRIBE", "DESC", "SHOW", "SUMMARIZE":
		return inner, true
	}
	return text, false
}

// explain adds to an unknown table's error which ones there are.
func (e *Engine) explain(ctx context.Context, err error) error {
	text := err.Error()
	if strings.Contains(text, "Catalog Error: Table with name") {
		if names := e.names(ctx); len(names) > 0 {
			return fmt.Errorf("query: %w\nThe streams that have data are: %s", duckdb.Brief(err), strings.Join(names, ", "))
		}
		return fmt.Errorf("query: %w\nNo stream has data yet", duckdb.Brief(err))
	}
	return fmt.Errorf("query: %w", err)
}
