package control_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/control"
)

// A dialectFile is a file of controls in one of the two dialects that are read, with
// everything that is found in such files: how they calculate with dates, read members of
// members, fall back from an alias to a member, and end.
type dialectFile struct {
	// text is the file without its queries, in the first dialect with a number and slo_min,
	// in the second with a list.
	text string
	// queries are one text in the first dialect, and a list in the second.
	queries []string
}

const (
	firstDialect  = "metric_id: %s\ntitle: \"T\"\ncategory: \"C\"\nslo: 0.95 # green\nslo_min: 0.80\nweight: 0.8\nquery: |\n"
	secondDialect = "---\nmetric_id: %s\ntitle: T\ncategory: C\ntype: risk\ndescription: |\n  D\nhow: |\n  H\nslo:\n  - 0.80\n  - 1\nweight: 0\n" +
		"enabled: true\nindicator: false\nreferences:\n  \"CIS 8.1\":\n    - 5.20\nquery:\n"
)

var dialectFiles = map[string]dialectFile{
	"datediff": {text: firstDialect, queries: []string{`
select profile.login as resource, 'user' as resource_type, last_login as detail,
  case when datediff('day', cast(last_login as date), current_date()) < 90 then 1 else 0 end as compliance
from {{ ref('okta_users') }} where status = 'ACTIVE'`}},
	"semicolon": {text: firstDialect, queries: []string{`
SELECT u.profile.login AS resource, 'user' AS resource_type, CASE WHEN e.user.email IS NOT NULL THEN 1 ELSE 0 END AS compliance,
  u.profile.login AS detail
FROM {{ ref("okta_users") }} AS u
LEFT JOIN {{ref('knowbe4_enrollments')}} AS e
  ON u.profile.login = e.user.email AND datediff('day', cast(e.completion_date as date), current_date()) <= 365
WHERE u.status = 'ACTIVE';`}},
	"alias": {text: firstDialect, queries: []string{`
SELECT host.hostname AS resource, 'host' as resource_type, CASE WHEN cve.aid IS NULL THEN 1 ELSE 0 END AS compliance, '' AS detail
FROM {{ ref('crowdstrike_hosts') }} AS host
LEFT JOIN {{ ref('crowdstrike_vulnerabilities') }} AS cve
  ON host.device_id = cve.aid AND cve.severity IN ('HIGH', 'CRITICAL') AND cve.status IN ('open', 'reopen')
  AND cast(cve.published_date as date) < CURRENT_DATE - INTERVAL '14 DAY'
  AND cast(cve.created_timestamp as date) < CURRENT_DATE - INTERVAL '30 DAY';`}},
	"coalesce": {text: firstDialect, queries: []string{`
SELECT host.hostname AS resource, 'host' as resource_type, CASE WHEN cve.aid IS NULL THEN 1 ELSE 0 END AS compliance, '' AS detail
FROM {{ ref('crowdstrike_hosts') }} AS host
LEFT JOIN {{ ref('crowdstrike_vulnerabilities') }} AS cve
  ON host.device_id = cve.aid AND coalesce(cve.cve.remediation_level = 'O', false) AND coalesce(cve.cve.exploit_status > 0, false) IS TRUE`}},
	"nested": {text: firstDialect, queries: []string{`
SELECT p.attributes.name AS resource, 'code' as resource_type,
  CASE WHEN i.relationships.scan_item.data.id IS NULL THEN 1 ELSE 0 END AS compliance, p.attributes.target_file AS detail
FROM {{ ref('snyk_projects') }} AS p
LEFT JOIN {{ ref('snyk_issues') }} AS i
  ON p.id = i.relationships.scan_item.data.id AND i.attributes.status = 'open'`}},
	"subtraction": {text: secondDialect, queries: []string{`
SELECT u.profile.login AS resource, 'user' AS resource_type,
  u.status || ' - ' || (CURRENT_DATE - CAST(u.last_login AS DATE)) || ' days' AS detail,
  CASE WHEN CURRENT_DATE - CAST(u.last_login AS DATE) < 90 THEN 0.5 ELSE 0 END AS compliance
FROM {{ ref('okta_users') }} AS u`}},
	"two_queries": {text: secondDialect, queries: []string{`
SELECT host.hostname AS resource, 'host' AS resource_type,
  CASE WHEN CURRENT_DATE - CAST(cve.published_date AS DATE) < 21 THEN 1 ELSE 0 END AS compliance,
  'A : ' || cve.cve.id || '(' || cve.severity || ') - ' || unnest(cve.remediation.entities).title AS detail
FROM {{ ref('crowdstrike_hosts') }} AS host
LEFT JOIN {{ ref('crowdstrike_vulnerabilities') }} AS cve ON host.device_id = cve.aid AND cve.status IN ('open', 'reopen')
WHERE CURRENT_DATE - CAST(STRPTIME(host.last_seen, '%Y-%m-%dT%H:%M:%SZ') AS DATE) < 30 AND cve.severity IN ('HIGH', 'CRITICAL')`, `
SELECT v.asset.hostname as resource, 'host' AS resource_type,
  CASE WHEN v.state NOT IN ('OPEN', 'REOPENED') THEN 1 WHEN CURRENT_DATE - CAST(v.first_found AS DATE) < 14 THEN 1 ELSE 0 END AS compliance,
  'B : ' || unnest(v.plugin.cve) || '(' || v.severity || ')' AS detail
FROM {{ ref('tenable_vulnerabilities') }} AS v
WHERE CURRENT_DATE - CAST(v.last_found AS DATE) < 30 AND v.plugin.exploit_available is true AND v.plugin.has_patch IS FALSE`}},
	"groups": {text: secondDialect, queries: []string{`
SELECT host.hostname AS resource, 'host' as resource_type, CASE WHEN count(cve.aid) = 0 THEN 1 ELSE 0 END AS compliance,
  CAST(count(cve.*) as text) AS detail
FROM {{ ref('crowdstrike_hosts') }} AS host
LEFT JOIN {{ ref('crowdstrike_vulnerabilities') }} AS cve ON host.device_id = cve.aid AND cve.severity NOT IN ('HIGH', 'CRITICAL')
WHERE CURRENT_DATE - CAST(STRPTIME(host.last_seen, '%Y-%m-%dT%H:%M:%SZ') AS DATE) < 30
GROUP BY host.hostname`, `
SELECT a.name AS resource, 'host' AS resource_type, CASE WHEN count(v.plugin.id) = 0 THEN 1 ELSE 0 END AS compliance,
  CAST(count(v.plugin) AS text) AS detail
FROM {{ ref('tenable_assets') }} AS a
LEFT JOIN {{ ref('tenable_vulnerabilities') }} AS v ON a.id = v.asset.uuid
WHERE CURRENT_DATE - CAST(a.last_seen AS DATE) < 30 GROUP BY a.name`}},
	"lists": {text: secondDialect, queries: []string{`
SELECT domain AS resource, 'domain' as resource_type,
  CASE when mx == [] then 1 when cast(txt as string) like '%v=spf1%' then 1 else 0 end as compliance,
  CASE WHEN expiration_date <= CURRENT_DATE + INTERVAL 30 DAY THEN 'soon' ELSE 'later' END as detail
FROM {{ ref('domains') }}`}},
}

