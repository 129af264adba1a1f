package postgres

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

const commentOfView = `SELECT coalesce(obj_description('$S.okta_users_latest'::regclass, 'pg_class'), '')`

// TestPostgresUpgradesViews has views that earlier versions created: they get the
// present definition, and the objects of users that depend on them stay.
func TestPostgresUpgradesViews(t *testing.T) {
	for _, test := range []struct {
		column, tenancy string
		indexed         bool
	}{
		{column: "json", tenancy: "varchar", indexed: true},
		{column: "jsonb", tenancy: "varchar(20)", indexed: true},
		{column: "text", tenancy: "text", indexed: false},
	} {
		for earlier := range 2 {
			t.Run(fmt.Sprint(test.column, earlier), func(t *testing.T) {
				p := newTest(t)
				reader := "r_" + p.schema
				p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy ` + test.tenancy + `, json_data ` + test.column + `)`)
				if test.indexed {
					p.exec(`CREATE INDEX ON $S.okta_users (upload_timestamp, tenancy)`)
				}
				off := p.sink(Options{Views: store.ViewsOff})
				p.write(off, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"a1"}`))
				p.assertQuery(`SELECT count(*)::text FROM pg_class WHERE relname = 'okta_users_latest' AND relnamespace = '$S'::regnamespace`, "0")
				p.exec(`CREATE ROLE ` + reader + `; CREATE VIEW $S.okta_users_latest AS ` + off.earlierQueries("okta_users", test.column)[earlier])
				p.exec(`CREATE VIEW $S.mine AS SELECT count(*) AS n FROM $S.okta_users_latest; GRANT SELECT ON $S.okta_users_latest TO ` + reader)
				t.Cleanup(func() { p.exec(`DROP OWNED BY ` + reader + `; DROP ROLE ` + reader) })
				earlierText := p.queryTexts(`SELECT pg_get_viewdef('$S.okta_users_latest'::regclass)`)[0]

				p.write(p.sink(Options{}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), `{"id":"a2"}`, `{"id":"a3"}`))
				p.assertQuery(commentOfView, viewMark(test.indexed))
				if text := p.queryTexts(`SELECT pg_get_viewdef('$S.okta_users_latest'::regclass)`)[0]; text == earlierText {
					t.Error("the definition is the earlier one")
				}
				p.assertQuery(`SELECT json_data::json->>'id' FROM $S.okta_users_latest ORDER BY 1`, "a2", "a3")
				p.assertQuery(`SELECT n::text FROM $S.mine`, "2")
				p.assertQuery(`SELECT has_table_privilege('`+reader+`', '$S.okta_users_latest', 'SELECT')::text`, "true")
				if p.logged.Len() > 0 {
					t.Errorf("logged: %s", p.logged)
				}
			})
		}
	}
}

// TestPostgresLeavesViewsOfUsers has views of users by the name of the view of
// newest snapshots: they stay, and so does their comment.
func TestPostgresLeavesViewsOfUsers(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{})
	write := func(s *Sink, id string) {
		t.Helper()
		p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), `{"id":"`+id+`"}`))
	}
	write(s, "a1")
	const own = `SELECT upload_timestamp, tenancy, json_data FROM $S.okta_users WHERE tenancy = 'nothing'`
	for _, comment := range []string{`NULL`, `'of the dashboards'`, quoteText(viewMark(true))} {
		p.exec(`DROP VIEW $S.okta_users_latest; CREATE VIEW $S.okta_users_latest AS ` + own + `; COMMENT ON VIEW $S.okta_users_latest IS ` + comment)
		definition := p.queryTexts(`SELECT pg_get_viewdef('$S.okta_users_latest'::regclass)`)
		before := p.queryTexts(commentOfView)
		write(s, "a2")
		write(p.sink(Options{}), "a3")
		p.assertQuery(`SELECT pg_get_viewdef('$S.okta_users_latest'::regclass)`, definition...)
		p.assertQuery(commentOfView, before...)
	}
	// A comment of a user on collectord's view stays.
	p.exec(`DROP VIEW $S.okta_users_latest`)
	write(p.sink(Options{}), "a4")
	p.exec(`COMMENT ON VIEW $S.okta_users_latest IS 'of the dashboards'`)
	write(p.sink(Options{}), "a5")
	p.assertQuery(commentOfView, "of the dashboards\n"+viewMark(true))
	if p.logged.Len() > 0 {
		t.Errorf("logged: %s", p.logged)
	}
}

