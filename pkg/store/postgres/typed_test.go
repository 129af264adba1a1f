package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// writeDay stores records of a tenancy as the snapshot of a day.
func (p *pgTest) writeDay(s *Sink, n int, tenancy string, records ...string) {
	p.Helper()
	h := storetest.NewHeader("okta_users", tenancy, storetest.Noon.Add(time.Duration(n)*day))
	p.write(s, storetest.Seal(p.T, h, records...))
}

// assertLogged checks that each note has one of the texts, in order, and forgets them.
func (p *pgTest) assertLogged(texts ...string) {
	p.Helper()
	var lines []string
	if text := strings.TrimSuffix(p.logged.String(), "\n"); text != "" {
		lines = strings.Split(text, "\n")
	}
	p.logged.Reset()
	if len(lines) != len(texts) {
		p.Errorf("notes %q, want %q", lines, texts)
		return
	}
	for i, line := range lines {
		if !strings.Contains(line, texts[i]) {
			p.Errorf("note %q, want one with %q", line, texts[i])
		}
	}
}

const (
	typedColumns = `SELECT attname || ' ' || format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = to_regclass('$S.okta_users_latest_typed') AND attnum > 0 ORDER BY attnum`
	typedType    = `SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = '$S.okta_users_latest_typed'::regclass AND attname = `
)

func TestPostgresTypedColumns(t *testing.T) {
	for _, column := range []string{"json", "jsonb"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			s := p.sink(Options{JSON: column, Views: store.ViewsTyped})
			p.writeDay(s, 1, "acme",
				`{"text":"a","int":5,"wide":9007199254740993,"float":1.5,"mixed":1,"bool":true,"at":"2026-02-03T04:05:06.5+01:00","local":"2026-02-03T04:05:06","object":{"a":[1]},"list":[1,"x"],"none":null,"huge":123456789012345678901234567890}`,
				`{"int":-9223372036854775808,"float":2,"mixed":"x","bool":null,"object":null,"late":1e3}`)
			p.assertQuery(typedColumns, "_tenancy character varying", "_upload_timestamp timestamp with time zone", "_upload_id text", "text text", "int bigint", "wide bigint",
				"float double precision", "mixed text", "bool boolean", "at timestamp with time zone", "local timestamp without time zone",
				"object "+column, "list "+column, "none text", "huge text", "late double precision")
			p.exec(`SET timezone = 'America/New_York'`)
			p.assertQuery(`SELECT concat_ws('|', _tenancy, _upload_timestamp AT TIME ZONE 'UTC', length(_upload_id), text, int, wide, float, mixed, bool, at AT TIME ZONE 'UTC', local, object->'a'->>0, list->>1, none, huge, late)
				FROM $S.okta_users_latest_typed ORDER BY text`,
				"acme|2026-03-02 12:00:00|36|a|5|9007199254740993|1.5|1|t|2026-02-03 03:05:06.5|2026-02-03 04:05:06|1|x|123456789012345678901234567890",
				"acme|2026-03-02 12:00:00|36|-9223372036854775808|2|x|1000")
			p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest_typed WHERE bool IS NULL AND wide IS NULL AND object IS NULL`, "1")
			p.assertLogged()
		})
	}
}

// TestPostgresTypedNames has names that need care in SQL, or that a column cannot have.
func TestPostgresTypedNames(t *testing.T) {
	for _, column := range []string{"json", "jsonb"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			s := p.sink(Options{JSON: column, Views: store.ViewsTyped})
			long := strings.Repeat("n", 300)
			names := []string{"", `quo"te`, "apo'strophe", "select", long + "1", long + "2", "😀", "id", "ID", "Id", "$1", "ctid", "tableoid", "line\nbreak", "_Tenancy",
				"back\\slash", "_", strings.Repeat("é", 32), "l", "$V"}
			columns := append([]string(nil), names...)
			columns[0], columns[5], columns[4], columns[8], columns[9], columns[14], columns[17] = "__2", long[:61]+"_2", long[:61]+"_3", "ID_3", "Id_2", "_Tenancy_2", strings.Repeat("é", 31)
			record, values, want := "{", "", ""
			for i, name := range names {
				quoted, err := json.Marshal(name)
				if err != nil {
					t.Fatal(err)
				}
				record += fmt.Sprintf("%s:%d,", quoted, i)
				values += ", coalesce(" + quoteName(columns[i]) + "::text, 'NULL')"
				want += fmt.Sprintf(" %d", i)
			}
			p.writeDay(s, 1, "acme", record+`"lone\ud800":20,"nul\u0000":{"x":1},"`+long+`3":{"y":2}}`)
			p.assertQuery(`SELECT concat_ws(' '`+values+`, "lone`+"\ufffd"+`") FROM $S.okta_users_latest_typed`, want[1:]+" 20")
			p.assertQuery(`SELECT ("nul`+"\ufffd"+`"->>'x') || ("`+long[:63]+`"->>'y') FROM $S.okta_users_latest_typed`, "12")
			if text := p.logged.String(); !strings.Contains(text, `member "Id" is in column "Id_2"`) || !strings.Contains(text, `is in column "`+long[:61]+`_2"`) {
				t.Errorf("logged: %s", text)
			}
			p.logged.Reset()
			p.writeDay(s, 2, "acme", `{"iD":18,"Id":9,"ID":8,"id":7}`)
			p.assertQuery(`SELECT concat_ws(' ', id, "ID_3", "Id_2", "iD_4") FROM $S.okta_users_latest_typed`, "7 8 9 18")
			p.assertLogged(`"iD" is in column "iD_4"`)
		})
	}
}

