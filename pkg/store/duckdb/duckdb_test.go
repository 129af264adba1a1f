package duckdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// sealRun returns a snapshot of run n with n records.
func sealRun(t *testing.T, n int) *snapshot.Snapshot {
	t.Helper()
	return storetest.Seal(t, storetest.Header(n), storetest.Numbered(n, n)...)
}

// runsOf returns the numbers of the runs that the records belong to, sorted.
func runsOf(list []string) []int {
	var found []int
	for _, record := range list {
		_, id, _ := strings.Cut(record, `"_upload_id":"00000000-0000-4000-8000-`)
		n, _ := strconv.Atoi(strings.TrimSuffix(id, `"}`)) // 0 for none
		if !slices.Contains(found, n) {
			found = append(found, n)
		}
	}
	slices.Sort(found)
	return found
}

func assertRuns(t *testing.T, what string, list []string, want ...int) {
	t.Helper()
	if got := runsOf(list); !slices.Equal(got, want) {
		t.Errorf("%s: runs %v, want %v", what, got, want)
	}
}

func TestDuckDBReplace(t *testing.T) {
	d, place := newSink(t, Options{Retention: store.Retention{Newest: 1}})
	other := storetest.Header(9)
	other.Tenancy = "other"
	storetest.Write(t, d, storetest.Seal(t, other, storetest.Numbered(9, 9)...), sealRun(t, 2), sealRun(t, 3), sealRun(t, 1), sealRun(t, 2))
	assertRuns(t, "all", place.All(t, storetest.Header(1)), 3)
	assertRuns(t, "newest", place.Latest(t, storetest.Header(1)), 3)
	assertRuns(t, "other tenancy", place.All(t, other), 9)
}

func TestDuckDBKeep(t *testing.T) {
	d, place := newSink(t, Options{Retention: store.Retention{Newest: 2}})
	first := sealRun(t, 1)
	storetest.Write(t, d, first, sealRun(t, 2), sealRun(t, 4), sealRun(t, 3), first, sealRun(t, 5))
	assertRuns(t, "all", place.All(t, storetest.Header(1)), 4, 5)
	assertRuns(t, "newest", place.Latest(t, storetest.Header(1)), 5)
}

func TestDuckDBOfOneSecond(t *testing.T) {
	second := func(n int) *snapshot.Snapshot {
		h := storetest.Header(n)
		h.UploadTimestamp = storetest.Header(1).UploadTimestamp
		return storetest.Seal(t, h, storetest.Numbered(n, n)...)
	}
	d, place := newSink(t, Options{})
	storetest.Write(t, d, second(7), second(3), second(7))
	assertRuns(t, "all", place.All(t, storetest.Header(1)), 3, 7)
	assertRuns(t, "newest", place.Latest(t, storetest.Header(1)), 3)
	d.opts.Retention = store.Retention{Newest: 2}
	storetest.Write(t, d, second(5))
	assertRuns(t, "two stay", place.All(t, storetest.Header(1)), 3, 5)
	d.opts.Retention = store.Retention{Newest: 1}
	storetest.Write(t, d, second(4))
	assertRuns(t, "one stays", place.All(t, storetest.Header(1)), 4)
}

