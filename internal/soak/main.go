// Command soak runs the daemon for a while against vendors and destinations
// that fail, kills it now and then, and checks at the end that nothing is
// lost, doubled or leaked. docs/soak.md describes it.
//
//	go run ./internal/soak -binary bin/collectord -time 10m
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
	flag.StringVar(&o.binary, "binary", "bin/collectord", "the `program` to run")
	flag.DurationVar(&o.time, "time", 10*time.Minute, "how long there is trouble; what follows takes a minute or two more")
	flag.Uint64Var(&o.seed, "seed", 0, "the `number` that repeats the same sequence of troubles; 0 takes one by the clock")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, o)
	stop()
	os.Exit(code)
}

// options are what a soak is told.
type options struct {
	binary string
	time   time.Duration
	seed   uint64
}

// run soaks once, and returns the exit code.
func run(ctx context.Context, o options) int {
	defer testserver.Stop()
	s, err := newSoak(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	defer s.close()
	fmt.Printf("soak: seed %d, %v, in %s\n", s.opts.seed, o.time, s.dir)
	found, err := s.soak()
	if err != nil {
		s.keep()
		fmt.Fprintf(os.Stderr, "soak: seed %d: %v\nthe evidence is in %s\n", s.opts.seed, err, s.dir)
		return 1
	}
	s.report(os.Stdout)
	if len(found) == 0 {
		fmt.Println("soak: nothing lost, nothing doubled, nothing leaked")
		return 0
	}
	s.keep()
	fmt.Fprintf(os.Stderr, "soak: seed %d: %d violations; the evidence is in %s\n", s.opts.seed, len(found), s.dir)
	for _, v := range found {
		fmt.Fprintln(os.Stderr, "  "+v)
	}
	return 1
}