// TestPostgresTypesWiden has values that the types of earlier snapshots cannot hold, of
// two tenancies that share the view. Privileges, comments and options stay.
func TestPostgresTypesWiden(t *testing.T) {
	p := newTest(t)
	reader := "r_" + p.schema
	s := p.sink(Options{Views: store.ViewsTyped})
	p.writeDay(s, 1, "acme", `{"age":1,"on":true,"at":"2026-01-01T00:00:00Z","o":{"a":1}}`)
	p.exec(`CREATE ROLE ` + reader + `; GRANT SELECT ON $S.okta_users_latest_typed TO ` + reader + `; GRANT UPDATE (age) ON $S.okta_users_latest_typed TO PUBLIC;
		COMMENT ON VIEW $S.okta_users_latest_typed IS ` + quoteText("of the dashboards\n"+store.MarkTypedView("")) + `; COMMENT ON COLUMN $S.okta_users_latest_typed.age IS 'in ''years''';
		ALTER VIEW $S.okta_users_latest_typed SET (security_barrier = true); ALTER DEFAULT PRIVILEGES IN SCHEMA $S GRANT DELETE ON TABLES TO ` + reader)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + reader + `; DROP ROLE ` + reader) })
	const attributes = `SELECT concat_ws(' ', has_table_privilege('$R', c.oid, 'SELECT'), has_table_privilege('$R', c.oid, 'DELETE'), has_column_privilege('$R', c.oid, 'age', 'UPDATE'),
		obj_description(c.oid, 'pg_class'), col_description(c.oid, 4), c.reloptions) FROM pg_class AS c WHERE c.oid = '$S.okta_users_latest_typed'::regclass`
	query := strings.ReplaceAll(attributes, "$R", reader)
	before := p.queryTexts(query)
	if !strings.HasPrefix(before[0], "t f t of the dashboards") || !strings.HasSuffix(before[0], "in 'years' {security_barrier=true}") {
		t.Fatalf("attributes %q", before)
	}
	oid := p.queryTexts(`SELECT '$S.okta_users_latest_typed'::regclass::oid::text`)
	p.writeDay(s, 2, "other", `{"new":1,"age":1.5,"on":"yes","at":"soon","o":"text"}`)
	p.assertLogged(`member "age" has values that bigint cannot hold: its column is double precision`, `"on" has values that boolean cannot hold`, `"at" has values that timestamp with time zone cannot hold: its column is text`)
	p.assertQuery(query, before...)
	if after := p.queryTexts(`SELECT '$S.okta_users_latest_typed'::regclass::oid::text`); after[0] == oid[0] {
		t.Error("the view is not another one, so the test shows nothing")
	}
	p.assertQuery(`SELECT concat_ws(' ', _tenancy, age, "on", at, o, new) FROM $S.okta_users_latest_typed ORDER BY 1`,
		`acme 1 true 2026-01-01T00:00:00Z {"a":1}`, `other 1.5 yes soon "text" 1`)
	p.writeDay(s, 3, "other", `{"age":2}`)
	p.writeDay(s, 4, "acme")
	p.assertQuery(typedType+`'on'`, "text")
	p.assertQuery(`SELECT _tenancy || age FROM $S.okta_users_latest_typed`, "other2")
	p.assertLogged()
}

