package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/state"
)

// checkEvidence compares everything with the records of the vendors and with
// the history, and returns the violations.
func (s *soak) checkEvidence(e *evidence) []string {
	f := &findings{list: s.violations.entries()}
	s.checkRuns(e, f)
	s.checkTables(e, f)
	s.checkOrder(e, f)
	s.checkFiles(e, f)
	s.checkCounts(e, f)
	s.checkLog(e, f)
	s.checkLeftovers(e, f)
	s.checkSettings(e, f)
	s.checkAlerts(e, f)
	s.watch.checkSamples(f)
	return f.entries()
}

// successes returns the successful runs of the history in order. "" means all
// streams.
func (e *evidence) successes(stream string) (list []state.Run) {
	for _, r := range e.runs {
		if r.Outcome == state.Success && (stream == "" || r.Stream == stream) {
			list = append(list, r)
		}
	}
	return list
}

// expectedContent returns the content that a run must have delivered. A run may
// have several allowed contents; the number of records selects one. It fails if
// no allowed content has that number. Where look-ups may have failed, it is what
// Postgres has, so that the destinations are compared with each other.
func (s *soak) expectedContent(e *evidence, r state.Run) (content, error) {
	var before []state.Run
	for _, b := range e.runs {
		if b.Stream == r.Stream && b.ID < r.ID {
			before = append(before, b)
		}
	}
	slices.Reverse(before)
	allowed := s.vendors.allowedContents(r, before)
	for _, c := range allowed {
		if int64(c.records) != r.Records {
			continue
		}
		if rows := e.tables["Postgres"][key{r.Stream, r.UploadID}]; rows != nil && s.mayHaveFailedLookups(r) && len(rows.sums) == c.records {
			c = contentOf(rows.sums)
		}
		return c, nil
	}
	return content{}, fmt.Errorf("%s: run %d (%s, %s) has %d records, the vendor had %v", r.Stream, r.ID, r.UploadID, r.Outcome,
		r.Records, allowed)
}

// checkRuns checks that each successful run delivered the records of the
// vendor, and that no upload id is used twice.
func (s *soak) checkRuns(e *evidence, f *findings) {
	seen := map[key]bool{}
	good, last := map[string]int{}, map[string]state.Outcome{}
	for _, r := range e.runs {
		last[r.Stream] = r.Outcome
		if r.Outcome == "" {
			f.addf("%s: run %d has no outcome in the history", r.Stream, r.ID)
		}
		if k := (key{r.Stream, r.UploadID}); r.UploadID != "" && seen[k] {
			f.addf("%s: two runs have the upload id %s", r.Stream, r.UploadID)
		} else {
			seen[k] = true
		}
		switch r.Outcome {
		case state.Success, state.Unchanged, state.Empty, state.Held:
			good[r.Stream]++
			if _, err := s.expectedContent(e, r); err != nil {
				f.addf("%v", err)
			}
			if r.Outcome == state.Unchanged {
				s.checkUnchanged(e, r, f)
			}
		case state.Failed, state.Timeout, state.Cancelled, state.Skipped, state.Interrupted:
			if r.Err == "" {
				f.addf("%s: run %d is %s without an error", r.Stream, r.ID, r.Outcome)
			}
		}
	}
	for _, stream := range allStreams() {
		want := state.Success
		if slices.Contains(feedStreams, stream) { // which was not changed before its last run
			want = state.Unchanged
		}
		if last[stream] != want {
			f.addf("%s: the last run, without faults, ended as %q, want %q", stream, last[stream], want)
		}
		if good[stream] < 2 {
			f.addf("%s: %d runs ended well, want at least 2", stream, good[stream])
		}
	}
}

// publisher is a simulated publisher of files.
type publisher interface{ ServedFiles() []vendorsim.ServedFile }

// checkUnchanged checks that the publisher had the data of the last success when a run
// ended as unchanged, and, if it has files, that it said so for the files of that success.
func (s *soak) checkUnchanged(e *evidence, r state.Run, f *findings) {
	var last *state.Run
	for _, one := range e.successes(r.Stream) {
		if one.ID < r.ID {
			last = &one
		}
	}
	if last == nil || !slices.Contains(feedStreams, r.Stream) {
		f.addf("%s: run %d is unchanged without an earlier success", r.Stream, r.ID)
		return
	}
	if had, now := s.vendors.contentAt(r.Stream, last.Started), s.vendors.contentAt(r.Stream, r.Started); had != now {
		f.addf("%s: run %d is unchanged, but the publisher had %v, and %v in the last success", r.Stream, r.ID, now, had)
	}
	of, hasFiles := s.vendors.sim.Host(r.Collector).Vendor().(publisher)
	if !hasFiles {
		return
	}
	sent, confirmed := map[string]string{}, map[string]string{} // ETags by path
	for _, one := range of.ServedFiles() {
		switch {
		case !one.NotModified && one.At.Before(last.Ended):
			sent[one.Path] = one.ETag
		case one.NotModified && one.At.After(r.Started.Add(-time.Second)) && one.At.Before(r.Ended.Add(time.Second)):
			confirmed[one.Path] = one.ETag
		}
	}
	for path, etag := range confirmed {
		if sent[path] != etag {
			f.addf("%s: run %d is unchanged, but %s was %s, and %s in the last success", r.Stream, r.ID, path, etag, sent[path])
		}
	}
	if len(confirmed) == 0 {
		f.addf("%s: run %d is unchanged, but the publisher did not say so", r.Stream, r.ID)
	}
}

// checkTables checks that each success is in each database once and complete,
// and that there is nothing else.
func (s *soak) checkTables(e *evidence, f *findings) {
	for name, t := range e.tables {
		s.checkTable(e, f, name, t)
	}
}

