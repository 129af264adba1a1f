package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/snapshot"
)

// queryFlags are the flags and the text of a call of query.
type queryFlags struct {
	text, file, format, output string
	timeout                    time.Duration
	rows                       int64
	raw                        bool
	memory                     string
	memoryBytes                config.Bytes
	prompt                     bool     // reads statements from the terminal
	without                    []string // tenancies that the tables do not have
}

func queryCommand(p *program) *cobra.Command {
	var q queryFlags
	cmd := &cobra.Command{
		Use:   `query ["SELECT ..."]`,
		Short: "Run SQL over the last-known data, one table per stream",
		Long: `query runs one SELECT over the last-known snapshots with the embedded DuckDB and
prints the result. Each stream is a table, such as okta_users; nested members are
accessed with dots. The query has no access to files, network and settings. Its
temporary files are in STATE_DIR for the user who owns that, and in TMPDIR or /tmp for
others, such as root.

With TENANCIES_DIR a table has the rows of all tenancies, whose names are in the column
_tenancy; --tenancy chooses one, and --without leaves one out.

Without a SELECT it opens a prompt on a terminal, and elsewhere reads the SELECT from
standard input if that is a pipe or a file. At the prompt statements end with a
semicolon, .help lists the commands, Tab completes keywords, streams and columns,
Ctrl-C cancels a query and Ctrl-D ends. COLLECTORD_HISTORY is the file of the history,
by default $XDG_STATE_HOME/collectord/query_history or the same below ~/.local/state;
off keeps none.`,
		Example: `  collectord query
  collectord query "SELECT status, count(*) FROM okta_users GROUP BY ALL"
  collectord query -f metric.sql --format csv > metric.csv
  collectord query "FROM tenable_assets" --format parquet -o assets.parquet`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && q.file != "" {
				return usageError(errors.New("query takes one text in quotes, or -f with a file, - for standard input"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := q.chooseInput(args); err != nil {
				return err
			}
			if err := q.validate(); err != nil {
				return err
			}
			if q.prompt && !cmd.Flags().Changed("rows") {
				q.rows = promptRows
			}
			return p.withInspectedState(cmd.Context(), p.loadOneOrAll, func(a *assembly) error {
				if err := a.leaveOut(q.without); err != nil {
					return err
				}
				if q.prompt {
					return a.runPrompt(cmd.Context(), q, p.signals)
				}
				return a.runQuery(cmd.Context(), q)
			})
		},
	}
	cmd.Flags().StringVarP(&q.file, "file", "f", "", "read the query from this file, - is standard input")
	cmd.Flags().StringVar(&q.format, "format", "table", "table, csv, json or parquet")
	cmd.Flags().StringVarP(&q.output, "output", "o", "", "write to this file instead of standard output")
	cmd.Flags().DurationVar(&q.timeout, "timeout", 10*time.Minute, "the time limit for loading the data and running the query; 0 means no limit")
	cmd.Flags().Int64Var(&q.rows, "rows", 0, "the maximum number of rows to print; 0 prints all; at the prompt the default is 1000")
	cmd.Flags().BoolVar(&q.raw, "raw", false, "with --format csv, write text as it is, also what a spreadsheet program would execute as a formula")
	cmd.Flags().StringSliceVar(&q.without, "without", nil, "with TENANCIES_DIR, leave this tenancy out; may be given several times")
	cmd.Flags().StringVar(&q.memory, "memory", "1536MiB", "the most memory that the query may use")
	_ = cmd.RegisterFlagCompletionFunc("without", completeTenancies(p))
	_ = cmd.RegisterFlagCompletionFunc("format", completeWords("table", "csv", "json", "parquet")) // the flags exist
	return cmd
}

// leaveOut removes tenancies from those whose data queries read.
func (a *assembly) leaveOut(names []string) error {
	if len(names) == 0 {
		return nil
	}
	if len(a.tenancies) == 0 {
		return usageError(errors.New("--without: there is one tenancy: it needs TENANCIES_DIR, and no --tenancy"))
	}
	rest := *a.configuration
	for _, name := range names {
		isIt := func(t *tenancyFile) bool { return t.tenancyName() == name }
		if !slices.ContainsFunc(rest.tenancies, isIt) {
			return a.unknownTenancy("--without", name)
		}
		rest.tenancies = slices.DeleteFunc(slices.Clone(rest.tenancies), isIt)
	}
	if len(rest.tenancies) == 0 {
		return usageError(errors.New("--without: no tenancy is left"))
	}
	a.configuration = &rest
	return nil
}

// adviseUnusable returns the error of a query, with what to do about a snapshot that cannot be
// used.
func (a *assembly) adviseUnusable(err error) error {
	switch {
	case !snapshot.IsUnusable(err):
		return err
	case len(a.tenancies) > 1:
		return fmt.Errorf("%w: the next run of the stream replaces it; --without leaves a tenancy out", err)
	}
	return fmt.Errorf("%w: the next run of the stream replaces it", err)
}

// chooseInput sets where the text comes from: the argument, --file, standard input or the
// terminal.
func (q *queryFlags) chooseInput(args []string) error {
	switch {
	case len(args) == 1:
		q.text = args[0]
	case q.file != "":
	case term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())):
		q.prompt = true
	case hasInput(os.Stdin):
		q.file = "-"
	default:
		return usageError(errors.New("query takes one text in quotes, or -f with a file, - for standard input; without them it opens a prompt on a terminal"))
	}
	return nil
}

