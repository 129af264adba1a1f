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
	"strings"
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
			return runStatus(cmd.Context(), p, asJSON)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func runStatus(ctx context.Context, p *program, asJSON bool) error {
	s, err := p.choose()
	if err != nil {
		return err
	}
	r, err := s.readStatus(ctx, time.Now())
	if err != nil {
		return err
	}
	if asJSON {
		return s.report(true, common{}, func(a *assembly) (any, error) { return r.of(a).newView(r), reportedProblem(a) })
	}
	if err := r.print(s.base.stdout); err != nil {
		return err
	}
	var errs []error
	for _, a := range s.chosen {
		errs = append(errs, reportedProblem(a))
	}
	return s.joinErrors(nil, errs)
}

// reportedProblem returns the error of settings that cannot be used after it was printed; nil
// if they can.
func reportedProblem(a *assembly) error {
	if a.problem == nil {
		return nil
	}
	return &exitError{exitSettings, errReported}
}

// A statusReport is what the command status shows.
type statusReport struct {
	now       time.Time
	stateDir  string
	stateLine string // for people
	missing   error  // why there is no state; nil when there is one
	several   bool   // whether the command is for all of several tenancies
	tenancies []*tenancyStatus
	// withoutFile are the tenancies of the streams in the state that have no file.
	withoutFile []string
}

// A tenancyStatus is what the command status shows of a tenancy.
type tenancyStatus struct {
	*assembly
	streams []streamReport
	// reload is when the last reload of the service failed, and why; "" when it did not.
	reload  string
	queue   []state.Delivery
	skipped []skippedSnapshots
	// sinks are the destinations in the settings; nil when these are invalid, which
	// the command check reports.
	sinks []string
}

