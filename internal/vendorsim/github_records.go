package vendorsim

import "time"

// Specs describes the seven streams.
func (g *GitHub) Specs(gen Gen) []Spec {
	n := func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) }
	number := func(least int) Slot {
		return func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(least+r.Index)) }
	}
	at := func(least uint64) Slot {
		return func(dst []byte, r Rec) []byte {
			return AppendUnix(dst, gen.Base.Add(-time.Minute*time.Duration(least+r.Hash>>16%100000)).Unix(), "Z")
		}
	}
	word := func(words ...string) Slot {
		return func(dst []byte, r Rec) []byte { return append(dst, words[r.Hash>>8%uint64(len(words))]...) }
	}
	spec := func(name string, count, bytes, least int, templates []string, more map[string]Slot) Spec {
		s := Spec{Name: name, Count: count, Bytes: bytes, Templates: templates, ID: number(least), Slots: map[string]Slot{"id": number(least), "n": n}}
		for slot, value := range more {
			s.Slots[slot] = value
		}
		return s
	}
	org := func(stream string) Slot {
		return func(dst []byte, r Rec) []byte { return append(dst, g.Login(g.Organization(stream, r.Index))...) }
	}
	repo := func(stream string) Slot {
		return func(dst []byte, r Rec) []byte {
			return append(dst, g.RepositoryName(g.Repository(stream, r.Index))...)
		}
	}
	alert := func(stream string, more map[string]Slot) map[string]Slot {
		slots := map[string]Slot{"org": org(stream), "repo": repo(stream), "created": at(9), "updated": at(1)}
		for slot, value := range more {
			slots[slot] = value
		}
		return slots
	}
	specs := []Spec{
		spec(GitHubOrganizations, 4, 900, 9000, gitHubOrgTemplates, map[string]Slot{"org": org(GitHubOrganizations), "created": at(200000)}),
		spec(GitHubRepositories, 60, 3000, 20000, gitHubRepoTemplates, map[string]Slot{
			"org": org(GitHubRepositories), "repo": repo(GitHubRepositories), "created": at(90000), "updated": at(1),
			"branch": func(dst []byte, r Rec) []byte { return append(dst, g.Branch(r.Index)...) },
		}),
		spec(GitHubMembers, 120, 700, 50000, gitHubMemberTemplates, nil),
		spec(GitHubDependabot, 800, 3500, 1, gitHubDependabotTemplates, alert(GitHubDependabot, map[string]Slot{"state": word("open", "fixed", "dismissed", "auto_dismissed"), "severity": word("low", "medium", "high", "critical")})),
		spec(GitHubCode, 500, 2500, 1, gitHubCodeTemplates, alert(GitHubCode, map[string]Slot{"state": word("open", "fixed", "dismissed"), "severity": word("note", "warning", "error")})),
		spec(GitHubSecrets, 100, 1500, 1, gitHubSecretTemplates, alert(GitHubSecrets, map[string]Slot{"state": word("open", "resolved")})),
		spec(GitHubRules, 90, 300, 1, gitHubRuleTemplates, map[string]Slot{"org": org(GitHubRules)}),
	}
	specs[3].HugeBytes = 64 << 10
	return specs
}

const gitHubRepository = `"repository":{"id":<<n>>,"name":"<<repo>>","full_name":"<<org>>/<<repo>>","private":true,"owner":{"login":"<<org>>","id":1,"type":"Organization"}}`

