package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// printReport prints what happened during the soak.
func (s *soak) printReport(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nFAULT\tTIMES")
	faults := s.faults.counts()
	for _, kind := range slices.Sorted(maps.Keys(faults)) {
		fmt.Fprintf(t, "%s\t%d\n", kind, faults[kind])
	}
	fmt.Fprintln(t, "\nRUNS\tTIMES")
	runs := s.sumByLabel("collectord_runs_total", "outcome")
	for _, outcome := range slices.Sorted(maps.Keys(runs)) {
		fmt.Fprintf(t, "%s\t%.0f\n", outcome, runs[outcome])
	}
	fmt.Fprintln(t, "\nDELIVERIES\tTIMES")
	deliveries := s.sumByLabel("collectord_deliveries_total", "outcome")
	for _, outcome := range slices.Sorted(maps.Keys(deliveries)) {
		fmt.Fprintf(t, "%s\t%.0f\n", outcome, deliveries[outcome])
	}
	fmt.Fprintf(t, "\nSETTINGS\tTIMES\nkeys rotated\t%d\nstreams switched off and on\t%d\n", len(s.reloads.rotations), len(s.reloads.switches))
	fmt.Fprintln(t, "\nALERT\tIT\tFROM\tFOR\tEXPLAINED BY")
	for _, line := range s.alertLines() {
		fmt.Fprintln(t, line)
	}
	_ = t.Flush() // an error here would also hit the next line
	fmt.Fprintf(w, "\n%s\n\n", s.watch.summary())
}

// sumByLabel returns the sums of a metric's values by one of its labels.
func (s *soak) sumByLabel(metric, label string) map[string]float64 {
	sums := map[string]float64{}
	for name, value := range s.lastScrape {
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
