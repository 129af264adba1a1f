package parquet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	parquetgo "github.com/parquet-go/parquet-go"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// A textMemory has the types of each stream.
type textMemory map[string]string

// sealDay returns a sealed snapshot of the records of a day.
func sealDay(t testing.TB, day int, records ...string) *snapshot.Snapshot {
	t.Helper()
	return sealHeader(t, snapshot.Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "default", UploadID: fmt.Sprintf("id-%02d", day),
		UploadTimestamp: time.Date(2026, 4, day, 0, 0, 0, 0, time.UTC),
	}, records...)
}

// encodeDays encodes a snapshot for each day into a directory, and returns the
// pattern of the files and the notes of each day.
func encodeDays(t testing.TB, memory textMemory, days ...[]string) (glob string, notes [][]string) {
	t.Helper()
	dir := t.TempDir()
	for i, records := range days {
		path, f := encodeSnapshot(t, sealDay(t, i+1, records...), memory)
		if err := os.Rename(path, filepath.Join(dir, fmt.Sprintf("%02d.parquet", i+1))); err != nil {
			t.Fatal(err)
		}
		if !f.Typed {
			t.Errorf("day %d is not typed: %q", i+1, f.Notes)
		}
		notes = append(notes, f.Notes)
	}
	return filepath.Join(dir, "*.parquet"), notes
}

// driftingDays returns the records of thirty days, two a day: numbers with and
// without fractions, members that appear, vanish and are null, empty lists and
// objects that grow.
func driftingDays() [][]string {
	var days [][]string
	for day := 1; day <= 30; day++ {
		n := []string{"1", "1.5", "7"}[(day-1)%3]
		var members []string
		if day > 5 {
			members = append(members, `"new":true`)
		}
		if day%4 != 0 {
			members = append(members, fmt.Sprintf(`"seen":"2026-04-%02dT01:02:03.%dZ"`, day, day))
		} else {
			members = append(members, `"seen":null`)
		}
		if day%7 != 0 {
			members = append(members, `"n":`+n)
		}
		o := []string{`{"x":1}`, `{"x":1.5,"y":"b"}`, `{"z":{"deep":[true]}}`, `null`}[day%4]
		l := []string{`["q"]`, `[]`, `null`}[day%3]
		m := []string{`[{"k":1}]`, `[{"k":2.5,"v":["w"]},{}]`}[day%2]
		members = append(members, `"o":`+o, `"l":`+l, `"m":`+m)
		days = append(days, []string{"{" + strings.Join(members, ",") + "}", `{"o":{"x":2}}`})
	}
	return days
}

// Thirty daily files of records that differ from day to day are one table for
// DuckDB, with the types of the first file and with those of all.
func TestThirtyDaysInDuckDB(t *testing.T) {
	glob, notes := encodeDays(t, textMemory{}, driftingDays()...)
	for i, list := range notes {
		if len(list) > 0 {
			t.Errorf("day %d has notes %q", i+1, list)
		}
	}
	db := openDuckDB(t)
	for _, tc := range []struct{ query, want string }{
		{query: "SELECT count(*), sum(n), count(n), count(seen), max(seen) FROM read_parquet(%s)",
			want: "60 84.5 26 23 2026-04-30T01:02:03.3Z"},
		{query: "SELECT count(*), sum(n), count(n), count(seen), max(seen) FROM read_parquet(%s, union_by_name = true)",
			want: "60 84.5 26 23 2026-04-30T01:02:03.3Z"},
		{query: "SELECT count(o.x), sum(o.x), count(o.y), bool_and(o.z.deep[1]), count(new) FROM read_parquet(%s, union_by_name = true)",
			want: "45 79 8 true 25"},
		{query: "SELECT count(k), sum(k) FROM (SELECT unnest(m).k AS k FROM read_parquet(%s))",
			want: "30 52.5"},
		{query: "SELECT count(*), min(_upload_timestamp), max(_upload_timestamp) FROM read_parquet(%s) WHERE l[1] = 'q' AND _tenancy = 'default'",
			want: "10 2026-04-03T00:00:00Z 2026-04-30T00:00:00Z"},
	} {
		rows := queryRows(t, db, fmt.Sprintf(tc.query, duckdb.Literal(glob)))
		if got := strings.Join(rows[0], " "); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.query, got, tc.want)
		}
	}
}

