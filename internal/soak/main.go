// Command soak runs the daemon against vendors and destinations that fail,
// kills it from time to time, and checks at the end that nothing is lost,
// duplicated or leaked. docs/internals/soak.md describes it.
//
//	go run ./internal/soak -time 1h
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/collectord/collectord/internal/testserver"
)

func main() {
	var o options
	flag.DurationVar(&o.time, "time", time.Hour, "how long faults are injected; the checks take a minute or two more")
	flag.Uint64Var(&o.seed, "seed", 0, "the `number` that selects the data and the sequence of faults; 0 selects one by the clock")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := buildAndRun(ctx, o)
	stop()
	os.Exit(code)
}

// buildAndRun builds the program of the working directory, runs the soak once and
// returns the exit code.
func buildAndRun(ctx context.Context, o options) int {
	root, err := os.Getwd()
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp("", "collectord-soak-build-*")
	}
	if err == nil {
		defer os.RemoveAll(dir)
		fmt.Println("soak: building the program with a clock that can be moved")
		o.binary, err = buildWithClock(ctx, root, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	o.root = root
	return run(ctx, o)
}

// options are the command-line options.
type options struct {
	root   string // the checkout
	binary string // built by buildWithClock
	time   time.Duration
	seed   uint64
}

// run runs the soak once and returns the exit code.
func run(ctx context.Context, o options) int {
	defer testserver.Stop()
	s, err := newSoak(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	defer s.cleanUp()
	fmt.Printf("soak: seed %d, %v, in %s\n", s.opts.seed, o.time, s.dir)
	found, err := s.runSoak()
	if err != nil {
		s.keepEvidence()
		fmt.Fprintf(os.Stderr, "soak: seed %d: %v\nthe evidence is in %s\n", s.opts.seed, err, s.dir)
		return 1
	}
	s.printReport(os.Stdout)
	if len(found) == 0 {
		fmt.Println("soak: nothing lost, nothing duplicated, nothing leaked")
		return 0
	}
	s.keepEvidence()
	fmt.Fprintf(os.Stderr, "soak: seed %d: %d violations; the evidence is in %s\n", s.opts.seed, len(found), s.dir)
	for _, v := range found {
		fmt.Fprintln(os.Stderr, "  "+v)
	}
	return 1
}