// TestPostgresTypedDependents has a view of a user that depends on the typed view: new
// members are added below it, and a change of a type waits until it is dropped.
func TestPostgresTypedDependents(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsTyped})
	p.writeDay(s, 1, "acme", `{"age":1}`)
	p.exec(`CREATE VIEW $S."of BI" AS SELECT age AS n FROM $S.okta_users_latest_typed; CREATE MATERIALIZED VIEW $S.m AS SELECT count(*) FROM $S.okta_users_latest_typed`)
	p.writeDay(s, 2, "acme", `{"age":2,"name":"x"}`)
	p.assertLogged()
	p.assertQuery(`SELECT age || name FROM $S.okta_users_latest_typed`, "2x")

	for n := range 2 {
		p.writeDay(s, 3+n, "acme", `{"age":"old","name":"y","more":1}`, `{"age":3}`)
		p.assertLogged(`keeps its columns, since ` + p.schema + `."of BI", ` + p.schema + `.m depends on it`)
		p.assertQuery(`SELECT coalesce(n::text, 'NULL') FROM $S."of BI" ORDER BY 1`, "3", "NULL")
		p.assertQuery(`SELECT json_data->>'age' FROM $S.okta_users_latest ORDER BY 1`, "3", "old")
		found, err := s.Inspect(t.Context())
		if err != nil || len(found) != 1 || !strings.Contains(found[0].Text, "okta_users_latest_typed") || !strings.Contains(found[0].Advice, `"of BI"`) {
			t.Errorf("inspect: %v, %v", found, err)
		}
	}
	p.exec(`DROP VIEW $S."of BI"; DROP MATERIALIZED VIEW $S.m`)
	p.writeDay(s, 5, "acme", `{"age":5}`, `{"age":"old","more":1}`)
	p.assertQuery(`SELECT concat_ws(' ', age, more) FROM $S.okta_users_latest_typed ORDER BY 1`, "5", "old 1")
	p.assertLogged()
	if found, err := s.Inspect(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("inspect: %v, %v", found, err)
	}
}

// TestPostgresTypedNameTaken has objects of users by the name of the typed view.
func TestPostgresTypedNameTaken(t *testing.T) {
	for _, statement := range []string{
		`CREATE VIEW $S.okta_users_latest_typed AS SELECT 7 AS mine`,
		`CREATE TABLE $S.okta_users_latest_typed AS SELECT 7 AS mine`,
		`CREATE MATERIALIZED VIEW $S.okta_users_latest_typed AS SELECT 7 AS mine`,
	} {
		p := newTest(t)
		p.exec(`CREATE SCHEMA $S; ` + statement)
		s := p.sink(Options{Views: store.ViewsTyped})
		for n := range 2 {
			err := s.CheckTables(t.Context(), []snapshot.Header{{Stream: "okta_users"}, {Stream: "okta_apps"}})
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), `."okta_users_latest_typed", the name of the typed view, belongs to something else`) || !strings.Contains(err.Error(), "STORE_POSTGRES_VIEWS") {
				t.Errorf("check: %v", err)
			}
			p.writeDay(s, n, "acme", `{"n":1}`)
		}
		p.assertLogged("okta_users_latest_typed\", the name of the typed view, belongs to something else")
		p.writeDay(p.sink(Options{}), 3, "acme", `{"n":3}`)
		p.assertQuery(`SELECT mine::text FROM $S.okta_users_latest_typed`, "7")
		p.assertQuery(`SELECT json_data->>'n' FROM $S.okta_users_latest`, "3")
		p.assertLogged()
	}
}