// TestPostgresViewsOff creates no view, so that the table can be dropped.
func TestPostgresViewsOff(t *testing.T) {
	p := newTest(t)
	p.write(p.sink(Options{Views: store.ViewsOff}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	p.exec(`DROP TABLE $S.okta_users`)
	if p.logged.Len() > 0 {
		t.Errorf("logged: %s", p.logged)
	}
	if _, err := New(Options{Views: "sometimes"}); err == nil || !strings.Contains(err.Error(), "want on, typed or off") {
		t.Errorf("err = %v", err)
	}
}

// TestPostgresTableOfAnotherRole has a table that belongs to another role: no view
// is created that its owner could not read or that would keep it from being
// dropped.
func TestPostgresTableOfAnotherRole(t *testing.T) {
	for _, grant := range []string{"INSERT", "INSERT, SELECT"} {
		p := newTest(t)
		role := "r_" + p.schema
		p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-7781'; CREATE SCHEMA $S; GRANT USAGE, CREATE ON SCHEMA $S TO ` + role)
		t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
		p.exec(`CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json); GRANT ` + grant + ` ON $S.okta_users TO ` + role)
		s := p.sink(Options{URL: p.server.URL(role, "pw-role-7781")})
		for range 2 {
			p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
		}
		p.assertQuery(`SELECT relname::text FROM pg_class WHERE relnamespace = '$S'::regnamespace AND relkind = 'v'`)
		if text := p.logged.String(); strings.Count(text, "no view of newest snapshots") != 1 || !strings.Contains(text, `belongs to role "owner"`) {
			t.Errorf("logged: %s", text)
		}
		p.exec(`DROP TABLE $S.okta_users`)
	}
}

// TestPostgresLatestReadsNoHistory has a record in an earlier snapshot that
// Postgres cannot read: no condition of a reader of the view meets it, and only
// the rows of the newest snapshot are read.
func TestPostgresLatestReadsNoHistory(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{})
	write := func(tenancy string, at time.Time) {
		t.Helper()
		p.write(s, storetest.SealEach(t, storetest.NewHeader("okta_users", tenancy, at), 100, func(i int) string { return fmt.Sprintf(`{"id":%d,"status":"ACTIVE"}`, i) }))
	}
	write("acme", storetest.Noon)
	p.exec(`INSERT INTO $S.okta_users SELECT '2026-02-01'::timestamp + i * interval '1 hour', t, '{"id":0,"status":"OLD","bad":"\u0000"}'
		FROM generate_series(1, 300) AS i, unnest(ARRAY['acme', 'beta', NULL]) AS t`)
	write("acme", storetest.Noon.Add(day))
	write("beta", storetest.Noon.Add(day))
	p.exec(`DELETE FROM $S.okta_users WHERE tenancy IS NULL AND upload_timestamp > '2026-02-10'`)
	p.exec(`UPDATE $S.okta_users SET json_data = '{"id":7,"status":"ACTIVE"}' WHERE tenancy IS NULL AND upload_timestamp = (SELECT max(upload_timestamp) FROM $S.okta_users WHERE tenancy IS NULL)`)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			p.exec(`ANALYZE $S.okta_users`)
		}
		p.assertQuery(`SELECT coalesce(tenancy, 'none') || ' ' || count(*) FROM $S.okta_users_latest WHERE json_data->>'status' = 'ACTIVE' GROUP BY tenancy ORDER BY 1`,
			"acme 100", "beta 100", "none 1")
		p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest WHERE tenancy = 'beta' AND json_data->>'status' = 'ACTIVE'`, "100")
	}
	if n := p.rowsRead(`SELECT * FROM $S.okta_users_latest WHERE json_data->>'status' = 'ACTIVE'`); n > 201+50 {
		t.Errorf("%v rows of the table were read for 201", n)
	}
	if n := p.rowsRead(`SELECT * FROM $S.okta_users_latest WHERE tenancy = 'beta'`); n > 100+50 {
		t.Errorf("%v rows of the table were read for 100", n)
	}
}

// rowsRead returns the number of rows that a query reads from the table
// okta_users.
func (p *pgTest) rowsRead(sql string) (n float64) {
	p.Helper()
	var explained []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(p.queryTexts(`EXPLAIN (ANALYZE, FORMAT JSON) ` + sql)[0]), &explained); err != nil {
		p.Fatal(err)
	}
	return explained[0].Plan.rowsRead()
}

// A planNode is a node of an executed plan.
type planNode struct {
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []planNode
}

func (p planNode) rowsRead() (sum float64) {
	if p.Relation == "okta_users" {
		sum = (p.Rows + p.Removed) * p.Loops
	}
	for _, below := range p.Plans {
		sum += below.rowsRead()
	}
	return sum
}

// TestPostgresLatestAndTheFuture has snapshots and rows of other programs from the
// future: they do not hide the newest one.
func TestPostgresLatestAndTheFuture(t *testing.T) {
	for _, indexed := range []bool{true, false} {
		t.Run(fmt.Sprint(indexed), func(t *testing.T) {
			p := newTest(t)
			if !indexed {
				p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
			}
			s := p.sink(Options{})
			now := time.Now().UTC().Truncate(time.Second)
			write := func(at time.Time, id string) {
				t.Helper()
				p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", at), `{"id":"`+id+`"}`))
			}
			const latest = `SELECT json_data->>'id' FROM $S.okta_users_latest`
			write(now.Add(730*day), "far")
			write(now.Add(365*day), "future") // stored last
			p.assertQuery(latest, "future")
			write(now.Add(-time.Hour), "good")
			p.exec(`INSERT INTO $S.okta_users VALUES ('infinity', 'acme', '{"id":"other"}'), ((now() AT TIME ZONE 'UTC') + interval '1 day', 'acme', '{"id":"other"}'), (NULL, 'acme', '{"id":"none"}')`)
			p.assertQuery(latest, "good")
			write(now.Add(10*time.Minute), "ahead")
			p.assertQuery(latest, "ahead")
		})
	}
}

// TestPostgresLatestIsThatOfEarlierVersions compares the views with the query of
// earlier versions, over random snapshots and rows of other programs.
func TestPostgresLatestIsThatOfEarlierVersions(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{})
	random := rand.New(rand.NewPCG(3, 2026))
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	tenancies := []string{"acme", "beta", "Zürich", "", "x'y"}
	for round := range 12 {
		for range 6 {
			taken := storetest.Noon.Add(time.Duration(random.IntN(5)) * time.Minute)
			tenancy := tenancies[random.IntN(len(tenancies))]
			if random.IntN(3) == 0 {
				p.exec(fmt.Sprintf(`INSERT INTO $S.okta_users VALUES ('%s', nullif(%s, ''), '{"by":"other","n":%d}')`, taken.Format(time.DateTime), quoteText(tenancy), round))
				continue
			}
			p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", tenancy, taken), storetest.Numbered(round, random.IntN(4))...))
		}
		const rows = `SELECT concat_ws(' ', upload_timestamp, coalesce(tenancy, 'NULL'), json_data) FROM (%s) AS q ORDER BY 1`
		want := p.queryTexts(fmt.Sprintf(rows, s.earlierQueries("okta_users", "json")[0]))
		p.assertQuery(fmt.Sprintf(rows, `SELECT * FROM $S.okta_users_latest`), want...)
		p.assertQuery(fmt.Sprintf(rows, s.latestQuery("okta_users", "json", false)), want...)
	}
}

// TestPostgresIndexOfEarlierTables has a table that an earlier version created: it
// gets the index by which the view and the retention find their rows.
func TestPostgresIndexOfEarlierTables(t *testing.T) {
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json); CREATE INDEX ON $S.okta_users (upload_timestamp, tenancy)`)
	for range 2 {
		p.write(p.sink(Options{}), storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
		p.assertQuery(`SELECT pg_get_indexdef(indexrelid, 1, false) || ' ' || pg_get_indexdef(indexrelid, 2, false) FROM pg_index WHERE indrelid = '$S.okta_users'::regclass ORDER BY 1`,
			"tenancy upload_timestamp", "upload_timestamp tenancy")
	}
	p.assertQuery(commentOfView, viewMark(true))
}

