package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestPostgresFindsUnreadableRecords has records that an earlier version stored:
// they are found, and the printed statement repairs them as new records are
// repaired.
func TestPostgresFindsUnreadableRecords(t *testing.T) {
	records := []string{
		`{"a":"\u0000","b":1}`, `{"k\u0000":"x\u0000\u0000y"}`, `{"a":"\\u0000"}`, `{"a":"\\\u0000\\\\u0000"}`,
		`{"a":"\ud83d\ude00"}`, `{"a":"\ud83d\ud83d\ude00"}`, `{"a":"\uD83D"}`, `{"a":"\ud83d\\ude00"}`,
		`{"a":"\\ud83d\ude00"}`, `{"a":"\ude00\u0041\n"}`, `{"a":"\ude00\ud83d"}`, `{"a":"é😀\u00e9"}`, `{"a":1}`,
	}
	unreadable := 0
	for _, record := range records {
		if repaired(record) != record {
			unreadable++
		}
	}
	for _, column := range []string{"json", "text"} {
		t.Run(column, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE SCHEMA $S; CREATE TABLE $S."Okta users" (upload_timestamp timestamp, tenancy varchar, json_data ` + column + `); CREATE TABLE $S.other (n int)`)
			p.exec(`CREATE TABLE $S.fine (upload_timestamp timestamp, tenancy varchar, json_data jsonb)`)
			for i, record := range records {
				p.exec(fmt.Sprintf(`INSERT INTO $S."Okta users" VALUES ('2026-01-01', 'acme%d', %s)`, i, quoteText(record)))
			}
			s := p.sink(Options{})
			found := inspectRecords(t, s)
			if len(found) != 1 || !strings.HasPrefix(found[0].Text, `table "`+p.schema+`"."Okta users": `) || !strings.HasSuffix(found[0].Text, fmt.Sprint("records: ", unreadable)) {
				t.Fatalf("found %q", found)
			}
			before, statement, _ := strings.Cut(found[0].Advice, ": ")
			if before != "this replaces them by U+FFFD" {
				t.Errorf("advice: %s", found[0].Advice)
			}
			p.exec(statement)
			for i, record := range records {
				p.assertQuery(fmt.Sprintf(`SELECT json_data::text FROM $S."Okta users" WHERE tenancy = 'acme%d'`, i), repaired(record))
			}
			p.assertQuery(`SELECT count(json_data::json->>'a')::text FROM $S."Okta users"`, "12")
			if found := inspectRecords(t, s); len(found) != 0 {
				t.Errorf("found %q", found)
			}
		})
	}
}

func inspectRecords(t *testing.T, s *Sink) []store.Observation {
	t.Helper()
	found, err := s.InspectRecords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPostgresInspectsWhatItCan has tables that cannot be examined: that is
// reported.
func TestPostgresInspectsWhatItCan(t *testing.T) {
	p := newTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-7781'; CREATE SCHEMA $S; GRANT USAGE ON SCHEMA $S TO ` + role)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	p.exec(`CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	found := inspectRecords(t, p.sink(Options{URL: p.server.URL(role, "pw-role-7781")}))
	if len(found) != 1 || !strings.Contains(found[0].Text, "may not read it") || !strings.HasPrefix(found[0].Advice, "GRANT SELECT ON ") {
		t.Errorf("found %q", found)
	}

	// A table without an index is slow to read when it is large.
	p.exec(`UPDATE pg_class SET reltuples = 200000 WHERE oid = '$S.okta_users'::regclass`)
	found = inspectRecords(t, p.sink(Options{}))
	if len(found) != 1 || !strings.Contains(found[0].Text, "has no index on (tenancy, upload_timestamp)") {
		t.Fatalf("found %q", found)
	}
	p.exec(found[0].Advice)

	// A table that takes longer than there is time for.
	p.exec(`INSERT INTO $S.okta_users SELECT '2026-01-01', 'acme', ('{"a":"' || repeat('\ud83d\ude00', 20000) || '"}')::json FROM generate_series(1, 300)`)
	ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
	defer cancel()
	found, err := p.sink(Options{}).InspectRecords(ctx)
	if err == nil && (len(found) != 1 || !strings.Contains(found[0].Text, "takes too long")) {
		t.Errorf("found %q, %v", found, err)
	}
}

// TestPostgresFindsFormerTables has tables of the Python collectors in the schema
// that they used with the same settings.
func TestPostgresFindsFormerTables(t *testing.T) {
	for _, test := range []struct{ schema, former string }{
		{schema: "public", former: "none"},
		{schema: "Security", former: "security"},
	} {
		t.Run(test.schema, func(t *testing.T) {
			p := newTest(t)
			p.exec(`CREATE DATABASE $S`)
			t.Cleanup(func() { p.exec(`DROP DATABASE $S WITH (FORCE)`) })
			url := strings.Replace(p.server.URL("quick", ""), "/postgres?", "/"+p.schema+"?", 1)
			s := p.sink(Options{URL: url, Schema: test.schema})
			inspect := func() []store.Observation {
				t.Helper()
				found, err := s.Inspect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return found
			}
			exec := func(sql string) {
				t.Helper()
				conn, err := s.connect(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer closeConn(conn)
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			if found := inspect(); len(found) != 0 {
				t.Errorf("found %q", found)
			}
			exec(`CREATE SCHEMA ` + test.former + `; CREATE TABLE ` + test.former + `.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
			found := inspect()
			if len(found) != 1 || !strings.Contains(found[0].Text, `schema "`+test.former+`" has tables of the Python collectors, such as okta_users`) ||
				!strings.HasPrefix(found[0].Advice, "STORE_POSTGRES_SCHEMA="+test.former+" ") {
				t.Fatalf("found %q", found)
			}
			// The first delivery of a stream notes it, later ones do not.
			for i := range 3 {
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*time.Hour)), one))
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_apps", "acme", storetest.Noon.Add(time.Duration(i)*time.Hour)), one))
			}
			if text := p.logged.String(); strings.Count(text, found[0].Text) != 1 || !strings.Contains(text, found[0].Advice) {
				t.Errorf("logged: %s", text)
			}
			// A schema that collectord fills is not a former one.
			exec(`CREATE TABLE ` + test.former + `._collectord_snapshots ()`)
			if found := inspect(); len(found) != 0 {
				t.Errorf("found %q", found)
			}
		})
	}
}

