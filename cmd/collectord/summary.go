package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// summarize prints what a run did: a line for each stream, with each
// destination's outcome, and below the table what went wrong, in words.
func summarize(w io.Writer, results []schedule.Result, sinks []string, stored func(uploadID, stream, sink string) schedule.Delivery) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "STREAM\tOUTCOME\tRECORDS\tSIZE\tTOOK\t%s\n", strings.ToUpper(strings.Join(sinks, "\t")))
	var troubles []string
	for _, r := range results {
		cells := []string{r.Stream, string(r.Outcome), "-", "-", r.Took.Round(10 * time.Millisecond).String()}
		if r.Err == nil {
			cells[2], cells[3] = strconv.FormatInt(r.Records, 10), humanize.Bytes(uint64(r.Bytes))
		}
		for _, sink := range sinks {
			d := stored(r.UploadID, r.Stream, sink)
			cells = append(cells, d.Word())
			if d.Err != nil {
				troubles = append(troubles, fmt.Sprintf("%s to %s: %v", r.Stream, sink, d.Err))
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
		if r.Err != nil {
			troubles = append(troubles, r.Err.Error())
		}
		if r.Outcome == state.Held {
			troubles = append(troubles, fmt.Sprintf("%s: %d records after %d in the last snapshot (GUARD_DROP): the new one is held, the last one stays; `collectord accept %s` releases it", r.Stream, r.Records, r.LastRecords, r.Stream))
		}
	}
	_ = t.Flush() // standard output is gone: there is nobody left to tell
	for i, text := range troubles {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintln(w, text)
	}
}
