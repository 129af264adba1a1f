package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// printSummary prints the results of a run: a table with a row for each stream and
// a column for each destination, and the errors and doubts below it.
func printSummary(
	w io.Writer, results []run.Result, sinks []string,
	outcome deliveryStatus,
) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "STREAM\tOUTCOME\tRECORDS\tSIZE\tTOOK\t%s\n", strings.ToUpper(strings.Join(sinks, "\t")))
	var problems []string
	for _, r := range results {
		cells := []string{r.Stream, string(r.Outcome), "-", "-", r.Duration.Round(10 * time.Millisecond).String()}
		if r.Err == nil {
			cells[2], cells[3] = strconv.FormatInt(r.Records, 10), humanize.Bytes(uint64(r.Bytes))
		}
		for _, sink := range sinks {
			d := outcome(r.UploadID, r.Stream, sink)
			cells = append(cells, d.Label())
			if d.Err != nil {
				problems = append(problems, fmt.Sprintf("%s to %s: %v", r.Stream, sink, d.Err))
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
		if r.Err != nil {
			problems = append(problems, r.Err.Error())
		}
		if len(r.Doubts) > 0 {
			problems = append(problems, fmt.Sprintf("%s: accepted: %s", r.Stream, r.Doubts))
		}
		if r.Outcome == state.Held {
			problems = append(problems, fmt.Sprintf("%s: %s after %d in the last snapshot (GUARD_DROP): "+
				"the new one is held, the last one stays; `collectord accept %s` releases it",
				r.Stream, english.Plural(int(r.Records), "record", ""), r.LastRecords, r.Stream))
		}
	}
	_ = t.Flush() // nothing can report that standard output is closed
	for i, text := range problems {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, text)
	}
}