// The same files are one table for a reader that takes each column's type as it
// stands in the file: a type never changes, and a column never vanishes.
func TestThirtyDaysInAnotherReader(t *testing.T) {
	glob, _ := encodeDays(t, textMemory{}, driftingDays()...)
	paths, err := filepath.Glob(glob)
	if err != nil || len(paths) != 30 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	types := map[string]string{}
	sum, rows := 0.0, int64(0)
	for _, path := range paths {
		found := readColumns(t, path, func(column string, v parquetgo.Value) {
			if column == "n" && !v.IsNull() {
				sum += v.Double()
			}
		}, &rows)
		for column, was := range types {
			if found[column] != was {
				t.Errorf("%s: column %s is %q, was %q", filepath.Base(path), column, found[column], was)
			}
		}
		types = found
	}
	if sum != 84.5 || rows != 60 {
		t.Errorf("the sum of n is %g in %d rows, want 84.5 in 60", sum, rows)
	}
	for column, want := range map[string]string{
		"seen": "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)", "_upload_timestamp": "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)",
		"n": "DOUBLE", "o.z.deep.list.element": "BOOLEAN", "l.list.element": "STRING", "m.list.element.k": "DOUBLE", "new": "BOOLEAN",
	} {
		if types[column] != want {
			t.Errorf("column %s is %q, want %q; all: %q", column, types[column], want, types)
		}
	}
}

