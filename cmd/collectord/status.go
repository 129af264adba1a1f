package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

func statusCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the last-known data of each stream, how old it is, and what is undelivered", Args: noArgs,
		Long: `status shows the last-known data of each stream, how old it is, when the stream runs
next, and what is undelivered. It reads STATE_DIR and changes nothing there, and may run
beside the service, also as root. Problems of the settings are above the table, and the
exit code is then 78.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.forEachTenancy(!asJSON, func(p *program) error { return runStatus(cmd.Context(), p, asJSON) })
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func runStatus(ctx context.Context, p *program, asJSON bool) (err error) {
	a, err := p.loadPartly()
	if err != nil {
		return err
	}
	report, now := &statusReport{stateDir: a.stateDir(), stateLine: a.stateLine(), problem: a.problem}, time.Now()
	switch err := a.inspectState(ctx); {
	case errors.Is(err, fs.ErrNotExist):
		report.missing = err
	case err != nil:
		return err
	default:
		defer func() { err = errors.Join(err, a.state.Close()) }()
		if err := a.readStatus(ctx, report, now); err != nil {
			return err
		}
	}
	switch {
	case asJSON:
		err = writeJSON(a.stdout, a.newStatusView(report, now))
	default:
		err = a.printStatus(a.stdout, report)
	}
	if err == nil && a.problem != nil {
		return &exitError{exitSettings, errReported}
	}
	return err
}

// A statusReport is what the command status shows.
type statusReport struct {
	stateDir  string
	stateLine string // for people
	problem   error  // of the settings; nil when they are valid
	missing   error  // why there is no state; nil when there is one
	streams   []streamReport
	// reload is when the last reload of the service failed, and why; "" when it did not.
	reload  string
	queue   []state.Delivery
	skipped []skippedSnapshots
	// sinks are the destinations in the settings; nil when these are invalid, which
	// the command check reports.
	sinks []string
}

// A streamReport is what the command status shows of a stream.
type streamReport struct {
	state.StreamStatus
	// next is when the stream runs next: at a retry that the service has planned, or by
	// its schedule. It is zero for a stream that has no schedule, or is off.
	next    time.Time
	isRetry bool
	// lateSince is since when the data is late; zero when it is not.
	lateSince time.Time
}

// skippedSnapshots are those that a destination did not receive because its queue was
// full, within STATE_KEEP.
type skippedSnapshots struct {
	sink, stream string
	taken        []time.Time // newest first
}

// readStatus reads the status from the state.
func (a *assembly) readStatus(ctx context.Context, r *statusReport, now time.Time) error {
	streams, err := a.state.Streams(ctx)
	if err != nil {
		return err
	}
	if len(streams) > 0 {
		streams = a.withDisabled(streams)
	}
	late := a.lateStreams(streams, now)
	for _, s := range streams {
		one := streamReport{StreamStatus: s}
		if one.next, one.isRetry, err = a.findNextRun(ctx, s, now); err != nil {
			return err
		}
		if s.Tenancy == a.settings.Tenancy {
			one.lateSince = late[s.Stream]
		}
		r.streams = append(r.streams, one)
	}
	if r.reload, err = a.state.Notes(a.settings.Tenancy).Note(ctx, reloadNote); err != nil {
		return err
	}
	if r.queue, err = a.state.Queue.List(ctx); err != nil {
		return err
	}
	if r.skipped, err = a.readSkipped(ctx); err != nil {
		return err
	}
	opened, err := sinks.Open(a.settings.Store, nil, store.Options{}, a.log)
	if err == nil {
		defer a.closeDestinations(opened)
		r.sinks = append([]string{}, sinkNames(opened)...)
	}
	return nil
}

// isUnknownSink reports whether the settings have no such destination.
func (s *statusReport) isUnknownSink(name string) bool {
	return s.sinks != nil && !slices.Contains(s.sinks, name)
}

// withDisabled returns the streams in the state and those that are off and have never
// been collected, ordered by collector and stream.
func (a *assembly) withDisabled(streams []state.StreamStatus) []state.StreamStatus {
	for _, d := range a.disabledStreams() {
		if !slices.ContainsFunc(streams, func(s state.StreamStatus) bool { return s.Stream == d.Stream }) {
			streams = append(streams, state.StreamStatus{Collector: d.Collector, Stream: d.Stream, Tenancy: a.settings.Tenancy})
		}
	}
	slices.SortStableFunc(streams, func(a, b state.StreamStatus) int {
		return slices.Compare([]string{a.Collector, a.Stream}, []string{b.Collector, b.Stream})
	})
	return streams
}

// readSkipped returns the snapshots that were skipped, by destination and stream.
func (a *assembly) readSkipped(ctx context.Context) ([]skippedSnapshots, error) {
	all, err := a.state.Queue.ListUndelivered(ctx, a.settings.Tenancy, maxListedUndelivered)
	if err != nil {
		return nil, err
	}
	type queue struct{ sink, stream string }
	skipped := map[queue][]time.Time{}
	for _, u := range all { // newest first
		if u.Outcome == state.DeliverySkipped {
			q := queue{u.Sink, u.Stream}
			skipped[q] = append(skipped[q], u.Taken)
		}
	}
	compare := func(a, b queue) int { return cmp.Or(cmp.Compare(a.sink, b.sink), cmp.Compare(a.stream, b.stream)) }
	var list []skippedSnapshots
	for _, q := range slices.SortedFunc(maps.Keys(skipped), compare) {
		list = append(list, skippedSnapshots{q.sink, q.stream, skipped[q]})
	}
	return list, nil
}

// maxListedUndelivered bounds the deliveries that are read for the status.
const maxListedUndelivered = 10_000

// whyOff returns why COLLECTORS switches a stream off; "" if it does not.
func (a *assembly) whyOff(stream string) string {
	if _, own := a.findStream(stream); own != nil {
		return own.Off
	}
	return ""
}

// printStatus prints the status as text.
func (a *assembly) printStatus(w io.Writer, r *statusReport) error {
	if r.problem != nil {
		fmt.Fprintf(w, "%v\nThis is what the state has; schedules, and what is off, follow from the settings that can be used.\n\n", r.problem)
	}
	if r.missing != nil {
		_, err := fmt.Fprintln(w, r.missing)
		return err
	}
	fmt.Fprintf(w, "%s\n", r.stateLine)
	if len(r.streams) == 0 {
		_, err := fmt.Fprintln(w, "nothing has been collected yet")
		return err
	}
	if err := a.printStreams(w, r.streams); err != nil {
		return err
	}
	if r.reload != "" {
		fmt.Fprintf(w, "the last reload of the service, %s\n", r.reload)
	}
	counts := countBySink(r.queue)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if r.isUnknownSink(name) {
			fmt.Fprintf(w, "%s: %s queued, but the settings have no such destination: %s\n",
				name, english.Plural(counts[name], "delivery is", "deliveries are"), doctor.DropAdvice(name))
		}
	}
	for _, s := range r.skipped {
		fmt.Fprintf(w, "%s: %s of %s not delivered, since the queue was larger than STORE_SPOOL_MAX; the last is of %s\n",
			s.sink, english.Plural(len(s.taken), "snapshot", ""), s.stream+wasOrWere(len(s.taken)), formatTime(s.taken[0]))
	}
	for _, d := range r.queue {
		if d.Err != "" {
			fmt.Fprintf(w, "%s to %s, %s: %s\n", d.Stream, d.Sink, english.Plural(d.Attempts, "attempt", ""), d.Err)
		}
	}
	return nil
}

// wasOrWere returns the verb after a number of subjects.
func wasOrWere(n int) string {
	if n == 1 {
		return " was"
	}
	return " were"
}

// printStreams prints a row for each stream, and below them since when its data is late
// or unchanged, why it is off or the last error of each stream that fails, and the doubts about its
// data.
func (a *assembly) printStreams(w io.Writer, streams []streamReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "STREAM\tTENANCY\tDATA OF\tRECORDS\tSOURCE\tLAST SUCCESS\tLAST FAILURE\tUNDELIVERED\tNEXT RUN")
	for _, s := range streams {
		source := string(s.Source)
		if s.Held {
			source += ", a newer one is held"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", s.Stream, s.Tenancy,
			formatTime(s.DataTime()), s.Records, source, formatTime(s.LastSuccess), formatTime(s.LastFailure), s.Queued, a.describeNextRun(s))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range streams {
		if !s.lateSince.IsZero() {
			fmt.Fprintf(w, "%s: late since %s\n", s.Stream, formatTime(s.lateSince))
		}
		if s.Checked.After(s.Taken) {
			fmt.Fprintf(w, "%s: unchanged since %s\n", s.Stream, formatTime(s.Taken))
		}
		switch why := a.reasonOff(s.Stream); {
		case isOfResults(s.Stream):
			fmt.Fprintf(w, "%s: %s\n", s.Stream, why)
		case why != "":
			fmt.Fprintf(w, "%s: off: %s\n", s.Stream, why)
		}
		if a.whyOff(s.Stream) == "" && s.LastFailure.After(s.LastSuccess) {
			fmt.Fprintf(w, "%s: %s\n", s.Stream, s.FailureErr)
		}
		if len(s.Doubts) > 0 {
			fmt.Fprintf(w, "%s: accepted: %s\n", s.Stream, s.Doubts)
		}
	}
	return nil
}

// lateStreams returns since when the data of each stream is late that is.
func (a *assembly) lateStreams(streams []state.StreamStatus, now time.Time) map[string]time.Time {
	late := map[string]time.Time{}
	for _, s := range freshness.Evaluate(streams, a.planned(time.Time{}), a.settings.Tenancy, now) {
		if s.Overdue {
			late[s.Stream] = s.Deadline
		}
	}
	return late
}

// findNextRun returns when a stream runs next, and whether that is a retry that the
// service has planned; zero when it is off or has no schedule.
func (a *assembly) findNextRun(ctx context.Context, s state.StreamStatus, now time.Time) (next time.Time, isRetry bool, err error) {
	if a.whyOff(s.Stream) != "" {
		return time.Time{}, false, nil
	}
	next = a.nextRun(s.Stream, now)
	retry, err := schedule.NextRetry(ctx, a.state, s.Tenancy, s.Stream)
	if err == nil && retry.After(now) && (next.IsZero() || retry.Before(next)) {
		return retry, true, nil
	}
	return next, false, err
}

// describeNextRun returns when a stream runs next.
func (a *assembly) describeNextRun(s streamReport) string {
	switch {
	case isOfResults(s.Stream):
		return "after runs"
	case s.next.IsZero() && a.reasonOff(s.Stream) != "":
		return "off"
	case s.next.IsZero():
		return "-"
	}
	text := s.next.In(a.settings.Schedule.Zone.Location()).Format("2006-01-02 15:04:05 MST")
	if s.isRetry {
		text += " (retry)"
	}
	return text
}

// countBySink returns the number of queued deliveries to each destination.
func countBySink(queue []state.Delivery) map[string]int {
	counts := map[string]int{}
	for _, d := range queue {
		counts[d.Sink]++
	}
	return counts
}

// formatTime returns a time with its age; "never" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z") + " (" + humanize.Time(t) + ")"
}
