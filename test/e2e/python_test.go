package e2e_test

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
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// migrant has simulated vendors and an .env of the Python collectors.
type migrant struct {
	*harness.Workspace
	sim      *vendorsim.Server
	falcon   *vendorsim.CrowdStrike
	object   func(key string) string
	schema   string
	dsn      string
	database string
}

// newMigrant writes an .env with every variable of the Python collectors, as those
// spell them.
func newMigrant(t *testing.T) *migrant {
	t.Helper()
	m := &migrant{falcon: vendorsim.NewCrowdStrike(), schema: fmt.Sprintf("py_%d", time.Now().UnixNano())}
	var err error
	m.sim, err = vendorsim.Start(vendorsim.Options{
		// The queries select records of the last days.
		Base: time.Now(), Vendors: []vendorsim.Vendor{m.falcon, vendorsim.NewKnowBe4(), vendorsim.NewOkta(), vendorsim.NewSnyk(), harness.NewSmallTenable()},
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
	m.Workspace = &harness.Workspace{T: t, Dir: filepath.Join(t.TempDir(), "01-collectors"), Env: map[string]string{"HTTP_LISTEN": "off"}}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.object = m.UseS3()
	bucket := m.Env["STORE_AWS_S3_BUCKET"]
	delete(m.Env, "STORE_AWS_S3_BUCKET")
	server := testserver.StartPostgres(t)
	m.dsn = server.URL(testserver.Owner, testserver.Password)
	m.WriteEnvFile(`# the Python collectors' variables`,
		`FALCON_CLIENT_ID="`+vendorsim.CrowdStrikeClientID+`"`, `FALCON_SECRET="`+vendorsim.CrowdStrikeSecret+`"`,
		`export TIO_ACCESS_KEY='`+vendorsim.TenableAccessKey+`'`, `export TIO_SECRET_KEY='`+vendorsim.TenableSecretKey+`'`,
		`OKTA_DOMAIN=`+m.sim.VendorURL("okta"), `OKTA_TOKEN=`+vendorsim.OktaToken,
		`KNOWBE4_TOKEN=`+vendorsim.KnowBe4Token, `KNOWBE4_ENDPOINT=`+m.sim.VendorURL("knowbe4")+`/v1/training/enrollments`,
		`SNYK_TOKEN=`+vendorsim.SnykToken, `SNYK_ENDPOINT=`+m.sim.VendorURL("snyk"),
		`TENANCY=acme`, `STORE_FILE='../data/source/$TAG/$TENANCY.json'`, `STORE_DUCKDB=../data/database.duckdb`,
		`STORE_POSTGRES_HOST=127.0.0.1`, fmt.Sprintf(`STORE_POSTGRES_PORT=%d`, server.Port), `STORE_POSTGRES_USER=`+testserver.Owner,
		`STORE_POSTGRES_PASSWORD=`+testserver.Password, `STORE_POSTGRES_DBNAME=postgres`, `STORE_POSTGRES_SCHEMA=`+m.schema,
		`STORE_AWS_S3_BUCKET=`+bucket, `STORE_AWS_S3_KEY='data/tag=$TAG/year=%YYYY/%TENANCY.json'`, `STORE_AWS_S3_BACKUP=collector/$TAG/$TENANCY.json`,
		`STORE_AWS_S3_HISTORY=history`, `STORE_AWS_S3_WEB=web`, `EXTRACT_ONLY=true`)
	// The Python collectors have no variable for these two addresses.
	m.Env["FALCON_BASE_URL"], m.Env["TIO_URL"], m.Env["PGSSLMODE"] = m.sim.VendorURL("crowdstrike"), m.sim.VendorURL("tenable"), "disable"
	// With json, Postgres cannot query a record that contains \u0000.
	m.Env["STORE_POSTGRES_JSON"] = "jsonb"
	m.database = m.Path("..", "data", "database.duckdb")
	return m
}

var pythonStreams = []string{
	"crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zero_trust_assessment", "knowbe4_enrollments", "okta_users",
	"snyk_issues", "snyk_members", "snyk_organizations", "snyk_projects", "tenable_assets", "tenable_findings", "tenable_vulnerabilities", "tenable_was",
}

// TestComingFromPython checks that an .env of the Python collectors works unchanged, that
// files, tables and objects have the same names, and that queries for metrics return
// what the vendors' records say.
func TestComingFromPython(t *testing.T) {
	t.Parallel()
	m := newMigrant(t)
	secrets := (&harness.Workspace{T: t, Env: map[string]string{"STORE_POSTGRES_PASSWORD": testserver.Password}}).UseVendors(m.sim)
	m.AssertResult(m.Run("check"), harness.ExitOK, "settings are good", "crowdstrike (3", "knowbe4 (1", "okta (1", "snyk (4", "tenable (4", "postgres", "duckdb", "s3", "backup")
	all := m.Run("--once")
	m.AssertResult(all, 0)
	secrets.AssertNoSecrets(all.Output())
	year := time.Now().UTC().Format("2006")
	var tables []string
	for _, stream := range pythonStreams {
		tables = append(tables, stream, stream+"_latest")
		for _, file := range []string{
			m.Path("..", "data", "source", stream, "acme.json"),
			m.object("data/tag=" + stream + "/year=" + year + "/acme.json"), m.object("collector/" + stream + "/acme.json"),
		} {
			if text := m.Content(file); !strings.HasPrefix(text, "[") || !strings.Contains(text, `"_tenancy":"acme"`) {
				t.Errorf("%s: %.100s", file, text)
			}
		}
	}
	const listed = `SELECT table_name FROM information_schema.tables WHERE table_schema = '%s' AND table_name NOT LIKE '\_%%' ESCAPE '\' ORDER BY 1`
	for where, names := range map[string][]string{
		"DuckDB": m.queryDuckDB(fmt.Sprintf(listed, "main")), "Postgres": m.queryPostgres(fmt.Sprintf(listed, m.schema)),
	} {
		slices.Sort(names)
		if slices.Sort(tables); !slices.Equal(names, tables) {
			t.Errorf("%s has the tables %q", where, names)
		}
	}
	m.runMetricQueries()
	m.runStatusPageQueries()
	m.runSideBySide()
}

// runSideBySide runs the documented steps beside the existing data, which must not
// change.
func (m *migrant) runSideBySide() {
	m.Helper()
	bin := m.Path("..", "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		m.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' \"$@\"\n", harness.Program(m))
	if err := os.WriteFile(filepath.Join(bin, "collectord"), []byte(script), 0o700); err != nil {
		m.Fatal(err)
	}
	before := m.Files(m.Path("..", "data"))
	m.Env["PATH"] = bin + ":" + os.Getenv("PATH")
	m.schema = "side_by_side"
	for _, block := range markdown.Read(m.T, "docs/guide/coming-from-python.md").BlocksOfKind("sh") {
		cmd := m.Command(m.Context())
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-ec", block.Text}
		out, err := cmd.CombinedOutput()
		if err != nil {
			m.Fatalf("%v\n%s\n%s", err, block.Text, out)
		}
		(&harness.Workspace{T: m.T, Env: map[string]string{}}).UseVendors(m.sim).AssertNoSecrets(string(out))
	}
	for path, text := range m.Files(m.Path("..", "data")) {
		if text != before[path] {
			m.Errorf("%s has changed", path)
		}
	}
	for _, stream := range pythonStreams {
		for _, file := range []string{m.Path("..", "new", "source", stream, "acme.json"), m.object("new/" + stream + "/acme.json")} {
			if text := m.Content(file); !strings.HasPrefix(text, "[") {
				m.Errorf("%s: %.100s", file, text)
			}
		}
	}
	if n := m.queryPostgres(`SELECT CAST(count(*) AS VARCHAR) FROM okta_users`); n[0] != fmt.Sprint(m.sim.RecordCount(vendorsim.OktaUsers)) {
		m.Errorf("%s users in the second schema", n)
	}
}

// runMetricQueries runs the documented queries for metrics.
func (m *migrant) runMetricQueries() {
	m.Helper()
	page := markdown.Read(m.T, "docs/guide/coming-from-python.md")
	ref := regexp.MustCompile(`\{\{ ref\('(\w+)'\) \}\}`)
	for family, want := range map[string][]string{
		"crowdstrike": m.expectedHosts(), "tenable": m.expectedAssets(), "okta": m.expectedLogins(), "knowbe4": m.expectedTrained(), "snyk": m.expectedProjects(),
	} {
		ok := func(line string) bool { return strings.HasSuffix(line, " 1") }
		good := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return !ok(line) })
		if len(good) == 0 || len(good) == len(want) {
			m.Fatalf("%s: %d of %d are compliant, want some but not all", family, len(good), len(want))
		}
		files, tables := page.BlocksOfKind("sql files "+family), page.BlocksOfKind("sql tables "+family)
		if len(files) != 1 || len(tables) != 1 {
			m.Fatalf("%s: %d queries over files, %d over tables", family, len(files), len(tables))
		}
		overFiles := ref.ReplaceAllString(files[0].Text, "read_json_auto('"+m.Path("..", "data", "source")+"/$1/*.json')")
		for where, got := range map[string][]string{
			"files": m.queryDuckDB(compliance(overFiles)), "DuckDB": m.queryDuckDB(compliance(tables[0].Text)),
			"Postgres": m.queryPostgres(compliance(tables[0].Text)), "collectord query": m.runQueryCommand(compliance(ref.ReplaceAllString(files[0].Text, "$1"))),
		} {
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				m.Errorf("%s in %s (-vendor +metric):\n%s", family, where, diff)
			}
		}
	}
}