// hasInput reports whether a file is one from which text is redirected, rather than a
// terminal or /dev/null.
func hasInput(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && (info.Mode().IsRegular() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0)
}

// minQueryMemory is the least memory in bytes in which a query can start.
const minQueryMemory = 256 << 20

// validate checks the flags and reads the text from its file.
func (q *queryFlags) validate() error {
	switch q.format {
	case "table", "csv", "json", "parquet":
	default:
		return usageError(fmt.Errorf("--format is %q: it may be table, csv, json or parquet", q.format))
	}
	if q.raw && q.format != "csv" {
		return usageError(errors.New("--raw needs --format csv: the other formats have text as it is"))
	}
	if err := q.memoryBytes.UnmarshalText([]byte(q.memory)); err != nil || q.memoryBytes < minQueryMemory {
		return usageError(fmt.Errorf("--memory is %q: it may be a size of %v or more, such as 4GiB", q.memory, config.Bytes(minQueryMemory)))
	}
	if q.timeout < 0 || q.rows < 0 {
		return usageError(errors.New("--timeout and --rows cannot be negative"))
	}
	if q.output != "" {
		if err := checkOutput(q.output); err != nil {
			return usageError(fmt.Errorf("--output: %w", err))
		}
	}
	if q.prompt && (q.output != "" || q.format == "parquet") {
		return usageError(errors.New("--output and --format parquet need a query: give it in quotes or with -f"))
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
		return usageError(fmt.Errorf("--file: %w", err))
	}
	q.text = string(bytes.TrimPrefix(text, []byte("\ufeff")))
	return nil
}

// checkOutput returns an error when there can be no file at path.
func checkOutput(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory: want the path of a file, such as %s", path, filepath.Join(path, "result.csv"))
	}
	parent := filepath.Dir(path)
	info, err := os.Stat(parent)
	if err == nil && !info.IsDir() {
		err = errors.New("it is a file")
	}
	if err != nil {
		return fmt.Errorf("%s: the directory %s cannot be used: %w", path, parent, err)
	}
	return nil
}

func (a *assembly) runQuery(ctx context.Context, q queryFlags) error {
	engine := a.newQueryEngine(int64(q.memoryBytes))
	defer engine.Close()
	limits := q.limits()
	summary, err := a.writeResult(q, func(w io.Writer, file string) (query.Summary, error) {
		if q.format == "parquet" {
			return engine.Parquet(ctx, q.text, file, limits)
		}
		return engine.Query(ctx, q.text, q.resultFormat(), limits, w)
	})
	if errors.Is(err, query.ErrRefused) {
		return usageError(err)
	}
	err = a.adviseUnusable(err)
	if err == nil && q.format == "table" { // for people
		_, err = fmt.Fprintln(a.stderr, a.stateLine())
	}
	if err == nil && summary.Truncated {
		_, err = fmt.Fprintf(a.stderr, "there are more rows than the %d that --rows allows\n", q.rows)
	}
	return err
}

func (q *queryFlags) limits() query.Limits {
	return query.Limits{Time: q.timeout, Rows: q.rows, Wait: true}
}

// resultFormat returns the format of a result that is written as a stream.
func (q *queryFlags) resultFormat() query.Format {
	if q.raw {
		return query.RawCSVFormat
	}
	return query.Format(q.format)
}

// queryDir returns the directory for the temporary files of a query: the service's own
// one for the user who owns the state, and otherwise that for temporary files, since what
// another user creates could stop the queries of the service.
func (a *assembly) queryDir() string {
	uid, _, ok := ownerOf(a.stateDir())
	if !ok || uid != os.Geteuid() || doctor.CheckDirectory("STATE_DIR", a.stateDir()) != nil {
		return os.TempDir()
	}
	return filepath.Join(a.state.Dir(), "query")
}

// writeResult calls write with the writer, and the file when there is one, that the
// result goes to. The file of --output appears when it is complete. Parquet always
// goes through a file, because it is not written as a stream.
func (a *assembly) writeResult(
	q queryFlags, write func(w io.Writer, file string) (query.Summary, error),
) (summary query.Summary, err error) {
	if q.output == "" && q.format != "parquet" {
		return write(a.stdout, "")
	}
	parent := os.TempDir()
	if q.output != "" {
		parent = filepath.Dir(q.output)
	}
	dir, err := os.MkdirTemp(parent, ".collectord-query-*")
	if err != nil {
		return summary, fmt.Errorf("--output: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "result")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return summary, fmt.Errorf("--output: %w", err)
	}
	summary, err = write(f, path)
	if err := errors.Join(err, f.Close()); err != nil {
		return summary, err
	}
	if q.output != "" {
		return summary, os.Rename(path, q.output)
	}
	return summary, copyToStdout(path)
}

// copyToStdout copies a file to standard output as it is: removing secrets would
// damage binary data.
func copyToStdout(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, f)
	return errors.Join(err, f.Close())
}
