package postgres

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store/storetest"
)

func TestPostgresStores(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{})
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.assertQuery(`SELECT count(*)::text FROM pg_namespace WHERE nspname = '$S'`, "0") // Check creates nothing
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":1, "n":1.50e1}`, `{"id":2}`, `{"id":3}`)
	for range 3 {
		p.write(s, snap)
	}
	p.assertQuery(`SELECT json_data::text FROM $S.okta_users`, storetest.EncodedRecords(t, snap)...)
	p.assertQuery(`SELECT json_data::text FROM $S.okta_users_latest`, storetest.EncodedRecords(t, snap)...)
	p.assertQuery(`SELECT DISTINCT upload_timestamp || ' ' || tenancy FROM $S.okta_users`, "2026-03-01 12:00:00 acme")
	p.assertQuery(`SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$S.okta_users'::regclass AND attnum > 0 ORDER BY attnum`,
		"timestamp without time zone", "character varying", "json")
	p.assertQuery(`SELECT stream || ' ' || tenancy || ' ' || upload_id || ' ' || upload_timestamp || ' ' || records FROM $S._collectord_snapshots`,
		"okta_users acme "+snap.UploadID+" 2026-03-01 12:00:00 3")
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.logged.Len() > 0 {
		t.Errorf("logged: %s", p.logged)
	}
}

// TestPostgresKeepsBytes checks that records are stored byte for byte, but for
// escapes that Postgres cannot read.
func TestPostgresKeepsBytes(t *testing.T) {
	for _, column := range []string{"json", "text", "varchar"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			records := storetest.AwkwardLarge()
			if column == "json" {
				records = records[:len(records)-1] // a bare tab in a string is not JSON
			} else {
				p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (json_data ` + column + `, id serial, tenancy text, upload_timestamp timestamp)`)
			}
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", `o'hare "x" \ ü`, storetest.Noon), records...)
			p.write(p.sink(Options{}), snap)
			var want []string
			for _, record := range storetest.EncodedRecords(t, snap) {
				want = append(want, repaired(record))
			}
			p.assertQuery(`SELECT json_data::text FROM $S.okta_users`, want...)
			p.assertQuery(`SELECT DISTINCT tenancy::text FROM $S.okta_users_latest`, snap.Tenancy)
		})
	}
}

// TestPostgresJSONB checks the records that are stored in another form, and that the
// others are stored.
func TestPostgresJSONB(t *testing.T) {
	p := newTest(t)
	records := storetest.AwkwardLarge()
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), records...)
	p.write(p.sink(Options{JSON: "jsonb"}), snap)
	p.assertQuery(`SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '$S.okta_users'::regclass AND attname = 'json_data'`, "jsonb")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest WHERE json_data->>'_upload_id' = '`+snap.UploadID+`'`, fmt.Sprint(len(records)))
	p.assertQuery(`SELECT length(json_data->>'exp')::text FROM $S.okta_users WHERE json_data ? 'exp'`, "401")
	wrapped := p.queryTexts(`SELECT json_data->>'_collectord_record' FROM $S.okta_users WHERE json_data ? '_collectord_error' ORDER BY 1`)
	sealed := storetest.EncodedRecords(t, snap)
	if want := []string{strings.ReplaceAll(sealed[10], "\t", `\u0009`), sealed[4]}; !slices.Equal(wrapped, want) {
		t.Errorf("kept as text: %q, want %q", wrapped, want)
	}
	want := "of 11 records, 2 have \\u0000 or half a surrogate pair, which are stored as U+FFFD, and 2 are kept as text in _collectord_record: "
	if n := strings.Count(p.logged.String(), snap.UploadID+" postgres: table "); n != 1 || !strings.Contains(p.logged.String(), want) {
		t.Errorf("noted: %s, want %s", p.logged, want)
	}
}

// TestPostgresUnreadableEscapes has \u0000 and halves of surrogate pairs: the
// server's JSON functions read every record, with every type of the column.
func TestPostgresUnreadableEscapes(t *testing.T) {
	for _, column := range []string{"json", "jsonb", "text"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data ` + column + `)`)
			snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon),
				`{"id":1,"nul":"a\u0000b","k\u0000":1,"kept":"\\u0000"}`,
				`{"id":2,"half":"\ud83d","other":"\uDE00x","pair":"\ud83d\ude00","swapped":"\ude00\ud83d"}`,
				`{"id":3,"name":"plain"}`)
			p.write(p.sink(Options{}), snap)
			const record = `json_data::json`
			p.assertQuery(`SELECT `+record+`->>'id' FROM $S.okta_users ORDER BY 1`, "1", "2", "3")
			p.assertQuery(`SELECT (`+record+`->>'nul') || ' ' || (`+record+`->>'k�') || ' ' || (`+record+`->>'kept') FROM $S.okta_users_latest WHERE `+record+`->>'id' = '1'`,
				`a�b 1 \u0000`)
			p.assertQuery(`SELECT (`+record+`->>'half') || ' ' || (`+record+`->>'other') || ' ' || (`+record+`->>'pair') || ' ' || (`+record+`->>'swapped') FROM $S.okta_users WHERE `+record+`->>'id' = '2'`,
				`� �x 😀 ��`)
			p.assertQuery(`SELECT count(*)::text FROM $S.okta_users, json_each_text(`+record+`)`, fmt.Sprint(7+8+5))
			want := "of 3 records, 2 have \\u0000 or half a surrogate pair, which are stored as U+FFFD\n"
			if !strings.HasSuffix(p.logged.String(), want) || strings.Count(p.logged.String(), "\n") != 1 {
				t.Errorf("noted: %q, want one note that ends with %q", p.logged, want)
			}
		})
	}
}

