package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// Bounds of what the long-lived process may grow by between the first and the
// second half of its life: a share, and what Go's collector and DuckDB's
// allocator waver by.
const (
	growthShare = 0.25
	growthSlack = 48 << 20
	// leastSamples is how many are needed to tell anything.
	leastSamples = 10
	// mostState bounds the state folder: a last-known and a held snapshot of
	// each stream, what is queued and what is being written, all compressed.
	mostState = 256 << 20
)

// checkAccounts: every run that began is counted once, in the history, its
// counts and the metrics alike.
func (s *soak) checkAccounts(e *evidence, f *findings) {
	rows := map[string]int64{}
	last := map[string]map[bool]time.Time{}
	collectors := map[string]string{}
	for _, r := range e.runs {
		collectors[r.Stream] = r.Collector
		rows[r.Stream+" "+string(r.Outcome)]++
		if r.Outcome == state.Skipped {
			continue
		}
		if last[r.Stream] == nil {
			last[r.Stream] = map[bool]time.Time{}
		}
		good := r.Outcome == state.Success || r.Outcome == state.Empty
		if r.Ended.After(last[r.Stream][good]) {
			last[r.Stream][good] = r.Ended
		}
	}
	counted := map[string]int64{}
	for _, c := range e.counts {
		counted[c.Stream+" "+string(c.Outcome)] += c.Runs
	}
	for _, stream := range allStreams() {
		label := fmt.Sprintf(`collector=%q,stream=%q`, collectors[stream], stream)
		for _, outcome := range state.Outcomes {
			name := stream + " " + string(outcome)
			metric := s.last[`collectord_runs_total{collector="`+collectors[stream]+`",outcome="`+string(outcome)+`",stream="`+stream+`"}`]
			if rows[name] != counted[name] || float64(rows[name]) != metric {
				f.add("%s: %s: %d in the history, %d in its counts, %v in the metrics", stream, outcome, rows[name], counted[name], metric)
			}
		}
		for metric, good := range map[string]bool{"collectord_last_success_timestamp_seconds": true, "collectord_last_failure_timestamp_seconds": false} {
			want := 0.0
			if at := last[stream][good]; !at.IsZero() {
				want = float64(at.UnixMilli()) / 1000
			}
			if got, ok := s.last[metric+"{"+label+"}"]; !ok || math.Abs(got-want) > 0.01 {
				f.add("%s: %s is %v, the history says %v", stream, metric, got, want)
			}
		}
	}
	for _, c := range e.stored {
		want := int64(len(e.successes(c.Stream)))
		// A kill between "stored" and "noted" has it stored again, which counts
		// once; a restored history is none of this machine.
		if c.Successes != want {
			f.add("%s: %s: %d deliveries are noted as stored, %d snapshots were to be", c.Stream, c.Sink, c.Successes, want)
		}
	}
}

// check holds the measurements against their bounds.
func (w *watch) check(f *findings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.samples {
		if m.state > mostState {
			f.add("the state folder has grown to %d MiB", m.state>>20)
		}
		if m.postgres > 2*len(vendorNames) {
			f.add("%d connections to Postgres at once", m.postgres)
		}
	}
	var steady []sample
	for _, m := range w.samples {
		if !w.steady.IsZero() && m.at.After(w.steady) {
			steady = append(steady, m)
		}
	}
	if len(steady) < leastSamples {
		f.add("only %d measurements of a daemon that lives on, want %d", len(steady), leastSamples)
		return
	}
	first, second := steady[:len(steady)/2], steady[len(steady)/2:]
	for _, one := range []struct {
		name  string
		of    func(sample) int64
		slack int64
	}{
		{"memory (RssAnon)", func(m sample) int64 { return m.memory }, growthSlack},
		{"goroutines", func(m sample) int64 { return int64(m.goroutines) }, 40},
		{"open files", func(m sample) int64 { return int64(m.files) }, 40},
	} {
		a, b := median(first, one.of), median(second, one.of)
		if float64(b) > float64(a)*(1+growthShare)+float64(one.slack) {
			f.add("%s grew from %d to %d from the first half to the second", one.name, a, b)
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

// killedBetween tells whether the daemon was killed in a span of time.
func (d *daemon) killedBetween(from, to time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.ends, func(m moment) bool { return m.killed && m.at.After(from) && m.at.Before(to) })
}

// summary says in one line what was measured.
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
		fmt.Sprintf("peak memory of its own %d MiB", most.memory>>20), fmt.Sprintf("goroutines %d", most.goroutines),
		fmt.Sprintf("open files %d", most.files), fmt.Sprintf("state folder %d KiB", most.state>>10),
		fmt.Sprintf("connections to Postgres %d", most.postgres), fmt.Sprintf("temporary files %d", most.temporary),
		fmt.Sprintf("pages asked for %d, the slowest in %v", w.scraped, w.slowest.Round(time.Millisecond)),
	}, "\n")
}
