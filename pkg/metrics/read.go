package metrics

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// stateValues are the values of metrics that are read from the state.
type stateValues struct {
	tenancies map[string]tenancyValues
	// read is when they were read; zero for never. failedReads counts the failures to
	// read them.
	read        time.Time
	failedReads int64
}

// tenancyValues are the values of one tenancy.
type tenancyValues struct {
	streams []state.StreamStatus
	// ended has the last run that ended of the streams whose newest run is in progress.
	ended map[streamKey]state.Run
	// counts are the numbers of runs of each stream by outcome.
	counts   map[streamKey]map[state.Outcome]int64
	queue    []state.Delivery
	sinks    []state.SinkStatus
	controls []control.Status
}

// readValues reads the state. After an error it returns the values that were read before.
func (m *Metrics) readValues() (stateValues, error) {
	m.reading.Lock()
	defer m.reading.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), stateTimeout)
	defer cancel()
	v, err := m.readState(ctx)
	if err == nil {
		m.values = v
	} else {
		m.failedReads++
	}
	v = m.values
	v.failedReads = m.failedReads
	return v, err
}

// readState reads the values of all tenancies, each table once.
func (m *Metrics) readState(ctx context.Context) (v stateValues, err error) {
	streams, err := m.State.Streams(ctx)
	if err != nil {
		return v, err
	}
	counts, err := m.State.Runs.OutcomeCounts(ctx)
	if err != nil {
		return v, err
	}
	queue, err := m.State.Queue.List(ctx)
	if err != nil {
		return v, err
	}
	sinks, err := m.State.Queue.SinkStatuses(ctx)
	if err != nil {
		return v, err
	}
	byStreams := groupBy(streams, func(s state.StreamStatus) string { return s.Tenancy })
	byCounts := groupBy(counts, func(c state.Count) string { return c.Tenancy })
	byQueue := groupBy(queue, func(d state.Delivery) string { return d.Tenancy })
	bySinks := groupBy(sinks, func(s state.SinkStatus) string { return s.Tenancy })
	v.tenancies = map[string]tenancyValues{}
	for _, t := range m.listTenancies() {
		own := tenancyValues{
			streams: byStreams[t.Name], counts: countOutcomes(byCounts[t.Name]), queue: byQueue[t.Name], sinks: bySinks[t.Name],
		}
		if own.ended, err = m.readEnded(ctx, own.streams); err != nil {
			return v, err
		}
		controls, err := m.State.Controls(t.Name).ListControls(ctx)
		if err != nil {
			return v, err
		}
		own.controls = control.StatusesOf(controls)
		v.tenancies[t.Name] = own
	}
	v.read = m.Now()
	return v, nil
}

// groupBy returns the elements of a list by a key.
func groupBy[T any](all []T, key func(T) string) map[string][]T {
	groups := map[string][]T{}
	for _, one := range all {
		groups[key(one)] = append(groups[key(one)], one)
	}
	return groups
}

// countOutcomes returns the numbers of runs of each stream by outcome.
func countOutcomes(all []state.Count) map[streamKey]map[state.Outcome]int64 {
	counts := map[streamKey]map[state.Outcome]int64{}
	for _, c := range all {
		key := streamKey{c.Collector, c.Stream}
		if counts[key] == nil {
			counts[key] = map[state.Outcome]int64{}
		}
		counts[key][c.Outcome] = c.Runs
	}
	return counts
}

// readEnded returns the last run that ended of the streams whose newest run is in progress.
func (m *Metrics) readEnded(ctx context.Context, streams []state.StreamStatus) (ended map[streamKey]state.Run, err error) {
	ended = map[streamKey]state.Run{}
	for _, s := range streams {
		if s.Last.ID == 0 || !s.Last.Ended.IsZero() {
			continue
		}
		if ended[streamKey{s.Collector, s.Stream}], err = m.State.Runs.LastEnded(ctx, s.Collector, s.Stream, s.Tenancy); err != nil {
			return nil, err
		}
	}
	return ended, nil
}

// publishStreams publishes the metrics of each streat. The schedules, the running
// extractions and so the deadlines are those of now, also if the state could not be read.
func (t *Tenancy) publishStreams(v tenancyValues, publish publisher) {
	for _, s := range freshness.Evaluate(v.streams, freshness.SourcesOf(t.Daemon), t.Name, t.now()) {
		publish(streamEnabled, boolValue(s.WhyOff == ""), s.Collector, s.Stream)
		if s.WhyOff != "" {
			continue
		}
		key := streamKey{s.Collector, s.Stream}
		last, found := v.ended[key]
		if !found {
			last = s.Last
		}
		t.publishData(s, publish)
		publishRuns(s, last, publish)
		publishActiveRun(s, publish)
		for _, o := range state.Outcomes {
			n := v.counts[key][o]
			if o == state.Skipped {
				n += t.skippedRuns(s)
			}
			publish(runs, float64(n), s.Collector, s.Stream, string(o))
		}
	}
}

// skippedRuns returns the number of skipped runs that the state does not record.
func (t *Tenancy) skippedRuns(s freshness.Stream) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skipped[streamKey{s.Collector, s.Stream}]
}

