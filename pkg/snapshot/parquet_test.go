package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
)

// sealedForParquet seals a snapshot of the records.
func sealedForParquet(t *testing.T, records ...string) *Snapshot {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "spool"), Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "it's", UploadID: "id-1",
		UploadTimestamp: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := w.Page()
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

// parquetColumns encodes the records and returns the file's columns as
// "name TYPE", its rows as text, and the result.
func parquetColumns(t *testing.T, records ...string) (columns []string, rows [][]string, res ParquetResult) {
	t.Helper()
	s := sealedForParquet(t, records...)
	path := filepath.Join(t.TempDir(), "it's [1]*.parquet")
	res, err := s.EncodeParquet(t.Context(), path, ParquetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
	db, err := duckdb.Open(t.Context(), "", duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	from := " FROM read_parquet(" + duckdb.Literal(escapeGlob(path)) + ")"
	desc, err := db.QueryContext(t.Context(), "SELECT column_name, column_type FROM (DESCRIBE SELECT *"+from+")")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for desc.Next() {
		var name, typ string
		if err := desc.Scan(&name, &typ); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, name+" "+typ)
		texts = append(texts, "COALESCE("+duckdb.Quote(name)+"::VARCHAR, 'NULL')")
	}
	data, err := db.QueryContext(t.Context(), "SELECT ["+strings.Join(texts, ", ")+"]"+from)
	if err != nil {
		t.Fatal(err)
	}
	for data.Next() {
		var list any
		if err := data.Scan(&list); err != nil {
			t.Fatal(err)
		}
		var row []string
		for _, v := range list.([]any) {
			row = append(row, v.(string))
		}
		rows = append(rows, row)
	}
	if err := errors.Join(desc.Err(), data.Err()); err != nil {
		t.Fatal(err)
	}
	return columns, rows, res
}

// ours are the three last columns, and their values.
var (
	ourColumns = []string{"_tenancy VARCHAR", "_upload_timestamp TIMESTAMP", "_upload_id VARCHAR"}
	ourValues  = []string{"it's", "2026-02-03 04:05:06", "id-1"}
)

func TestParquetTypes(t *testing.T) {
	for name, c := range map[string]struct {
		records []string
		columns []string
		rows    [][]string
		notes   string
	}{
		"scalars": {
			records: []string{`{"b":true,"i":9223372036854775807,"f":0.5,"s":"x","n":null}`, `{"i":-1,"f":1e-7}`},
			columns: []string{"b BOOLEAN", "i BIGINT", "f DOUBLE", "s VARCHAR", "n VARCHAR"},
			rows:    [][]string{{"true", "9223372036854775807", "0.5", "x", "NULL"}, {"NULL", "-1", "1e-07", "NULL", "NULL"}},
		},
		"nested stays as it is": {
			records: []string{`{"o":{"z":1.0, "a":[1e400,"\u0000"]},"l":[]}`, `{"o":null,"l":[ {} ]}`},
			columns: []string{"o JSON", "l JSON"},
			rows:    [][]string{{`{"z":1.0, "a":[1e400,"\u0000"]}`, `[]`}, {"NULL", `[ {} ]`}},
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
		},
		"numbers no type holds": {
			records: []string{`{"a":1e400,"b":-0,"c":123456789012345678901234567890}`},
			columns: []string{"a VARCHAR", "b DOUBLE", "c VARCHAR"},
			rows:    [][]string{{"1e400", "-0.0", "123456789012345678901234567890"}},
		},
		"strings": {
			records: []string{`{"a":"\u0000é\u2028\"","b":"\ud83d\ude00","c":"\udc00x","d":"2026-01-01T00:00:00Z"}`},
			columns: []string{"a VARCHAR", "b VARCHAR", "c VARCHAR", "d VARCHAR"},
			rows:    [][]string{{"\x00é\u2028\"", "😀", `\udc00x`, "2026-01-01T00:00:00Z"}},
		},
		"names": {
			records: []string{`{"ID":1,"id":2,"Id":3,"a-b":4,"a\"b":5,"":6,"_TENANCY":7,"_upload_id":8,"id_2":9,"x\u0000y":0}`},
			columns: []string{"ID_4 BIGINT", "id BIGINT", "Id_3 BIGINT", "a-b BIGINT", `a"b BIGINT`, "_ BIGINT",
				"_TENANCY_2 BIGINT", "_vendor_upload_id BIGINT", "id_2 BIGINT", "x\ufffdy BIGINT"},
			rows:  [][]string{{"1", "2", "3", "4", "5", "6", "7", "8", "9", "0"}},
			notes: `member "ID" is in column "ID_4"`,
		},
		"same name twice": {
			records: []string{`{"a":1,"a":2}`, `{"a":3,"a":null}`},
			columns: []string{"a BIGINT"},
			rows:    [][]string{{"2"}, {"NULL"}},
			notes:   "2 records have members of the same name",
		},
		"no members": {records: []string{`{}`, `{}`}, rows: [][]string{{}, {}}},
		"no records": {},
	} {
		t.Run(name, func(t *testing.T) {
			columns, rows, res := parquetColumns(t, c.records...)
			if want := append(c.columns, ourColumns...); !slices.Equal(columns, want) {
				t.Errorf("columns %q, want %q", columns, want)
			}
			for i := range c.rows {
				c.rows[i] = append(c.rows[i], ourValues...)
			}
			if !slices.EqualFunc(rows, c.rows, slices.Equal) {
				t.Errorf("rows %q, want %q", rows, c.rows)
			}
			if notes := strings.Join(res.Notes, "\n"); !res.Typed || !strings.Contains(notes, c.notes) || c.notes == "" && notes != "" {
				t.Errorf("result %+v, want notes %q", res, c.notes)
			}
		})
	}
}

func TestParquetOfTooManyMembers(t *testing.T) {
	var records []string
	for i := range maxColumns + 1 {
		records = append(records, fmt.Sprintf(`{"k%d":1e400}`, i))
	}
	columns, rows, res := parquetColumns(t, records...)
	if want := append([]string{"json_data JSON"}, ourColumns...); !slices.Equal(columns, want) {
		t.Errorf("columns %q, want %q", columns, want)
	}
	if res.Typed || len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "json_data") {
		t.Errorf("result %+v does not tell", res)
	}
	if len(rows) != len(records) || !strings.HasPrefix(rows[7][0], `{"k7":1e400,"_tenancy":"it's"`) {
		t.Errorf("%d rows, the eighth %q", len(rows), rows[7])
	}
}

func TestParquetOfHugeRecords(t *testing.T) {
	huge := strings.Repeat("x", 64<<20)
	_, rows, res := parquetColumns(t, `{"a":"`+huge+`","o":{}}`, `{"a":"b"}`)
	if len(rows) != 2 || rows[0][0] != huge || !res.Typed {
		t.Errorf("%d rows, result %+v", len(rows), res)
	}
}

func TestParquetOfDamagedSnapshot(t *testing.T) {
	s := sealedForParquet(t, `{"a":1}`, `{"a":2}`)
	text, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(), bytes.Repeat(text, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.EncodeParquet(t.Context(), filepath.Join(t.TempDir(), "x.parquet"), ParquetOptions{})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("error %v", err)
	}
}

func TestParquetEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	cancel(reason)
	s := sealedForParquet(t, `{"a":1}`)
	if _, err := s.EncodeParquet(ctx, filepath.Join(t.TempDir(), "x.parquet"), ParquetOptions{}); !errors.Is(err, reason) {
		t.Errorf("error %v", err)
	}
}
