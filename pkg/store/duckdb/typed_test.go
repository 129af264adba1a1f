package duckdb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// A sinkOfTyped is a sink with typed views on a file of its own, and its notes.
type sinkOfTyped struct {
	*Sink
	place database
	notes *[]string
}

func newTypedSink(t *testing.T, o Options) sinkOfTyped {
	t.Helper()
	var notes []string
	if o.Views == "" {
		o.Views = store.ViewsTyped
	}
	o.Note = func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }
	s, place := newSink(t, o)
	return sinkOfTyped{s, place, &notes}
}

// writeRecords stores records of a tenancy as the snapshot of run n.
func (s sinkOfTyped) writeRecords(t *testing.T, n int, tenancy string, records ...string) {
	t.Helper()
	h := storetest.Header(n)
	h.Tenancy = tenancy
	storetest.Write(t, s, storetest.Seal(t, h, records...))
}

// assertTexts checks the only column of a query's result.
func (s sinkOfTyped) assertTexts(t *testing.T, query string, want ...string) {
	t.Helper()
	got := queryFile(t, s.place.path(), func(db *duckdb.DB) ([]string, error) { return queryStrings(t.Context(), db, query) })
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", query, got, want)
	}
}

// assertNotes checks that each note has one of the texts, in order, and forgets them.
func (s sinkOfTyped) assertNotes(t *testing.T, texts ...string) {
	t.Helper()
	if len(*s.notes) != len(texts) {
		t.Errorf("notes %q, want %q", *s.notes, texts)
	} else {
		for i, note := range *s.notes {
			if !strings.Contains(note, texts[i]) {
				t.Errorf("note %q, want one with %q", note, texts[i])
			}
		}
	}
	*s.notes = nil
}

const typedColumns = `SELECT column_name || ' ' || data_type FROM duckdb_columns() WHERE table_name = 'okta_users_latest_typed' ORDER BY column_index`

func TestDuckDBTypedColumns(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default",
		`{"text":"a","int":5,"wide":9007199254740993,"float":1.5,"mixed":1,"bool":true,"at":"2026-02-03T04:05:06.5+01:00","local":"2026-02-03T04:05:06","object":{"a":{"b":[1]}},"list":[1,"x"],"none":null,"huge":123456789012345678901234567890}`,
		`{"int":-9223372036854775808,"float":2,"mixed":"x","bool":null,"object":{},"late":1e3}`)
	s.assertTexts(t, typedColumns, "_tenancy VARCHAR", "_upload_timestamp TIMESTAMP WITH TIME ZONE", "_upload_id VARCHAR", "text VARCHAR", "int BIGINT", "wide BIGINT", "float DOUBLE",
		"mixed VARCHAR", "bool BOOLEAN", "at TIMESTAMP WITH TIME ZONE", "local TIMESTAMP", "object JSON", "list JSON", "none VARCHAR", "huge VARCHAR", "late DOUBLE")
	s.assertTexts(t, `SELECT to_json(v)::VARCHAR FROM (SELECT * REPLACE (epoch_us(_upload_timestamp) AS _upload_timestamp, epoch_us("at") AS "at") FROM okta_users_latest_typed) AS v ORDER BY text NULLS LAST`,
		`{"_tenancy":"default","_upload_timestamp":1767268860000000,"_upload_id":"00000000-0000-4000-8000-000000000001","text":"a","int":5,"wide":9007199254740993,"float":1.5,"mixed":"1","bool":true,"at":1770087906500000,"local":"2026-02-03 04:05:06","object":{"a":{"b":[1]}},"list":[1,"x"],"none":null,"huge":"123456789012345678901234567890","late":null}`,
		`{"_tenancy":"default","_upload_timestamp":1767268860000000,"_upload_id":"00000000-0000-4000-8000-000000000001","text":null,"int":-9223372036854775808,"wide":null,"float":2.0,"mixed":"x","bool":null,"at":null,"local":null,"object":{},"list":null,"none":null,"huge":null,"late":1000.0}`)
	s.assertNotes(t)
}