// runStatusPageQueries runs the examples of docs/guide/queries.md, except the third,
// which needs feeds: see TestPublicFeeds.
func (m *migrant) runStatusPageQueries() {
	m.Helper()
	queries := markdown.Read(m.T, "docs/guide/queries.md").BlocksOfKind("sql query")
	if len(queries) != 4 {
		m.Fatalf("%d queries", len(queries))
	}
	got := m.runQueryCommand(queries[0].Text)
	for i := range got {
		got[i] += " 1"
	}
	slices.Sort(got)
	want := slices.DeleteFunc(m.expectedHosts(), func(line string) bool { return strings.HasSuffix(line, " 0") })
	if diff := cmp.Diff(want, got); diff != "" {
		m.Errorf("hosts (-vendor +query):\n%s", diff)
	}
	dormant := 0
	for _, u := range simulated[simulatedUser](m, vendorsim.OktaUsers) {
		if u.Status == "ACTIVE" && (u.LastLogin == nil || u.LastLogin.Before(time.Now().AddDate(0, 0, -90))) {
			dormant++
		}
	}
	_, offered, _ := strings.Cut(queries[3].Text, "\n") // without the comment, which would be parsed as a flag
	for _, text := range []string{queries[1].Text, offered} {
		if got := m.runQueryCommand(text); len(got) != dormant || dormant == 0 {
			m.Errorf("%d users are dormant, want %d: %s", len(got), dormant, text)
		}
	}
}

// compliance returns a query for the resources of a metric and whether each complies.
// It uses all columns of the metric.
func compliance(metric string) string {
	return `SELECT resource || ' ' || CAST(compliance AS VARCHAR) FROM (SELECT resource, resource_type, compliance, detail FROM (` + metric + `) AS x) AS m`
}

func (m *migrant) queryDuckDB(text string) (lines []string) {
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

func (m *migrant) queryPostgres(text string) (lines []string) {
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

func (m *migrant) runQueryCommand(text string) []string {
	m.Helper()
	e := m.Run("query", text, "--format", "csv")
	m.AssertResult(e, harness.ExitOK)
	lines := strings.Split(strings.TrimSpace(e.Stdout), "\n")
	return lines[1:]
}
