// Command bench measures what docs/benchmarks.md states, and writes it.
//
//	go run ./internal/bench               # every case, and docs/benchmarks.md
//	go run ./internal/bench -list
//	go run ./internal/bench -only duckdb  # one case, to the terminal
//
// To add a case, write a function that takes a *lab and returns a result, and
// give it a line in cases.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "worker" {
		return work(ctx, args[1:])
	}
	fs := flag.NewFlagSet("bench", flag.ExitOnError)
	only := fs.String("only", "", "measure these `cases` only, comma-separated, and do not write the document")
	list := fs.Bool("list", false, "list the cases")
	out := fs.String("out", "docs/benchmarks.md", "the `file` to write")
	pairs := fs.Int("pairs", 5, "pairs of runs of each comparison")
	cpuProfile := fs.String("profiles", "", "write CPU and heap profiles of the destinations' runs to this `folder`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: want flags only; -only chooses cases", fs.Args())
	}
	if *list {
		for _, c := range cases {
			fmt.Printf("%-10s %s\n", c.name, c.what)
		}
		return nil
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	l, err := newLab(ctx, *pairs, *cpuProfile)
	if err != nil {
		return err
	}
	defer l.close()
	began := time.Now()
	rows := measure(l, chosen)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if *only == "" {
		if err := os.WriteFile(*out, []byte(document(ctx, rows, time.Since(began))), 0o644); err != nil {
			return err
		}
		fmt.Println("written:", *out)
	}
	return failures(rows)
}

// choose returns the cases of those names, all of them for "".
func choose(names string) ([]benchCase, error) {
	if names == "" {
		return cases, nil
	}
	var chosen []benchCase
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: no case is named %q; -list shows them", name)
		}
		chosen = append(chosen, cases[i])
	}
	return chosen, nil
}

// A row is a case with what came of it.
type row struct {
	benchCase
	result
	err error
}

// measure runs the cases one after the other. One that cannot run is a row
// that says so.
func measure(l *lab, chosen []benchCase) []row {
	var rows []row
	for _, c := range chosen {
		began := time.Now()
		r := row{benchCase: c}
		r.result, r.err = c.run(l)
		rows = append(rows, r)
		if r.err != nil {
			fmt.Printf("%s: FAILED: %v\n", c.name, r.err)
		} else {
			fmt.Printf("%s: %s | %s | %s (%.0f s)\n", c.name, r.figure, r.ratio, r.verdict(), time.Since(began).Seconds())
			for _, note := range r.notes {
				fmt.Println("  ", note)
			}
		}
		if l.ctx.Err() != nil {
			break
		}
	}
	return rows
}

func failures(rows []row) error {
	var errs []error
	for _, r := range rows {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}
