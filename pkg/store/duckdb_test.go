package store

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
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
)

// newDuck makes a sink on a new file.
func newDuck(t *testing.T, o DuckDBOptions) (*DuckDB, duckPlace) {
	t.Helper()
	place := duckPlace{t.TempDir()}
	p, err := ParsePath("STORE_DUCKDB", place.path())
	if err != nil {
		t.Fatal(err)
	}
	return NewDuckDB(p, o), place
}

// small seals a snapshot of run n with n records.
func small(t *testing.T, n int) *snapshot.Snapshot {
	t.Helper()
	return sealed(t, header(n), numbered(n, n)...)
}

// runs tells of which runs the records are.
func runs(list []string) []int {
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

func wantRuns(t *testing.T, what string, list []string, want ...int) {
	t.Helper()
	if got := runs(list); !slices.Equal(got, want) {
		t.Errorf("%s: runs %v, want %v", what, got, want)
	}
}

func TestDuckDBReplace(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{Replace: true})
	other := header(9)
	other.Tenancy = "other"
	write(t, d, sealed(t, other, numbered(9, 9)...), small(t, 2), small(t, 3), small(t, 1), small(t, 2))
	wantRuns(t, "all", place.all(t, header(1)), 3)
	wantRuns(t, "newest", place.latest(t, header(1)), 3)
	wantRuns(t, "other tenancy", place.all(t, other), 9)
}

func TestDuckDBKeep(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{Keep: Keep{Newest: 2}})
	first := small(t, 1)
	write(t, d, first, small(t, 2), small(t, 4), small(t, 3), first, small(t, 5))
	wantRuns(t, "all", place.all(t, header(1)), 4, 5)
	wantRuns(t, "newest", place.latest(t, header(1)), 5)
}

func TestDuckDBOfOneSecond(t *testing.T) {
	second := func(n int) *snapshot.Snapshot {
		h := header(n)
		h.UploadTimestamp = header(1).UploadTimestamp
		return sealed(t, h, numbered(n, n)...)
	}
	d, place := newDuck(t, DuckDBOptions{})
	write(t, d, second(7), second(3), second(7))
	wantRuns(t, "all", place.all(t, header(1)), 3, 7)
	wantRuns(t, "newest", place.latest(t, header(1)), 3)
	d.o.Keep = Keep{Newest: 2}
	write(t, d, second(5))
	wantRuns(t, "two stay", place.all(t, header(1)), 3, 5)
	d.o.Keep = Keep{Newest: 1}
	write(t, d, second(4))
	wantRuns(t, "one stays", place.all(t, header(1)), 4)
}

// before makes a table as programs without a ledger have it.
func before(t *testing.T, place duckPlace, columns string) {
	t.Helper()
	old := `'{"_upload_id": "x", "n": ' || i || '}'`
	execute(t, place.path(), "CREATE TABLE okta_users ("+columns+")",
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
			d, place := newDuck(t, DuckDBOptions{})
			before(t, place, columns)
			other := header(1)
			other.Tenancy = "third"
			write(t, d, sealed(t, other, numbered(1, 1)...))
			if got := place.latest(t, header(1)); len(got) != 200000 {
				t.Errorf("newest from before: %d rows", len(got))
			}
			write(t, d, sealed(t, header(1), awkward...))
			harness{expect: duckHarness().expect}.want(t, "newest", place.latest(t, header(1)), sealed(t, header(1), awkward...))
			if got := place.all(t, header(1)); len(got) != 200003+len(awkward) {
				t.Errorf("%d rows", len(got))
			}
			// The older program goes on beside this one.
			execute(t, place.path(), `INSERT INTO okta_users (upload_timestamp, tenancy, json_data) VALUES ('2027-01-01', 'default', '{"n": 1}')`)
			if got := place.latest(t, header(1)); !slices.Equal(got, []string{`{"n": 1}`}) {
				t.Errorf("newest by the older program: %.200q", got)
			}
			other.Tenancy = "other"
			if got := place.latest(t, other); len(got) != 4 {
				t.Errorf("other tenancy: %d rows", len(got))
			}
			d.o.Keep = Keep{Newest: 2}
			write(t, d, small(t, 5))
			if got := place.all(t, header(1)); len(got) != 6 {
				t.Errorf("after keeping two: %d rows", len(got))
			}
			if got := place.all(t, other); len(got) != 4 {
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
		"CREATE TABLE " + ledger + " (a INT)":                                                          "",
	} {
		d, place := newDuck(t, DuckDBOptions{})
		execute(t, place.path(), statement)
		err := d.Write(t.Context(), small(t, 1))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), found) || !strings.Contains(err.Error(), "STORE_DUCKDB") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	text := filepath.Join(t.TempDir(), "x.duckdb")
	if err := os.WriteFile(text, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ParsePath("STORE_DUCKDB", text)
	if err != nil {
		t.Fatal(err)
	}
	if err := NewDuckDB(p, DuckDBOptions{}).Write(t.Context(), small(t, 1)); !errors.Is(err, ErrRefused) {
		t.Errorf("a file of text: %v", err)
	}
	if err := NewDuckDB(p, DuckDBOptions{}).Check(t.Context()); !errors.Is(err, ErrRefused) {
		t.Errorf("check a file of text: %v", err)
	}
}

func TestDuckDBLeavesForeignViews(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{})
	execute(t, place.path(), "CREATE VIEW okta_users_latest AS SELECT 'theirs' AS json_data, 'default' AS tenancy")
	write(t, d, small(t, 1))
	if got := place.latest(t, header(1)); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("the view gives %q", got)
	}
}

