package parquet

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// sealSnapshot returns a sealed snapshot of the records.
func sealSnapshot(t testing.TB, records ...string) *snapshot.Snapshot {
	t.Helper()
	return sealHeader(t, snapshot.Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "it's", UploadID: "id-1",
		UploadTimestamp: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
	}, records...)
}

// sealHeader returns a sealed snapshot of the records with the header h.
func sealHeader(t testing.TB, h snapshot.Header, records ...string) *snapshot.Snapshot {
	t.Helper()
	dir := t.TempDir()
	w, err := snapshot.Create(filepath.Join(dir, "spool"), h)
	if err != nil {
		t.Fatal(err)
	}
	p := w.NewBatch()
	for _, r := range records {
		if err := p.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	s, err := w.Seal(filepath.Join(dir, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// encodeSnapshot encodes s with the types in memory and returns a copy of the file and its
// notes.
func encodeSnapshot(t testing.TB, s *snapshot.Snapshot, memory textMemory) (path string, f *File) {
	t.Helper()
	dir := t.TempDir()
	f, err := Encode(t.Context(), s, Options{TempDir: dir, Types: memory[s.Stream]})
	if err != nil {
		t.Fatal(err)
	}
	if memory != nil {
		memory[s.Stream] = f.Types
	}
	path = filepath.Join(t.TempDir(), "it's [1]*.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteTo(out); err != nil || n != f.Size {
		t.Fatalf("%d of %d bytes: %v", n, f.Size, err)
	}
	if err := errors.Join(out.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("directory entries %v left, error %v", left, err)
	}
	return path, f
}

// openDuckDB returns a DuckDB that is closed when the test ends.
func openDuckDB(t testing.TB) *duckdb.DB {
	t.Helper()
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{Memory: 2 << 30, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.ExecContext(t.Context(), "SET TimeZone = 'UTC'"); err != nil {
		t.Fatal(err)
	}
	return db
}

// queryRows returns the rows of a query as text, NULL as "NULL".
func queryRows(t testing.TB, db *duckdb.DB, query string) [][]string {
	t.Helper()
	data, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer data.Close()
	columns, err := data.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for data.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := data.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := []string{}
		for _, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			row = append(row, v.String)
		}
		rows = append(rows, row)
	}
	if err := data.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// readFile returns the columns of a Parquet file as "name TYPE", and its rows as
// text.
func readFile(t testing.TB, path string) (columns []string, rows [][]string) {
	t.Helper()
	db := openDuckDB(t)
	from := " FROM read_parquet(" + duckdb.Literal(duckdb.EscapeGlob(path)) + ")"
	var texts []string
	for _, row := range queryRows(t, db, "SELECT column_name, column_type FROM (DESCRIBE SELECT *"+from+")") {
		columns = append(columns, row[0]+" "+row[1])
		texts = append(texts, duckdb.Quote(row[0])+"::VARCHAR")
	}
	return columns, queryRows(t, db, "SELECT "+strings.Join(texts, ", ")+from)
}

// encodeRecords encodes the records and returns the file's columns as
// "name TYPE", its rows as text, and the result.
func encodeRecords(t testing.TB, records ...string) (columns []string, rows [][]string, f *File) {
	t.Helper()
	path, f := encodeSnapshot(t, sealSnapshot(t, records...), nil)
	columns, rows = readFile(t, path)
	return columns, rows, f
}

// reservedColumns are the last three columns of each file, and reservedValues
// their values.
var (
	reservedColumns = []string{"_tenancy VARCHAR", "_upload_timestamp TIMESTAMP WITH TIME ZONE", "_upload_id VARCHAR"}
	reservedValues  = []string{"it's", "2026-02-03 04:05:06+00", "id-1"}
)

func TestEncodeTypes(t *testing.T) {
	for name, tc := range map[string]struct {
		records []string
		columns []string
		rows    [][]string
		notes   string
	}{
		"scalars": {
			records: []string{`{"b":true,"i":443,"f":0.5,"s":"x","n":null}`, `{"i":-1,"f":1e-7}`},
			columns: []string{"b BOOLEAN", "i DOUBLE", "f DOUBLE", "s VARCHAR", "n VARCHAR"},
			rows:    [][]string{{"true", "443.0", "0.5", "x", "NULL"}, {"NULL", "-1.0", "1e-07", "NULL", "NULL"}},
		},
		"integers that DOUBLE would round": {
			records: []string{`{"a":9007199254740992,"b":9007199254740993,"c":-9223372036854775808,"d":9223372036854775808}`, `{"b":1,"c":2,"d":3}`},
			columns: []string{"a DOUBLE", "b BIGINT", "c BIGINT", "d VARCHAR"},
			rows: [][]string{
				{"9007199254740992.0", "9007199254740993", "-9223372036854775808", "9223372036854775808"},
				{"NULL", "1", "2", "3"},
			},
		},
		"numbers that no type can hold": {
			records: []string{`{"a":1e400,"b":-0,"c":123456789012345678901234567890,"d":0.5}`, `{"d":9007199254740993}`},
			columns: []string{"a VARCHAR", "b DOUBLE", "c VARCHAR", "d VARCHAR"},
			rows:    [][]string{{"1e400", "-0.0", "123456789012345678901234567890", "0.5"}, {"NULL", "NULL", "NULL", "9007199254740993"}},
		},
		"objects and lists": {
			records: []string{
				`{"o":{"x":1,"y":{"z":"q"}},"l":["a",null],"m":[{"k":1},{"v":[true]},null],"e":[],"v":{}}`,
				` { "o" : { "y" : null , "w" : false } , "l" : null, "m":[ ] ,	"v":null } `,
			},
			columns: []string{"o STRUCT(x DOUBLE, y STRUCT(z VARCHAR), w BOOLEAN)", "l VARCHAR[]", "m STRUCT(k DOUBLE, v BOOLEAN[])[]", "e VARCHAR[]", "v JSON"},
			rows: [][]string{
				{"{'x': 1.0, 'y': {'z': q}, 'w': NULL}", "[a, NULL]", "[{'k': 1.0, 'v': NULL}, {'k': NULL, 'v': [true]}, NULL]", "[]", "{}"},
				{"{'x': NULL, 'y': NULL, 'w': false}", "NULL", "[]", "NULL", "NULL"},
			},
		},
		"objects and lists of several types": {
			records: []string{
				`{"o":{"a":1,"b":{"z":1.0, "a":[1e400,"\u0000"]}},"l":[1,"x",true],"m":[{"a":1},[ 2 ]],"p":{"q":"s"}}`,
				`{"o":{"a":"x","b":["\ud800"]},"l":[],"m":[],"p":"s \"t\""}`,
			},
			columns: []string{"o STRUCT(a VARCHAR, b JSON)", "l VARCHAR[]", "m JSON[]", "p JSON"},
			rows: [][]string{
				{`{'a': 1, 'b': '{"z":1.0, "a":[1e400,"\\u0000"]}'}`, "[1, x, true]", `[{"a":1}, [ 2 ]]`, `{"q":"s"}`},
				{`{'a': x, 'b': '["\\\\ud800"]'}`, "[]", "[]", `"s \"t\""`},
			},
			notes: "1 record has \\u escapes that are no character",
		},
		"type drift": {
			records: []string{
				`{"a":1,"b":1,"c":9007199254740993,"d":"s","e":1,"f":true}`,
				`{"a":1.5,"b":"1","c":0.5,"d":{"x":"\ud800"},"e":12345678901234567890,"f":"yes"}`,
			},
			columns: []string{"a DOUBLE", "b VARCHAR", "c VARCHAR", "d JSON", "e VARCHAR", "f VARCHAR"},
			rows: [][]string{
				{"1.0", "1", "9007199254740993", `"s"`, "1", "true"},
				{"1.5", "1", "0.5", `{"x":"\\ud800"}`, "12345678901234567890", "yes"},
			},
			notes: "1 record has \\u escapes that are no character",
		},
		"strings": {
			records: []string{`{"a":"\u0000é\u2028\"","b":"\ud83d\ude00","c":"\udc00x","d":"2026-01-01"}`},
			columns: []string{"a VARCHAR", "b VARCHAR", "c VARCHAR", "d VARCHAR"},
			rows:    [][]string{{"\x00é\u2028\"", "😀", `\udc00x`, "2026-01-01"}},
			notes:   "1 record has \\u escapes that are no character",
		},
		"times": {
			records: []string{
				`{"a":"2026-01-01T00:00:00Z","b":"2026-01-01T00:00:00","c":"2026-01-01T00:00:00Z","d":"2026-01-01T00:00:00Z","l":["2026-01-01T00:00:00.5Z"]}`,
				`{"a":"2026-02-28T23:59:59.123456789+01:30","b":"0001-01-01T00:00:00.1","c":"never","d":"2026-01-01T00:00:00"}`,
				`{"a":"9999-12-31T23:59:59-0200"}`,
			},
			columns: []string{"a TIMESTAMP WITH TIME ZONE", "b TIMESTAMP", "c VARCHAR", "d VARCHAR", "l TIMESTAMP WITH TIME ZONE[]"},
			rows: [][]string{
				{"2026-01-01 00:00:00+00", "2026-01-01 00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "['2026-01-01 00:00:00.5+00']"},
				{"2026-02-28 22:29:59.123456+00", "0001-01-01 00:00:00.1", "never", "2026-01-01T00:00:00", "NULL"},
				{"10000-01-01 01:59:59+00", "NULL", "NULL", "NULL", "NULL"},
			},
		},
		"names": {
			records: []string{`{"ID":1,"id":2,"Id":3,"a-b":4,"a\"b":5,"":6,"_TENANCY":7,"_upload_id":8,"id_2":9,"x\u0000y":0,"o":{"":1,"X":2,"x":3,"_tenancy":4,"y\ny":5}}`},
			columns: []string{"ID_4 DOUBLE", "id DOUBLE", "Id_3 DOUBLE", "a-b DOUBLE", `a"b DOUBLE`, "_ DOUBLE",
				"_TENANCY_2 DOUBLE", "_vendor_upload_id DOUBLE", "id_2 DOUBLE", "x\ufffdy DOUBLE",
				"o STRUCT(_ DOUBLE, X_2 DOUBLE, x DOUBLE, _tenancy DOUBLE, \"y\ny\" DOUBLE)"},
			rows:  [][]string{{"1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0", "8.0", "9.0", "0.0", "{'_': 1.0, 'X_2': 2.0, 'x': 3.0, '_tenancy': 4.0, 'y\ny': 5.0}"}},
			notes: "member \"ID\" is in column \"ID_4\"\nmember \"Id\" is in column",
		},
		"duplicate names": {
			records: []string{`{"a":1,"a":2,"o":{"x":1,"x":{"y":[1,2]},"w":0}}`, `{"a":3,"a":null,"o":[{"x":1}]}`, `{"p":[{"q":1,"r":2,"q":[3]}]}`},
			columns: []string{"a DOUBLE", "o JSON", "p STRUCT(q JSON, r DOUBLE)[]"},
			rows: [][]string{
				{"2.0", `{"x":1,"x":{"y":[1,2]},"w":0}`, "NULL"}, {"NULL", `[{"x":1}]`, "NULL"}, {"NULL", "NULL", "[{'q': '[3]', 'r': 2.0}]"},
			},
			notes: "3 records have members of the same name",
		},
		"no members": {records: []string{`{}`, `{}`}, rows: [][]string{{}, {}}},
		"no records": {},
	} {
		t.Run(name, func(t *testing.T) {
			columns, rows, res := encodeRecords(t, tc.records...)
			if want := append(tc.columns, reservedColumns...); !slices.Equal(columns, want) {
				t.Errorf("columns %q, want %q", columns, want)
			}
			for i := range tc.rows {
				tc.rows[i] = append(tc.rows[i], reservedValues...)
			}
			if !slices.EqualFunc(rows, tc.rows, slices.Equal) {
				t.Errorf("rows %q, want %q", rows, tc.rows)
			}
			if notes := strings.Join(res.Notes, "\n"); !res.Typed || !strings.Contains(notes, tc.notes) || tc.notes == "" && notes != "" {
				t.Errorf("typed %t, notes %q, want %q", res.Typed, res.Notes, tc.notes)
			}
		})
	}
}

func TestEncodeTooManyMembers(t *testing.T) {
	var records []string
	for i := range columns.MaxColumns + 1 {
		records = append(records, fmt.Sprintf(`{"k%d":1e400}`, i))
	}
	columns, rows, res := encodeRecords(t, records...)
	if want := append([]string{"json_data JSON"}, reservedColumns...); !slices.Equal(columns, want) {
		t.Errorf("columns %q, want %q", columns, want)
	}
	if res.Typed || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "json_data") {
		t.Errorf("notes %q lack json_data", res.Notes)
	}
	if len(rows) != len(records) || !strings.HasPrefix(rows[7][0], `{"k7":1e400,"_tenancy":"it's"`) {
		t.Errorf("%d rows, the eighth %q", len(rows), rows[7])
	}
}

// Records of the largest size have typed columns within the default memory.
func TestEncodeHugeRecords(t *testing.T) {
	huge := strings.Repeat("x", 63<<20)
	columns, rows, f := encodeRecords(t, `{"a":"b"}`, `{"a":"`+huge+`","o":{"p":"q"}}`, `{"o":{}}`)
	if len(rows) != 3 || rows[1][0] != huge || !f.Typed || columns[1] != "o STRUCT(p VARCHAR)" {
		t.Errorf("%d rows, columns %q, notes %q", len(rows), columns, f.Notes)
	}
}

// With Repair the escapes that many programs refuse become U+FFFD, in names, too.
func TestEncodeRepairs(t *testing.T) {
	s := sealSnapshot(t, `{"a":"\u0000x","\ud800":{"\udc00":["\ud800\ude00"]}}`, `{"a":"y"}`)
	f, err := Encode(t.Context(), s, Options{TempDir: t.TempDir(), Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	var content bytes.Buffer
	if _, err := f.WriteTo(&content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.WriteFile(path, content.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	columns, rows := readFile(t, path)
	if want := []string{"a VARCHAR", "\ufffd STRUCT(\"\ufffd\" VARCHAR[])"}; !slices.Equal(columns[:2], want) {
		t.Errorf("columns %q, want %q", columns, want)
	}
	if want := []string{"\ufffdx", "{'\ufffd': [\U00010200]}"}; !slices.Equal(rows[0][:2], want) {
		t.Errorf("row %q, want %q", rows[0], want)
	}
	if len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "1 record has") || !strings.Contains(f.Notes[0], "U+FFFD") {
		t.Errorf("notes %q", f.Notes)
	}
}

// What DuckDB cannot convert within its memory is stored as text.
func TestEncodeRecordsThatNeedTooMuchMemory(t *testing.T) {
	list := `{"a":[1` + strings.Repeat(",1", 6<<20) + `]}`
	s := sealSnapshot(t, list, `{"a":[]}`)
	f, err := Encode(t.Context(), s, Options{TempDir: t.TempDir(), Memory: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f.Typed || len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "json_data") {
		t.Errorf("typed %t, notes %q", f.Typed, f.Notes)
	}
}

// By QueryRules only the columns with large values have another type then.
func TestEncodeForQueriesWithLittleMemory(t *testing.T) {
	list := `[1` + strings.Repeat(",1", 6<<20) + `]`
	s := sealSnapshot(t, `{"a":`+list+`,"b":[1],"t":"2026-01-02T03:04:05+01:00"}`, `{"a":[],"b":[]}`)
	columns, rows := encodeForQueries(t, s, 256<<20)
	if typ := columns[0]; typ != "a JSON" && typ != "a VARCHAR" {
		t.Errorf("column %q, want JSON or VARCHAR", typ)
	}
	if want := []string{"b BIGINT[]", "t TIMESTAMP"}; !slices.Equal(columns[1:3], want) {
		t.Errorf("columns %q, want %q", columns[1:3], want)
	}
	if rows[0][0] != list || rows[0][2] != "2026-01-02 02:04:05" || rows[1][0] != "[]" {
		t.Errorf("%d bytes, time %q, second row %q", len(rows[0][0]), rows[0][2], rows[1])
	}
}

// By QueryRules the members beyond the limit are in one column.
func TestEncodeForQueriesTooManyMembers(t *testing.T) {
	const limit = 2 * columns.MaxColumns
	var members []string
	for i := range limit + 3 {
		members = append(members, fmt.Sprintf(`"k%d":%d`, i, i))
	}
	records := []string{"{" + strings.Join(members, ",") + "}", "{}"}
	records = append(records, fmt.Sprintf(`{"k0":"x","y":"\ud83d","k%d":{"a":1},"_other_members":[2],"_tenancy":"x","k1":1,"k1":2}`, limit+1))
	described, rows := encodeForQueries(t, sealSnapshot(t, records...), 0)
	at := limit + 1 // the limit is exceeded by the one that finds it
	if want := []string{"k0 VARCHAR", "k1 BIGINT"}; !slices.Equal(described[:2], want) || described[at] != "_other_members JSON" || len(described) != at+4 {
		t.Fatalf("%d columns, the last %q", len(described), described[len(described)-5:])
	}
	last := rows[len(rows)-1]
	want := fmt.Sprintf(`{"y":"\\ud83d","k%d":{"a":1},"_other_members":[2],"_vendor_tenancy":"x"}`, limit+1)
	if last[0] != "x" || last[1] != "2" || last[at] != want {
		t.Errorf("last row %q %q %q", last[0], last[1], last[at])
	}
	if want := "{" + strings.Join(members[at:], ",") + "}"; rows[0][at] != want || rows[0][at-1] != strconv.Itoa(at-1) || rows[1][at] != "NULL" {
		t.Errorf("first row %q %q, second %q", rows[0][at-1], rows[0][at], rows[1][at])
	}
}

// encodeForQueries encodes the snapshot by QueryRules, and returns the file's columns as
// "name TYPE", and its rows as text.
func encodeForQueries(t *testing.T, s *snapshot.Snapshot, memory int64) (described []string, rows [][]string) {
	t.Helper()
	dir := t.TempDir()
	f, err := Encode(t.Context(), s, Options{TempDir: dir, Rules: columns.QueryRules, Memory: memory, Disk: "64MiB"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.parquet")
	if err := errors.Join(f.MoveTo(path), f.Close()); err != nil {
		t.Fatal(err)
	}
	return readFile(t, path)
}

func TestEncodeDamagedSnapshot(t *testing.T) {
	s := sealSnapshot(t, `{"a":1}`, `{"a":2}`)
	text, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(), bytes.Repeat(text, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Encode(t.Context(), s, Options{TempDir: t.TempDir()})
	if !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v, want snapshot.ErrDamaged", err)
	}
}

func TestEncodeStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	s := sealSnapshot(t, `{"a":1}`)
	if _, err := Encode(ctx, s, Options{TempDir: t.TempDir()}); !errors.Is(err, reason) {
		t.Errorf("error %v, want %v", err, reason)
	}
}
