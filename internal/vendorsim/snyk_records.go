package vendorsim

import "time"

// Specs describes the four streams.
func (s *Snyk) Specs(g Gen) []Spec {
	uuid := func(kind string) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUUID(dst, g.Hash(kind, r.Index)) }
	}
	word := func(f func(Rec) string) Slot {
		return func(dst []byte, r Rec) []byte { return append(dst, f(r)...) }
	}
	org := func(stream string) Slot {
		return func(dst []byte, r Rec) []byte {
			return AppendUUID(dst, g.Hash(SnykOrganizations, s.Organization(stream, r.Index)))
		}
	}
	at := func(least uint64) Slot {
		return func(dst []byte, r Rec) []byte {
			return AppendUnix(dst, g.Base.Add(-time.Minute*time.Duration(least+r.Hash>>16%100000)).Unix(), ".000Z")
		}
	}
	n := func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) }
	return []Spec{
		{
			Name: SnykOrganizations, Count: 12, Bytes: 420, Templates: snykOrgTemplates, ID: uuid(SnykOrganizations),
			Slots: map[string]Slot{"id": uuid(SnykOrganizations), "n": n, "group": uuid("snyk group"), "created": at(200000), "updated": at(1)},
		},
		{
			Name: SnykMembers, Count: 200, Bytes: 220, Templates: snykMemberTemplates, ID: uuid(SnykMembers),
			Slots: map[string]Slot{"id": uuid(SnykMembers), "n": n},
		},
		{
			Name: SnykProjects, Count: 600, Bytes: 1300, Templates: snykProjectTemplates, ID: uuid(SnykProjects),
			Slots: map[string]Slot{
				"id": uuid(SnykProjects), "n": n, "org": org(SnykProjects), "target": uuid("snyk target"),
				"type": word(snykProjectType), "created": at(100000),
			},
		},
		{
			Name: SnykIssues, Count: 3000, Bytes: 2200, HugeBytes: 64 << 10, Templates: snykIssueTemplates, ID: uuid(SnykIssues),
			Slots: map[string]Slot{
				"id": uuid(SnykIssues), "n": n, "org": org(SnykIssues),
				// The project at the same position of the first cycle belongs
				// to the same organisation.
				"project": func(dst []byte, r Rec) []byte {
					return AppendUUID(dst, g.Hash(SnykProjects, r.Index%len(s.items.cycle)))
				},
				"type": word(snykIssueType), "severity": word(snykSeverity), "status": word(snykStatus),
				"created": at(100000), "updated": at(1),
			},
		},
	}
}

func snykProjectType(r Rec) string {
	return [...]string{"npm", "maven", "pip", "dockerfile", "sast"}[r.Hash>>8%5]
}

func snykIssueType(r Rec) string {
	return [...]string{"package_vulnerability", "license", "code", "config"}[r.Hash>>8%4]
}

func snykSeverity(r Rec) string {
	return [...]string{"low", "medium", "high", "critical"}[r.Hash>>12%4]
}

func snykStatus(r Rec) string {
	if r.Hash>>20%3 == 0 {
		return "resolved"
	}
	return "open"
}

const snykOrgLink = `"organization":{"data":{"type":"org","id":"<<org>>"},"links":{"related":"/rest/orgs/<<org>>"}}`

// Templates of the four kinds of records.
var (
	snykOrgTemplates = []string{
		`{"id":"<<id>>","type":"org","attributes":{"group_id":"<<group>>","is_personal":false,"name":"Organisation <<n>> \"]}\" Ünï","slug":"organisation-<<n>>",` +
			`"created_at":"<<created>>","updated_at":"<<updated>>","about":"<<text>>"},"relationships":{"member_role":{"data":{"id":"<<group>>","type":"org_role"}}}<<edge>>}`,
		`{"id":"<<id>>","type":"org","attributes":{"is_personal":true,"name":"person<<n>>","slug":"person<<n>>","created_at":"<<created>>","updated_at":null}<<edge>>}`,
	}
	snykMemberTemplates = []string{
		`{"id":"<<id>>","name":"名 <<n>>","username":"user<<n>>","email":"user<<n>>@example.test","role":"admin"<<edge>>}`,
		`{"id":"<<id>>","name":null,"username":"svc-<<n>>","email":null,"role":"collaborator","about":"<<text>>"<<edge>>}`,
	}
	snykProjectTemplates = []string{
		`{"type":"project","id":"<<id>>","meta":{},"attributes":{"name":"example/app-<<n>>:package.json","type":"<<type>>","origin":"github","status":"active","target_file":"package.json",` +
			`"target_reference":"main","target_runtime":"","tags":[{"key":"team","value":"<<text>>"}],"created":"<<created>>","business_criticality":[],"environment":[],"lifecycle":[],"read_only":false,` +
			`"settings":{"recurring_tests":{"frequency":"daily"},"pull_requests":{}}},` +
			`"relationships":{` + snykOrgLink + `,"target":{"data":{"type":"target","id":"<<target>>"},"links":{}},"importer":{"data":null}}<<edge>>}`,
		`{"type":"project","id":"<<id>>","attributes":{"name":"image-<<n>>","type":"<<type>>","origin":"cli","status":"inactive","target_file":null,"tags":[],"created":"<<created>>","about":"<<text>>"},` +
			`"relationships":{` + snykOrgLink + `,"target":{"data":{"type":"target","id":"<<target>>"}}}<<edge>>}`,
	}
	snykIssueTemplates = []string{
		`{"id":"<<id>>","type":"issue","attributes":{"key":"SNYK-JS-EXAMPLE-<<n>>","title":"<<text>>","type":"<<type>>","created_at":"<<created>>","updated_at":"<<updated>>","status":"<<status>>","ignored":false,` +
			`"effective_severity_level":"<<severity>>","description":null,"problems":[{"id":"SNYK-JS-EXAMPLE-<<n>>","source":"SNYK","type":"vulnerability","updated_at":"<<updated>>"},{"id":"CWE-79","source":"CWE","type":"weakness"}],` +
			`"coordinates":[{"is_upgradeable":true,"is_pinnable":false,"is_patchable":false,"is_fixable_snyk":true,"reachability":"function","representations":[{"dependency":{"package_name":"example","package_version":"1.0.0"}}]}],` +
			`"classes":[{"id":"CWE-79","source":"CWE","type":"weakness"}],"risk":{"factors":[{"name":"exploit_maturity","value":true}],"score":{"model":"v1","value":8.250}}},` +
			`"relationships":{` + snykOrgLink + `,"scan_item":{"data":{"type":"project","id":"<<project>>"}}}<<edge>>}`,
		`{"id":"<<id>>","type":"issue","attributes":{"key":"<<id>>","title":"Hard-coded </secret>","type":"<<type>>","created_at":"<<created>>","updated_at":"<<updated>>","status":"<<status>>","ignored":true,` +
			`"effective_severity_level":"<<severity>>","tool":"snyk://<<id>>","coordinates":[{"representations":[{"sourceLocation":{"file":"a\\b.js","region":{"start":{"line":1,"column":2}}}}]}],"about":"<<text>>"},` +
			`"relationships":{` + snykOrgLink + `,"scan_item":{"data":{"type":"project","id":"<<project>>"}}}<<edge>>}`,
	}
)