// dialectEstate has records that make each case of the queries true for one and false for
// another.
func dialectEstate() map[string][]string {
	seconds := func(days int) string { return ago(days)[:19] + "Z" }
	return map[string][]string{
		"okta_users": {
			fmt.Sprintf(`{"id":"1","status":"ACTIVE","last_login":%q,"profile":{"login":"a@x"}}`, seconds(3)),
			fmt.Sprintf(`{"id":"2","status":"ACTIVE","last_login":%q,"profile":{"login":"b@x"}}`, seconds(300)),
			`{"id":"3","status":"ACTIVE","last_login":null,"profile":{"login":"c@x"}}`,
			fmt.Sprintf(`{"id":"4","status":"SUSPENDED","last_login":%q,"profile":{"login":"d@x"}}`, seconds(1)),
		},
		"knowbe4_enrollments": {
			fmt.Sprintf(`{"user":{"email":"a@x"},"completion_date":%q}`, seconds(20)),
			fmt.Sprintf(`{"user":{"email":"b@x"},"completion_date":%q}`, seconds(500)), `{"user":{"email":"c@x"},"completion_date":null}`,
		},
		"crowdstrike_hosts": {
			fmt.Sprintf(`{"device_id":"1","hostname":"one","last_seen":%q}`, seconds(1)), fmt.Sprintf(`{"device_id":"2","hostname":"two","last_seen":%q}`, seconds(2)),
			fmt.Sprintf(`{"device_id":"3","hostname":"away","last_seen":%q}`, seconds(99)),
		},
		"crowdstrike_vulnerabilities": {
			fmt.Sprintf(`{"aid":"1","status":"open","created_timestamp":%q,"cve":{"id":"CVE-1","severity":"HIGH","published_date":%q,"remediation_level":"O","exploit_status":30},"remediation":{"entities":[{"title":"update"},{"title":"restart"}]}}`, seconds(40), seconds(50)),
			fmt.Sprintf(`{"aid":"2","status":"reopen","created_timestamp":%q,"cve":{"id":"CVE-2","severity":"CRITICAL","published_date":%q,"remediation_level":"U","exploit_status":0},"remediation":{"entities":[]}}`, seconds(4), seconds(5)),
			fmt.Sprintf(`{"aid":"2","status":"closed","created_timestamp":%q,"cve":{"id":"CVE-3","severity":"LOW","published_date":%q},"remediation":{"entities":[{"title":"none"}]}}`, seconds(4), seconds(5)),
		},
		"tenable_assets": {fmt.Sprintf(`{"id":"t1","name":"first","last_seen":%q}`, ago(2)), fmt.Sprintf(`{"id":"t2","name":"second","last_seen":%q}`, ago(3))},
		"tenable_vulnerabilities": {
			fmt.Sprintf(`{"asset":{"uuid":"t1","hostname":"first"},"state":"OPEN","severity":"high","first_found":%q,"last_found":%q,"plugin":{"id":7,"cve":["CVE-7","CVE-8"],"has_patch":false,"exploit_available":true}}`, ago(60), ago(1)),
			fmt.Sprintf(`{"asset":{"uuid":"t2","hostname":"second"},"state":"FIXED","severity":"low","first_found":%q,"last_found":%q,"plugin":{"id":8,"cve":["CVE-9"],"has_patch":false,"exploit_available":true}}`, ago(60), ago(1)),
		},
		"snyk_projects": {`{"id":"p1","attributes":{"name":"good","target_file":"go.mod"}}`, `{"id":"p2","attributes":{"name":"bad","target_file":null}}`},
		"snyk_issues":   {`{"id":"i1","attributes":{"status":"open"},"relationships":{"scan_item":{"data":{"id":"p2"}}}}`},
		"domains": {
			fmt.Sprintf(`{"domain":"a.example","mx":[],"txt":["x"],"expiration_date":%q}`, seconds(-10)),
			fmt.Sprintf(`{"domain":"b.example","mx":["m"],"txt":["v=spf1 -all"],"expiration_date":%q}`, seconds(-400)),
			fmt.Sprintf(`{"domain":"c.example","mx":["m"],"txt":[],"expiration_date":%q}`, seconds(-400)),
		},
	}
}

