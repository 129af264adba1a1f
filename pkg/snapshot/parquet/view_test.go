package parquet

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// The view of a file has the columns, types and values of a file for queries.
func TestViewOfFile(t *testing.T) {
	for _, tc := range []struct {
		name    string
		earlier []string // the records of earlier snapshots, one each
		records []string
		noView  bool
	}{
		{name: "numbers", records: []string{
			`{"i":1,"f":1.5,"m":2,"w":9007199254740993,"h":123456789012345678901234567890,"e":1e3,"z":-0,"b":true}`,
			`{"i":-9007199254740992,"f":-0.1,"m":0.25,"w":1,"h":5,"e":1E-400,"z":0,"b":false}`, `{"i":null}`, `{}`,
		}},
		{name: "times", records: []string{
			`{"t":"2026-02-03T04:05:06.123456789Z","o":"2026-02-03T04:05:06+05:30","l":"2026-02-03T04:05:06.5","s":"2026-02-03 04:05:06","d":"2026-02-03","x":"2026-02-03"}`,
			`{"t":"0001-01-01T00:00:00+15:59","o":"9999-12-31T23:59:59.999999999Z","l":"2026-02-03T04:05:06","s":"2026-02-03 04:05:06.123456789","d":"0001-01-01","x":"2026-02-03T00:00:00Z"}`,
		}},
		{name: "objects and lists", records: []string{
			`{"o":{"n":1,"t":"2026-02-03T04:05:06Z","d":["2026-02-03",null],"p":{"q":[{"n":1},{"n":null},{},null]}},"l":[1,2],"m":[[1],[],null],"e":[],"v":{}}`,
			`{"o":null,"l":null,"m":[],"e":null}`, `{"o":{},"l":[]}`, `{"o":{"n":2,"p":{"q":[]}}}`,
		}},
		{name: "names", records: []string{`{"a b":1,"\"":2,"":3,"ID":4,"id":5,"_tenancy":6,"\u0000":7,"select":"2026-02-03"}`}},
		{name: "nested names that differ by case", records: []string{`{"o":{"A":1,"a":"2026-02-03"}}`}},
		{name: "no members", records: []string{`{}`}},
		{name: "duplicates", records: []string{`{"a":1,"a":"2026-02-03","o":{"x":1,"x":2}}`}},
		{name: "escapes", records: []string{`{"a":"\u0000","b":"\ud83d","c":"\ud83d\ude00","d":{"e":"\ud83d"}}`}},
		{name: "JSON", records: []string{`{"a":{},"b":[1,{"x":1.50}],"c":1}`, `{"a":{},"b":"s","c":{"d":1e5}}`}},
		{
			name:    "more members before",
			earlier: []string{`{"gone":1,"o":{"gone":1,"n":1.5},"l":[{"gone":1}],"n":{"m":2}}`},
			records: []string{`{"o":{"n":1},"l":[{"k":1}],"n":null}`, `{"o":null,"l":[]}`},
		},
		{
			name:    "text before",
			earlier: []string{`{"i":null,"f":"x","b":null,"t":null,"l":null,"s":null,"d":null,"v":null,"o":{"t":null,"i":null,"d":null}}`},
			records: []string{
				`{"i":1,"f":1.50,"b":true,"t":"2026-02-03T04:05:06.123456789+05:30","l":"2026-02-03T04:05:06.123456789","s":"2026-02-03 04:05:06","d":"2026-02-03","v":"x","o":{"t":"2026-02-03T04:05:06-02:00","i":9007199254740993,"d":"2026-02-03"}}`,
				`{"i":9223372036854775807,"f":1E5,"b":false,"v":"\ud83d"}`, `{"f":-0,"o":{}}`, `{"f":1e-400}`, `{"f":123456789.123456789123456789}`,
			},
		},
		{name: "other kinds before", earlier: []string{`{"a":"2026-02-03T04:05:06Z","b":true,"c":1,"d":[1]}`}, records: []string{`{"a":"2026-02-03","b":1,"c":"x","d":[1.5,2]}`}},
		{name: "values only before", earlier: []string{`{"a":1,"b":{"x":1},"c":["y"],"d":{"e":true},"j":[{},1]}`}, records: []string{`{"a":null,"b":null,"c":[],"d":{"e":null},"j":null}`}},
		{name: "similar names before", earlier: []string{`{"ID":1}`}, records: []string{`{"id":2,"ID":1}`}},
		{name: "columns of other names in objects", earlier: []string{`{"o":{"ID":1}}`}, records: []string{`{"o":{"id":2,"ID":1}}`}, noView: true},
		{name: "an object that was text", earlier: []string{`{"a":null}`}, records: []string{`{"a":{"x":1}}`}, noView: true},
		{name: "an object that was JSON", earlier: []string{`{"a":{}}`}, records: []string{`{"a":{"x":1}}`}, noView: true},
		{name: "text that was JSON", earlier: []string{`{"a":{}}`}, records: []string{`{"a":"x"}`}, noView: true},
		{name: "JSON that was text", earlier: []string{`{"a":null}`}, records: []string{`{"a":{}}`}, noView: true},
		{name: "no members of an object that had some", earlier: []string{`{"a":{"x":1}}`}, records: []string{`{"a":{}}`}, noView: true},
		{name: "many members", records: []string{manyColumns(columns.MaxColumns + 1)}, noView: true},
		{name: "many members before", earlier: []string{manyColumns(columns.MaxColumns + 1)}, records: []string{`{"a":1}`}, noView: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			memory := textMemory{}
			for i, record := range tc.earlier {
				encodeSnapshot(t, sealDay(t, i+1, record), memory)
			}
			s := sealDay(t, 28, tc.records...)
			path, f := encodeSnapshot(t, s, memory)
			if (f.View == "") != tc.noView {
				t.Fatalf("the view is %q; want none: %t", f.View, tc.noView)
			}
			if tc.noView {
				return
			}
			wantTypes, wantRows := readRelation(t, "FROM "+readParquet(encodeForTest(t, s)))
			types, rows := readRelation(t, "SELECT "+f.View+" FROM "+readParquet(path))
			if diff := cmp.Diff(wantTypes, types); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(wantRows, rows); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}

// Records that STORE_FILE_REPAIR changes are not shown to queries.
func TestNoViewOfRepairedRecords(t *testing.T) {
	for record, want := range map[string]bool{`{"a":"\u0000"}`: false, `{"a":"\\u0000"}`: true} {
		f, err := Encode(t.Context(), sealDay(t, 1, record), Options{TempDir: t.TempDir(), Repair: true})
		if err != nil {
			t.Fatal(err)
		}
		if (f.View != "") != want {
			t.Errorf("%s: the view is %q, want one: %t", record, f.View, want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Thirty days of records that differ from day to day have views of the same rows.
func TestViewsOfThirtyDays(t *testing.T) {
	memory := textMemory{}
	for i, records := range driftingDays() {
		s := sealDay(t, i+1, records...)
		path, f := encodeSnapshot(t, s, memory)
		if f.View == "" {
			t.Errorf("day %d has no view", i+1)
			continue
		}
		wantTypes, wantRows := readRelation(t, "FROM "+readParquet(encodeForTest(t, s)))
		types, rows := readRelation(t, "SELECT "+f.View+" FROM "+readParquet(path))
		if !slices.Equal(types, wantTypes) || !cmp.Equal(rows, wantRows) {
			t.Errorf("day %d: %q %q, want %q %q", i+1, types, rows, wantTypes, wantRows)
		}
	}
}

// A file without types needs no types.
func TestUntyped(t *testing.T) {
	memory := textMemory{}
	encodeSnapshot(t, sealDay(t, 1, `{"a":1}`), memory)
	f, err := Encode(t.Context(), sealDay(t, 2, `{"a":2,"b":"x"}`), Options{TempDir: t.TempDir(), Types: memory["okta_users"], Untyped: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Typed || f.View != "" || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "STORE_DUCKDB_MEMORY") || !strings.Contains(f.Types, `"name":"b"`) {
		t.Errorf("typed %t, view %q, notes %q, types %s", f.Typed, f.View, f.Notes, f.Types)
	}
}

// manyColumns returns a record with n members.
func manyColumns(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"k%d":1`, i))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func readParquet(path string) string {
	return "read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(path)) + ")"
}

// encodeForTest returns the path of a file for queries.
func encodeForTest(t *testing.T, s *snapshot.Snapshot) string {
	t.Helper()
	f, err := Encode(t.Context(), s, Options{TempDir: t.TempDir(), Rules: columns.QueryRules})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(filepath.Dir(f.path())), "queries.parquet")
	if err := errors.Join(f.MoveTo(path), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// readRelation returns the columns and the rows of a query, in their order.
func readRelation(t *testing.T, query string) (types []string, rows [][]string) {
	t.Helper()
	db := openDuckDB(t)
	for _, row := range queryRows(t, db, "DESCRIBE "+query) {
		types = append(types, row[0]+" "+row[1])
	}
	return types, queryRows(t, db, "SELECT to_json(r)::VARCHAR, r::VARCHAR FROM ("+query+") AS r")
}
