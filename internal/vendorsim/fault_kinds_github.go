package vendorsim

import "time"

var gitHubFaultKinds = []FaultKind{
	gitHubBehaves("organisations left out for single sign-on", func(b *GitHubBehaviour) { b.HiddenOrganizations = 1 }),
	gitHubBehaves("single sign-on required", func(b *GitHubBehaviour) { b.SignOn = true }),
	gitHubBehaves("public members only", func(b *GitHubBehaviour) { b.Outsider = true }),
	gitHubBehaves("secrets shown", func(b *GitHubBehaviour) { b.ShowSecrets = true }),
	gitHubBehaves("tokens of installations expire soon", func(b *GitHubBehaviour) { b.TokenLife = 2 * time.Second }),
	{Name: "tokens of installations revoked", Vendor: "github", inject: func(f *FaultInjection) {
		f.whileRead(func() { f.host.vendor.(*GitHub).Revoke() })
	}},
	{Name: "403 of the secondary limit", Vendor: "github", inject: func(f *FaultInjection) {
		f.spread(Status(403, `{"message":"You have exceeded a secondary rate limit."}`, "Retry-After", f.retryAfter()))
	}},
	{Name: "quota used by others", Vendor: "github", inject: func(f *FaultInjection) {
		f.limitRequests("github-hour", LimitNumbers{Max: 5, Window: time.Minute})
	}},
	{Name: "secondary limit without Retry-After", Vendor: "github", inject: func(f *FaultInjection) {
		g := f.host.vendor.(*GitHub)
		g.ConfigureAccount(func(b *GitHubBehaviour) { b.SilentSecondary = true })
		f.limitRequests("github-minute", LimitNumbers{Max: 5, Window: time.Minute})
		f.undo = append(f.undo, func() { g.ConfigureAccount(func(b *GitHubBehaviour) { b.SilentSecondary = false }) })
	}},
	{Name: "permission missing", Vendor: "github", inject: func(f *FaultInjection) { f.forbidGitHub(false) }},
	{Name: "404 for lack of permission", Vendor: "github", inject: func(f *FaultInjection) { f.forbidGitHub(true) }},
	{Name: "organisation deleted while it is read", Vendor: "github", Hides: true, inject: func(f *FaultInjection) {
		g, org := f.host.vendor.(*GitHub), f.draw.Random.IntN(f.host.server.RecordCount(GitHubOrganizations))
		f.gone = true
		f.whileRead(func() {
			for _, stream := range f.host.Streams() {
				for i := range f.host.server.RecordCount(stream) {
					if g.Organization(stream, i) == org {
						f.hideRecord(stream, i)
					}
				}
			}
			g.DeleteOrganization(org)
		})
	}},
}

func gitHubBehaves(name string, set func(b *GitHubBehaviour)) FaultKind {
	return FaultKind{Name: name, Vendor: "github", inject: func(f *FaultInjection) {
		g := f.host.vendor.(*GitHub)
		f.undo = append(f.undo, func() { g.ConfigureAccount(func(b *GitHubBehaviour) { *b = GitHubBehaviour{} }) })
		g.ConfigureAccount(set)
	}}
}

// forbidGitHub takes the permission to read a stream in one organisation from the token.
func (f *FaultInjection) forbidGitHub(notFound bool) {
	g, streams := f.host.vendor.(*GitHub), f.host.Streams()
	stream := streams[f.draw.Random.IntN(len(streams))]
	g.ConfigureAccount(func(b *GitHubBehaviour) { b.ForbiddenNotFound = notFound })
	g.Forbid(stream, f.draw.Random.IntN(f.host.server.RecordCount(GitHubOrganizations)))
	f.undo = append(f.undo, func() {
		g.allowAll(stream)
		g.ConfigureAccount(func(b *GitHubBehaviour) { b.ForbiddenNotFound = false })
	})
}
