package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// Limits of the growth of the long-lived process between the first and the
// second half of its life: a share, and a slack for the variation of Go's
// garbage collector and DuckDB's allocator.
const (
	growthShare = 0.25
	growthSlack = 48 << 20
	// minSamples is the number of samples that a comparison needs.
	minSamples = 10
	// maxStateBytes limits the state directory. It contains a last-known and a
	// held snapshot of each stream, queued snapshots and those being written,
	// all compressed.
	maxStateBytes = 256 << 20
)

// checkCounts checks that every run is counted once in the history, in its
// counts and in the metrics.
func (s *soak) checkCounts(e *evidence, f *findings) {
	rows := map[string]int64{}
	lastEnds := map[string]*runEnds{}
	collectors := map[string]string{}
	for _, r := range e.runs {
		collectors[r.Stream] = r.Collector
		rows[r.Stream+" "+string(r.Outcome)]++
		if r.Outcome == state.Skipped {
			continue
		}
		if lastEnds[r.Stream] == nil {
			lastEnds[r.Stream] = &runEnds{}
		}
		lastEnds[r.Stream].recordRun(r)
	}
	counted := map[string]int64{}
	for _, c := range e.counts {
		counted[c.Stream+" "+string(c.Outcome)] += c.Runs
	}
	for _, stream := range allStreams() {
		label := fmt.Sprintf(`collector=%q,stream=%q,tenancy=%q`, collectors[stream], stream, tenancy)
		for _, outcome := range state.Outcomes {
			name := stream + " " + string(outcome)
			metric := s.lastScrape[fmt.Sprintf(`collectord_runs_total{collector=%q,outcome=%q,stream=%q,tenancy=%q}`, collectors[stream], outcome, stream, tenancy)]
			if rows[name] != counted[name] || float64(rows[name]) != metric {
				f.addf("%s: %s: %d in the history, %d in its counts, %v in the metrics", stream, outcome, rows[name], counted[name], metric)
			}
		}
		ends := lastEnds[stream]
		if ends == nil {
			ends = &runEnds{}
		}
		s.checkTimestamp("collectord_last_success_timestamp_seconds{"+label+"}", ends.success, f)
		s.checkTimestamp("collectord_last_failure_timestamp_seconds{"+label+"}", ends.failure, f)
	}
	for _, c := range e.sinkStatuses {
		want := int64(len(e.successes(c.Stream)))
		// A kill between storing a snapshot and recording it makes the daemon
		// store it again, which counts once. The databases keep the history, so
		// that nothing is superseded there. Elsewhere, a snapshot of a clock that is
		// ahead is kept out when one of the present is stored.
		keepsHistory := c.Sink == "postgres" || c.Sink == "duckdb"
		// A start restores a backup of the present in place of a snapshot from the
		// future, and the file gets it again.
		again := int64(0)
		if c.Sink == "file" {
			again = e.restored(c.Stream)
		}
		together := c.Successes + c.Superseded + c.KeptOut
		if together < want || together > want+again || keepsHistory && c.Superseded+c.KeptOut > 0 || c.Skipped+c.Dropped > 0 {
			f.addf("%s: %s: %d deliveries are recorded as stored, %d as superseded, %d as kept out, %d as skipped and %d as dropped, want %d together",
				c.Stream, c.Sink, c.Successes, c.Superseded, c.KeptOut, c.Skipped, c.Dropped, want)
		}
	}
}

// restored returns how often the service has restored a stream from its backup.
func (e *evidence) restored(stream string) (n int64) {
	for _, line := range e.log {
		if line.Stream == stream && line.Message == "restored from the backup" {
			n++
		}
	}
	return n
}

// runEnds are the ends of the last successful and of the last failed run of a
// stream.
type runEnds struct{ success, failure time.Time }

func (r *runEnds) recordRun(run state.Run) {
	end := &r.failure
	if run.Outcome.IsSuccess() {
		end = &r.success
	}
	if run.Ended.After(*end) {
		*end = run.Ended
	}
}

// checkTimestamp checks that a metric is a Unix time, or 0 for the zero time.
func (s *soak) checkTimestamp(metric string, at time.Time, f *findings) {
	want := 0.0
	if !at.IsZero() {
		want = float64(at.UnixMilli()) / 1000
	}
	got, ok := s.lastScrape[metric]
	if ok && got > 0 {
		got = float64(trueTime(time.UnixMilli(int64(got*1000))).UnixMilli()) / 1000
	}
	if !ok || math.Abs(got-want) > 0.01 {
		f.addf("%s is %v, want %v as in the history", metric, got, want)
	}
}

// checkSamples compares the samples with their limits.
func (w *watch) checkSamples(f *findings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.samples {
		if m.state > maxStateBytes {
			f.addf("the state directory has grown to %d MiB", m.state>>20)
		}
		if m.postgres > 2*len(vendorNames) {
			f.addf("%d connections to Postgres at once", m.postgres)
		}
	}
	steady := w.steadySamples()
	if len(steady) < minSamples {
		f.addf("only %d samples of the long-lived daemon, want %d", len(steady), minSamples)
		return
	}
	first, second := steady[:len(steady)/2], steady[len(steady)/2:]
	for _, one := range []struct {
		name  string
		of    func(sample) int64
		slack int64
	}{
		{name: "memory (RssAnon)", of: func(m sample) int64 { return m.memory }, slack: growthSlack},
		{name: "goroutines", of: func(m sample) int64 { return int64(m.goroutines) }, slack: 40},
		{name: "open files", of: func(m sample) int64 { return int64(m.files) }, slack: 40},
	} {
		a, b := median(first, one.of), median(second, one.of)
		if float64(b) > float64(a)*(1+growthShare)+float64(one.slack) {
			f.addf("%s grew from %d to %d from the first half to the second", one.name, a, b)
		}
	}
}

func median(list []sample, of func(sample) int64) int64 {
	var values []int64
	for _, m := range list {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// killedBetween reports whether the daemon was killed between two times.
func (d *daemon) killedBetween(from, to time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.ends, func(m endEvent) bool { return m.killed && m.at.After(from) && m.at.Before(to) })
}

// summary returns the peaks of all samples, one per line.
func (w *watch) summary() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var most sample
	for _, m := range w.samples {
		most.memory, most.state = max(most.memory, m.memory), max(most.state, m.state)
		most.goroutines, most.files = max(most.goroutines, m.goroutines), max(most.files, m.files)
		most.postgres, most.temporary = max(most.postgres, m.postgres), max(most.temporary, m.temporary)
	}
	return strings.Join([]string{
		fmt.Sprintf("peak anonymous memory %d MiB", most.memory>>20), fmt.Sprintf("goroutines %d", most.goroutines),
		fmt.Sprintf("open files %d", most.files), fmt.Sprintf("state directory %d KiB", most.state>>10),
		fmt.Sprintf("connections to Postgres %d", most.postgres), fmt.Sprintf("temporary files %d", most.temporary),
		fmt.Sprintf("pages requested %d, the slowest took %v", w.requests, w.slowest.Round(time.Millisecond)),
	}, "\n")
}