// TestDuckDBTypedNames has names that need care in SQL and in JSON pointers.
func TestDuckDBTypedNames(t *testing.T) {
	s := newTypedSink(t, Options{})
	long := strings.Repeat("n", 300)
	names := []string{"", `quo"te`, "apo'strophe", "select", long, "😀", "id", "ID", "Id", "a/b~c", "$.x", "0", "line\nbreak", "nul\x00", "_Tenancy", "back\\slash", "_"}
	record := "{"
	for i, name := range names {
		record += fmt.Sprintf("%s:%d,", strings.ReplaceAll(fmt.Sprintf("%q", name), `\x00`, `\u0000`), i)
	}
	s.writeRecords(t, 1, "default", record+`"lone\ud800":17}`)
	columns := append(slices.Clone(names), `lone\ud800`)
	columns[0], columns[7], columns[8], columns[13], columns[14] = "__2", "ID_3", "Id_2", "nul\ufffd", "_Tenancy_2"
	var values, want []string
	for i, name := range columns {
		values, want = append(values, "coalesce("+duckdb.Quote(name)+"::VARCHAR, 'NULL')"), append(want, fmt.Sprint(i))
	}
	s.assertTexts(t, "SELECT concat_ws(' ', "+strings.Join(values, ", ")+") FROM okta_users_latest_typed", strings.Join(want, " "))
	s.assertTexts(t, `SELECT column_name FROM duckdb_columns() WHERE table_name = 'okta_users_latest_typed' AND column_index > 3 ORDER BY column_index`, columns...)
	s.assertNotes(t, `member "" is in column "__2"`, `"ID" is in column "ID_3"`, `"Id" is in column "Id_2"`, `member "nul\x00"`, `"_Tenancy" is in column "_Tenancy_2"`, "escapes that are no character")
	// The names stay, whatever the order of the next records is.
	s.writeRecords(t, 2, "default", `{"iD":18,"Id":8,"ID":7,"id":6}`)
	s.assertTexts(t, `SELECT id || ' ' || "ID_3" || ' ' || "Id_2" || ' ' || "iD_4" FROM okta_users_latest_typed`, "6 7 8 18")
	s.assertNotes(t, `"iD" is in column "iD_4"`)
}

// TestDuckDBTypesWiden has values that the types of earlier snapshots cannot hold, of
// two tenancies that share the view.
func TestDuckDBTypesWiden(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default", `{"age":1,"on":true,"at":"2026-01-01T00:00:00Z","o":{"a":1}}`)
	s.assertNotes(t)
	s.writeRecords(t, 2, "other", `{"new":1,"age":1.5,"on":"yes","at":"soon","o":"text"}`)
	s.assertNotes(t, `member "age" has values that BIGINT cannot hold: its column is DOUBLE`, `"on" has values that BOOLEAN`, `"at" has values that TIMESTAMP WITH TIME ZONE cannot hold: its column is VARCHAR`)
	s.assertTexts(t, `SELECT concat_ws(' ', _tenancy, age, "on", "at", o, new) FROM okta_users_latest_typed ORDER BY 1`,
		`default 1.0 true 2026-01-01T00:00:00Z {"a":1}`, `other 1.5 yes soon "text" 1`)
	// They stay wide, also when the snapshot that needed it is replaced.
	s.writeRecords(t, 3, "other", `{"age":2}`)
	s.writeRecords(t, 4, "default")
	s.assertNotes(t)
	s.assertTexts(t, `SELECT data_type FROM duckdb_columns() WHERE table_name = 'okta_users_latest_typed' AND column_name = 'on'`, "VARCHAR")
	s.assertTexts(t, `SELECT _tenancy || age FROM okta_users_latest_typed`, "other2.0")
	s.assertTexts(t, `SELECT count(*)::VARCHAR FROM _collectord_types`, "1")
}