func TestPostgresTypedSwitchedOff(t *testing.T) {
	for _, views := range []string{store.ViewsOn, store.ViewsOff} {
		p := newTest(t)
		typed := p.sink(Options{Views: store.ViewsTyped})
		p.writeDay(typed, 1, "acme", `{"n":1}`)
		p.writeDay(p.sink(Options{Views: views}), 2, "acme", `{"n":"x"}`)
		p.assertQuery(`SELECT relname::text FROM pg_class WHERE relnamespace = '$S'::regnamespace AND relkind = 'v'`, "okta_users_latest")
		p.assertQuery(`SELECT count(*)::text FROM $S._collectord_types`, "0")
		p.writeDay(typed, 3, "acme", `{"n":2}`)
		p.assertQuery(`SELECT n FROM $S.okta_users_latest_typed`, "2") // its type is also that of the snapshot that was there
		p.exec(`CREATE VIEW $S.mine AS SELECT n FROM $S.okta_users_latest_typed`)
		p.assertLogged()
		on := p.sink(Options{Views: views})
		for n := range 2 {
			p.writeDay(on, 4+n, "acme", `{"n":"x"}`)
		}
		p.assertLogged("was not dropped: " + p.schema + ".mine depends on it")
		p.assertQuery(`SELECT n FROM $S.mine`, "x")
		// The types are those of the records that are there now.
		p.exec(`DROP VIEW $S.mine`)
		p.writeDay(typed, 5, "beta", `{"n":5}`)
		p.assertQuery(`SELECT n FROM $S.okta_users_latest_typed ORDER BY 1`, "5", "x")
		p.assertLogged()
	}
}