// TestPostgresBoundsTheFallback has records that the column refuses: a few are
// kept as text, more refuse the snapshot, of which nothing is stored.
func TestPostgresBoundsTheFallback(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{JSON: "jsonb"})
	sealRefused := func(refused int) *snapshot.Snapshot {
		return storetest.SealEach(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 600, func(i int) string {
			if i%50 == 7 && i/50 < refused {
				return fmt.Sprintf(`{"id":%d,"n":1e200000}`, i)
			}
			return fmt.Sprintf(`{"id":%d}`, i)
		})
	}
	p.write(s, sealRefused(maxAsText))
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users WHERE json_data ? '_collectord_record'`, fmt.Sprint(maxAsText))
	p.assertRefused(s, sealRefused(maxAsText+1), "refuses more than 10 of the records", "22003", "json_data of type json accepts more")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "600")
	p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, "1")
}

// TestPostgresDeepRecords has records of every depth around the limit of the
// server's stack: what is stored can be queried.
func TestPostgresDeepRecords(t *testing.T) {
	for _, column := range []string{"json", "jsonb"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			var records []string
			for depth := 9_000; depth < 15_000; depth += 700 {
				records = append(records, fmt.Sprintf(`{"id":%d,"text":"[[{{\"[[","d":%s1%s}`, depth, strings.Repeat(`{"a":[`, depth/2), strings.Repeat("]}", depth/2)))
			}
			p.write(p.sink(Options{JSON: column}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), records...))
			p.assertQuery(`SELECT count(coalesce(json_data->>'id', json_data->>'_collectord_error') || (SELECT count(*) FROM json_each_text(json_data::json)) || length(json_data::jsonb::text))::text FROM $S.okta_users_latest`, fmt.Sprint(len(records)))
			p.assertQuery(`SELECT min(json_data->>'id') FROM $S.okta_users`, "10400")
			p.assertQuery(`SELECT count(json_data->>'id')::text FROM $S.okta_users`, "3")
		})
	}
}

// TestPostgresBeyondTheStack has a record that exceeds the stack of the server's JSON
// parser.
func TestPostgresBeyondTheStack(t *testing.T) {
	p := newTest(t)
	deep := `{"d":` + strings.Repeat(`{"é":`, 50_000) + `1` + strings.Repeat("}", 50_000) + `}`
	var records []string
	for i := range 600 {
		records = append(records, fmt.Sprintf(`{"i":%d}`, i))
	}
	records[300] = deep
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), records...)
	p.write(p.sink(Options{}), snap)
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users WHERE json_data::json->>'i' IS NOT NULL`, "599")
	kept := p.queryTexts(`SELECT json_data->>'_collectord_record' FROM $S.okta_users WHERE json_data->>'_collectord_error' LIKE '%54001%'`)
	if len(kept) != 1 || kept[0] != strings.ReplaceAll(storetest.EncodedRecords(t, snap)[300], "é", `\u00e9`) {
		t.Errorf("%d records kept as text, or not as they were", len(kept))
	}
}

func TestAppendASCII(t *testing.T) {
	for _, text := range []string{"", `{"a":"é😀\u0000\\"}`, "tab\tnul\x00del\x7f", "\xff"} {
		quoted := appendASCII(nil, []byte(text))
		var inner string
		if err := json.Unmarshal(quoted, &inner); err != nil {
			t.Fatalf("%s: %v", quoted, err)
		}
		if i := bytes.IndexFunc(quoted, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("%s has more than ASCII", quoted)
		}
		if strings.HasPrefix(text, "{") {
			var was, is any
			if err := errors.Join(json.Unmarshal([]byte(text), &was), json.Unmarshal([]byte(inner), &is)); err != nil {
				t.Error(err)
			}
			if fmt.Sprint(was) != fmt.Sprint(is) {
				t.Errorf("%v became %v", was, is)
			}
		}
	}
}
