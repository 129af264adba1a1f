package web

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// Freshness says in one word how a stream's data stands.
type Freshness string

// The words. Of those that apply, the first of this list is a stream's:
// running, off, never, late, failing, restored, fresh.
const (
	NoTicks  Freshness = "off"      // it has no schedule
	Running  Freshness = "running"  // a run is under way
	Never    Freshness = "never"    // there are no data yet
	Late     Freshness = "late"     // the data are older than MaxAge allows
	Failing  Freshness = "failing"  // the last run brought none, the data are not late yet
	Restored Freshness = "restored" // the data are from a backup, no run has succeeded since
	Fresh    Freshness = "fresh"
)

// longestGrace bounds what MaxAge adds for the time that a run takes.
const longestGrace = time.Hour

// MaxAge is the age at which the data of a stream that runs every interval
// are late: two intervals, so that one failed run alone is no alarm, and for the run
// itself an hour, or a third interval when that is shorter. It is 0, which
// stands for never, when interval is.
func MaxAge(interval time.Duration) time.Duration {
	return 2*interval + min(interval, longestGrace)
}

// A Stream is how a stream stands, from the state and its schedule.
type Stream struct {
	state.StreamStatus
	// Standing is that of the stream's collector; zero when the collector is
	// off.
	Standing schedule.Standing
	// Live is the extraction under way, nil for none.
	Live *schedule.Live
	// Known is when the vendor last gave its whole answer, an empty one
	// included, as far as it is known; zero for never.
	Known time.Time
	// Overdue tells that the data are missing or older than MaxAge, while a
	// run is under way too. A stream without a schedule never is.
	Overdue   bool
	Freshness Freshness
}

// StreamsOf joins what the state has of one tenancy with the schedules. It
// has every stream of a collector that is on, and those that have data though
// their collector is off, ordered by collector and stream.
func StreamsOf(all []state.StreamStatus, standings []schedule.Standing, live []*schedule.Live, tenancy string, now time.Time) []Stream {
	known := map[[2]string]state.StreamStatus{}
	for _, st := range all {
		if st.Tenancy == tenancy {
			known[[2]string{st.Collector, st.Stream}] = st
		}
	}
	var streams []Stream
	for _, standing := range standings {
		for _, name := range standing.Streams {
			key := [2]string{standing.Collector, name}
			st, ok := known[key]
			if !ok {
				st = state.StreamStatus{Collector: standing.Collector, Stream: name, Tenancy: tenancy}
			}
			delete(known, key)
			streams = append(streams, judge(Stream{StreamStatus: st, Standing: standing}, live, now))
		}
	}
	for _, st := range known {
		streams = append(streams, judge(Stream{StreamStatus: st}, live, now))
	}
	slices.SortFunc(streams, func(a, b Stream) int {
		return slices.Compare([]string{a.Collector, a.Stream}, []string{b.Collector, b.Stream})
	})
	return streams
}

// judge fills in what follows from the rest.
func judge(s Stream, live []*schedule.Live, now time.Time) Stream {
	for _, l := range live {
		if l.Collector == s.Collector && l.Stream == s.Stream {
			s.Live = l
		}
	}
	s.Known = s.LastSuccess
	if s.Taken.After(s.Known) {
		s.Known = s.Taken
	}
	limit := MaxAge(s.Standing.Interval)
	s.Overdue = limit > 0 && (s.Known.IsZero() || now.Sub(s.Known) > limit)
	switch {
	case s.Live != nil:
		s.Freshness = Running
	case limit == 0:
		s.Freshness = NoTicks
	case s.Known.IsZero():
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
	return s
}

// Seen is what of a Daemon the freshness of data takes.
type Seen interface {
	Standings() []schedule.Standing
	Running() []*schedule.Live
}

// Streams reads the state and returns how every stream stands now.
func Streams(ctx context.Context, st *state.State, d Seen, tenancy string, now time.Time) ([]Stream, error) {
	all, err := st.Streams(ctx)
	if err != nil {
		return nil, fmt.Errorf("STATE_DIR: %w", err)
	}
	return StreamsOf(all, d.Standings(), d.Running(), tenancy, now), nil
}
