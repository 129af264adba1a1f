package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/state"
)

const stateGroup = "state"

// StateChecks is what State examines.
type StateChecks struct {
	// Dir is STATE_DIR.
	Dir string
	// Open opens the state for reading only.
	Open func(context.Context) (*state.State, error)
	// Listen is HTTP_LISTEN; "" when it is off. WebConfig reports whether
	// HTTP_WEB_CONFIG_FILE is set.
	Listen    string
	WebConfig bool
	// Examine, if not nil, is called with the state, to examine the data in it.
	Examine func(context.Context, *state.State) error
}

// DataChecks is what Data examines.
type DataChecks struct {
	Tenancy string
	// Others reports whether the state has other tenancies on purpose, so that their
	// deliveries are no problem of this one.
	Others bool
	// Streams returns what is to be reported of the streams in the state.
	Streams func([]state.StreamStatus) []StreamData
	// Sinks are the names of the destinations in the settings. They are
	// incomplete, and not compared with the queue, when SinksUnknown is true.
	Sinks        []string
	SinksUnknown bool
}

// StreamData describes the last-known data of one stream.
type StreamData struct {
	Stream  string
	Records int64
	// Known is when the vendor last gave a complete response; zero for never.
	Known time.Time
	// LastFailure is when a run last failed, with the error FailureErr; zero for
	// never.
	LastFailure time.Time
	FailureErr  string
	// Held reports that a newer snapshot is held.
	Held bool
	// Late reports that the data are older than the schedule allows.
	Late bool
	// WhyOff says why the stream is off; "" when it is on.
	WhyOff string
}

// State returns the findings about the state directory and the service that uses it, and
// lets c.Examine examine the data in it.
func State(ctx context.Context, c StateChecks) []Finding {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return []Finding{{Group: stateGroup, Check: "directory", Result: Failed, Text: err.Error()}}
	}
	findings := []Finding{Directory(stateGroup, "STATE_DIR", dir)}
	if f, ok := serviceAt(ctx, c.Listen, c.WebConfig); ok {
		findings = append(findings, f)
	}
	st, err := c.Open(ctx)
	database := Finding{Group: stateGroup, Check: "database", Result: OK, Text: "opens and is intact"}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return append(findings, Finding{Group: stateGroup, Check: "data", Result: OK, Text: "nothing has been collected yet"})
	case errors.Is(err, state.ErrOlder):
		database.Result, database.Text = Warning, err.Error()
		database.Advice = "the next start of the service upgrades it; until then its data are not examined"
		return append(findings, database)
	case err != nil:
		return append(findings, database.failed("%v", err))
	}
	findings = append(findings, database)
	err = nil
	if c.Examine != nil {
		err = c.Examine(ctx, st)
	}
	if err := errors.Join(err, st.Close()); err != nil {
		findings = append(findings, Finding{Group: stateGroup, Check: "data", Result: Failed, Text: err.Error()})
	}
	return findings
}

// Data returns the findings about what a state has of a tenancy: its data and its queue.
func Data(ctx context.Context, st *state.State, c DataChecks) ([]Finding, error) {
	known, err := st.Streams(ctx)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, d := range c.Streams(known) {
		findings = append(findings, streamFinding(d))
	}
	queue, err := st.Queue.List(ctx)
	if err != nil {
		return findings, err
	}
	return append(findings, undelivered(queue, c)...), nil
}

// streamFinding returns the finding about the data of a stream.
func streamFinding(d StreamData) Finding {
	f := Finding{Group: stateGroup, Check: d.Stream, Result: OK, Text: "no data yet"}
	if !d.Known.IsZero() {
		f.Text = fmt.Sprintf("%s of %s (%s)", english.Plural(int(d.Records), "record", ""), d.Known.UTC().Format("2006-01-02 15:04:05Z"), humanize.Time(d.Known))
	}
	switch {
	case d.WhyOff != "":
		f.Text += "; the stream is off: " + d.WhyOff
	case d.LastFailure.After(d.Known):
		f.Result = Warning
		f.Text += "; the last run failed: " + d.FailureErr
	case d.Held:
		f.Result = Warning
		f.Text += "; a newer snapshot is held"
		f.Advice = "it has far fewer records: find out why, or release it with `collectord accept " + d.Stream + "`"
	case d.Late:
		f.Result = Warning
		f.Text += "; that is older than DATA_MAX_AGE or its schedule allows"
		f.Advice = "see that the service runs, or run `collectord --once " + d.Stream + "`"
	}
	return f
}

// undelivered returns a warning for each destination with queued deliveries.
func undelivered(queue []state.Delivery, c DataChecks) []Finding {
	count, lastErr := map[string]int{}, map[string]string{}
	others := map[string]int{}
	for _, d := range queue {
		if d.Tenancy != c.Tenancy {
			if !c.Others {
				others[d.Tenancy]++
			}
			continue
		}
		count[d.Sink]++
		if d.Err != "" {
			lastErr[d.Sink] = ": " + d.Err
		}
	}
	var findings []Finding
	for _, sink := range slices.Sorted(maps.Keys(count)) {
		f := Finding{
			Group: stateGroup, Check: "undelivered", Result: Warning,
			Text: fmt.Sprintf("%s for %s%s", snapshotsWait(count[sink]), sink, lastErr[sink]),
		}
		if !c.SinksUnknown && !slices.Contains(c.Sinks, sink) {
			f.Text = fmt.Sprintf("%s for %s, which the settings do not have", snapshotsWait(count[sink]), sink)
			f.Advice = DropAdvice(sink)
		}
		findings = append(findings, f)
	}
	for _, tenancy := range slices.Sorted(maps.Keys(others)) {
		findings = append(findings, Finding{
			Group: stateGroup, Check: "undelivered", Result: Warning,
			Text:   fmt.Sprintf("undelivered: %s of the tenancy %s, which this one does not deliver", english.Plural(others[tenancy], "snapshot", ""), tenancy),
			Advice: "use a STATE_DIR for each TENANCY; `collectord deliver` with that TENANCY delivers them",
		})
	}
	return findings
}

// snapshotsWait returns the beginning of a sentence about a number of snapshots.
func snapshotsWait(n int) string { return english.Plural(n, "snapshot waits", "snapshots wait") }

// DropAdvice returns what to do about deliveries to a destination that the
// settings do not have.
func DropAdvice(sink string) string {
	return "set it again, or drop them with `collectord drop " + sink + "`"
}