// publishData publishes the metrics of a stream's last-known data.
func (t *Tenancy) publishData(s freshness.Stream, publish publisher) {
	publish(streamInterval, s.Plan.Interval.Seconds(), s.Collector, s.Stream)
	publish(streamNextRun, timestamp(s.Plan.Next), s.Collector, s.Stream)
	publish(dataTime, timestamp(s.DataTime()), s.Collector, s.Stream)
	publish(dataRecords, float64(s.Records), s.Collector, s.Stream)
	publish(dataRestored, boolValue(s.Source == state.Restored), s.Collector, s.Stream)
	publish(dataDeadline, timestamp(s.Deadline), s.Collector, s.Stream)
	publish(dataLate, boolValue(s.Overdue), s.Collector, s.Stream)
	publish(held, boolValue(s.Held), s.Collector, s.Stream)
	t.mu.Lock()
	defer t.mu.Unlock()
	key := streamKey{s.Collector, s.Stream}
	publish(refused, boolValue(t.refused[key]), s.Collector, s.Stream)
	for _, o := range backup.Outcomes {
		publish(restored, boolValue(t.restores[key] == o), s.Collector, s.Stream, outcomeLabel(o))
	}
}

// outcomeLabel returns the label value of an outcome.
func outcomeLabel(o backup.Outcome) string { return strings.ReplaceAll(string(o), " ", "_") }

// publishRuns publishes the metrics of a stream's last run.
func publishRuns(s freshness.Stream, last state.Run, publish publisher) {
	publish(lastSuccess, timestamp(s.LastSuccess), s.Collector, s.Stream)
	publish(lastFailure, timestamp(s.LastFailure), s.Collector, s.Stream)
	publish(lastAttempt, timestamp(s.Last.Started), s.Collector, s.Stream)
	publish(lastSucceeded, boolValue(last.Outcome.IsSuccess()), s.Collector, s.Stream)
	took := time.Duration(0)
	if !last.Ended.IsZero() {
		took = last.Ended.Sub(last.Started)
	}
	publish(lastDuration, took.Seconds(), s.Collector, s.Stream)
	publish(lastRecords, float64(last.Records), s.Collector, s.Stream)
	publish(lastDoubts, float64(s.Doubts.Total()), s.Collector, s.Stream)
}

// publishActiveRun publishes the metrics of a stream's run in progress.
func publishActiveRun(s freshness.Stream, publish publisher) {
	publish(running, boolValue(s.Active != nil), s.Collector, s.Stream)
	var started time.Time
	var progress collector.Progress
	if s.Active != nil {
		started, progress = s.Active.Started, s.Active.Progress()
	}
	publish(runStart, timestamp(started), s.Collector, s.Stream)
	publish(runRecords, float64(progress.Records), s.Collector, s.Stream)
	publish(runBytes, float64(progress.Bytes), s.Collector, s.Stream)
	publish(runPages, float64(progress.Pages), s.Collector, s.Stream)
	publish(runWaitEnd, timestamp(progress.WaitUntil), s.Collector, s.Stream)
}

// sinkStats are the values of the metrics of one destination.
type sinkStats struct {
	lastSuccess, lastFailure time.Time
	stored, failed           int64 // attempts
	superseded               int64 // deliveries that ended without being made
	skipped, dropped         int64
	keptOut                  int64
	queued, bytes, refused   int64 // snapshots that wait
	oldest                   time.Time
}

func (t *Tenancy) publishSinks(v tenancyValues, publish publisher) {
	sinks := map[string]*sinkStats{}
	for _, name := range t.Sinks() {
		sinks[name] = &sinkStats{}
	}
	t.addQueue(v.queue, sinks)
	t.addSinkStatuses(v.sinks, sinks)
	for _, name := range slices.Sorted(maps.Keys(sinks)) {
		s := sinks[name]
		publish(sinkSuccess, timestamp(s.lastSuccess), name)
		publish(sinkFailure, timestamp(s.lastFailure), name)
		publish(deliveries, float64(s.stored), name, "stored")
		publish(deliveries, float64(s.failed), name, "failed")
		publish(deliveries, float64(s.superseded), name, string(state.DeliverySuperseded))
		publish(deliveries, float64(s.skipped), name, string(state.DeliverySkipped))
		publish(deliveries, float64(s.keptOut), name, string(state.DeliveryKeptOut))
		publish(deliveries, float64(s.dropped), name, string(state.DeliveryDropped))
		publish(queued, float64(s.queued), name)
		publish(queuedBytes, float64(s.bytes), name)
		publish(sinkRefusing, float64(s.refused), name)
		publish(queuedSince, timestamp(s.oldest), name)
	}
}

// addQueue adds the queued deliveries to sinks, also those of destinations that are not
// configured any more.
func (t *Tenancy) addQueue(queue []state.Delivery, sinks map[string]*sinkStats) {
	for _, d := range queue {
		s := sinks[d.Sink]
		if s == nil {
			s = &sinkStats{}
			sinks[d.Sink] = s
		}
		s.queued++
		s.bytes += d.SpoolBytes
		if d.Class == state.Refused {
			s.refused++
		}
		if s.oldest.IsZero() || d.Queued.Before(s.oldest) {
			s.oldest = d.Queued
		}
	}
}

// addSinkStatuses adds the successes and failures of deliveries to sinks.
func (t *Tenancy) addSinkStatuses(statuses []state.SinkStatus, sinks map[string]*sinkStats) {
	for _, status := range statuses {
		s := sinks[status.Sink]
		if s == nil {
			continue
		}
		s.stored += status.Successes
		s.failed += status.Failures
		s.superseded += status.Superseded
		s.skipped += status.Skipped
		s.dropped += status.Dropped
		s.keptOut += status.KeptOut
		if t.isLater(status.LastSuccess, s.lastSuccess) {
			s.lastSuccess = status.LastSuccess
		}
		if t.isLater(status.LastFailure, s.lastFailure) {
			s.lastFailure = status.LastFailure
		}
	}
}

// isLater reports whether a is later than b. A time in the future, by a clock that was
// wrong, is not: it would hide later deliveries until that time.
func (t *Tenancy) isLater(a, b time.Time) bool {
	return a.After(b) && !snapshot.IsFromFuture(a, t.now())
}
