package vendorsim

import (
	"strings"
	"time"
)

var snykFaultKinds = []FaultKind{
	snykBehaves("next page without /rest", func(b *SnykBehaviour) { b.Next = SnykNextShort }),
	snykBehaves("next page with its host", func(b *SnykBehaviour) { b.Next = SnykNextAbsolute }),
	snykBehaves("next page is an object", func(b *SnykBehaviour) { b.Next = SnykNextObject }),
	snykBehaves("next page without its parameters", func(b *SnykBehaviour) { b.Next = SnykNextBare }),
	snykBehaves("next page is null", func(b *SnykBehaviour) { b.End = SnykEndNull }),
	snykBehaves("next page is an empty text", func(b *SnykBehaviour) { b.End = SnykEndEmpty }),
	snykBehaves("no links at the end", func(b *SnykBehaviour) { b.End = SnykEndNoLinks }),
	snykBehaves("empty last page", func(b *SnykBehaviour) { b.EmptyLast = true }),
	snykBehaves("empty pages between", func(b *SnykBehaviour) { b.EmptyBetween = true }),
	snykBehaves("empty last page that leads to itself", func(b *SnykBehaviour) { b.EmptyLast, b.EmptyLoops = true, true }),
	snykBehaves("tokens expire soon", func(b *SnykBehaviour) { b.TokenLife = 2 * time.Second }),
	{Name: "tokens revoked", Vendor: "snyk", inject: func(f *FaultInjection) {
		f.whileRead(func() { f.host.vendor.(*Snyk).Revoke() })
	}},
	snykBehaves("end of the API version announced", func(b *SnykBehaviour) { b.Aging = true }),
	{Name: "quota used by others", Vendor: "snyk", inject: func(f *FaultInjection) {
		f.limitRequests("snyk-minute", LimitNumbers{Max: 3, Window: time.Minute})
	}},
	{Name: "403 for lack of permission", Vendor: "snyk", Hides: true, inject: func(f *FaultInjection) { f.forbidOrganizations(false) }},
	{Name: "404 for lack of permission", Vendor: "snyk", Hides: true, inject: func(f *FaultInjection) { f.forbidOrganizations(true) }},
	{Name: "organisation deleted while it is read", Vendor: "snyk", Hides: true, inject: func(f *FaultInjection) {
		s, org := f.host.vendor.(*Snyk), f.draw.Random.IntN(f.host.server.RecordCount(SnykOrganizations))
		f.gone = true
		f.whileRead(func() {
			for _, stream := range []string{SnykOrganizations, SnykMembers, SnykProjects, SnykIssues} {
				f.hideOrganization(stream, org)
			}
			s.Delete(org)
		})
	}},
}

func snykBehaves(name string, set func(b *SnykBehaviour)) FaultKind {
	return FaultKind{Name: name, Vendor: "snyk", inject: func(f *FaultInjection) {
		s := f.host.vendor.(*Snyk)
		f.undo = append(f.undo, func() { s.ChangeBehaviour(func(b *SnykBehaviour) { *b = SnykBehaviour{} }) })
		s.ChangeBehaviour(set)
	}}
}

// forbidOrganizations takes the permission to read a stream in one or two
// organisations from the token.
func (f *FaultInjection) forbidOrganizations(notFound bool) {
	s, count := f.host.vendor.(*Snyk), f.host.server.RecordCount(SnykOrganizations)
	streams := []string{SnykMembers, SnykProjects, SnykIssues}
	stream := streams[f.draw.Random.IntN(len(streams))]
	orgs := []int{f.draw.Random.IntN(count), f.draw.Random.IntN(count)}
	for _, org := range orgs {
		f.hideOrganization(stream, org)
	}
	s.ChangeBehaviour(func(b *SnykBehaviour) { b.ForbiddenNotFound = notFound })
	s.Forbid(stream, orgs...)
	f.undo = append(f.undo, func() { s.allowAll(stream) })
}

// hideOrganization hides the records of an organisation in a stream.
func (f *FaultInjection) hideOrganization(stream string, org int) {
	for i := range f.host.server.RecordCount(stream) {
		if f.host.vendor.(*Snyk).Organization(stream, i) == org {
			f.hideRecord(stream, i)
		}
	}
}

