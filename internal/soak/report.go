package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report writes what was done.
func (s *soak) report(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nTROUBLE\tTIMES")
	faults := s.faults.all()
	for _, kind := range slices.Sorted(maps.Keys(faults)) {
		fmt.Fprintf(t, "%s\t%d\n", kind, faults[kind])
	}
	fmt.Fprintln(t, "\nRUNS\tTIMES")
	runs := s.sum("collectord_runs_total", "outcome")
	for _, outcome := range slices.Sorted(maps.Keys(runs)) {
		fmt.Fprintf(t, "%s\t%.0f\n", outcome, runs[outcome])
	}
	fmt.Fprintln(t, "\nDELIVERIES\tTIMES")
	deliveries := s.sum("collectord_deliveries_total", "outcome")
	for _, outcome := range slices.Sorted(maps.Keys(deliveries)) {
		fmt.Fprintf(t, "%s\t%.0f\n", outcome, deliveries[outcome])
	}
	_ = t.Flush() // a terminal that is gone hears nothing else either
	fmt.Fprintf(w, "\n%s\n\n", s.watch.summary())
}

// sum adds a metric's values by one of its labels.
func (s *soak) sum(metric, label string) map[string]float64 {
	sums := map[string]float64{}
	for name, value := range s.last {
		rest, ok := strings.CutPrefix(name, metric+"{")
		if !ok {
			continue
		}
		_, rest, _ = strings.Cut(rest, label+`="`)
		of, _, _ := strings.Cut(rest, `"`)
		sums[of] += value
	}
	return sums
}