// readColumns calls visit for each value in the Parquet file at path, adds the
// number of its rows to rows, and returns the types of its columns.
func readColumns(t *testing.T, path string, visit func(column string, v parquetgo.Value), rows *int64) map[string]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := parquetgo.OpenFile(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	types, names := map[string]string{}, []string{}
	for _, path := range p.Schema().Columns() {
		leaf, _ := p.Schema().Lookup(path...)
		name := strings.Join(path, ".")
		names, types[name] = append(names, name), leaf.Node.Type().String()
	}
	for _, group := range p.RowGroups() {
		*rows += group.NumRows()
		reader := group.Rows()
		buffer := make([]parquetgo.Row, 8)
		for err == nil {
			var n int
			n, err = reader.ReadRows(buffer)
			for _, row := range buffer[:n] {
				for _, v := range row {
					visit(names[v.Column()], v)
				}
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err = reader.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return types
}

// A type that cannot hold new values becomes a text for good. One note names
// the member, also when the same snapshot is encoded again.
func TestTypesWiden(t *testing.T) {
	for name, tc := range map[string]struct {
		days  []string // one record each
		types []string // of the column a
		notes []string // parts of the note of each day, "" for none
		all   string   // the values of the last day, read together with the other days
	}{
		"null": {
			days: []string{`{"a":5}`, `{"a":null}`, `{}`}, types: []string{"DOUBLE", "DOUBLE", "DOUBLE"},
			notes: []string{"", "", ""}, all: "NULL",
		},
		"null at first": {
			days: []string{`{"a":null}`, `{"a":5}`, `{"a":{"x":"y"}}`, `{"a":"2026-01-01T00:00:00Z"}`}, types: []string{"VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR"},
			notes: []string{"", "", "", ""}, all: "2026-01-01T00:00:00Z",
		},
		"number, text": {
			days: []string{`{"a":5}`, `{"a":"x"}`, `{"a":6}`}, types: []string{"DOUBLE", "VARCHAR", "VARCHAR"},
			notes: []string{"", `member "a" was DOUBLE in earlier files and is VARCHAR from this one on`, ""}, all: "6",
		},
		"integers, wide integers, fractions": {
			days: []string{`{"a":5}`, `{"a":9007199254740993}`, `{"a":6.5}`}, types: []string{"DOUBLE", "BIGINT", "VARCHAR"},
			notes: []string{"", `"a" was DOUBLE in earlier files and is BIGINT`, `"a" was BIGINT in earlier files and is VARCHAR`}, all: "6.5",
		},
		"fractions, wide integers": {
			days: []string{`{"a":5.5}`, `{"a":9007199254740993}`}, types: []string{"DOUBLE", "VARCHAR"},
			notes: []string{"", `"a" was DOUBLE in earlier files and is VARCHAR`}, all: "9007199254740993",
		},
		"time, text": {
			days: []string{`{"a":"2026-01-01T00:00:00Z"}`, `{"a":"never"}`}, types: []string{"TIMESTAMP WITH TIME ZONE", "VARCHAR"},
			notes: []string{"", `"a" was TIMESTAMP WITH TIME ZONE in earlier files and is VARCHAR`}, all: "never",
		},
		"object, list": {
			days: []string{`{"a":{"x":1}}`, `{"a":[1]}`, `{"a":"s"}`}, types: []string{"STRUCT(x DOUBLE)", "JSON", "JSON"},
			notes: []string{"", `"a" was STRUCT in earlier files and is JSON`, ""}, all: `"s"`,
		},
		"in objects and lists": {
			days: []string{`{"a":{"x":[{"y":1}]}}`, `{"a":{"x":[{"y":"z"}]}}`}, types: []string{"STRUCT(x STRUCT(y DOUBLE)[])", "STRUCT(x STRUCT(y VARCHAR)[])"},
			notes: []string{"", `"a.x[].y" was DOUBLE in earlier files and is VARCHAR`}, all: "{'x': [{'y': z}]}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			memory := textMemory{}
			var days [][]string
			for _, record := range tc.days {
				days = append(days, []string{record})
			}
			glob, notes := encodeDays(t, memory, days...)
			db := openDuckDB(t)
			for i, want := range tc.types {
				got := queryRows(t, db, "SELECT typeof(a) FROM read_parquet("+duckdb.Literal(strings.Replace(glob, "*", fmt.Sprintf("%02d", i+1), 1))+")")
				if got[0][0] != want {
					t.Errorf("day %d has type %s, want %s", i+1, got[0][0], want)
				}
				if text := strings.Join(notes[i], "\n"); !strings.Contains(text, tc.notes[i]) || tc.notes[i] == "" && text != "" {
					t.Errorf("day %d has notes %q, want %q", i+1, text, tc.notes[i])
				}
			}
			all := queryRows(t, db, "SELECT a::VARCHAR FROM read_parquet("+duckdb.Literal(glob)+", union_by_name = true) ORDER BY _upload_timestamp DESC")
			if len(all) != len(tc.days) || all[0][0] != tc.all {
				t.Errorf("all days have %q, want %q first", all, tc.all)
			}
			last := len(tc.days)
			if _, f := encodeSnapshot(t, sealDay(t, last, tc.days[last-1]), memory); !slices.Equal(f.Notes, notes[last-1]) {
				t.Errorf("the last snapshot again has notes %q, want %q", f.Notes, notes[last-1])
			}
		})
	}
}

// A name in the file stays when a member with a similar name appears.
func TestNamesStay(t *testing.T) {
	memory := textMemory{}
	encodeSnapshot(t, sealDay(t, 1, `{"ID":1,"o":{"B":1}}`), memory)
	path, _ := encodeSnapshot(t, sealDay(t, 2, `{"id":2,"ID":1,"o":{"b":2,"B":1}}`), memory)
	columns, _ := readFile(t, path)
	if want := []string{"ID DOUBLE", "o STRUCT(B DOUBLE, b_2 DOUBLE)", "id_2 DOUBLE"}; !slices.Equal(columns[:3], want) {
		t.Errorf("columns %q, want %q", columns, want)
	}
}

// Records that had too many members once stay in one column.
func TestUntypedStays(t *testing.T) {
	memory := textMemory{}
	var many []string
	for i := range columns.MaxColumns + 1 {
		many = append(many, fmt.Sprintf(`"k%d":1`, i))
	}
	for day, record := range []string{"{" + strings.Join(many, ",") + "}", `{"a":1}`} {
		if _, f := encodeSnapshot(t, sealDay(t, day+1, record), memory); f.Typed || len(f.Notes) != 1 {
			t.Errorf("day %d is typed, or has notes %q", day+1, f.Notes)
		}
	}
}

// Types that cannot be read are replaced, with a note.
func TestUnreadableMemory(t *testing.T) {
	for _, text := range []string{"{", `{"version":99}`} {
		memory := textMemory{"okta_users": text}
		_, f := encodeSnapshot(t, sealDay(t, 1, `{"a":1}`), memory)
		if !f.Typed || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "remembered types") {
			t.Errorf("%s: typed %t, notes %q", text, f.Typed, f.Notes)
		}
		if !strings.Contains(memory["okta_users"], `"name":"a"`) {
			t.Errorf("%s was not replaced", text)
		}
	}
}