// TestPostgresIndexOfAUser has a table of a user, to which an index is added: the
// view uses it from the next start on.
func TestPostgresIndexOfAUser(t *testing.T) {
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.okta_users (upload_timestamp timestamp, tenancy varchar, json_data json)`)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	p.write(p.sink(Options{}), snap)
	p.assertQuery(commentOfView, viewMark(false))
	p.exec(`COMMENT ON VIEW $S.okta_users_latest IS ` + quoteText("mine\n"+viewMark(false)) + `; CREATE INDEX ON $S.okta_users (tenancy, upload_timestamp DESC)`)
	p.write(p.sink(Options{}), snap)
	p.assertQuery(commentOfView, "mine\n"+viewMark(true))
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest`, "1")
}

// TestPostgresUpgradeThatFails has a view that cannot be replaced: the snapshot is
// stored, and the reason is noted.
func TestPostgresUpgradeThatFails(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Views: store.ViewsOff})
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	p.exec(`CREATE VIEW $S.okta_users_latest AS ` + s.earlierQueries("okta_users", "json")[0])
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer rollBack(tx)
	if _, err := tx.Exec(t.Context(), `LOCK TABLE `+p.schema+`.okta_users_latest IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	s = p.sink(Options{URL: p.server.URL(testserver.Owner, testserver.Password) + "&lock_timeout=50"})
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), one)
	if err := s.Write(t.Context(), snap); err != nil {
		t.Error(err)
	}
	rollBack(tx)
	if text := p.logged.String(); strings.Count(text, "was not created or replaced") != 1 || !strings.Contains(text, "55P03") {
		t.Errorf("logged: %s", text)
	}
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "2")
}
