package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// check holds everything against what the vendors had and what the history
// tells, and returns what does not fit.
func (s *soak) check(e *evidence) []string {
	f := &findings{list: s.seen.all()}
	s.checkRuns(e, f)
	s.checkTables(e, f)
	s.checkOrder(e, f)
	s.checkFiles(e, f)
	s.checkAccounts(e, f)
	s.checkLog(e, f)
	s.checkLeft(e, f)
	s.watch.check(f)
	return f.all()
}

// successes are the snapshots that the history calls complete, in order.
func (e *evidence) successes(stream string) (list []state.Run) {
	for _, r := range e.runs {
		if r.Outcome == state.Success && (stream == "" || r.Stream == stream) {
			list = append(list, r)
		}
	}
	return list
}

// expected is what the run must have brought, of what it may have; the error
// tells that its number of records is none of these.
func (s *soak) expected(e *evidence, r state.Run) (content, error) {
	var before []state.Run
	for _, b := range e.runs {
		if b.Stream == r.Stream && b.ID < r.ID {
			before = append(before, b)
		}
	}
	slices.Reverse(before)
	allowed := s.vendors.allowed(r, before)
	for _, c := range allowed {
		if int64(c.records) == r.Records {
			return c, nil
		}
	}
	return content{}, fmt.Errorf("%s: run %d (%s, %s) has %d records, the vendor had %v", r.Stream, r.ID, r.UploadID, r.Outcome, r.Records, allowed)
}

// checkRuns: each run that ended well brought what the vendor had, and no
// upload id is used twice.
func (s *soak) checkRuns(e *evidence, f *findings) {
	seen := map[key]bool{}
	good, last := map[string]int{}, map[string]state.Outcome{}
	for _, r := range e.runs {
		last[r.Stream] = r.Outcome
		if r.Outcome == "" {
			f.add("%s: run %d has no end in the history", r.Stream, r.ID)
		}
		if k := (key{r.Stream, r.UploadID}); r.UploadID != "" && seen[k] {
			f.add("%s: upload id %s is that of two runs", r.Stream, r.UploadID)
		} else {
			seen[k] = true
		}
		switch r.Outcome {
		case state.Success, state.Empty, state.Held:
			good[r.Stream]++
			if _, err := s.expected(e, r); err != nil {
				f.add("%v", err)
			}
		case state.Failed, state.Timeout, state.Cancelled, state.Skipped, state.Interrupted:
			if r.Err == "" {
				f.add("%s: run %d is %s and does not say why", r.Stream, r.ID, r.Outcome)
			}
		}
	}
	for _, stream := range allStreams() {
		if last[stream] != state.Success {
			f.add("%s: the last run, without faults, ended as %q", stream, last[stream])
		}
		if good[stream] < 2 {
			f.add("%s: %d runs ended well, want some", stream, good[stream])
		}
	}
}

// checkTables: each success is in each database once and whole, and nothing
// else is.
func (s *soak) checkTables(e *evidence, f *findings) {
	for name, t := range e.tables {
		known := map[key]bool{}
		for _, r := range e.successes("") {
			k := key{r.Stream, r.UploadID}
			known[k] = true
			want, err := s.expected(e, r)
			if err != nil {
				continue // told by checkRuns
			}
			if t[k] == nil {
				f.add("%s: %s: snapshot %s of run %d is missing", name, r.Stream, r.UploadID, r.ID)
			} else if got := contentOf(t[k].sums); got != want {
				f.add("%s: %s: snapshot %s of run %d has %v, want %v", name, r.Stream, r.UploadID, r.ID, got, want)
			}
		}
		for k, rows := range t {
			if rows.odd != "" {
				f.add("%s: %s: %s", name, k.stream, rows.odd)
			}
			if !known[k] {
				f.add("%s: %s: %d records of %s, which is no success in the history", name, k.stream, len(rows.sums), k.id)
			}
		}
	}
}

