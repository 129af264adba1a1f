package parquet

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/collectord/collectord/internal/duckdb"
)

// What kindOfString takes for a time, DuckDB can convert: from_json would make
// NULL of it without an error.
func TestTimesAreDuckDBs(t *testing.T) {
	db := openDuckDB(t)
	for text, want := range map[string]kinds{
		"2026-02-03T04:05:06Z":           timeKind,
		"2024-02-29T00:00:00Z":           timeKind,
		"2026-02-03T23:59:59.9Z":         timeKind,
		"2026-02-03T04:05:06.123456789Z": timeKind,
		"2026-02-03T04:05:06+00:00":      timeKind,
		"2026-02-03T04:05:06-15:59":      timeKind,
		"2026-02-03T04:05:06+0530":       timeKind,
		"2026-02-03T04:05:06+05":         timeKind,
		"0001-01-01T00:00:00+15:59":      timeKind,
		"9999-12-31T23:59:59.999999999Z": timeKind,
		"2026-02-03T04:05:06":            localTimeKind,
		"2026-02-03T04:05:06.5":          localTimeKind,
		"2026-02-03 04:05:06":            spacedTimeKind,
		"2026-02-03":                     dateKind,
		"2026-02-03 04:05:06.5":          spacedTimeKind,
		"9999-12-31":                     dateKind,
		"2026-02-30":                     stringKind,
		"2026-02-3x":                     stringKind,
		"2026/02/03":                     stringKind,
		"2026-02-03 04:05:06Z":           stringKind,
		"2026-02-03 04:05:06+01:00":      stringKind,
		"2026-02-29T00:00:00Z":           stringKind,
		"2026-13-01T00:00:00Z":           stringKind,
		"2026-00-01T00:00:00Z":           stringKind,
		"2026-01-00T00:00:00Z":           stringKind,
		"0000-01-01T00:00:00Z":           stringKind,
		"2026-02-03T24:00:00Z":           stringKind,
		"2026-02-03T23:59:60Z":           stringKind,
		"2026-02-03T04:05:06.Z":          stringKind,
		"2026-02-03T04:05:06.1234567890": stringKind,
		"2026-02-03T04:05:06,5Z":         stringKind,
		"2026-02-03T04:05:06z":           stringKind,
		"2026-02-03T04:05:06+16:00":      stringKind,
		"2026-02-03T04:05:06+5:00":       stringKind,
		"2026-02-03T04:05:06+05:3":       stringKind,
		"2026-02-03T04:05:06+053":        stringKind,
		"2026-02-03T04:05:06+05:30x":     stringKind,
		"2026-02-03T04:05:06 Z":          stringKind,
		"2026-2-03T04:05:06Zzz":          stringKind,
		"20260-2-3T04:05:06Zzz":          stringKind,
		"+026-02-03T04:05:06Zz":          stringKind,
		"":                               stringKind,
	} {
		kind := kindOfString([]byte(`"` + text + `"`))
		if kind != want {
			t.Errorf("%q has kind %b, want %b", text, kind, want)
		}
		typ := map[kinds]string{timeKind: sqlNames[timestampType], localTimeKind: sqlNames[localTimestampType], spacedTimeKind: sqlNames[localTimestampType], dateKind: sqlNames[dateType]}[kind]
		if typ == "" {
			continue
		}
		query := "SELECT from_json(" + duckdb.Literal(`["`+text+`"]`) + ", " + duckdb.Literal(`["`+typ+`"]`) + ")[1] IS NULL"
		if got := queryRows(t, db, query)[0][0]; got != "false" {
			t.Errorf("DuckDB cannot convert %q to %s", text, typ)
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
		in := &inference{root: &node{kinds: objectKind}}
		in.addRecord(record)
		if in.problem != nil {
			t.Fatalf("%q: %v", record, in.problem)
		}
		in.root.settleRoot(in.rules)
		rows := typedRows{root: in.root}
		row, _, err := rows.appendRow(nil, record)
		if err != nil || !json.Valid(row) {
			t.Fatalf("%q: row %q: %v", record, row, err)
		}
		text, err := json.Marshal(rememberedTypes{Version: rememberedVersion, Members: in.root.rememberMembers()})
		if err != nil {
			t.Fatal(err)
		}
		recalled, err := recallTypes(string(text))
		if err != nil {
			t.Fatal(err)
		}
		again := recalled.tree()
		again.settleRoot(FileRules)
		if a, b := string(in.root.appendStructure(nil)), string(again.appendStructure(nil)); a != b {
			t.Errorf("%q: types %s, remembered %s", record, a, b)
		}
	})
}
