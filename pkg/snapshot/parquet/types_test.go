package parquet

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// What is typed as a time or a date, DuckDB can convert: from_json would make NULL of it
// without an error. TestKindsOfStrings in package columns has the other strings.
func TestTimesAreDuckDBs(t *testing.T) {
	db := openDuckDB(t)
	for text, want := range map[string]struct{ files, queries columns.Type }{
		"2026-02-03T04:05:06Z":           {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2024-02-29T00:00:00Z":           {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T23:59:59.9Z":         {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06.123456789Z": {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06+00:00":      {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06-15:59":      {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06+0530":       {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06+05":         {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"0001-01-01T00:00:00+15:59":      {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"9999-12-31T23:59:59.999999999Z": {files: columns.Timestamp, queries: columns.UTCTimestamp},
		"2026-02-03T04:05:06":            {files: columns.LocalTimestamp, queries: columns.LocalTimestamp},
		"2026-02-03T04:05:06.5":          {files: columns.LocalTimestamp, queries: columns.LocalTimestamp},
		"2026-02-03 04:05:06":            {files: columns.Varchar, queries: columns.LocalTimestamp},
		"2026-02-03 04:05:06.5":          {files: columns.Varchar, queries: columns.LocalTimestamp},
		"2026-02-03":                     {files: columns.Varchar, queries: columns.Date},
		"9999-12-31":                     {files: columns.Varchar, queries: columns.Date},
	} {
		for rules, want := range map[columns.Rules]columns.Type{columns.FileRules: want.files, columns.QueryRules: want.queries} {
			typing := columns.NewTyping(columns.Types{}, columns.Options{Rules: rules})
			typing.AddRecord([]byte(`{"at":"` + text + `"}`))
			at := typing.Choose().Root.Members[0]
			if at.Type != want {
				t.Errorf("%q is %s by rules %d, want %s", text, at.Type, rules, want)
			}
			query := "SELECT from_json(" + duckdb.Literal(`["`+text+`"]`) + ", '[" + string(appendStructure(nil, &at.Node)) + "]')[1] IS NULL"
			if got := queryRows(t, db, query)[0][0]; got != "false" {
				t.Errorf("DuckDB cannot convert %q to %s", text, at.Type)
			}
		}
	}
}

// FuzzRows checks that the row of any record is a JSON object again, and that
// its types are the same after they were remembered.
func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		`{"a":"\ud800\\ud800\u0000","":[],"b":{"":{}}}`, `{"a":[1e400,-0,1.0,12345678901234567890123,[{}]]}`, `{"a":1,"a":[{"a":2,"a":null}]}`,
		" {\t\"a\" : \"2026-01-01T00:00:00Z\" , \"b\":[ true , null ] } ", `{"_tenancy":1,"\u005ftenancy":2,"o":{"_tenancy":3}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		var object map[string]any
		if json.Unmarshal(record, &object) != nil || object == nil || !utf8.Valid(record) {
			return
		}
		typing := columns.NewTyping(columns.Types{}, columns.Options{})
		typing.AddRecord(record)
		chosen := typing.Choose()
		if chosen.Problem != nil {
			t.Fatalf("%q: %v", record, chosen.Problem)
		}
		rows := typedRows{root: chosen.Root}
		row, _, err := rows.appendRow(nil, record)
		if err != nil || !json.Valid(row) {
			t.Fatalf("%q: row %q: %v", record, row, err)
		}
		recalled, err := columns.RecallTypes(columns.NewTypes(chosen).String())
		if err != nil {
			t.Fatal(err)
		}
		again := columns.NewTyping(recalled, columns.Options{}).Choose()
		if a, b := string(appendStructure(nil, chosen.Root)), string(appendStructure(nil, again.Root)); a != b {
			t.Errorf("%q: types %s, remembered %s", record, a, b)
		}
	})
}
