package parquet

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// What is typed as a time or a date, DuckDB converts to the same time in UTC: from_json
// would make NULL of it without an error, and a date of a time. TestKindsOfStrings in package
// columns has the other strings.
func TestTimesAreDuckDBs(t *testing.T) {
	db := openDuckDB(t)
	for text, want := range map[string]struct {
		files, queries columns.Type
		utc            string
	}{
		"2026-02-03T04:05:06Z":           {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-03 04:05:06.000000"},
		"2024-02-29T00:00:00Z":           {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2024-02-29 00:00:00.000000"},
		"2026-02-03T23:59:59.9Z":         {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-03 23:59:59.900000"},
		"2026-02-03T04:05:06.123456789Z": {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-03 04:05:06.123456"},
		"2026-02-03T04:05:06+00:00":      {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-03 04:05:06.000000"},
		"2026-02-03T04:05:06-15:59":      {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-03 20:04:06.000000"},
		"2026-02-03T04:05:06+0530":       {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-02 22:35:06.000000"},
		"2026-02-03T04:05:06+05":         {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "2026-02-02 23:05:06.000000"},
		"0001-01-01T00:00:00+15:59":      {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "0000-12-31 08:01:00.000000"},
		"9999-12-31T23:59:59.999999999Z": {files: columns.Timestamp, queries: columns.UTCTimestamp, utc: "9999-12-31 23:59:59.999999"},
		"2026-02-03T04:05:06":            {files: columns.LocalTimestamp, queries: columns.LocalTimestamp, utc: "2026-02-03 04:05:06.000000"},
		"2026-02-03T04:05:06.5":          {files: columns.LocalTimestamp, queries: columns.LocalTimestamp, utc: "2026-02-03 04:05:06.500000"},
		"2026-02-03 04:05:06":            {files: columns.Varchar, queries: columns.LocalTimestamp, utc: "2026-02-03 04:05:06.000000"},
		"2026-02-03 04:05:06.5":          {files: columns.Varchar, queries: columns.LocalTimestamp, utc: "2026-02-03 04:05:06.500000"},
		"2026-02-03":                     {files: columns.Varchar, queries: columns.Date, utc: "2026-02-03 00:00:00.000000"},
		"9999-12-31":                     {files: columns.Varchar, queries: columns.Date, utc: "9999-12-31 00:00:00.000000"},
	} {
		for rules, kind := range map[columns.Rules]columns.Type{columns.FileRules: want.files, columns.QueryRules: want.queries} {
			typing := columns.NewTyping(columns.Types{}, columns.Options{Rules: rules})
			typing.AddRecord([]byte(`{"at":"` + text + `"}`))
			at := typing.Choose().Root.Members[0]
			if at.Type != kind {
				t.Errorf("%q is %s by rules %d, want %s", text, at.Type, rules, kind)
			}
			value := "from_json(" + duckdb.Literal(`["`+text+`"]`) + ", '[" + string(appendStructure(nil, &at.Node)) + "]')[1]::" + sqlType(&at.Node)
			if got := queryRows(t, db, "SELECT strftime(TRY_CAST("+value+" AS TIMESTAMP), '%Y-%m-%d %H:%M:%S.%f')")[0][0]; got != want.utc && at.Type != columns.Varchar {
				t.Errorf("DuckDB converts %q to the %s %s, want %s", text, at.Type, got, want.utc)
			}
			if got := queryRows(t, db, "SELECT "+value)[0][0]; got != text && at.Type == columns.Varchar {
				t.Errorf("DuckDB converts %q to the text %q", text, got)
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
