package main

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
)

// migrant has simulated vendors and an .env of the Python collectors.
type migrant struct {
	*place
	sim      *vendorsim.Server
	falcon   *vendorsim.CrowdStrike
	object   func(key string) string
	schema   string
	dsn      string
	database string
}

// newMigrant writes an .env with every variable of the Python collectors, in
// their spellings.
func newMigrant(t *testing.T) *migrant {
	t.Helper()
	m := &migrant{falcon: vendorsim.NewCrowdStrike(), schema: fmt.Sprintf("py_%d", time.Now().UnixNano())}
	var err error
	m.sim, err = vendorsim.Start(vendorsim.Options{
		// The queries ask for what is younger than so many days.
		Base: time.Now(), Vendors: []vendorsim.Vendor{m.falcon, vendorsim.NewKnowBe4(), vendorsim.NewOkta(), vendorsim.NewSnyk(), smallTenant()},
		Counts: map[string]int{
			vendorsim.CrowdStrikeHosts: 150, vendorsim.CrowdStrikeVulns: 700, vendorsim.KnowBe4Enrollments: 400, vendorsim.OktaUsers: 600,
			vendorsim.SnykProjects: 120, vendorsim.SnykIssues: 500, vendorsim.SnykMembers: 20, vendorsim.TenableVulns: 300,
			vendorsim.TenableAssets: 120, vendorsim.TenableFindings: 60, vendorsim.TenableWAS: 20,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.sim.Close)
	m.place = &place{T: t, dir: filepath.Join(t.TempDir(), "01-collectors"), env: map[string]string{"HTTP_LISTEN": "off"}}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.object = m.withS3()
	bucket := m.env["STORE_AWS_S3_BUCKET"]
	delete(m.env, "STORE_AWS_S3_BUCKET")
	server := testserver.StartPostgres(t)
	m.dsn = server.URL(testserver.Owner, testserver.Password)
	m.set(`# the Python collectors' variables`,
		`FALCON_CLIENT_ID="`+vendorsim.CrowdStrikeClientID+`"`, `FALCON_SECRET="`+vendorsim.CrowdStrikeSecret+`"`,
		`export TIO_ACCESS_KEY='`+vendorsim.TenableAccessKey+`'`, `export TIO_SECRET_KEY='`+vendorsim.TenableSecretKey+`'`,
		`OKTA_DOMAIN=`+m.sim.URL("okta"), `OKTA_TOKEN=`+vendorsim.OktaToken,
		`KNOWBE4_TOKEN=`+vendorsim.KnowBe4Token, `KNOWBE4_ENDPOINT=`+m.sim.URL("knowbe4")+`/v1/training/enrollments`,
		`SNYK_TOKEN=`+vendorsim.SnykToken, `SNYK_ENDPOINT=`+m.sim.URL("snyk"),
		`TENANCY=acme`, `STORE_FILE='../data/source/$TAG/$TENANCY.json'`, `STORE_DUCKDB=../data/database.duckdb`,
		`STORE_POSTGRES_HOST=127.0.0.1`, fmt.Sprintf(`STORE_POSTGRES_PORT=%d`, server.Port), `STORE_POSTGRES_USER=`+testserver.Owner,
		`STORE_POSTGRES_PASSWORD=`+testserver.Password, `STORE_POSTGRES_DBNAME=postgres`, `STORE_POSTGRES_SCHEMA=`+m.schema,
		`STORE_AWS_S3_BUCKET=`+bucket, `STORE_AWS_S3_KEY='data/tag=$TAG/year=%YYYY/%TENANCY.json'`, `STORE_AWS_S3_BACKUP=collector/$TAG/$TENANCY.json`,
		`STORE_AWS_S3_HISTORY=history`, `STORE_AWS_S3_WEB=web`, `EXTRACT_ONLY=true`)
	// These two had no variable for the address.
	m.env["FALCON_BASE_URL"], m.env["TIO_URL"], m.env["PGSSLMODE"] = m.sim.URL("crowdstrike"), m.sim.URL("tenable"), "disable"
	// As jsonb: over json, Postgres answers nothing about a record that holds \u0000.
	m.env["STORE_POSTGRES_JSON"] = "jsonb"
	m.database = m.file("..", "data", "database.duckdb")
	return m
}

var pythonStreams = []string{
	"crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zero_trust_assessment", "knowbe4_enrollments", "okta_users",
	"snyk_issues", "snyk_members", "snyk_organizations", "snyk_projects", "tenable_assets", "tenable_findings", "tenable_vulnerabilities", "tenable_was",
}

// TestComingFromPython: an .env of the Python collectors works as it is, files,
// tables and objects have the names that they had, and metrics get from them
// what the vendors' own records say.
func TestComingFromPython(t *testing.T) {
	t.Parallel()
	m := newMigrant(t)
	hidden := (&place{T: t, env: map[string]string{"STORE_POSTGRES_PASSWORD": testserver.Password}}).with(m.sim)
	m.want(m.run("check"), 0, "settings are good", "crowdstrike (3", "knowbe4 (1", "okta (1", "snyk (4", "tenable (4", "postgres", "duckdb", "s3", "backup")
	all := m.run("--once")
	m.want(all, 0)
	hidden.noSecrets(all.all())
	year := time.Now().UTC().Format("2006")
	var tables []string
	for _, stream := range pythonStreams {
		tables = append(tables, stream, stream+"_latest")
		for _, file := range []string{
			m.file("..", "data", "source", stream, "acme.json"),
			m.object("data/tag=" + stream + "/year=" + year + "/acme.json"), m.object("collector/" + stream + "/acme.json"),
		} {
			if text := m.content(file); !strings.HasPrefix(text, "[") || !strings.Contains(text, `"_tenancy":"acme"`) {
				t.Errorf("%s: %.100s", file, text)
			}
		}
	}
	const listed = `SELECT table_name FROM information_schema.tables WHERE table_schema = '%s' AND table_name NOT LIKE '\_%%' ESCAPE '\' ORDER BY 1`
	for where, names := range map[string][]string{
		"DuckDB": m.askDuckDB(fmt.Sprintf(listed, "main")), "Postgres": m.askPostgres(fmt.Sprintf(listed, m.schema)),
	} {
		slices.Sort(names)
		if slices.Sort(tables); !slices.Equal(names, tables) {
			t.Errorf("%s has the tables %q", where, names)
		}
	}
	m.metrics()
	m.statusPageQueries()
	m.sideBySide()
}

// sideBySide runs the documented steps beside what is there, which stays as it
// is.
func (m *migrant) sideBySide() {
	m.Helper()
	bin := m.file("..", "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		m.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec env %s=1 '%s' \"$@\"\n", asProgram, os.Args[0])
	if err := os.WriteFile(filepath.Join(bin, "collectord"), []byte(script), 0o700); err != nil {
		m.Fatal(err)
	}
	before := m.files(m.file("..", "data"))
	m.env["PATH"] = bin + ":" + os.Getenv("PATH")
	m.schema = "side_by_side"
	for _, block := range documentOf(m.T, "docs/coming-from-python.md").ofKind("sh") {
		cmd := m.command(m.Context())
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-ec", block.text}
		out, err := cmd.CombinedOutput()
		if err != nil {
			m.Fatalf("%v\n%s\n%s", err, block.text, out)
		}
		(&place{T: m.T, env: map[string]string{}}).with(m.sim).noSecrets(string(out))
	}
	for path, text := range m.files(m.file("..", "data")) {
		if text != before[path] {
			m.Errorf("%s has changed", path)
		}
	}
	for _, stream := range pythonStreams {
		for _, file := range []string{m.file("..", "new", "source", stream, "acme.json"), m.object("new/" + stream + "/acme.json")} {
			if text := m.content(file); !strings.HasPrefix(text, "[") {
				m.Errorf("%s: %.100s", file, text)
			}
		}
	}
	if n := m.askPostgres(`SELECT CAST(count(*) AS VARCHAR) FROM okta_users`); n[0] != fmt.Sprint(m.sim.Count(vendorsim.OktaUsers)) {
		m.Errorf("%s users in the schema beside", n)
	}
}

// metrics asks the documented queries.
func (m *migrant) metrics() {
	m.Helper()
	page := documentOf(m.T, "docs/coming-from-python.md")
	ref := regexp.MustCompile(`\{\{ ref\('(\w+)'\) \}\}`)
	for family, want := range map[string][]string{
		"crowdstrike": m.wantHosts(), "tenable": m.wantAssets(), "okta": m.wantLogins(), "knowbe4": m.wantTrained(), "snyk": m.wantProjects(),
	} {
		ok := func(line string) bool { return strings.HasSuffix(line, " 1") }
		good := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return !ok(line) })
		if len(good) == 0 || len(good) == len(want) {
			m.Fatalf("%s: %d of %d are compliant: that tells nothing", family, len(good), len(want))
		}
		files, tables := page.ofKind("sql files "+family), page.ofKind("sql tables "+family)
		if len(files) != 1 || len(tables) != 1 {
			m.Fatalf("%s: %d queries over files, %d over tables", family, len(files), len(tables))
		}
		overFiles := ref.ReplaceAllString(files[0].text, "read_json_auto('"+m.file("..", "data", "source")+"/$1/*.json')")
		for where, got := range map[string][]string{
			"files": m.askDuckDB(compliance(overFiles)), "DuckDB": m.askDuckDB(compliance(tables[0].text)),
			"Postgres": m.askPostgres(compliance(tables[0].text)), "collectord query": m.askCollectord(compliance(ref.ReplaceAllString(files[0].text, "$1"))),
		} {
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				m.Errorf("%s in %s (-vendor +metric):\n%s", family, where, diff)
			}
		}
	}
}