// Templates of the seven kinds of records.
var (
	gitHubOrgTemplates = []string{
		`{"login":"<<org>>","id":<<id>>,"node_id":"O_<<n>>","url":"https://api.example.test/orgs/<<org>>","description":"<<text>>","name":"Organisation <<n>> \"]}\" Ünï",` +
			`"public_repos":1,"total_private_repos":100,"two_factor_requirement_enabled":true,"created_at":"<<created>>","type":"Organization"<<edge>>}`,
	}
	gitHubRepoTemplates = []string{
		`{"id":<<id>>,"node_id":"R_<<n>>","name":"<<repo>>","full_name":"<<org>>/<<repo>>","private":true,"owner":{"login":"<<org>>","id":1,"type":"Organization"},` +
			`"description":"<<text>>","fork":false,"created_at":"<<created>>","updated_at":"<<updated>>","pushed_at":"<<updated>>","size":<<n>>,"language":"Go","archived":false,"disabled":false,` +
			`"license":{"key":"mit","name":"MIT License"},"topics":["a","b"],"visibility":"internal","default_branch":"<<branch>>","security_and_analysis":{"secret_scanning":{"status":"enabled"}}<<edge>>}`,
		`{"id":<<id>>,"name":"<<repo>>","full_name":"<<org>>/<<repo>>","private":false,"owner":{"login":"<<org>>","id":1,"type":"Organization"},"description":null,"fork":true,` +
			`"created_at":"<<created>>","updated_at":"<<updated>>","pushed_at":null,"language":null,"archived":true,"license":null,"topics":[],"visibility":"public","default_branch":"<<branch>>","about":"<<text>>"<<edge>>}`,
	}
	gitHubMemberTemplates = []string{
		`{"login":"user<<n>>","id":<<id>>,"node_id":"U_<<n>>","avatar_url":"https://avatars.example.test/u/<<n>>","type":"User","user_view_type":"public","site_admin":false,"html_url":"https://example.test/user<<n>>","about":"<<text>>"<<edge>>}`,
	}
	gitHubDependabotTemplates = []string{
		`{"number":<<id>>,"state":"<<state>>","dependency":{"package":{"ecosystem":"npm","name":"example"},"manifest_path":"a\\b/package-lock.json","scope":"runtime"},` +
			`"security_advisory":{"ghsa_id":"GHSA-<<n>>","cve_id":null,"summary":"<<text>>","severity":"<<severity>>","cvss":{"score":9.80},"identifiers":[{"value":"GHSA-<<n>>","type":"GHSA"}]},` +
			`"security_vulnerability":{"vulnerable_version_range":"< 2.0.0","first_patched_version":{"identifier":"2.0.0"}},"url":"https://api.example.test/<<n>>","created_at":"<<created>>","updated_at":"<<updated>>",` +
			`"dismissed_at":null,"dismissed_by":null,"fixed_at":null,"auto_dismissed_at":null,` + gitHubRepository + `<<edge>>}`,
	}
	gitHubCodeTemplates = []string{
		`{"number":<<id>>,"created_at":"<<created>>","updated_at":"<<updated>>","state":"<<state>>","fixed_at":null,"dismissed_by":null,"rule":{"id":"go/x","severity":"<<severity>>","description":"<<text>>","tags":["security"]},` +
			`"tool":{"name":"CodeQL","version":"2.17.0"},"most_recent_instance":{"ref":"refs/heads/main","location":{"path":"a.go","start_line":1,"end_line":2},"message":{"text":"</script>"}},` + gitHubRepository + `<<edge>>}`,
	}
	gitHubSecretTemplates = []string{
		`{"number":<<id>>,"created_at":"<<created>>","updated_at":"<<updated>>","state":"<<state>>","secret_type":"aws_access_key_id","secret_type_display_name":"Amazon AWS","secret":null,"validity":"unknown",` +
			`"push_protection_bypassed":false,"about":"<<text>>",` + gitHubRepository + `<<edge>>}`,
	}
	gitHubRuleTemplates = []string{
		`{"type":"pull_request","ruleset_source_type":"Organization","ruleset_source":"<<org>>","ruleset_id":<<id>>,"parameters":{"required_approving_review_count":1,"dismiss_stale_reviews_on_push":true}<<edge>>}`,
		`{"type":"non_fast_forward","ruleset_source_type":"Repository","ruleset_source":"<<org>>/x","ruleset_id":<<id>><<edge>>}`,
	}
)