// TestFilesOfBothDialects checks that each control returns the rows that DuckDB itself
// returns for its queries over the records as JSON files, which is how the programs of the
// two dialects read them.
func TestFilesOfBothDialects(t *testing.T) {
	t.Parallel()
	dir, data := t.TempDir(), t.TempDir()
	for name, file := range dialectFiles {
		text := fmt.Sprintf(file.text, name)
		for _, sql := range file.queries {
			if file.text == secondDialect {
				text += "  - |\n"
			}
			text += regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimPrefix(sql, "\n"), "    ") + "\n"
		}
		writeText(t, filepath.Join(dir, "metric_"+name+".yml"), text)
	}
	streams := dialectEstate()
	for stream, records := range streams {
		writeText(t, filepath.Join(data, stream+".json"), strings.Join(records, "\n"))
	}
	bare, err := duckdb.Open(t.Context(), "", duckdb.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	got := map[string][]string{}
	problems, err := newPreviewer(t, streams, dir).Preview(t.Context(), nil, true, func(one control.Preview) error {
		if one.State != control.Measured || one.Note != "" {
			t.Errorf("%s is %s: %s %s", one.ID, one.State, one.Err, one.Note)
		}
		for _, row := range one.Rows {
			got[one.ID] = append(got[one.ID], fmt.Sprintf("%s|%s|%v|%s", row.Resource, row.ResourceType, *row.Compliance, row.Detail))
		}
		return nil
	})
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, error %v", problems, err)
	}
	for name, file := range dialectFiles {
		var want []string
		for _, sql := range file.queries {
			want = append(want, readBare(t, bare, data, file, sql)...)
		}
		slices.Sort(want)
		slices.Sort(got[name])
		if diff := cmp.Diff(want, got[name]); diff != "" || len(want) == 0 {
			t.Errorf("%s (-DuckDB +control):\n%s", name, diff)
		}
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reference matches a reference to a stream in a query.
var reference = regexp.MustCompile(`\{\{\s*ref\(['"](\w+)['"]\)\s*\}\}`)

// readBare returns the rows of a query over JSON files. The program of the second dialect
// reads the times of hosts as text.
func readBare(t *testing.T, db *duckdb.DB, data string, file dialectFile, sql string) (list []string) {
	t.Helper()
	sql = reference.ReplaceAllStringFunc(sql, func(text string) string {
		stream := reference.FindStringSubmatch(text)[1]
		path := duckdb.Literal(filepath.Join(data, stream+".json"))
		if stream == "crowdstrike_hosts" && file.text == secondDialect {
			return "read_json(" + path + ", columns={'last_seen': 'VARCHAR', 'device_id': 'VARCHAR', 'hostname': 'VARCHAR'})"
		}
		return "read_json_auto(" + path + ")"
	})
	rows, err := db.QueryContext(t.Context(), "SELECT resource, resource_type, compliance::DOUBLE, coalesce(detail::VARCHAR, '') FROM ("+
		strings.TrimRight(sql, "; \n")+")")
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	for rows.Next() {
		var resource, kind, detail string
		var compliance float64
		if err := rows.Scan(&resource, &kind, &compliance, &detail); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s|%s|%v|%s", resource, kind, compliance, detail))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