// statusPageQueries asks the examples of docs/status-page.md.
func (m *migrant) statusPageQueries() {
	m.Helper()
	queries := documentOf(m.T, "docs/status-page.md").ofKind("sql query")
	if len(queries) != 2 {
		m.Fatalf("%d queries", len(queries))
	}
	got := m.askCollectord(queries[0].text)
	for i := range got {
		got[i] += " 1"
	}
	slices.Sort(got)
	want := slices.DeleteFunc(m.wantHosts(), func(line string) bool { return strings.HasSuffix(line, " 0") })
	if diff := cmp.Diff(want, got); diff != "" {
		m.Errorf("hosts (-vendor +query):\n%s", diff)
	}
	dormant := 0
	for _, u := range simulated[simulatedUser](m, vendorsim.OktaUsers) {
		if u.Status == "ACTIVE" && (u.LastLogin == nil || u.LastLogin.Before(time.Now().AddDate(0, 0, -90))) {
			dormant++
		}
	}
	if got := m.askCollectord(queries[1].text); len(got) != dormant || dormant == 0 {
		m.Errorf("%d users are dormant, want %d", len(got), dormant)
	}
}

// compliance asks for each resource and whether it complies, from a metric
// with all of its columns.
func compliance(metric string) string {
	return `SELECT resource || ' ' || CAST(compliance AS VARCHAR) FROM (SELECT resource, resource_type, compliance, detail FROM (` + metric + `) AS x) AS m`
}

