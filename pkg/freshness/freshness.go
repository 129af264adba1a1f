// Package freshness decides when the data of a stream is late. Every part of the program
// that judges the age of data uses its rule: the status page, the API, /-/data, the
// metrics, and with them the alerts, and the doctor command.
package freshness

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A Label describes the data of a stream in one word.
type Label string

// The labels. When several apply, the first of this list is used: running, results, off,
// never, late, failing, restored, fresh.
const (
	Off      Label = "off"      // the stream is off, or nothing says how often it must succeed
	Running  Label = "running"  // a run is in progress
	Results  Label = "results"  // the stream has the results of controls
	Never    Label = "never"    // there is no data yet
	Late     Label = "late"     // the data is overdue
	Failing  Label = "failing"  // the last run failed, but the data is not late yet
	Restored Label = "restored" // the data is from a backup, and no run has succeeded since
	Fresh    Label = "fresh"
)

// A Stream is the status of a stream, from the state and its schedule.
type Stream struct {
	state.StreamStatus
	// Plan is the schedule status of the stream; zero when it is off.
	Plan schedule.StreamStatus
	// WhyOff says why the stream is off, such as "COLLECTORS excludes it"; "" when it
	// is on. The data of a stream that is off is kept and never overdue.
	WhyOff string
	// Active is the running extraction; nil for none.
	Active *run.ActiveRun
	// AsOf is the time of the vendor's last complete response, an empty one included;
	// zero when there was none.
	AsOf time.Time
	// Deadline is when the data is late unless a run succeeds before; zero for never.
	Deadline time.Time
	// Overdue reports whether the deadline has passed, also while a run is in progress.
	Overdue bool
	// Freshness is the label of the stream's data.
	Freshness Label
}

// A DisabledStream is a stream that is off although its collector is on.
type DisabledStream struct {
	Collector, Stream string
	// Why says why it is off.
	Why string
}

// whyCollectorOff is the WhyOff of a stream whose collector is off.
const whyCollectorOff = "its collector is off"

// WhyResults is the WhyOff of a stream of results of controls.
const WhyResults = "it has the results of controls, which have no schedule of their own"

// Sources are what the status of the streams follows from, beside the state.
type Sources struct {
	// Collectors are the schedule statuses of the collectors that are on.
	Collectors []schedule.CollectorStatus
	// Disabled are the streams that are off although their collector is on.
	Disabled []DisabledStream
	// Active are the running extractions.
	Active []*run.ActiveRun
	// MaxAge returns the DATA_MAX_AGE of a stream; 0 when it is not set.
	MaxAge func(stream string) time.Duration
}

// Evaluate joins the state of the streams of one tenancy with their schedules and the
// running extractions. It returns every stream of a collector that is on, also those
// that are off, and the streams that have data but whose collector is off, ordered by
// collector and stream.
func Evaluate(streams []state.StreamStatus, from Sources, tenancy string, now time.Time) []Stream {
	known := map[[2]string]state.StreamStatus{}
	for _, s := range streams {
		if s.Tenancy == tenancy {
			known[[2]string{s.Collector, s.Stream}] = s
		}
	}
	// take returns the state of a stream and removes it from known.
	take := func(collector, stream string) state.StreamStatus {
		key := [2]string{collector, stream}
		s, ok := known[key]
		if !ok {
			s = state.StreamStatus{Collector: collector, Stream: stream, Tenancy: tenancy}
		}
		delete(known, key)
		return s
	}
	var all []Stream
	for _, c := range from.Collectors {
		for _, plan := range c.Streams {
			all = append(all, Stream{StreamStatus: take(c.Collector, plan.Stream), Plan: plan})
		}
	}
	for _, d := range from.Disabled {
		all = append(all, Stream{StreamStatus: take(d.Collector, d.Stream), WhyOff: d.Why})
	}
	for _, s := range known {
		why := whyCollectorOff
		one := Stream{StreamStatus: s, WhyOff: why}
		if one.HasResults() {
			one.WhyOff = WhyResults
		}
		all = append(all, one)
	}
	for i := range all {
		all[i].evaluate(from, now)
	}
	slices.SortFunc(all, func(a, b Stream) int {
		return slices.Compare([]string{a.Collector, a.Stream}, []string{b.Collector, b.Stream})
	})
	return all
}

// HasResults reports whether the stream has the results of controls, which no vendor has
// and which follow the runs of other streams.
func (s *Stream) HasResults() bool { return s.Collector == collector.ControlsName }

// evaluate sets the fields of s that follow from its StreamStatus and Plan.
func (s *Stream) evaluate(from Sources, now time.Time) {
	for _, r := range from.Active {
		if r.Collector == s.Collector && r.Stream == s.Stream {
			s.Active = r
		}
	}
	s.AsOf = newestOf(s.LastSuccess, s.Taken, now)
	if s.WhyOff == "" {
		s.Deadline = s.findDeadline(from.MaxAge(s.Stream), now)
	}
	s.Overdue = !s.Deadline.IsZero() && now.After(s.Deadline)
	switch {
	case s.Active != nil:
		s.Freshness = Running
	case s.HasResults():
		s.Freshness = Results
	case s.Deadline.IsZero():
		s.Freshness = Off
	case s.AsOf.IsZero():
		s.Freshness = Never
	case s.Overdue:
		s.Freshness = Late
	case s.LastFailure.After(s.LastSuccess) && s.LastFailure.After(s.Taken):
		s.Freshness = Failing
	case s.Source == state.Restored && s.LastSuccess.Before(s.Taken):
		s.Freshness = Restored
	default:
		s.Freshness = Fresh
	}
}

// newestOf returns the newer one of two times. One that is in the future, by a clock
// that was wrong, does not hide the other, which may be zero.
func newestOf(a, b, now time.Time) time.Time {
	if snapshot.IsNewer(a, b, now) && !a.IsZero() || b.IsZero() {
		return a
	}
	return b
}

// A StatusSource returns the status of the collectors, the streams of theirs that are
// off, the running extractions, and the age that the settings allow.
type StatusSource interface {
	Statuses() []schedule.CollectorStatus
	DisabledStreams() []DisabledStream
	ActiveRuns() []*run.ActiveRun
	// MaxAge returns the DATA_MAX_AGE of a stream; 0 when it is not set.
	MaxAge(stream string) time.Duration
}

// SourcesOf returns what source has now.
func SourcesOf(source StatusSource) Sources {
	return Sources{
		Collectors: source.Statuses(), Disabled: source.DisabledStreams(), Active: source.ActiveRuns(), MaxAge: source.MaxAge,
	}
}

// ReadTenancies is [Read] for several tenancies, with one read of the state. A source may
// be nil: all streams of that tenancy are off.
func ReadTenancies(ctx context.Context, st *state.State, sources map[string]StatusSource, now time.Time) (map[string][]Stream, error) {
	streams, err := st.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	byTenancy := map[string][]state.StreamStatus{}
	for _, s := range streams {
		byTenancy[s.Tenancy] = append(byTenancy[s.Tenancy], s)
	}
	all := map[string][]Stream{}
	for tenancy, source := range sources {
		from := Sources{}
		if source != nil {
			from = SourcesOf(source)
		}
		all[tenancy] = Evaluate(byTenancy[tenancy], from, tenancy, now)
	}
	return all, nil
}

// Read reads the state of a tenancy and returns the status of its streams at the time now.
func Read(ctx context.Context, st *state.State, source StatusSource, tenancy string, now time.Time) ([]Stream, error) {
	streams, err := st.TenancyStreams(ctx, tenancy)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	return Evaluate(streams, SourcesOf(source), tenancy, now), nil
}