// TestDuckDBRefill checks that a refill brings back rows that were deleted, leaves those of
// other snapshots alone, also of the same second, and stores none twice.
func TestDuckDBRefill(t *testing.T) {
	twin := storetest.Header(3)
	twin.UploadTimestamp = storetest.Header(2).UploadTimestamp
	for _, damage := range []struct{ name, statement string }{
		{name: "none", statement: "SELECT 1"},
		{name: "some rows deleted", statement: `DELETE FROM okta_users WHERE json_data::VARCHAR LIKE '%000000000002"}' AND rowid % 2 = 0`},
		{name: "all rows of the snapshot deleted", statement: `DELETE FROM okta_users WHERE json_data::VARCHAR LIKE '%000000000002"}'`},
	} {
		t.Run(damage.name, func(t *testing.T) {
			d, place := newSink(t, Options{})
			newest := storetest.Seal(t, storetest.Header(2), storetest.Numbered(2, 40)...)
			storetest.Write(t, d, sealRun(t, 1), storetest.Seal(t, twin, storetest.Numbered(3, 5)...), newest)
			executeIn(t, place.path(), damage.statement)
			storetest.Write(t, d, newest) // without a refill nothing is added
			if err := d.Write(store.WithRefill(t.Context()), newest); err != nil {
				t.Fatal(err)
			}
			all := place.All(t, storetest.Header(1))
			assertRuns(t, "all", all, 1, 2, 3)
			if len(all) != 1+40+5 || len(place.Latest(t, storetest.Header(1))) != 40 {
				t.Errorf("%d rows, %d in the newest, want 46 and 40", len(all), len(place.Latest(t, storetest.Header(1))))
			}
		})
	}
	d, place := newSink(t, Options{Retention: store.Retention{Newest: 1}})
	storetest.Write(t, d, sealRun(t, 1), sealRun(t, 2))
	executeIn(t, place.path(), "DROP TABLE okta_users CASCADE")
	if err := d.Write(store.WithRefill(t.Context()), sealRun(t, 2)); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(store.WithRefill(t.Context()), sealRun(t, 1)); err != nil { // which is not kept
		t.Fatal(err)
	}
	assertRuns(t, "after a dropped table", place.All(t, storetest.Header(1)), 2)
}

// createForeignTable creates a table of a program that keeps no ledger.
func createForeignTable(t *testing.T, place database, columns string) {
	t.Helper()
	old := `'{"_upload_id": "x", "n": ' || i || '}'`
	executeIn(t, place.path(), "CREATE TABLE okta_users ("+columns+")",
		`INSERT INTO okta_users (upload_timestamp, tenancy, json_data) SELECT '2025-01-01 00:00:00', 'default', `+old+` FROM range(3) r(i)`,
		`INSERT INTO okta_users (upload_timestamp, tenancy, json_data) SELECT '2025-01-02 00:00:00.5', 'default', `+old+` FROM range(200000) r(i)`,
		`INSERT INTO okta_users (upload_timestamp, tenancy, json_data) SELECT '2025-01-01 00:00:00', 'other', `+old+` FROM range(4) r(i)`)
}

func TestDuckDBWithTableFromBefore(t *testing.T) {
	for name, columns := range map[string]string{
		"as it makes it":       "upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON",
		"text":                 "upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data VARCHAR",
		"other order and case": "JSON_DATA JSON, Upload_Timestamp TIMESTAMP NOT NULL, tenancy VARCHAR",
	} {
		t.Run(name, func(t *testing.T) {
			d, place := newSink(t, Options{})
			createForeignTable(t, place, columns)
			other := storetest.Header(1)
			other.Tenancy = "third"
			storetest.Write(t, d, storetest.Seal(t, other, storetest.Numbered(1, 1)...))
			if got := place.Latest(t, storetest.Header(1)); len(got) != 200000 {
				t.Errorf("newest from before: %d rows", len(got))
			}
			storetest.Write(t, d, storetest.Seal(t, storetest.Header(1), storetest.Awkward...))
			duckdbHarness().AssertRecords(t, "newest", place.Latest(t, storetest.Header(1)), storetest.Seal(t, storetest.Header(1), storetest.Awkward...))
			if got := place.All(t, storetest.Header(1)); len(got) != 200003+len(storetest.Awkward) {
				t.Errorf("%d rows", len(got))
			}
			// The other program continues to write to the table.
			executeIn(t, place.path(), `INSERT INTO okta_users (upload_timestamp, tenancy, json_data) VALUES ('2026-01-02', 'default', '{"n": 1}')`)
			if got := place.Latest(t, storetest.Header(1)); !slices.Equal(got, []string{`{"n": 1}`}) {
				t.Errorf("newest by the older program: %.200q", got)
			}
			other.Tenancy = "other"
			if got := place.Latest(t, other); len(got) != 4 {
				t.Errorf("other tenancy: %d rows", len(got))
			}
			d.opts.Retention = store.Retention{Newest: 2}
			storetest.Write(t, d, sealRun(t, 5))
			if got := place.All(t, storetest.Header(1)); len(got) != 6 {
				t.Errorf("after keeping two: %d rows", len(got))
			}
			if got := place.All(t, other); len(got) != 4 {
				t.Errorf("other tenancy after that: %d rows", len(got))
			}
		})
	}
}