var crowdstrikeFaultKinds = []FaultKind{
	falconBehaves("totals drift", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.Drift = 3 }),
	falconBehaves("hidden hosts are counted", func(f *FaultInjection, c *CrowdStrikeConfig) { c.HiddenHosts = 1 + f.draw.Random.IntN(12) }),
	falconBehaves("hidden vulnerabilities are counted", func(f *FaultInjection, c *CrowdStrikeConfig) { c.HiddenVulns = 1 + f.draw.Random.IntN(12) }),
	falconBehaves("cursors expire soon", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.CursorLife = time.Second }),
	falconBehaves("tokens expire soon", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.TokenLife = 2 * time.Second }),
	falconBehaves("tokens expire after some calls", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.TokenCalls = 5 }),
	falconBehaves("last page without a cursor", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.CleanEnd = true }),
	falconBehaves("empty last page of hosts", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.EmptyLast = true }),
	falconBehaves("no cursor for hosts", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.NumericOffset = true }),
	falconBehaves("no combined listing", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.NoCombined = true }),
	falconBehaves("errors for unknown assessments", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.AssessmentErrors = true }),
	falconBehaves("404 for unknown assessments", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.AssessmentNotFound = true }),
	falconBehaves("few assessments at once", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.MaxAssessments = 30 }),
	falconBehaves("long URLs refused", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.MaxURL = 2000 }),
	falconBehaves("times in filters ignored", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.IgnoreTimes = true }),
	falconBehaves("records without a creation time", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.Untimed = 7 }),
	falconBehaves("quota headers missing", func(_ *FaultInjection, c *CrowdStrikeConfig) { c.HideQuota = true }),
	falconBehaves("permission missing", func(f *FaultInjection, c *CrowdStrikeConfig) {
		streams := []string{CrowdStrikeHosts, CrowdStrikeVulns, CrowdStrikeZTA}
		c.Forbidden = map[string]bool{streams[f.draw.Random.IntN(3)]: true}
	}),
	{Name: "hosts removed while they are read", Vendor: "crowdstrike", Hides: true, inject: func(f *FaultInjection) {
		gone := map[int]bool{}
		for range 1 + f.draw.Random.IntN(3) {
			i := f.draw.Random.IntN(f.host.server.RecordCount(CrowdStrikeHosts))
			gone[i] = true
			f.hideRecord(CrowdStrikeHosts, i)
			f.hideRecord(CrowdStrikeZTA, i)
		}
		f.gone = true
		f.configureFalcon(func(c *CrowdStrikeConfig) { c.Gone = gone })
	}},
	{Name: "rows that move behind the cursor", Vendor: "crowdstrike", Hides: true, inject: func(f *FaultInjection) {
		count := f.host.server.RecordCount(CrowdStrikeVulns)
		for range 1 + f.draw.Random.IntN(4) {
			first, n := f.draw.Random.IntN(count), 1+f.draw.Random.IntN(20)
			f.whileRead(func() {
				for i := first; i < min(first+n, count); i++ {
					f.host.vendor.(*CrowdStrike).UpdateVulnerabilities(i)
				}
			})
		}
	}},
	{Name: "tokens revoked", Vendor: "crowdstrike", inject: func(f *FaultInjection) {
		f.whileRead(func() { f.host.vendor.(*CrowdStrike).Revoke() })
	}},
}

func falconBehaves(name string, set func(f *FaultInjection, c *CrowdStrikeConfig)) FaultKind {
	return FaultKind{Name: name, Vendor: "crowdstrike", inject: func(f *FaultInjection) {
		f.configureFalcon(func(c *CrowdStrikeConfig) { set(f, c) })
	}}
}

// configureFalcon changes the configuration until the fault is removed.
func (f *FaultInjection) configureFalcon(set func(c *CrowdStrikeConfig)) {
	c := f.host.vendor.(*CrowdStrike)
	f.undo = append(f.undo, func() { c.Configure(func(s *CrowdStrikeConfig) { *s = CrowdStrikeConfig{} }) })
	c.Configure(set)
}

var tenableFaultKinds = []FaultKind{
	exportBehaves("export died", func(_ *FaultInjection, s *TenableStream) { s.Next = []Outcome{OutcomeError} }),
	exportBehaves("export chunk failed", func(_ *FaultInjection, s *TenableStream) { s.Next = []Outcome{OutcomeChunkFailed} }),
	exportBehaves("export cancelled by others", func(_ *FaultInjection, s *TenableStream) { s.Next = []Outcome{OutcomeCancelled} }),
	longExport("exports wait long", func(s *TenableStream) { s.QueuedPolls = 20 }),
	longExport("exports die", func(s *TenableStream) { s.Always = OutcomeError }),
	longExport("chunks of all exports fail", func(s *TenableStream) { s.Always = OutcomeChunkFailed }),
	longExport("export stuck", func(s *TenableStream) { s.Next = []Outcome{OutcomeStuck} }),
	exportBehaves("status of 2018", func(_ *FaultInjection, s *TenableStream) { s.OldStatus = true }),
	exportBehaves("chunks before the end", func(_ *FaultInjection, s *TenableStream) { s.Ready = true }),
	exportBehaves("lagging list of exports", func(f *FaultInjection, s *TenableStream) { s.ListLag = 1 + f.draw.Random.IntN(4) }),
	exportBehaves("lagging status", func(f *FaultInjection, s *TenableStream) { s.StatusLag = 1 + f.draw.Random.IntN(4) }),
	exportBehaves("lagging chunks", func(f *FaultInjection, s *TenableStream) { s.ChunkLag = 1 + f.draw.Random.IntN(3) }),
	exportBehaves("plain response to a cancellation", func(_ *FaultInjection, s *TenableStream) { s.CancelForm = CancelPlain }),
	exportBehaves("permission missing", func(_ *FaultInjection, s *TenableStream) { s.Forbidden = true }),
	{Name: "running export of others", Vendor: "tenable", inject: func(f *FaultInjection) {
		forms := []DuplicateForm{Duplicate409ID, Duplicate409Empty, Duplicate429Message, Duplicate429Values, DuplicateCancelsOld}
		stream := f.exportStream()
		f.configureExport(stream, func(s *TenableStream) { s.Duplicates = forms[f.draw.Random.IntN(len(forms))] })
		body := map[string]string{
			TenableVulns: `{"num_assets":50,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`, TenableAssets: `{"chunk_size":1000,"filters":{}}`,
			TenableFindings: `{"num_findings":5000,"filters":{"since":1,"state":["OPEN","REOPENED","FIXED"]}}`,
		}[stream]
		if _, err := f.host.vendor.(*Tenable).ForeignJob(stream, body); err != nil {
			panic(err) // the bodies are valid
		}
	}},
	{Name: "chunks expire", Vendor: "tenable", inject: func(f *FaultInjection) { f.whileRead(f.host.vendor.(*Tenable).ExpireChunks) }},
	{Name: "429 with JSON", Vendor: "tenable", inject: func(f *FaultInjection) {
		f.spread(Status(429, `{"statusCode":429,"error":"Too Many Requests","message":"Rate limit exceeded"}`, "Retry-After", f.retryAfter()))
	}},
}