func (s *soak) checkTable(e *evidence, f *findings, name string, t table) {
	known := map[key]bool{}
	for _, r := range e.successes("") {
		k := key{r.Stream, r.UploadID}
		known[k] = true
		want, err := s.expectedContent(e, r)
		if err != nil {
			continue // checkRuns reports it
		}
		if t[k] == nil {
			f.addf("%s: %s: snapshot %s of run %d is missing", name, r.Stream, r.UploadID, r.ID)
		} else if got := contentOf(t[k].sums); got != want {
			f.addf("%s: %s: snapshot %s of run %d has %v, want %v", name, r.Stream, r.UploadID, r.ID, got, want)
		}
	}
	for k, rows := range t {
		if rows.malformed != "" {
			f.addf("%s: %s: %s", name, k.stream, rows.malformed)
		}
		if !known[k] {
			f.addf("%s: %s: %d records of %s, which is not a success in the history", name, k.stream, len(rows.sums), k.id)
		}
	}
}

// checkOrder checks that the snapshots of a stream were stored in the order of
// their runs.
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
				f.addf("Postgres: %s: %s is listed with %d records, but the table has another number", stream, one.id, one.records)
			}
		}
		if !slices.Equal(listed, want) {
			f.addf("Postgres: %s: _collectord_snapshots has %v, the history %v", stream, listed, want)
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
			f.addf("DuckDB: %s: the snapshots are not in the order of their runs", stream)
		}
	}
}

// checkFiles checks that file, object and backup are the newest success, and
// that a new machine has the same bytes.
func (s *soak) checkFiles(e *evidence, f *findings) {
	if e.restoreCode != 0 {
		f.addf("restore on a new machine: exit code %d; see new/log", e.restoreCode)
	}
	for _, stream := range allStreams() {
		all := e.successes(stream)
		if len(all) == 0 {
			continue // checkRuns reports it
		}
		newest := all[len(all)-1]
		if e.lastKnown[stream] != newest.UploadID {
			f.addf("%s: the last-known snapshot is %s, the newest success %s", stream, e.lastKnown[stream], newest.UploadID)
		}
		want, err := s.expectedContent(e, newest)
		if err != nil {
			continue
		}
		reference := e.files["file"][stream]
		for place, files := range e.files {
			got := files[stream]
			switch {
			case got.err != nil:
				f.addf("%s: %s: %v", place, stream, got.err)
			case !slices.Equal(got.ids, []string{newest.UploadID}):
				f.addf("%s: %s: records of %v, the newest success is %s", place, stream, got.ids, newest.UploadID)
			case got.content != want:
				f.addf("%s: %s: %v, want %v", place, stream, got.content, want)
			case got.sum != reference.sum:
				f.addf("%s: %s: bytes differ from those of the file", place, stream)
			}
		}
	}
}

// checkLeftovers checks that no temporary file, upload, delivery or old
// snapshot is left.
func (s *soak) checkLeftovers(e *evidence, f *findings) {
	for _, path := range e.leftovers {
		f.addf("left over: %s", path)
	}
	for _, object := range e.uploads {
		f.addf("left over: an unfinished upload of %s", object)
	}
	if e.queued > 0 {
		f.addf("%d deliveries are still queued", e.queued)
	}
	for stream, n := range e.snapshotDirs {
		if n != 1 {
			f.addf("%s: %d snapshots in the state directory, want only the last-known one", stream, n)
		}
	}
	for _, line := range e.malformed {
		f.addf("the log has a line that is not JSON: %.300s", line)
	}
}

// checkLog checks that log and history agree, and that the log contains no
// secret.
func (s *soak) checkLog(e *evidence, f *findings) {
	logged := map[key]string{}
	started := map[string]bool{}
	unrecorded := map[key]bool{}
	for _, line := range e.log {
		if line.Stream != "" && isUnrecorded(line) {
			unrecorded[key{line.Stream, line.ID}] = true
		}
	}
	for range e.secretLines {
		f.addf("the log contains a secret")
	}
	for _, line := range e.log {
		if line.Message == "run starts" {
			started[line.ID] = true
		}
		if line.Outcome != "" && line.Stream != "" && !isUnrecorded(line) {
			logged[key{line.Stream, line.ID}] = line.Outcome
		}
		if strings.Contains(line.Message, "panic") || strings.Contains(line.Error, "panic:") {
			f.addf("a panic: %.300s %.300s", line.Message, line.Error)
		}
	}
	history := map[key]bool{}
	for _, r := range e.runs {
		k := key{r.Stream, r.UploadID}
		history[k] = true
		// A killed process does not log how its runs ended, and a log line at
		// the moment of the kill may be lost.
		silent := r.Outcome == state.Interrupted || r.Outcome == state.Skipped ||
			s.daemon.killedNear(r.Ended, time.Second) || s.daemon.killedBetween(r.Started, r.Ended)
		if got := logged[k]; got != string(r.Outcome) && !silent && !unrecorded[k] {
			f.addf("%s: run %d ended as %s, the log says %q", r.Stream, r.ID, r.Outcome, got)
		}
		if r.Outcome != state.Skipped && !started[r.UploadID] {
			f.addf("%s: the log has no start of run %d (%s)", r.Stream, r.ID, r.UploadID)
		}
	}
	for k, outcome := range logged {
		if !history[k] {
			f.addf("%s: the log says that %s ended as %s, but the history has no such run", k.stream, k.id, outcome)
		}
	}
}

// isUnrecorded reports whether a line is about a run that the history could not record,
// since the disk was full.
func isUnrecorded(line logLine) bool {
	return strings.Contains(line.Error, "check that the disk of STATE_DIR has free space") || strings.Contains(line.Error, "no space left on device")
}