func TestDuckDBRefusesOtherShapes(t *testing.T) {
	for statement, found := range map[string]string{
		"CREATE TABLE okta_users (id INT)":                                                             "id INTEGER",
		"CREATE TABLE okta_users (upload_timestamp VARCHAR, tenancy VARCHAR, json_data JSON)":          "upload_timestamp VARCHAR",
		"CREATE TABLE okta_users (upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON, x INT)": "x INTEGER",
		"CREATE VIEW okta_users AS SELECT 1 AS upload_timestamp":                                       "in a view",
		"CREATE TABLE " + store.LedgerTable + " (a INT)":                                               "",
	} {
		d, place := newSink(t, Options{})
		executeIn(t, place.path(), statement)
		err := d.Write(t.Context(), sealRun(t, 1))
		if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), found) || !strings.Contains(err.Error(), "STORE_DUCKDB") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	text := filepath.Join(t.TempDir(), "x.duckdb")
	if err := os.WriteFile(text, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := store.ParsePath("STORE_DUCKDB", text)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Path: p})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(t.Context(), sealRun(t, 1)); !errors.Is(err, store.ErrRefused) {
		t.Errorf("a file of text: %v", err)
	}
	if err := d.Check(t.Context()); !errors.Is(err, store.ErrRefused) {
		t.Errorf("check a file of text: %v", err)
	}
}

func TestDuckDBLeavesForeignViews(t *testing.T) {
	d, place := newSink(t, Options{})
	executeIn(t, place.path(), "CREATE VIEW okta_users_latest AS SELECT 'theirs' AS json_data, 'default' AS tenancy")
	storetest.Write(t, d, sealRun(t, 1))
	if got := place.Latest(t, storetest.Header(1)); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("the view gives %q", got)
	}
}

func TestDuckDBIsReadableByName(t *testing.T) {
	d, place := newSink(t, Options{})
	storetest.Write(t, d, sealRun(t, 3))
	got := queryFile(t, "", func(db *duckdb.DB) ([]string, error) {
		if _, err := db.ExecContext(t.Context(), "ATTACH "+duckdb.Literal(place.path())+" AS mine (READ_ONLY)"); err != nil {
			return nil, err
		}
		return queryStrings(t.Context(), db, `SELECT json_data->>'name' || ' ' || upload_timestamp FROM mine.okta_users_latest WHERE (json_data->>'n')::INT = 2`)
	})
	if !slices.Equal(got, []string{"user 2 2026-01-01 12:03:00"}) {
		t.Errorf("got %q", got)
	}
}

