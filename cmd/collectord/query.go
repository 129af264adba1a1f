package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

// queryCall is one call of the command query.
type queryCall struct {
	text, file, format, output string
	timeout                    time.Duration
	rows                       int64
}

func (a *app) queryCommand() *cobra.Command {
	var q queryCall
	cmd := &cobra.Command{
		Use:   `query "SELECT ..."`,
		Short: "Answer SQL over the last-known data, one table per stream",
		Long: `query answers one SELECT over the last-known snapshots with the embedded DuckDB.
Each stream is a table, such as okta_users; nested members are reached with dots.
The query sees no file, no network and no setting.`,
		Example: `  collectord query "SELECT status, count(*) FROM okta_users GROUP BY ALL"
  collectord query -f metric.sql --format csv > metric.csv
  collectord query "FROM tenable_assets" --format parquet -o assets.parquet`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (q.file != "") {
				return usage(errors.New("query wants one text in quotes, or -f with a file, - for standard input"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				q.text = args[0]
			}
			if err := q.check(); err != nil {
				return err
			}
			return a.withState(cmd.Context(), func(st *state.State) error { return a.query(cmd.Context(), st, q) })
		},
	}
	cmd.Flags().StringVarP(&q.file, "file", "f", "", "read the query from this file, - is standard input")
	cmd.Flags().StringVar(&q.format, "format", "table", "table, csv, json or parquet")
	cmd.Flags().StringVarP(&q.output, "output", "o", "", "write to this file rather than standard output")
	cmd.Flags().DurationVar(&q.timeout, "timeout", 10*time.Minute, "the longest that loading and answering may take; 0 is no limit")
	cmd.Flags().Int64Var(&q.rows, "rows", 0, "the most rows to print; 0 is all")
	_ = cmd.RegisterFlagCompletionFunc("format", fixed("table", "csv", "json", "parquet")) // it has the flag
	return cmd
}

// check reads the text and refuses what no state is needed for.
func (q *queryCall) check() error {
	switch q.format {
	case "table", "csv", "json", "parquet":
	default:
		return usage(fmt.Errorf("--format is %q: it may be table, csv, json or parquet", q.format))
	}
	if q.timeout < 0 || q.rows < 0 {
		return usage(errors.New("--timeout and --rows cannot be negative"))
	}
	var text []byte
	var err error
	switch q.file {
	case "":
		return nil
	case "-":
		text, err = io.ReadAll(os.Stdin)
	default:
		text, err = os.ReadFile(q.file)
	}
	if err != nil {
		return usage(fmt.Errorf("--file: %w", err))
	}
	q.text = string(bytes.TrimPrefix(text, []byte("\ufeff")))
	return nil
}

func (a *app) query(ctx context.Context, st *state.State, q queryCall) error {
	e := query.New(query.Options{State: st, Tenancy: a.settings.Tenancy, Dir: filepath.Join(st.Dir(), "query")})
	limits := query.Limits{Time: q.timeout, Rows: q.rows, Wait: true}
	sum, err := a.write(q, func(w io.Writer, file string) (query.Summary, error) {
		switch q.format {
		case "csv":
			return e.Query(ctx, q.text, limits, query.CSV(w))
		case "json":
			return e.Query(ctx, q.text, limits, query.JSON(w))
		case "parquet":
			return e.Parquet(ctx, q.text, file, limits)
		}
		return e.Query(ctx, q.text, limits, query.Table(w))
	})
	if errors.Is(err, query.ErrRefused) {
		return usage(err)
	}
	if err == nil && sum.Truncated {
		_, err = fmt.Fprintf(a.stderr, "there are more rows than the %d that --rows allows\n", q.rows)
	}
	return err
}

// write passes what an answer is to be written to. A file appears when it is
// whole. Parquet, which is no stream, goes through a file in any case.
func (a *app) write(q queryCall, do func(w io.Writer, file string) (query.Summary, error)) (sum query.Summary, err error) {
	if q.output == "" && q.format != "parquet" {
		return do(a.stdout, "")
	}
	dir := os.TempDir()
	if q.output != "" {
		dir = filepath.Dir(q.output)
	}
	room, err := os.MkdirTemp(dir, ".collectord-query-*")
	if err != nil {
		return sum, fmt.Errorf("--output: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(room)) }()
	path := filepath.Join(room, "answer")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return sum, fmt.Errorf("--output: %w", err)
	}
	sum, err = do(f, path)
	if err := errors.Join(err, f.Close()); err != nil {
		return sum, err
	}
	if q.output != "" {
		return sum, os.Rename(path, q.output)
	}
	f, err = os.Open(path)
	if err != nil {
		return sum, err
	}
	_, err = io.Copy(os.Stdout, f) // not a.stdout: looking for secrets is for text
	return sum, errors.Join(err, f.Close())
}
