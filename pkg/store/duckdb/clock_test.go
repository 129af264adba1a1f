package duckdb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

const day = 24 * time.Hour

// sealTaken returns a snapshot of one record with the member n that was taken
// at an age before now; a negative age is in the future.
func sealTaken(t *testing.T, now time.Time, age time.Duration, n int) *snapshot.Snapshot {
	t.Helper()
	return storetest.Seal(t, storetest.NewHeader("okta_users", "default", now.Add(-age).UTC().Truncate(time.Second)), fmt.Sprintf(`{"n":%d}`, n))
}

// assertNumbers compares the members n of the records, in any order.
func assertNumbers(t *testing.T, what string, records []string, want ...int) {
	t.Helper()
	if len(records) != len(want) {
		t.Errorf("%s: %d records, want %d: %.300q", what, len(records), len(want), records)
		return
	}
	for _, n := range want {
		if !strings.Contains(strings.Join(records, "\n"), fmt.Sprintf(`{"n":%d,`, n)) {
			t.Errorf("%s: no record %d in %.300q", what, n, records)
		}
	}
}

// TestDuckDBSnapshotsFromTheFuture has a snapshot of a machine whose clock was a
// year ahead, among good ones.
func TestDuckDBSnapshotsFromTheFuture(t *testing.T) {
	now := time.Now()
	h := storetest.Header(1)
	var notes []string
	open := func(t *testing.T, r store.Retention) (*Sink, database) {
		notes = nil
		return newSink(t, Options{Retention: r, Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
	}
	assertNote := func(t *testing.T, want string) {
		t.Helper()
		if len(notes) != 1 || !strings.HasPrefix(notes[0], "duckdb: table okta_users: dated 20") || !strings.Contains(notes[0], want) {
			t.Errorf("notes %q, want one with %q", notes, want)
		}
	}
	const future = -365 * day
	t.Run("append", func(t *testing.T) {
		d, place := open(t, store.Retention{})
		storetest.Write(t, d, sealTaken(t, now, 2*day, 1), sealTaken(t, now, future, 99))
		assertNote(t, "stored, and not shown as the newest")
		assertNumbers(t, "newest", place.Latest(t, h), 1)
		storetest.Write(t, d, sealTaken(t, now, day, 2))
		assertNumbers(t, "newest", place.Latest(t, h), 2)
		assertNumbers(t, "all", place.All(t, h), 1, 2, 99)
	})
	t.Run("append, only from the future", func(t *testing.T) {
		d, place := open(t, store.Retention{})
		storetest.Write(t, d, sealTaken(t, now, future, 98), sealTaken(t, now, -day, 99))
		assertNumbers(t, "newest", place.Latest(t, h), 99)
	})
	t.Run("keep by age", func(t *testing.T) {
		d, place := open(t, store.Retention{Age: 30 * day})
		for n := 5; n > 1; n-- {
			storetest.Write(t, d, sealTaken(t, now, time.Duration(n)*day, n))
		}
		storetest.Write(t, d, sealTaken(t, now, future, 99), sealTaken(t, now, day, 1))
		assertNumbers(t, "all", place.All(t, h), 5, 4, 3, 2, 1, 99)
		assertNumbers(t, "newest", place.Latest(t, h), 1)
	})
	t.Run("replace", func(t *testing.T) {
		d, place := open(t, store.Retention{Newest: 1})
		late := sealTaken(t, now, future, 99)
		storetest.Write(t, d, sealTaken(t, now, 2*day, 1))
		var report store.Report
		if err := d.Write(store.WithReport(t.Context(), &report), late); err != nil || !report.KeptOut() {
			t.Errorf("error %v, kept out %v", err, report.KeptOut())
		}
		assertNote(t, "not stored, since it would replace a snapshot of the present: check the clock")
		storetest.Write(t, d, late)
		assertNumbers(t, "all", place.All(t, h), 1)
		storetest.Write(t, d, sealTaken(t, now, day, 2))
		assertNumbers(t, "all", place.All(t, h), 2)
		assertNumbers(t, "newest", place.Latest(t, h), 2)
	})
	t.Run("replace, stored while the clock was wrong", func(t *testing.T) {
		d, place := open(t, store.Retention{Newest: 1})
		storetest.Write(t, d, sealTaken(t, now, future, 99))
		assertNumbers(t, "all", place.All(t, h), 99)
		storetest.Write(t, d, sealTaken(t, now, day, 1))
		assertNumbers(t, "all", place.All(t, h), 1)
		assertNumbers(t, "newest", place.Latest(t, h), 1)
	})
}

// TestDuckDBNotesLateSnapshots: a snapshot that is not stored is reported.
func TestDuckDBNotesLateSnapshots(t *testing.T) {
	var notes []string
	d, place := newSink(t, Options{
		Retention: store.Retention{Newest: 1},
		Note:      func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) },
	})
	storetest.Write(t, d, sealRun(t, 2))
	var report store.Report
	if err := d.Write(store.WithReport(t.Context(), &report), sealRun(t, 1)); err != nil || !report.KeptOut() {
		t.Errorf("error %v, kept out %v", err, report.KeptOut())
	}
	if len(notes) != 1 || notes[0] != "duckdb: table okta_users: older than what it keeps: not stored" {
		t.Errorf("notes %q", notes)
	}
	assertRuns(t, "all", place.All(t, storetest.Header(1)), 2)
}

// TestDuckDBForeignRowsFromTheFuture has rows of a program that keeps no ledger.
func TestDuckDBForeignRowsFromTheFuture(t *testing.T) {
	d, place := newSink(t, Options{})
	storetest.Write(t, d, sealRun(t, 1))
	executeIn(t, place.path(), `INSERT INTO okta_users VALUES (now()::TIMESTAMP + INTERVAL 2 DAY, 'default', '{"n": 1}')`)
	assertRuns(t, "newest", place.Latest(t, storetest.Header(1)), 1)
}
