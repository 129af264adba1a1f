package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/collectord/collectord/internal/duckdb"
)

// WorkerCommand is the only argument of a worker process. A program that uses an
// Engine calls Work when it is started with it.
const WorkerCommand = "query-worker"

// Work does the task on standard input and returns the exit code. It writes the result to
// standard output and the report to file descriptor 3. Standard input stays open
// until the engine's process ends; then the worker ends, too.
func Work() int {
	raiseOOMScore()
	input := json.NewDecoder(os.Stdin)
	var t task
	if err := input.Decode(&t); err != nil {
		fmt.Fprintf(os.Stderr, "%s: read the task: %v\n", WorkerCommand, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	sum, err := t.work(context.Background(), os.Stdout)
	if err := json.NewEncoder(os.NewFile(3, "report")).Encode(newReport(sum, err)); err != nil {
		return 1
	}
	return 0
}

// work does a task and writes its result to w.
func (t *task) work(ctx context.Context, w io.Writer) (sum Summary, err error) {
	if t.Kind == copyTask {
		// Large records leave much garbage behind, which this process has no memory for.
		debug.SetMemoryLimit(t.Memory / 2)
		return Summary{}, classify(t.writeCopy(ctx))
	}
	s, err := t.openSession(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer func() {
		s.close()
		sum, err = s.summary, classify(s.checkGone(err))
	}()
	if err := s.createViews(ctx); err != nil {
		return Summary{}, notRun(err)
	}
	if err := s.createRegister(ctx); err != nil {
		return Summary{}, notRun(err)
	}
	if err := s.confine(ctx); err != nil {
		return Summary{}, notRun(err)
	}
	if t.Kind == measureTask {
		return Summary{}, s.runMeasures(ctx, w)
	}
	if err := s.defineResult(ctx, t.Text); err != nil {
		return Summary{}, err
	}
	switch t.Kind {
	case parquetTask:
		err = s.writeParquet(ctx)
	case profileTask:
		err = s.writeProfile(ctx, w)
	default:
		err = s.writeFormatted(ctx, w)
	}
	return Summary{}, err
}

// notRun adds ErrNotRun to an error that has no other kind.
func notRun(err error) error {
	for _, kind := range []error{errGone, ErrMemory, ErrTime} {
		if errors.Is(err, kind) {
			return err
		}
	}
	if duckdb.KindOf(err) == duckdb.Memory {
		return err
	}
	return withKind(ErrNotRun, err)
}

// classify adds ErrMemory to the errors that mean it.
func classify(err error) error {
	if duckdb.KindOf(err) == duckdb.Memory {
		return withKind(ErrMemory, duckdb.Brief(err))
	}
	return err
}