// TestDuckDBTypedOfHistory has a table with snapshots from before typed views, of
// collectord and of another program.
func TestDuckDBTypedOfHistory(t *testing.T) {
	for _, columns := range []string{"upload_timestamp TIMESTAMP, tenancy VARCHAR, json_data JSON", "JSON_DATA VARCHAR, tenancy VARCHAR, Upload_Timestamp TIMESTAMP"} {
		s := newTypedSink(t, Options{Views: store.ViewsOn})
		createForeignTable(t, s.place, columns)
		executeIn(t, s.place.path(), `UPDATE okta_users SET json_data = '{"n":"last"}' WHERE upload_timestamp = '2025-01-02 00:00:00.5' AND json_data::VARCHAR LIKE '% 199999}'`,
			`INSERT INTO okta_users (upload_timestamp, tenancy, json_data) VALUES ('2025-01-03', 'list', '[1]'), ('2025-01-03', 'null', NULL)`)
		s.writeRecords(t, 1, "third", `{"n":1,"mine":true}`)
		s.assertTexts(t, typedColumns)
		s.opts.Views = store.ViewsTyped
		s.writeRecords(t, 1, "third", `{"n":1,"mine":true}`) // it is there already
		s.assertTexts(t, `SELECT concat_ws(' ', _tenancy, count(*), count(n), count(mine), max(n)) FROM okta_users_latest_typed GROUP BY _tenancy ORDER BY 1`,
			"default 200000 200000 0 last", "list 1 0 0", "null 1 0 0", "other 4 4 0 3", "third 1 1 1 1")
		s.assertNotes(t)
	}
}

func TestDuckDBTypedSwitchedOff(t *testing.T) {
	for _, views := range []string{store.ViewsOn, store.ViewsOff} {
		s := newTypedSink(t, Options{})
		s.writeRecords(t, 1, "default", `{"n":1}`)
		s.opts.Views = views
		s.writeRecords(t, 2, "default", `{"n":"x"}`)
		s.assertTexts(t, `SELECT view_name FROM duckdb_views() WHERE NOT internal`, "okta_users_latest")
		s.assertTexts(t, `SELECT count(*)::VARCHAR FROM _collectord_types`, "0")
		s.opts.Views = store.ViewsTyped
		s.writeRecords(t, 3, "default", `{"n":2}`)
		s.assertTexts(t, `SELECT n FROM okta_users_latest_typed`, "2")
		s.assertNotes(t)
	}
	s := newTypedSink(t, Options{Views: store.ViewsOff})
	s.writeRecords(t, 1, "default", `{"n":1}`)
	s.assertTexts(t, `SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1`, "_collectord_snapshots", "okta_users")
	if _, err := New(Options{Views: "sometimes"}); err == nil || !strings.Contains(err.Error(), "want on, typed or off") {
		t.Errorf("err = %v", err)
	}
}

// TestDuckDBTypedNameTaken has objects of users by the name of the typed view.
func TestDuckDBTypedNameTaken(t *testing.T) {
	for _, statement := range []string{
		`CREATE VIEW okta_users_latest_typed AS SELECT 7 AS mine`,
		`CREATE TABLE OKTA_users_latest_typed AS SELECT 7 AS mine`,
	} {
		s := newTypedSink(t, Options{Views: store.ViewsOn})
		s.writeRecords(t, 1, "default", `{"n":1}`)
		executeIn(t, s.place.path(), statement)
		s.opts.Views = store.ViewsTyped
		headers := []snapshot.Header{storetest.Header(1)}
		for n := range 2 {
			s.writeRecords(t, 2+n, "default", `{"n":1}`)
			s.assertNotes(t, "okta_users_latest_typed, the name of the typed view, belongs to something else")
			err := s.CheckTables(t.Context(), headers)
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "okta_users_latest_typed") || !strings.Contains(err.Error(), "STORE_DUCKDB_VIEWS") {
				t.Errorf("check: %v", err)
			}
		}
		s.opts.Views = store.ViewsOn
		s.writeRecords(t, 5, "default", `{"n":5}`)
		s.assertTexts(t, `SELECT mine::VARCHAR FROM okta_users_latest_typed`, "7")
		s.assertTexts(t, `SELECT json_data->>'n' FROM okta_users_latest`, "5")
		if err := s.CheckTables(t.Context(), headers); err != nil {
			t.Error(err)
		}
	}
}