// checkOrder: the snapshots of a stream came in the order of their runs.
func (s *soak) checkOrder(e *evidence, f *findings) {
	for _, stream := range allStreams() {
		var want, loaded []string
		for _, r := range e.successes(stream) {
			want = append(want, r.UploadID)
		}
		var listed []string
		for _, one := range e.order[stream] {
			listed = append(listed, one.id)
			if rows := e.tables["Postgres"][key{stream, one.id}]; rows == nil || len(rows.sums) != one.records {
				f.add("Postgres: %s: %s is listed with %d records, which the table does not have", stream, one.id, one.records)
			}
		}
		if !slices.Equal(listed, want) {
			f.add("Postgres: %s: _collectord_snapshots has %v, the history %v", stream, listed, want)
		}
		table := e.tables["DuckDB"]
		for _, id := range want {
			if table[key{stream, id}] != nil {
				loaded = append(loaded, id)
			}
		}
		if !slices.IsSortedFunc(loaded, func(a, b string) int {
			return int(table[key{stream, a}].first - table[key{stream, b}].first)
		}) {
			f.add("DuckDB: %s: the snapshots do not lie in the order of their runs", stream)
		}
	}
}

// checkFiles: file, object and backup are the newest success, and a new
// machine has the same bytes.
func (s *soak) checkFiles(e *evidence, f *findings) {
	if e.restored != 0 {
		f.add("restore on a new machine: exit code %d; see new/log", e.restored)
	}
	for _, stream := range allStreams() {
		all := e.successes(stream)
		if len(all) == 0 {
			continue // told by checkRuns
		}
		newest := all[len(all)-1]
		if e.known[stream] != newest.UploadID {
			f.add("%s: the last-known snapshot is %s, the newest success %s", stream, e.known[stream], newest.UploadID)
		}
		want, err := s.expected(e, newest)
		if err != nil {
			continue
		}
		reference := e.objects["file"][stream]
		for place, files := range e.objects {
			got := files[stream]
			switch {
			case got.err != nil:
				f.add("%s: %s: %v", place, stream, got.err)
			case !slices.Equal(got.ids, []string{newest.UploadID}):
				f.add("%s: %s: records of %v, the newest success is %s", place, stream, got.ids, newest.UploadID)
			case got.content != want:
				f.add("%s: %s: %v, want %v", place, stream, got.content, want)
			case got.sum != reference.sum:
				f.add("%s: %s: other bytes than in the file", place, stream)
			}
		}
	}
}

// checkLeft: nothing lies about.
func (s *soak) checkLeft(e *evidence, f *findings) {
	for _, path := range e.left {
		f.add("left over: %s", path)
	}
	for _, object := range e.uploads {
		f.add("left over: an unfinished upload of %s", object)
	}
	if e.queued > 0 {
		f.add("%d deliveries are still queued", e.queued)
	}
	for stream, n := range e.folders {
		if n != 1 {
			f.add("%s: %d snapshots in the state folder, want the last-known one alone", stream, n)
		}
	}
	for _, line := range e.odd {
		f.add("the log has a line that is no entry: %.300s", line)
	}
}

// checkLog: what failed is in the log and in the history, and no secret is.
func (s *soak) checkLog(e *evidence, f *findings) {
	logged := map[key]string{}
	started := map[string]bool{}
	for range e.shown {
		f.add("the log shows a secret")
	}
	for _, line := range e.log {
		if line.Message == "run starts" {
			started[line.ID] = true
		}
		if line.Outcome != "" && line.Stream != "" {
			logged[key{line.Stream, line.ID}] = line.Outcome
		}
		if strings.Contains(line.Message, "panic") || strings.Contains(line.Error, "panic:") {
			f.add("a panic: %.300s %.300s", line.Message, line.Error)
		}
	}
	history := map[key]bool{}
	for _, r := range e.runs {
		k := key{r.Stream, r.UploadID}
		history[k] = true
		// A killed process says nothing of how its runs ended, and what is said
		// of one at the moment of the kill may be lost.
		silent := r.Outcome == state.Interrupted || r.Outcome == state.Skipped || s.daemon.killedWithin(r.Ended, time.Second) || s.daemon.killedBetween(r.Started, r.Ended)
		if got := logged[k]; got != string(r.Outcome) && !silent {
			f.add("%s: run %d ended as %s, the log says %q", r.Stream, r.ID, r.Outcome, got)
		}
		if r.Outcome != state.Skipped && !started[r.UploadID] {
			f.add("%s: run %d (%s) began without a word in the log", r.Stream, r.ID, r.UploadID)
		}
	}
	for k, outcome := range logged {
		if !history[k] {
			f.add("%s: the log says that %s ended as %s, the history does not know it", k.stream, k.id, outcome)
		}
	}
}