// of returns the status of a tenancy.
func (status *statusReport) of(a *assembly) *tenancyStatus {
	return status.tenancies[slices.IndexFunc(status.tenancies, func(t *tenancyStatus) bool { return t.assembly == a })]
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

// readStatus reads the status of the tenancies from the state, once for all.
func (s *selection) readStatus(ctx context.Context, now time.Time) (r *statusReport, err error) {
	r = &statusReport{now: now, stateDir: s.base.stateDir(), stateLine: s.base.stateLine(), several: s.several}
	for _, a := range s.chosen {
		r.tenancies = append(r.tenancies, &tenancyStatus{assembly: a})
	}
	switch err := s.base.inspectState(ctx); {
	case errors.Is(err, fs.ErrNotExist):
		r.missing = err
		return r, nil
	case err != nil:
		return nil, err
	}
	defer func() { err = errors.Join(err, s.base.state.Close()) }()
	streams, err := s.base.state.Streams(ctx)
	if err != nil {
		return nil, err
	}
	queue, err := s.base.state.Queue.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range r.tenancies {
		t.state = s.base.state
		if err := t.readStatus(ctx, streams, queue, now); err != nil {
			return nil, err
		}
	}
	if s.several {
		r.withoutFile = s.base.namesWithoutFile(streams)
	}
	return r, nil
}

// namesWithoutFile returns the tenancies of the streams that are none of the settings.
func (c *configuration) namesWithoutFile(streams []state.StreamStatus) []string {
	names, known := map[string]bool{}, c.tenancyNames()
	for _, s := range streams {
		if !slices.Contains(known, s.Tenancy) {
			names[s.Tenancy] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// readStatus reads the status of the tenancy from the state. all are the streams there, and
// queue its deliveries, of any tenancy.
func (t *tenancyStatus) readStatus(ctx context.Context, all []state.StreamStatus, queue []state.Delivery, now time.Time) (err error) {
	var streams []state.StreamStatus
	for _, s := range all {
		if t.shows(s.Tenancy) {
			streams = append(streams, s)
		}
	}
	for _, d := range queue {
		if t.shows(d.Tenancy) {
			t.queue = append(t.queue, d)
		}
	}
	if len(streams) > 0 {
		streams = t.withDisabled(streams)
	}
	late := t.lateStreams(streams, now)
	for _, s := range streams {
		one := streamReport{StreamStatus: s}
		if one.next, one.isRetry, err = t.findNextRun(ctx, s, now); err != nil {
			return err
		}
		if s.Tenancy == t.settings.Tenancy {
			one.lateSince = late[s.Stream]
		}
		t.streams = append(t.streams, one)
	}
	if t.reload, err = t.state.Notes(t.settings.Tenancy).Note(ctx, reloadNote); err != nil {
		return err
	}
	if t.skipped, err = t.readSkipped(ctx); err != nil {
		return err
	}
	opened, err := sinks.Open(t.settings.Store, nil, store.Options{}, t.log)
	if err == nil {
		defer t.closeDestinations(opened)
		t.sinks = append([]string{}, sinkNames(opened)...)
	}
	return nil
}

// shows reports whether the status has what the state has of a tenancy. A program with one
// tenancy shows what others have left there.
func (t *tenancyStatus) shows(tenancy string) bool {
	return !t.hasTenancies() || tenancy == t.settings.Tenancy
}

// isUnknownSink reports whether the settings have no such destination.
func (t *tenancyStatus) isUnknownSink(name string) bool {
	return t.sinks != nil && !slices.Contains(t.sinks, name)
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

// print prints the status as text.
func (status *statusReport) print(w io.Writer) error {
	problems := ""
	for _, t := range status.tenancies {
		if t.problem != nil {
			problems += status.labelLines(t, t.problem.Error()) + "\n"
		}
	}
	if problems != "" {
		fmt.Fprintf(w, "%sThis is what the state has; schedules, and what is off, follow from the settings that can be used.\n\n", problems)
	}
	if status.missing != nil {
		_, err := fmt.Fprintln(w, status.missing)
		return err
	}
	fmt.Fprintf(w, "%s\n", status.stateLine)
	if err := status.printTable(w); err != nil {
		return err
	}
	for _, t := range status.tenancies {
		var b strings.Builder
		if status.several && len(t.streams) == 0 {
			fmt.Fprintln(&b, nothingCollected)
		}
		t.printDetails(&b)
		if text := strings.TrimSuffix(b.String(), "\n"); text != "" {
			fmt.Fprintln(w, status.labelLines(t, text))
		}
	}
	if len(status.withoutFile) > 0 {
		fmt.Fprintf(w, "not shown, since no file is theirs: %s; `collectord tenancy list` shows what the state has of them\n", strings.Join(status.withoutFile, ", "))
	}
	return nil
}

// labelLines puts the name of the tenancy before each line if there are several.
func (status *statusReport) labelLines(t *tenancyStatus, text string) string {
	if !status.several {
		return text
	}
	return prefixLines(t.settings.Tenancy, text)
}

// printTable prints a row for each stream that has been collected.
func (status *statusReport) printTable(out io.Writer) error {
	if !slices.ContainsFunc(status.tenancies, func(t *tenancyStatus) bool { return len(t.streams) > 0 }) {
		_, err := fmt.Fprintln(out, nothingCollected)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tTENANCY\tDATA OF\tRECORDS\tSOURCE\tLAST SUCCESS\tLAST FAILURE\tUNDELIVERED\tNEXT RUN")
	for _, t := range status.tenancies {
		for _, s := range t.streams {
			source := string(s.Source)
			if s.Held {
				source += ", a newer one is held"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", s.Stream, s.Tenancy,
				formatTime(s.DataTime()), s.Records, source, formatTime(s.LastSuccess), formatTime(s.LastFailure), s.Queued, t.describeNextRun(s))
		}
	}
	return w.Flush()
}

const nothingCollected = "nothing has been collected yet"

// printDetails prints what the table does not have: since when data is late or unchanged, why
// streams are off, their errors and doubts, and what was not delivered.
func (t *tenancyStatus) printDetails(w io.Writer) {
	t.printStreams(w)
	if t.reload != "" {
		fmt.Fprintf(w, "the last reload of the service, %s\n", t.reload)
	}
	counts := countBySink(t.queue)
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if t.isUnknownSink(name) {
			fmt.Fprintf(w, "%s: %s queued, but the settings have no such destination: %s\n",
				name, english.Plural(counts[name], "delivery is", "deliveries are"), doctor.DropAdvice(name))
		}
	}
	for _, s := range t.skipped {
		fmt.Fprintf(w, "%s: %s of %s not delivered, since the queue was larger than STORE_SPOOL_MAX; the last is of %s\n",
			s.sink, english.Plural(len(s.taken), "snapshot", ""), s.stream+wasOrWere(len(s.taken)), formatTime(s.taken[0]))
	}
	for _, d := range t.queue {
		if d.Err != "" {
			fmt.Fprintf(w, "%s to %s, %s: %s\n", d.Stream, d.Sink, english.Plural(d.Attempts, "attempt", ""), d.Err)
		}
	}
}

// wasOrWere returns the verb after a number of subjects.
func wasOrWere(n int) string {
	if n == 1 {
		return " was"
	}
	return " were"
}

// printStreams prints since when the data of each stream is late or unchanged, why it is off or
// its last error, and the doubts about its data.
func (t *tenancyStatus) printStreams(w io.Writer) {
	for _, s := range t.streams {
		if !s.lateSince.IsZero() {
			fmt.Fprintf(w, "%s: late since %s\n", s.Stream, formatTime(s.lateSince))
		}
		if s.Checked.After(s.Taken) {
			fmt.Fprintf(w, "%s: unchanged since %s\n", s.Stream, formatTime(s.Taken))
		}
		switch why := t.reasonOff(s.Stream); {
		case isOfResults(s.Stream):
			fmt.Fprintf(w, "%s: %s\n", s.Stream, why)
		case why != "":
			fmt.Fprintf(w, "%s: off: %s\n", s.Stream, why)
		}
		if t.whyOff(s.Stream) == "" && s.LastFailure.After(s.LastSuccess) {
			fmt.Fprintf(w, "%s: %s\n", s.Stream, s.FailureErr)
		}
		if len(s.Doubts) > 0 {
			fmt.Fprintf(w, "%s: accepted: %s\n", s.Stream, s.Doubts)
		}
	}
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