// TestPostgresTypedOfHistory has tables from before typed views, with rows of the
// Python collectors.
func TestPostgresTypedOfHistory(t *testing.T) {
	for _, column := range []string{"json", "jsonb", "text"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (json_data ` + column + `, upload_timestamp timestamp, tenancy varchar, extra int);
				INSERT INTO $S.okta_users VALUES ('{"n": 1, "gone": true}', '2025-01-01', 'acme'), ('{"n": "last", "_tenancy": "acme", "_upload_id": "py"}', '2025-01-02', 'acme'), ('{"n": 2}', '2025-01-01', 'beta'),
					('[1]', '2025-01-01', 'list'), ('7', '2025-01-01', 'scalar'), (NULL, '2025-01-01', 'null')`)
			if column != "jsonb" {
				p.exec(`INSERT INTO $S.okta_users VALUES ('{"n":"a\u0000b\ud800\\u0000","k\u0000":5}', '2025-01-01', 'nul')`)
			}
			s := p.sink(Options{Views: store.ViewsTyped})
			p.writeDay(s, 1, "third", `{"n":3,"mine":true}`)
			want := []string{"acme py last", "beta 2", "list", "nul a\ufffdb\ufffd\\u0000 5", "null", "scalar", "third mine 3"}
			k := `"k` + "\ufffd" + `"`
			if column == "jsonb" {
				k, want = "NULL", append(want[:3:3], want[4:]...)
			}
			p.assertQuery(`SELECT concat_ws(' ', _tenancy, CASE WHEN mine THEN 'mine' ELSE _upload_id END, n, `+k+`) COLLATE "C" FROM $S.okta_users_latest_typed ORDER BY 1`, want...)
			p.assertQuery(`SELECT count(*)::text FROM pg_attribute WHERE attrelid = '$S.okta_users_latest_typed'::regclass AND attname = 'gone'`, "0")
		})
	}
}

// TestPostgresTypedNeverFails has rows of another program whose values do not fit the
// types: queries of the view work, and the value is NULL.
func TestPostgresTypedNeverFails(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsTyped})
	p.writeDay(s, 1, "acme", `{"i":1,"f":1.5,"b":true,"t":"2026-01-01T00:00:00Z","l":"2026-01-01T00:00:00","j":[1],"s":"x"}`)
	values := []string{`"x"`, `""`, `"1 "`, `1e999`, `1e-999`, `1e99999999`, `99999999999999999999`, `9223372036854775808`, `-9223372036854775809`, `1.5`, `-0`, `"NaN"`, `"0x1F"`, `"1_000"`, `{}`, `[]`, `true`, `null`,
		`"2026-02-30T00:00:00Z"`, `"2025-02-29T00:00:00Z"`, `"2026-13-01T00:00:00Z"`, `"0000-01-01T00:00:00Z"`, `"2026-01-01T25:00:00Z"`, `"2026-01-01T00:00:00+99:00"`, `"2026-01-01"`, `"infinity"`,
		`1` + strings.Repeat("0", 400), `0.` + strings.Repeat("0", 400) + `1`, `1` + strings.Repeat("0", 10000)}
	for i, value := range values {
		p.exec(fmt.Sprintf(`INSERT INTO $S.okta_users VALUES ('2026-03-05', 'other', '{"n":%d,"i":%[2]s,"f":%[2]s,"b":%[2]s,"t":%[2]s,"l":%[2]s,"j":%[2]s,"s":%[2]s}')`, i, value))
	}
	p.assertQuery(`SELECT count(*) || ' ' || count(i) || ' ' || count(f) || ' ' || count(b) || ' ' || count(t) || ' ' || count(l) || ' ' || count(j) || ' ' || count(s) FROM $S.okta_users_latest_typed WHERE _tenancy = 'other'`,
		"29 1 7 1 0 0 28 28")
	if rows := p.queryTexts(`SELECT v::text FROM $S.okta_users_latest_typed AS v`); len(rows) != len(values)+1 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestPostgresTypedNumbersAndTimes has numbers and times that are at the ends of their types:
// none is lost.
func TestPostgresTypedNumbersAndTimes(t *testing.T) {
	for _, column := range []string{"json", "jsonb"} {
		p := newTest(t)
		s := p.sink(Options{Views: store.ViewsTyped, JSON: column})
		p.writeDay(s, 1, "acme",
			`{"i":9223372036854775807,"f":1.7976931348623157e308,"t":"2024-02-29T23:59:59.999999999Z","l":"2000-02-29T00:00:00"}`,
			`{"i":-9223372036854775808,"f":5e-324,"t":"0001-01-01T00:00:00+15:59","l":"9999-12-31T23:59:59"}`,
			`{"i":0,"f":-1e-137,"t":"2026-02-03T04:05:06-0530","l":"2026-04-30T04:05:06.5"}`,
			`{"i":-1,"f":0.`+strings.Repeat("0", 900)+`1,"t":"2026-02-03T04:05:06+05","l":"2026-12-31T04:05:06.123456789"}`)
		p.assertQuery(typedColumns, "_tenancy character varying", "_upload_timestamp timestamp with time zone", "_upload_id text", "i bigint", "f double precision", "t timestamp with time zone", "l timestamp without time zone")
		p.assertQuery(`SELECT concat_ws(' ', i, f, t AT TIME ZONE 'UTC', l) FROM $S.okta_users_latest_typed ORDER BY i`,
			"-9223372036854775808 0 0001-12-31 08:01:00 BC 9999-12-31 23:59:59",
			"-1 0 2026-02-02 23:05:06 2026-12-31 04:05:06.123457",
			"0 -1e-137 2026-02-03 09:35:06 2026-04-30 04:05:06.5",
			"9223372036854775807 1.7976931348623157e+308 2024-03-01 00:00:00 2000-02-29 00:00:00")
	}
}

// TestPostgresTypedAwkward has unusual records, of which some are stored in another
// form: all are in the view.
func TestPostgresTypedAwkward(t *testing.T) {
	for _, column := range []string{"json", "jsonb"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			s := p.sink(Options{Views: store.ViewsTyped, JSON: column})
			records := append(storetest.AwkwardLarge(), storetest.Awkward...)
			p.writeDay(s, 1, "acme", records...)
			rows := p.queryTexts(`SELECT row_to_json(v)::text FROM $S.okta_users_latest_typed AS v`)
			if len(rows) != len(records) {
				t.Errorf("%d rows, want %d", len(rows), len(records))
			}
			p.assertQuery(`SELECT nul FROM $S.okta_users_latest_typed WHERE nul IS NOT NULL ORDER BY nul COLLATE "C"`, "a\ufffdb", "\ufffd")
			p.assertQuery(`SELECT lone || low || pair || fake FROM $S.okta_users_latest_typed WHERE lone IS NOT NULL`, "\ufffd\ufffd x😀\\ud800")
			p.assertQuery(`SELECT _vendor_tenancy || _vendor_upload_id FROM $S.okta_users_latest_typed WHERE _vendor_tenancy IS NOT NULL`, "theirsx")
		})
	}
}

func TestPostgresTypedEmpty(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsTyped})
	p.writeDay(s, 1, "acme")
	p.assertQuery(typedColumns, "_tenancy character varying", "_upload_timestamp timestamp with time zone", "_upload_id text")
	p.writeDay(s, 2, "acme", `{}`, `{"a":1}`)
	p.assertQuery(`SELECT _tenancy || coalesce(a, 0) FROM $S.okta_users_latest_typed ORDER BY 1`, "acme0", "acme1")
	p.assertLogged()
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, `,"m%d":%d`, i, i)
	}
	p.writeDay(s, 3, "acme", "{"+many.String()[1:]+"}")
	p.assertLogged("one column json_data: they have over 1000 different members")
	p.assertQuery(`SELECT json_data->>'m7' FROM $S.okta_users_latest_typed`, "7")
	p.writeDay(s, 4, "acme", `{"a":1}`)
	p.assertQuery(`SELECT json_data->>'a' FROM $S.okta_users_latest_typed`, "1")
	p.assertLogged()
}

// TestPostgresTypedShowsTheNewest has a history, a late snapshot and one from the future.
func TestPostgresTypedShowsTheNewest(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsTyped})
	p.writeDay(s, 2, "acme", `{"n":2}`, `{"n":3}`)
	p.writeDay(s, 1, "acme", `{"n":1}`)
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", time.Now().Add(day).UTC().Truncate(time.Second)), `{"n":4}`))
	p.assertQuery(`SELECT n::text FROM $S.okta_users_latest_typed ORDER BY 1`, "2", "3")
	damaged := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(3*day)), `{"n":"text"}`)
	storetest.Damage(t, damaged)
	if err := s.Write(t.Context(), damaged); err == nil {
		t.Fatal("a damaged snapshot was stored")
	}
	p.assertQuery(typedType+`'n'`, "bigint")
}

// TestPostgresTypedPrivileges has a role that may not create views: check says so, the
// snapshot is stored.
func TestPostgresTypedPrivileges(t *testing.T) {
	p := newTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-7781'; CREATE SCHEMA $S; GRANT USAGE, CREATE ON SCHEMA $S TO ` + role)
	t.Cleanup(func() { p.exec(`DROP SCHEMA $S CASCADE; DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	url := p.server.URL(role, "pw-role-7781")
	headers := []snapshot.Header{{Stream: "okta_users"}}
	p.writeDay(p.sink(Options{URL: url}), 1, "acme", `{"n":1}`)
	p.exec(`REVOKE CREATE ON SCHEMA $S FROM ` + role)
	s := p.sink(Options{URL: url, Views: store.ViewsTyped})
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "STORE_POSTGRES_VIEWS") || !strings.Contains(err.Error(), "GRANT CREATE ON SCHEMA") {
		t.Errorf("check: %v", err)
	}
	if err := p.sink(Options{URL: url}).Check(t.Context()); err != nil {
		t.Errorf("check without typed views: %v", err)
	}
	p.writeDay(s, 2, "acme", `{"n":2}`)
	p.writeDay(s, 3, "acme", `{"n":3}`)
	p.assertLogged("GRANT CREATE ON SCHEMA allows it")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "3")
	p.exec(`GRANT CREATE ON SCHEMA $S TO ` + role)
	if err := errors.Join(s.Check(t.Context()), s.CheckTables(t.Context(), headers)); err != nil {
		t.Errorf("check: %v", err)
	}
	p.writeDay(s, 4, "acme", `{"n":4}`)
	p.assertQuery(`SELECT n::text FROM $S.okta_users_latest_typed`, "4")
	// A view of another role cannot be replaced.
	p.exec(`ALTER VIEW $S.okta_users_latest_typed OWNER TO ` + testserver.Owner)
	p.writeDay(s, 5, "acme", `{"n":5}`)
	p.assertLogged(`belongs to role "owner", and only its members can replace it`)
	if err := s.CheckTables(t.Context(), headers); !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "belongs to role") {
		t.Errorf("check: %v", err)
	}
}

// TestPostgresTypedLocked has a reader that keeps the view from being replaced: the
// snapshot is stored, and the next delivery replaces the view.
func TestPostgresTypedLocked(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsTyped, URL: p.server.URL(testserver.Owner, testserver.Password) + "&lock_timeout=50"})
	p.writeDay(s, 1, "acme", `{"n":1}`)
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rollBack(tx)
	if _, err := tx.Exec(t.Context(), `SELECT * FROM `+p.schema+`.okta_users_latest_typed`); err != nil {
		t.Fatal(err)
	}
	p.writeDay(s, 2, "acme", `{"n":"x"}`)
	p.assertLogged("which the next delivery tries again")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest_typed WHERE n IS NULL`, "1")
	rollBack(tx)
	p.writeDay(s, 3, "beta", `{"n":3}`)
	p.assertQuery(`SELECT n FROM $S.okta_users_latest_typed ORDER BY 1`, "3", "x")
}

// TestPostgresTypedDropLocked has a reader that keeps a view from being dropped that is not
// wanted any more: the snapshots are stored, and the delivery after the end of the reader
// drops it.
func TestPostgresTypedDropLocked(t *testing.T) {
	p := newTest(t)
	url := p.server.URL(testserver.Owner, testserver.Password) + "&lock_timeout=50"
	p.writeDay(p.sink(Options{Views: store.ViewsTyped}), 1, "acme", `{"n":1}`)
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rollBack(tx)
	if _, err := tx.Exec(t.Context(), `SELECT * FROM `+p.schema+`.okta_users_latest_typed`); err != nil {
		t.Fatal(err)
	}
	s := p.sink(Options{URL: url})
	p.writeDay(s, 2, "acme", `{"n":2}`)
	p.assertLogged("it was not dropped yet, which the next delivery tries again")
	p.writeDay(s, 3, "acme", `{"n":3}`)
	p.assertLogged()
	rollBack(tx)
	p.assertQuery(`SELECT n::text FROM $S.okta_users_latest_typed`, "3")
	p.writeDay(s, 4, "acme", `{"n":4}`)
	p.assertLogged()
	p.assertQuery(`SELECT coalesce(to_regclass('$S.okta_users_latest_typed')::text, 'dropped')`, "dropped")
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "4")
}

// TestPostgresLockTimeout checks that the wait for a lock is bounded where no one has
// configured a bound, and that a configured one stays.
func TestPostgresLockTimeout(t *testing.T) {
	p := newTest(t)
	for options, want := range map[string]string{"": "30s", "&lock_timeout=0": "30s", "&lock_timeout=2min": "2min", "&lock_timeout=50": "50ms"} {
		conn, err := pgx.Connect(t.Context(), p.server.URL(testserver.Owner, testserver.Password)+options)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var got string
		err = inTx(t.Context(), conn, func(tx pgx.Tx) error { return tx.QueryRow(t.Context(), `SHOW lock_timeout`).Scan(&got) })
		if err != nil || got != want {
			t.Errorf("with the options %q the bound is %s, error %v, want %s", options, got, err, want)
		}
	}
}

// TestPostgresTypedReaders reads the view while snapshots change its columns, through
// PgBouncer in transaction mode: every result is that of one snapshot, with its type.
func TestPostgresTypedReaders(t *testing.T) {
	p := newTest(t)
	pooler := testserver.StartPgBouncer(t, p.server, 3)
	s := p.sink(Options{URL: pooler.URL(testserver.Owner, testserver.Password), Views: store.ViewsTyped, Retention: store.Retention{Newest: 1}})
	p.writeDay(s, 0, "acme", `{"n0":0}`, `{"n0":0}`)
	conn, err := pgx.Connect(t.Context(), p.server.URL(testserver.Owner, testserver.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const snapshots = 12
	done, reads := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		defer func() { reads <- n }()
		for {
			var rows int
			var days, columns int
			// All of a row: its columns are those of the view that was found.
			err := conn.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT _upload_id), count(DISTINCT (SELECT count(*) FROM jsonb_object_keys(to_jsonb(v)))) FROM `+p.schema+`.okta_users_latest_typed AS v`, pgx.QueryExecModeSimpleProtocol).Scan(&rows, &days, &columns)
			if err != nil || rows != 2 || days != 1 || columns != 1 {
				t.Errorf("read %d: %d rows of %d snapshots: %v", n, rows, days, err)
				return
			}
			n++
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	for n := range snapshots {
		value := []string{`1`, `"text"`}[n%2] // the type of the column of the day before changes
		p.writeDay(s, n+1, "acme", fmt.Sprintf(`{"n%d":%s,"n%d":1}`, n, value, n+1), fmt.Sprintf(`{"n%d":true}`, n))
	}
	close(done)
	if n := <-reads; n == 0 {
		t.Error("nothing was read")
	}
	if got := p.queryTexts(typedType + `'n0'`); got[0] != "text" {
		t.Errorf("n0 is %s", got[0])
	}
}