// TestPostgresInspectFails has a server that cannot be reached.
func TestPostgresInspectFails(t *testing.T) {
	var inspector store.Inspector = newTest(t).sink(Options{Host: "127.0.0.1", Port: closedPort(t), User: "u", DBName: "d"})
	_, inspectErr := inspector.Inspect(t.Context())
	_, recordsErr := inspector.InspectRecords(t.Context())
	for _, err := range []error{inspectErr, recordsErr} {
		if err == nil || errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), "nothing listens there") {
			t.Errorf("err = %v", err)
		}
	}
}

// TestRepairMatches keeps the SQL of the repair and snapshot.RepairEscapes alike,
// over every combination of a few tokens.
func TestRepairMatches(t *testing.T) {
	tokens := []string{`\u0000`, `\ud83d`, `\uDE00`, `\\`, `u0000`, `\n`}
	p := newTest(t)
	var texts []string
	for i := range len(tokens) * len(tokens) * len(tokens) * len(tokens) {
		text := ""
		for n := i; len(text) == 0 || n > 0; n /= len(tokens) {
			text += tokens[n%len(tokens)]
		}
		texts = append(texts, `{"a":"`+text+`"}`)
	}
	rows, err := p.conn.Query(t.Context(), `SELECT `+repairExpression("text")+`, `+unreadableCondition("text")+` FROM unnest($1::text[]) WITH ORDINALITY AS t (text, n) ORDER BY n`, texts)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for _, text := range texts {
		var got string
		var unreadable bool
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		if err := rows.Scan(&got, &unreadable); err != nil {
			t.Fatal(err)
		}
		_, changed := snapshot.RepairEscapes(nil, []byte(text))
		if got != repaired(text) || unreadable != changed {
			t.Errorf("%s: got %s, unreadable %v, want %s", text, got, unreadable, repaired(text))
		}
	}
}
