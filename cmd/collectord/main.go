// Command collectord extracts security data from vendors' APIs on a schedule
// and delivers complete snapshots of it to files, DuckDB, Postgres and S3.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/KimMachineGun/automemlimit" // Go's memory limit follows the control group's
)

// version is set when the program is built.
var version = "devel"

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	cmd := rootCommand(&app{stdout: os.Stdout, stderr: os.Stderr})
	err := cmd.ExecuteContext(ctx)
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "collectord:", err)
	}
	var s *signalError
	if errors.As(context.Cause(ctx), &s) && err != nil {
		return s.code()
	}
	return exitCode(err)
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string { return "stopped by " + e.signal.String() }

func (e *signalError) code() int {
	if e.signal == syscall.SIGTERM {
		return exitTERM
	}
	return exitINT
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The
// second ends the program at once: somebody has no patience left.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case s := <-signals:
				e := &signalError{s}
				if n > 0 {
					os.Exit(e.code())
				}
				cancel(e)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
