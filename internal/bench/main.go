// Command bench measures speed and memory and writes docs/internals/benchmarks.md.
//
//	go run ./internal/bench               # every case, and docs/internals/benchmarks.md
//	go run ./internal/bench -list
//	go run ./internal/bench -only duckdb  # one case, to the terminal
//
// To add a case, write a function that takes a *lab and returns a result, and
// add it to cases.go.
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
		return runWorker(ctx, args[1:])
	}
	fs := flag.NewFlagSet("bench", flag.ExitOnError)
	only := fs.String("only", "", "measure only these `cases`, comma-separated, and do not write the document")
	list := fs.Bool("list", false, "list the cases")
	out := fs.String("out", "docs/internals/benchmarks.md", "the `file` to write")
	pairs := fs.Int("pairs", 5, "`number` of pairs of runs in each comparison")
	cpuProfile := fs.String("profiles", "", "write CPU and heap profiles of the runs of destinations to this `directory`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q: expected only flags; use -only to choose cases", fs.Args())
	}
	if *list {
		for _, c := range cases {
			fmt.Printf("%-10s %s\n", c.name, c.what)
		}
		return nil
	}
	chosen, err := chooseCases(*only)
	if err != nil {
		return err
	}
	l, err := newLab(ctx, *pairs, *cpuProfile)
	if err != nil {
		return err
	}
	defer l.cleanUp()
	began := time.Now()
	rows := runCases(l, chosen)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if *only == "" {
		if err := os.WriteFile(*out, []byte(renderDocument(ctx, rows, time.Since(began))), 0o644); err != nil {
			return err
		}
		fmt.Println("written:", *out)
	}
	return joinFailures(rows)
}

// chooseCases returns the cases with the given names, or all cases for "".
func chooseCases(names string) ([]benchCase, error) {
	if names == "" {
		return cases, nil
	}
	var chosen []benchCase
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(cases, func(c benchCase) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no case %q; -list shows all cases", name)
		}
		chosen = append(chosen, cases[i])
	}
	return chosen, nil
}

// A row is a case with its result or error.
type row struct {
	benchCase
	result
	err error
}

// runCases runs the cases one after the other. A case that fails results in a
// row with its error.
func runCases(l *lab, chosen []benchCase) []row {
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

func joinFailures(rows []row) error {
	var errs []error
	for _, r := range rows {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}