// exportStream returns one of the streams that are read by export jobs.
func (f *FaultInjection) exportStream() string {
	return []string{TenableVulns, TenableAssets, TenableFindings}[f.draw.Random.IntN(3)]
}

// configureExport changes the configuration of a stream until the fault is
// removed.
func (f *FaultInjection) configureExport(stream string, set func(s *TenableStream)) {
	t := f.host.vendor.(*Tenable)
	usual := t.streamConfig(stream)
	f.undo = append(f.undo, func() { t.ConfigureStream(stream, func(s *TenableStream) { *s = usual }) })
	t.ConfigureStream(stream, set)
}

func exportBehaves(name string, set func(f *FaultInjection, s *TenableStream)) FaultKind {
	return FaultKind{Name: name, Vendor: "tenable", inject: func(f *FaultInjection) {
		f.configureExport(f.exportStream(), func(s *TenableStream) { set(f, s) })
	}}
}

// longExport is a kind of fault that costs a client hours.
func longExport(name string, set func(s *TenableStream)) FaultKind {
	k := exportBehaves(name, func(_ *FaultInjection, s *TenableStream) { set(s) })
	k.Hours = true
	return k
}

var webAppFaultKinds = []FaultKind{
	webAppBehaves("list of configurations moves", func(_ *FaultInjection, s *TenableStream) { s.Shift = true }),
	{Name: "aborted scans", Vendor: "tenable", Alters: true, inject: func(f *FaultInjection) {
		f.configureExport(TenableWAS, func(s *TenableStream) { s.AbortedParents = []int{f.draw.Random.IntN(3)} })
	}},
	webAppBehaves("scans running again", func(f *FaultInjection, s *TenableStream) { s.RunningParents = []int{f.draw.Random.IntN(3)} }),
	webAppBehaves("findings miscounted", func(f *FaultInjection, s *TenableStream) { s.MiscountTargets = []int{f.draw.Random.IntN(4)} }),
	webAppBehaves("findings not counted", func(_ *FaultInjection, s *TenableStream) { s.Uncounted = true }),
	webAppBehaves("reports created slowly", func(f *FaultInjection, s *TenableStream) { s.ReportPolls = 1 + f.draw.Random.IntN(4) }),
	hidesTarget("target deleted while it is read", func(s *TenableStream, target int) { s.GoneTargets = []int{target} }),
	hidesTarget("report never created", func(s *TenableStream, target int) { s.UncreatedTargets = []int{target} }),
}

func webAppBehaves(name string, set func(f *FaultInjection, s *TenableStream)) FaultKind {
	return FaultKind{Name: name, Vendor: "tenable", inject: func(f *FaultInjection) {
		f.configureExport(TenableWAS, func(s *TenableStream) { set(f, s) })
	}}
}

// hidesTarget is a kind of fault that hides the findings of one target.
func hidesTarget(name string, set func(s *TenableStream, target int)) FaultKind {
	return FaultKind{Name: name, Vendor: "tenable", Hides: true, Hours: strings.Contains(name, "never"), inject: func(f *FaultInjection) {
		target := f.draw.Random.IntN((f.host.server.RecordCount(TenableWAS) + findingsPerReport - 1) / findingsPerReport)
		for i := range f.host.server.RecordCount(TenableWAS) {
			if i/findingsPerReport == target {
				f.hideRecord(TenableWAS, i)
			}
		}
		f.configureExport(TenableWAS, func(s *TenableStream) { set(s, target) })
	}}
}