func (m *migrant) askDuckDB(text string) (lines []string) {
	m.Helper()
	db, err := duckdb.Open(m.Context(), m.database, duckdb.Options{ReadOnly: true})
	if err != nil {
		m.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(m.Context(), text)
	if err != nil {
		m.Fatalf("%v\n%s", err, text)
	}
	defer rows.Close()
	for rows.Next() {
		var line sql.NullString
		if err := rows.Scan(&line); err != nil {
			m.Fatal(err)
		}
		lines = append(lines, line.String)
	}
	if err := rows.Err(); err != nil {
		m.Fatal(err)
	}
	return lines
}

func (m *migrant) askPostgres(text string) (lines []string) {
	m.Helper()
	conn, err := pgx.Connect(m.Context(), m.dsn)
	if err != nil {
		m.Fatal(err)
	}
	defer conn.Close(m.Context())
	if _, err := conn.Exec(m.Context(), "SET search_path = "+m.schema); err != nil {
		m.Fatal(err)
	}
	rows, err := conn.Query(m.Context(), text)
	if err != nil {
		m.Fatal(err)
	}
	if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		m.Fatalf("%v\n%s", err, text)
	}
	return lines
}

func (m *migrant) askCollectord(text string) []string {
	m.Helper()
	e := m.run("query", text, "--format", "csv")
	m.want(e, 0)
	lines := strings.Split(strings.TrimSpace(e.stdout), "\n")
	return lines[1:]
}