// TestDuckDBTypedAwkward has records with unusual values: all are in the view.
func TestDuckDBTypedAwkward(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default", storetest.Awkward...)
	s.assertTexts(t, `SELECT count(*)::VARCHAR FROM (SELECT * FROM okta_users_latest_typed)`, fmt.Sprint(len(storetest.Awkward)))
	s.assertTexts(t, `SELECT ascii(nul) || ' ' || sep FROM okta_users_latest_typed WHERE nul IS NOT NULL`, "0 \u2028\u2029")
	s.assertTexts(t, `SELECT concat_ws(' ', lone, low, pair, fake) FROM okta_users_latest_typed WHERE lone IS NOT NULL`, `\ud800 \udfff x 😀 \ud800`)
	s.assertTexts(t, `SELECT concat_ws(' ', huge, "int", big, one, exp) FROM okta_users_latest_typed WHERE huge IS NOT NULL`, `1e400 1234567890123456789 123456789012345678901234567890 1.0 100.0`)
	s.assertTexts(t, `SELECT _vendor_tenancy || _vendor_upload_id || line FROM okta_users_latest_typed WHERE line IS NOT NULL`, "theirsxa\nb\r\tc")
	*s.notes = nil
}

// TestDuckDBTypedEmpty has an empty snapshot first, and one with too many members.
func TestDuckDBTypedEmpty(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default")
	s.assertTexts(t, typedColumns, "_tenancy VARCHAR", "_upload_timestamp TIMESTAMP WITH TIME ZONE", "_upload_id VARCHAR")
	s.writeRecords(t, 2, "default", `{}`, `{"a":1}`)
	s.assertTexts(t, `SELECT _tenancy || coalesce(a, 0) FROM okta_users_latest_typed ORDER BY 1`, "default0", "default1")
	s.assertNotes(t)
	s.writeRecords(t, 3, "default", manyMembers(1001))
	s.assertNotes(t, "one column json_data: they have over 1000 different members")
	s.assertTexts(t, `SELECT json_data->>'m7' FROM okta_users_latest_typed`, "7")
	s.writeRecords(t, 4, "default", `{"a":1}`)
	s.assertTexts(t, `SELECT json_data->>'a' FROM okta_users_latest_typed`, "1")
	s.assertNotes(t)
}

// manyMembers returns a record with n members.
func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

// TestDuckDBTypedRolledBack has a delivery that fails after the types were chosen:
// neither the view nor the remembered types change.
func TestDuckDBTypedRolledBack(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default", `{"n":1}`)
	damaged := storetest.Seal(t, storetest.Header(2), `{"n":"text"}`, `{"other":1}`)
	storetest.Damage(t, damaged)
	if err := s.Write(t.Context(), damaged); err == nil {
		t.Fatal("a damaged snapshot was stored")
	}
	s.assertTexts(t, `SELECT typeof(n) || n FROM okta_users_latest_typed`, "BIGINT1")
	s.assertTexts(t, `SELECT (types LIKE '%other%')::VARCHAR FROM _collectord_types`, "false")
}

// TestDuckDBTypedUnreadableMemory has remembered types of a newer program.
func TestDuckDBTypedUnreadableMemory(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 1, "default", `{"n":"x"}`)
	executeIn(t, s.place.path(), `UPDATE _collectord_types SET types = '{"version":99}'`)
	s.writeRecords(t, 2, "other", `{"n":1}`)
	s.assertNotes(t, "have format 99")
	s.assertTexts(t, `SELECT n FROM okta_users_latest_typed ORDER BY 1`, "1", "x")
}

// TestDuckDBTypedShowsTheNewest has a history, a snapshot that arrives late and one
// from the future.
func TestDuckDBTypedShowsTheNewest(t *testing.T) {
	s := newTypedSink(t, Options{})
	s.writeRecords(t, 2, "default", `{"n":2}`, `{"n":3}`)
	s.writeRecords(t, 1, "default", `{"n":1}`)
	future := storetest.Header(4)
	future.UploadTimestamp = time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	storetest.Write(t, s, storetest.Seal(t, future, `{"n":4}`))
	s.assertTexts(t, `SELECT n::VARCHAR FROM okta_users_latest_typed ORDER BY 1`, "2", "3")
}
