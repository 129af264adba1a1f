package query

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/duckdb"
)

// nested returns a value in that many objects and lists.
func nested(levels int) string {
	return strings.Repeat(`{"d":[`, levels/2) + "1" + strings.Repeat(`]}`, levels/2)
}

// deepType is the type of {"p": nested(…)}: what is in more than 16 objects and lists
// is JSON.
const deepType = "STRUCT(p STRUCT(d STRUCT(d STRUCT(d STRUCT(d STRUCT(d STRUCT(d STRUCT(d JSON[])[])[])[])[])[])[]))"

// manyMembers returns an object with that many members, with the values 0, 1, …
func manyMembers(n int) string {
	var members []string
	for i := range n {
		members = append(members, fmt.Sprintf(`"k%d":%d`, i, i))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// oddRecords are records that vendors may send. Each stream has a column t, whose type
// the others must not change.
var oddRecords = []struct {
	name    string
	records []string
	types   string // of the columns
	rows    string // as JSON
}{
	{
		name:    "lone surrogate",
		records: []string{`{"t":"2026-11-20T00:00:00.000Z","name":"cut \ud83d"}`, `{"t":"2026-11-21T01:00:00+01:00","name":"\ud83d\ude00"}`},
		types:   "t TIMESTAMP, name VARCHAR",
		rows:    `{"t":"2026-11-20 00:00:00","name":"cut \\ud83d"},{"t":"2026-11-21 00:00:00","name":"😀"}`,
	},
	{
		name:    "lone surrogate and NUL in names",
		records: []string{`{"t":"2026-11-20T00:00:00Z","\ud83d":1,"a\u0000b":{"c\u0000":2}}`},
		types:   `t TIMESTAMP, \ud83d BIGINT, a�b STRUCT("c�" BIGINT)`,
		rows:    `{"t":"2026-11-20 00:00:00","\\ud83d":1,"a�b":{"c�":2}}`,
	},
	{
		name:    "names that differ by case",
		records: []string{`{"t":"2026-11-20T00:00:00Z","id":"lower","Id":"Upper","x":{"y":1,"Y":"s"}}`, `{"Id":"Second","x":{"Y":"u","y":2}}`},
		types:   "t TIMESTAMP, id VARCHAR, Id_2 VARCHAR, x STRUCT(y BIGINT, Y_2 VARCHAR)",
		rows:    `{"t":"2026-11-20 00:00:00","id":"lower","Id_2":"Upper","x":{"y":1,"Y_2":"s"}},{"t":null,"id":null,"Id_2":"Second","x":{"y":2,"Y_2":"u"}}`,
	},
	{
		name:    "names that differ by case, at two levels",
		records: []string{`{"t":"2026-11-20T00:00:00Z","x":1,"X":{"a":{"b":1,"B":2}}}`},
		types:   "t TIMESTAMP, x BIGINT, X_2 STRUCT(a STRUCT(b BIGINT, B_2 BIGINT))",
		rows:    `{"t":"2026-11-20 00:00:00","x":1,"X_2":{"a":{"b":1,"B_2":2}}}`,
	},
	{
		name:    "empty names",
		records: []string{`{"t":"2026-11-20T00:00:00Z","notSupported":{"":1,".cel":2},"":[{"":true}]}`},
		types:   `t TIMESTAMP, notSupported STRUCT(_ BIGINT, ".cel" BIGINT), _ STRUCT(_ BOOLEAN)[]`,
		rows:    `{"t":"2026-11-20 00:00:00","notSupported":{"_":1,".cel":2},"_":[{"_":true}]}`,
	},
	{
		name: "odd names",
		records: []string{`{"t":"2026-11-20T00:00:00Z","a.b":1,"a b":2,"a\"b":3,"a'b":4,"😀":5,"select":6,"` +
			strings.Repeat("n", 300) + `":7,"_tenancy":"x"}`},
		types: `t TIMESTAMP, a.b BIGINT, a b BIGINT, a"b BIGINT, a'b BIGINT, 😀 BIGINT, select BIGINT, ` + strings.Repeat("n", 300) + ` BIGINT, _vendor_tenancy VARCHAR`,
		rows: `{"t":"2026-11-20 00:00:00","a.b":1,"a b":2,"a\"b":3,"a'b":4,"😀":5,"select":6,"` +
			strings.Repeat("n", 300) + `":7,"_vendor_tenancy":"x"}`,
	},
	{
		name:    "lists of mixed values",
		records: []string{`{"t":"2026-11-20T00:00:00Z","l":["x",null,{"a":1},[2]]}`, `{"l":[1]}`, `{"l":[]}`, `{"l":null}`, `{}`},
		types:   "t TIMESTAMP, l JSON[]",
		rows:    `{"t":"2026-11-20 00:00:00","l":["x",null,{"a":1},[2]]},{"t":null,"l":[1]},{"t":null,"l":[]},{"t":null,"l":null},{"t":null,"l":null}`,
	},
	{
		name:    "lists of mixed scalars",
		records: []string{`{"t":"2026-11-20T00:00:00Z","l":["x",null]}`, `{"l":[1]}`},
		types:   "t TIMESTAMP, l VARCHAR[]",
		rows:    `{"t":"2026-11-20 00:00:00","l":["x",null]},{"t":null,"l":["1"]}`,
	},
	{
		name:    "values of different types",
		records: []string{`{"t":"2026-11-20T00:00:00Z","a":1,"b":1,"c":1,"d":"2026-11-20","e":"2026-11-20T00:00:00Z"}`, `{"a":"one","b":{"x":1},"c":1.5,"d":"unknown","e":"2026-11-20 00:00:00"}`},
		types:   "t TIMESTAMP, a VARCHAR, b JSON, c DOUBLE, d VARCHAR, e VARCHAR",
		rows:    `{"t":"2026-11-20 00:00:00","a":"1","b":1,"c":1.0,"d":"2026-11-20","e":"2026-11-20T00:00:00Z"},{"t":null,"a":"one","b":{"x":1},"c":1.5,"d":"unknown","e":"2026-11-20 00:00:00"}`,
	},
	{
		name:    "a member twice",
		records: []string{`{"t":"2026-11-20T00:00:00Z","a":1,"b":{"c":"first","c":"last"},"a":2}`},
		types:   "t TIMESTAMP, a BIGINT, b STRUCT(c VARCHAR)",
		rows:    `{"t":"2026-11-20 00:00:00","a":2,"b":{"c":"last"}}`,
	},
	{
		name: "large numbers",
		records: []string{`{"t":"2026-11-20T00:00:00Z","e":1e400,"u":18446744073709551615,"h":123456789012345678901234567890123456789012345,"i":9223372036854775807,"z":-0,"f":0.1,"w":9007199254740993}`,
			`{"w":0.5}`},
		types: "t TIMESTAMP, e VARCHAR, u VARCHAR, h VARCHAR, i BIGINT, z DOUBLE, f DOUBLE, w VARCHAR",
		rows: `{"t":"2026-11-20 00:00:00","e":"1e400","u":"18446744073709551615","h":"123456789012345678901234567890123456789012345","i":9223372036854775807,"z":-0.0,"f":0.1,"w":"9007199254740993"},` +
			`{"t":null,"e":null,"u":null,"h":null,"i":null,"z":null,"f":null,"w":"0.5"}`,
	},
	{
		name:    "dates and times",
		records: []string{`{"t":"2026-11-20T00:00:00Z","d":"2026-11-20","l":"2026-11-20T01:02:03.5","s":"2026-11-20 01:02:03","n":{"t":["2026-11-20T01:00:00+01:00"]}}`},
		types:   "t TIMESTAMP, d DATE, l TIMESTAMP, s TIMESTAMP, n STRUCT(t TIMESTAMP[])",
		rows:    `{"t":"2026-11-20 00:00:00","d":"2026-11-20","l":"2026-11-20 01:02:03.5","s":"2026-11-20 01:02:03","n":{"t":["2026-11-20 00:00:00"]}}`,
	},
	{
		name:    "no values",
		records: []string{`{"t":"2026-11-20T00:00:00Z","a":null,"o":{},"l":[],"n":{"a":null}}`},
		types:   "t TIMESTAMP, a VARCHAR, o JSON, l VARCHAR[], n STRUCT(a VARCHAR)",
		rows:    `{"t":"2026-11-20 00:00:00","a":null,"o":{},"l":[],"n":{"a":null}}`,
	},
	{
		name:    "many members in an object",
		records: []string{`{"t":"2026-11-20T00:00:00Z","o":` + manyMembers(2000) + `}`},
		types:   "t TIMESTAMP, o JSON",
		rows:    `{"t":"2026-11-20 00:00:00","o":` + manyMembers(2000) + `}`,
	},
	{
		name:    "nested 900 levels deep",
		records: []string{`{"t":"2026-11-20T00:00:00Z","o":{"p":` + nested(900) + `}}`},
		types:   "t TIMESTAMP, o " + deepType,
		rows:    `{"t":"2026-11-20 00:00:00","o":{"p":` + nested(900) + `}}`,
	},
	{
		name:    "nested 5000 levels deep",
		records: []string{`{"t":"2026-11-20T00:00:00Z","o":{"p":` + nested(5000) + `}}`, `{"o":{"p":` + nested(1000) + `}}`},
		types:   "t TIMESTAMP, o " + deepType,
		rows:    `{"t":"2026-11-20 00:00:00","o":{"p":` + nested(5000) + `}},{"t":null,"o":{"p":` + nested(1000) + `}}`,
	},
}

// vendorsColumns is the SELECT list of what vendors send.
const vendorsColumns = "* EXCLUDE (_tenancy, _upload_timestamp, _upload_id)"

// Whatever records a vendor sends, they have the right values in each format, and change
// no type but that of their own column.
func TestOddRecords(t *testing.T) {
	t.Parallel()
	testOddRecords(t, nil)
}

// So they have where queries read the files of destinations.
func TestOddRecordsInFiles(t *testing.T) {
	t.Parallel()
	testOddRecords(t, &FileOptions{})
}

// testOddRecords checks the results of queries for oddRecords. file is nil when no
// destination stores Parquet files.
func testOddRecords(t *testing.T, file *FileOptions) {
	streams := map[string][]string{}
	for i, tc := range oddRecords {
		streams[fmt.Sprintf("odd_%d", i)] = tc.records
	}
	e := newEngine(t, streams)
	e.ShareFiles(file)
	for i, tc := range oddRecords {
		t.Run(tc.name, func(t *testing.T) {
			text := fmt.Sprintf("SELECT %s FROM odd_%d", vendorsColumns, i)
			var out bytes.Buffer
			if _, err := e.Query(t.Context(), text, JSONFormat, Limits{}, &out); err != nil {
				t.Fatal(err)
			}
			if got, want := joinLines(out.String()), "["+tc.rows+"]"; got != want || !json.Valid(out.Bytes()) {
				t.Errorf("as JSON:\ngot  %s\nwant %s", got, want)
			}
			for _, format := range []Format{CSVFormat, RawCSVFormat, TableFormat, RowsFormat} {
				out := runHere(t, e, task{Kind: formatTask, Format: format, Text: text})
				if n := strings.Count(out, "\n"); n != len(tc.records)+1 {
					t.Errorf("as %s: %d lines, want %d", format, n, len(tc.records)+1)
				}
				if format == RowsFormat {
					requireTypes(t, out, tc.types)
				}
			}
			path := filepath.Join(t.TempDir(), "out.parquet")
			runHere(t, e, task{Kind: parquetTask, Text: text, Path: path})
			if got := readRows(t, path); got != tc.rows {
				t.Errorf("as Parquet:\ngot  %s\nwant %s", got, tc.rows)
			}
			_, err := os.Stat(columnsFile(t, e, fmt.Sprintf("odd_%d", i)))
			if got, want := err == nil, file == nil; got != want {
				t.Errorf("queries have a copy of their own: %t, want %t", got, want)
			}
		})
	}
}

// joinLines removes the line breaks of JSON output.
func joinLines(text string) string { return strings.ReplaceAll(text, "\n", "") }

// runHere does a task in this process and returns its output.
func runHere(t *testing.T, e *Engine, one task) string {
	t.Helper()
	var err error
	if one.Streams, err = e.streamSources(t.Context(), one.Text); err != nil {
		t.Fatal(err)
	}
	one.Dir, one.Memory, one.Disk = t.TempDir(), e.o.Memory/2, e.o.Disk
	var out bytes.Buffer
	if _, err := one.work(t.Context(), &out); err != nil {
		t.Fatalf("%s as %s: %v", one.Kind, one.Format, err)
	}
	return out.String()
}

// requireTypes checks the columns in the first line of RowsFormat.
func requireTypes(t *testing.T, out, want string) {
	t.Helper()
	header, _, _ := strings.Cut(out, "\n")
	var columns []Column
	if err := json.Unmarshal([]byte(header), &columns); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range columns {
		list = append(list, c.Name+" "+c.Type)
	}
	if got := strings.Join(list, ", "); got != want {
		t.Errorf("columns:\ngot  %s\nwant %s", got, want)
	}
}

// readRows returns the rows of a Parquet file as JSON objects, separated by commas.
func readRows(t *testing.T, path string) string {
	t.Helper()
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var rows string
	if err := db.QueryRowContext(t.Context(), "SELECT string_agg(to_json(r)::VARCHAR, ',') FROM "+parquetFile(path)+" r").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}