func TestDuckDBNotesChangedRecords(t *testing.T) {
	var notes []string
	d, _ := newSink(t, Options{Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
	s := storetest.Seal(t, storetest.Header(1), `{"a":"\ud800"}`, `{"a":"\ud83d\ude00"}`)
	storetest.Write(t, d, s, s)
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "1 record has") {
		t.Errorf("notes %q", notes)
	}
}

func TestDuckDBLocked(t *testing.T) {
	d, place := newSink(t, Options{})
	storetest.Write(t, d, sealRun(t, 1))
	c := storetest.Job{Place: place.path(), Hold: true}.Start(t)
	if got := c.Line(); got != "held" {
		t.Fatal(got)
	}
	check := func(err error) {
		t.Helper()
		var locked *duckdb.LockedError
		if !errors.As(err, &locked) || locked.PID != c.Cmd.Process.Pid || errors.Is(err, store.ErrRefused) ||
			!strings.Contains(err.Error(), fmt.Sprintf("locked by %s (PID %d)", filepath.Base(c.Cmd.Path), c.Cmd.Process.Pid)) {
			t.Errorf("error %v", err)
		}
	}
	next := sealRun(t, 2)
	check(d.Write(t.Context(), next))
	check(d.Check(t.Context()))
	d.opts.LockWait = time.Hour
	// ctx ends when the first attempt has met the lock.
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	d.onLocked = func() { cancel(context.DeadlineExceeded) }
	err := d.Write(ctx, next)
	check(err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	waits := make(chan struct{})
	d.onLocked = sync.OnceFunc(func() { close(waits) })
	done := make(chan error)
	go func() { done <- d.Write(t.Context(), next) }()
	<-waits
	if err := c.Stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-done, c.Cmd.Wait()); err != nil {
		t.Error(err)
	}
	assertRuns(t, "all", place.All(t, storetest.Header(1)), 1, 2)
}

// TestDuckDBKilled kills a process that stores snapshots one after the other, at
// random times, and checks that each snapshot is complete or missing.
func TestDuckDBKilled(t *testing.T) {
	const each = 3000
	snapshots := map[string]*snapshot.Snapshot{}
	var dirs []string
	for n := range 30 {
		s := storetest.Seal(t, storetest.Header(n+1), storetest.Numbered(n+1, each)...)
		snapshots[s.UploadID] = s
		dirs = append(dirs, s.Dir())
	}
	place := database{t.TempDir()}
	acknowledged := map[string]bool{}
	for round := 0; len(acknowledged) < len(dirs) && round < 5; round++ {
		c := storetest.Job{Place: place.dir, Snapshots: dirs}.Start(t)
		var timer *time.Timer
		for line := c.Line(); line != ""; line = c.Line() {
			if id, ok := strings.CutPrefix(line, "stored "); ok {
				acknowledged[id] = true
			}
			if strings.HasPrefix(line, "error") {
				t.Error(line)
			}
			if timer == nil {
				timer = time.AfterFunc(rand.N(300*time.Millisecond), func() { _ = c.Cmd.Process.Kill() })
			}
		}
		_ = c.Cmd.Wait() // it was killed
		if timer != nil {
			timer.Stop()
		}
		counts := map[int]int{}
		for _, record := range place.All(t, storetest.Header(1)) {
			counts[runsOf([]string{record})[0]]++
		}
		for n, count := range counts {
			if count != each {
				t.Errorf("round %d: run %d has %d records", round, n, count)
			}
		}
		for id := range acknowledged {
			if counts[runsOf([]string{`"_upload_id":"` + id + `"}`})[0]] == 0 {
				t.Errorf("round %d: %s was stored and is gone", round, id)
			}
		}
		t.Logf("round %d: %d acknowledged, %d there", round, len(acknowledged), len(counts))
	}
	sink, err := openDatabase("", place.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		storetest.Write(t, sink, s)
	}
	if got := len(place.All(t, storetest.Header(1))); got != each*len(dirs) {
		t.Errorf("%d records after repeating, want %d", got, each*len(dirs))
	}
	assertRuns(t, "newest", place.Latest(t, storetest.Header(1)), len(dirs))
}

// TestDocumentedDuckDB runs the documented queries.
func TestDocumentedDuckDB(t *testing.T) {
	d, place := newSink(t, Options{Views: store.ViewsTyped})
	storetest.Write(t, d, sealRun(t, 1), sealRun(t, 3))
	for _, kind := range []string{"duckdb", "typed"} {
		got := queryFile(t, place.path(), func(db *duckdb.DB) ([]string, error) {
			return queryStrings(t.Context(), db, "SELECT name FROM ("+strings.TrimSuffix(strings.TrimSpace(storetest.DocumentedSQL(t, kind)[0]), ";")+")")
		})
		if len(got) != 3 || !strings.HasPrefix(got[0], "user ") {
			t.Errorf("%s: got %q", kind, got)
		}
	}
}