func TestDuckDBIsReadableByName(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{})
	write(t, d, small(t, 3))
	got := query(t, "", func(db *duckdb.DB) ([]string, error) {
		if _, err := db.ExecContext(t.Context(), "ATTACH "+duckdb.Literal(place.path())+" AS mine (READ_ONLY)"); err != nil {
			return nil, err
		}
		return texts(t.Context(), db, `SELECT json_data->>'name' || ' ' || upload_timestamp FROM mine.okta_users_latest WHERE (json_data->>'n')::INT = 2`)
	})
	if !slices.Equal(got, []string{"user 2 2026-01-01 12:03:00"}) {
		t.Errorf("got %q", got)
	}
}

func TestDuckDBNotesChangedRecords(t *testing.T) {
	var notes []string
	d, _ := newDuck(t, DuckDBOptions{Note: func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }})
	s := sealed(t, header(1), `{"a":"\ud800"}`, `{"a":"\ud83d\ude00"}`)
	write(t, d, s, s)
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "1 records") {
		t.Errorf("notes %q", notes)
	}
}

func TestDuckDBLocked(t *testing.T) {
	d, place := newDuck(t, DuckDBOptions{})
	write(t, d, small(t, 1))
	c := job{Hold: place.path()}.start(t)
	if got := c.line(); got != "held" {
		t.Fatal(got)
	}
	check := func(err error) {
		t.Helper()
		var locked *duckdb.LockedError
		if !errors.As(err, &locked) || locked.PID != c.cmd.Process.Pid || errors.Is(err, ErrRefused) ||
			!strings.Contains(err.Error(), fmt.Sprintf("locked by %s (PID %d)", filepath.Base(c.cmd.Path), c.cmd.Process.Pid)) {
			t.Errorf("error %v", err)
		}
	}
	next := small(t, 2)
	check(d.Write(t.Context(), next))
	check(d.Check(t.Context()))
	d.o.LockWait = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := d.Write(ctx, next)
	check(err)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	done := make(chan error)
	go func() { done <- d.Write(t.Context(), next) }()
	if err := c.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-done, c.cmd.Wait()); err != nil {
		t.Error(err)
	}
	wantRuns(t, "all", place.all(t, header(1)), 1, 2)
}

// TestDuckDBKilled kills a process that stores one snapshot after the other,
// at random moments, and looks for parts of snapshots.
func TestDuckDBKilled(t *testing.T) {
	const each = 3000
	snapshots := map[string]*snapshot.Snapshot{}
	var dirs []string
	for n := range 30 {
		s := sealed(t, header(n+1), numbered(n+1, each)...)
		snapshots[s.UploadID] = s
		dirs = append(dirs, s.Dir())
	}
	place := duckPlace{t.TempDir()}
	acknowledged := map[string]bool{}
	for round := 0; len(acknowledged) < len(dirs) && round < 5; round++ {
		c := job{Sink: "duckdb", Dir: place.dir, Snapshots: dirs}.start(t)
		var timer *time.Timer
		for line := c.line(); line != ""; line = c.line() {
			if id, ok := strings.CutPrefix(line, "stored "); ok {
				acknowledged[id] = true
			}
			if strings.HasPrefix(line, "error") {
				t.Error(line)
			}
			if timer == nil {
				timer = time.AfterFunc(rand.N(300*time.Millisecond), func() { _ = c.cmd.Process.Kill() })
			}
		}
		_ = c.cmd.Wait() // it was killed
		if timer != nil {
			timer.Stop()
		}
		counts := map[int]int{}
		for _, record := range place.all(t, header(1)) {
			counts[runs([]string{record})[0]]++
		}
		for n, count := range counts {
			if count != each {
				t.Errorf("round %d: run %d has %d records", round, n, count)
			}
		}
		for id := range acknowledged {
			if counts[runs([]string{`"_upload_id":"` + id + `"}`})[0]] == 0 {
				t.Errorf("round %d: %s was stored and is gone", round, id)
			}
		}
		t.Logf("round %d: %d acknowledged, %d there", round, len(acknowledged), len(counts))
	}
	sink, err := sinkAt("duckdb", place.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		write(t, sink, s)
	}
	if got := len(place.all(t, header(1))); got != each*len(dirs) {
		t.Errorf("%d records after repeating, want %d", got, each*len(dirs))
	}
	wantRuns(t, "newest", place.latest(t, header(1)), len(dirs))
}
