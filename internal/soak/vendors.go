package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/state"
)

// vendorNames are all vendors. apiVendors have no schedule; their runs are
// started over the API. Their data changes before each run, and the data of the
// others while the daemon is down. So the data never changes during a run, and
// the records of each run are known.
var (
	vendorNames = []string{
		"azure_entra", "cisa_kev", "crowdstrike", "domains", "endoflife", "epss", "github", "intune", "knowbe4", "mde", "nvd", "okta", "osv", "snyk", "tenable",
	}
	apiVendors = []string{"knowbe4", "tenable"}
)

// exportStreams are the streams whose runs may continue the export job of an
// earlier run.
var exportStreams = []string{vendorsim.IntuneDetectedApps, vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings}

// feedStreams are the streams whose runs end as unchanged while the publisher has the
// same data.
var feedStreams = []string{
	vendorsim.CISAKEVVulnerabilities, vendorsim.EOLProducts, vendorsim.EOLReleases, vendorsim.EPSSScores, vendorsim.NVDCVEs, vendorsim.OSVVulnerabilities,
}

// isFeed reports whether the streams of a vendor are feedStreams.
func isFeed(vendor string) bool { return slices.Contains(feedStreams, streamsByVendor[vendor][0]) }

// soakedDomains are the examined domains. Each costs a second, because a registry gets
// one request a second.
var soakedDomains = []string{vendorsim.DomainComplete, vendorsim.DomainExpired, vendorsim.DomainGone, vendorsim.DomainInternational}

// usualCounts are the approximate numbers of records of the streams. The object
// of the enrollments is usually large enough for an upload in parts. There are too few
// detected apps for awkward ones, which another encoding has in the database.
var usualCounts = map[string]int{
	vendorsim.CISAKEVVulnerabilities: 100, vendorsim.EOLReleases: 80, vendorsim.EPSSScores: 300, vendorsim.OSVVulnerabilities: 120,
	vendorsim.EntraUsers: 110, vendorsim.EntraGroups: 60, vendorsim.EntraServicePrincipals: 60, vendorsim.EntraPolicies: 12, vendorsim.EntraMethods: 80,
	vendorsim.EntraSignIns: 110, vendorsim.EntraAuditLogs: 80, vendorsim.MDEMachines: 90, vendorsim.MDEMachineVulnerabilities: 140, vendorsim.MDEVulnerabilities: 70,
	vendorsim.IntuneDevices: 90, vendorsim.IntuneConfigurations: 30, vendorsim.IntuneCompliancePolicies: 15, vendorsim.IntuneDetectedApps: 30,
	vendorsim.CrowdStrikeHosts: 120, vendorsim.CrowdStrikeVulns: 200,
	vendorsim.GitHubMembers: 60, vendorsim.GitHubDependabot: 120, vendorsim.GitHubCode: 90, vendorsim.GitHubSecrets: 40, vendorsim.GitHubRules: 30,
	vendorsim.KnowBe4Enrollments: 220, vendorsim.OktaUsers: 150,
	vendorsim.SnykMembers: 60, vendorsim.SnykProjects: 60, vendorsim.SnykIssues: 120,
	vendorsim.TenableVulns: 160, vendorsim.TenableAssets: 100, vendorsim.TenableFindings: 120, vendorsim.TenableWAS: 60,
}

// organizations is the number of Snyk's organisations, repositories that of GitHub's
// repositories, and products that of endoflife.date. They do not change, because other
// streams depend on them.
const (
	organizations = 6
	repositories  = 16
	products      = 12
	// firstCVEs is the number of CVEs of NVD at the beginning. It has more and more.
	firstCVEs = 150
)

// streamsByVendor are the streams that the daemon collects, by vendor.
var streamsByVendor = map[string][]string{
	"azure_entra": {
		vendorsim.EntraUsers, vendorsim.EntraGroups, vendorsim.EntraServicePrincipals, vendorsim.EntraPolicies, vendorsim.EntraMethods, vendorsim.EntraSignIns, vendorsim.EntraAuditLogs,
	},
	"cisa_kev":    {vendorsim.CISAKEVVulnerabilities},
	"crowdstrike": {vendorsim.CrowdStrikeHosts, vendorsim.CrowdStrikeVulns, vendorsim.CrowdStrikeZTA},
	"domains":     {"domains", "domains_dns", "domains_tls", "domains_headers"},
	"endoflife":   {vendorsim.EOLProducts, vendorsim.EOLReleases},
	"epss":        {vendorsim.EPSSScores},
	"github":      {vendorsim.GitHubOrganizations, vendorsim.GitHubRepositories, vendorsim.GitHubMembers, vendorsim.GitHubDependabot, vendorsim.GitHubCode, vendorsim.GitHubSecrets, vendorsim.GitHubRules},
	"intune":      {vendorsim.IntuneDevices, vendorsim.IntuneConfigurations, vendorsim.IntuneCompliancePolicies, vendorsim.IntuneDetectedApps},
	"knowbe4":     {vendorsim.KnowBe4Enrollments},
	"mde":         {vendorsim.MDEMachines, vendorsim.MDEMachineVulnerabilities, vendorsim.MDEVulnerabilities},
	"nvd":         {vendorsim.NVDCVEs},
	"okta":        {vendorsim.OktaUsers},
	"osv":         {vendorsim.OSVVulnerabilities},
	"snyk":        {vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues},
	"tenable":     {vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings, vendorsim.TenableWAS},
}

func allStreams() (all []string) {
	for _, name := range vendorNames {
		all = append(all, streamsByVendor[name]...)
	}
	return all
}

// content describes a set of records: their number, and a checksum that does
// not depend on their order.
type content struct {
	records int
	sum     [sha256.Size]byte
}

func (c content) String() string { return fmt.Sprintf("%d records (%.8x)", c.records, c.sum) }

// contentOf returns the content of records with the given checksums. It sorts
// sums.
func contentOf(sums [][sha256.Size]byte) content {
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	for _, s := range sums {
		h.Write(s[:])
	}
	return content{len(sums), [sha256.Size]byte(h.Sum(nil))}
}

// generation is the content of a stream since a point in time.
type generation struct {
	since time.Time
	content
}

// vendors are the simulated vendors with a ledger of their contents over time.
type vendors struct {
	sim         *vendorsim.Server
	crowdstrike *vendorsim.CrowdStrike
	tenable     *vendorsim.Tenable
	github      *vendorsim.GitHub
	snyk        *vendorsim.Snyk
	entra       *vendorsim.AzureEntra
	intune      *vendorsim.Intune
	endOfLife   *vendorsim.EndOfLife
	nvd         *vendorsim.NVD
	osv         *vendorsim.OSV
	domains     map[string]content // without faults, by stream
	faults      *tally
	events      *events
	seed        uint64

	mu     sync.Mutex
	random map[string]*rand.Rand
	ledger map[string][]generation
}

func newVendors(s *soak) (*vendors, error) {
	seed := s.opts.seed
	v := &vendors{
		crowdstrike: vendorsim.NewCrowdStrike(), tenable: vendorsim.NewTenable(), github: vendorsim.NewGitHub(), snyk: vendorsim.NewSnyk(),
		entra: vendorsim.NewAzureEntra(), intune: vendorsim.NewIntune(), endOfLife: vendorsim.NewEndOfLife(), nvd: vendorsim.NewNVD(), osv: vendorsim.NewOSV(),
		faults: s.faults, events: s.events, seed: seed,
		random: map[string]*rand.Rand{}, ledger: map[string][]generation{},
	}
	counts := map[string]int{
		vendorsim.SnykOrganizations: organizations, vendorsim.GitHubRepositories: repositories, vendorsim.EOLProducts: products, vendorsim.NVDCVEs: firstCVEs,
	}
	for stream, n := range usualCounts {
		counts[stream] = n
	}
	plenty := vendorsim.LimitNumbers{Max: 1 << 30}
	var err error
	v.sim, err = vendorsim.Start(vendorsim.Options{
		Vendors: []vendorsim.Vendor{
			v.entra, vendorsim.NewCISAKEV(), v.crowdstrike, vendorsim.NewDomains(), v.endOfLife, vendorsim.NewEPSS(), v.github, v.intune,
			vendorsim.NewKnowBe4(), vendorsim.NewMDE(), v.nvd, vendorsim.NewOkta(), v.osv, v.snyk, v.tenable,
		},
		Seed: seed, Counts: counts,
		// NVD has a file for each year up to the present one.
		Base:        time.Date(time.Now().Year(), time.March, 1, 0, 0, 0, 0, time.UTC),
		RecordBytes: map[string]int{vendorsim.KnowBe4Enrollments: 27 << 10},
		PageLimits: map[string]int{
			vendorsim.EntraUsers: 40, vendorsim.EntraGroups: 25, vendorsim.IntuneDevices: 30,
			vendorsim.OktaUsers: 40, vendorsim.CrowdStrikeHosts: 50, vendorsim.CrowdStrikeVulns: 60, vendorsim.KnowBe4Enrollments: 100,
		},
		// The soak sends more requests than the limits allow.
		Limits: map[string]vendorsim.LimitNumbers{
			"okta": plenty, "crowdstrike_token": plenty, "crowdstrike": plenty, "snyk-minute": plenty, "github-hour": plenty, "github-minute": plenty, "knowbe4-day": plenty,
			"entra-reports": plenty, "entra-policies": plenty, "mde-minute": plenty, "mde-hour": plenty, "mde-export-minute": plenty, "mde-export-hour": plenty, "nvd-key": plenty,
		},
	})
	if err != nil {
		return nil, err
	}
	for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings} {
		v.tenable.ConfigureStream(stream, func(s *vendorsim.TenableStream) {
			// A job whose id is lost must not run until its maximum age, so
			// each job finishes when it is created.
			s.QueuedPolls, s.GrowPolls, s.ChunkRecords = -1, 0, 30
		})
	}
	v.intune.ConfigureExports(func(e *vendorsim.IntuneExports) { e.Polls = -1 })
	if v.domains, err = s.examineDomains(v); err != nil {
		return nil, err
	}
	for i, name := range vendorNames {
		v.random[name] = rand.New(rand.NewPCG(seed, 100+uint64(i)))
		v.recordContents(name)
	}
	return v, nil
}

// changeCounts changes the numbers of records of a vendor. From time to time a
// stream has so few that its snapshot is held, or none.
func (v *vendors) changeCounts(name string) {
	v.mu.Lock()
	random := v.random[name]
	if name == "nvd" {
		v.changeCVEs(random.IntN(5))
	}
	for _, stream := range streamsByVendor[name] {
		n := usualCounts[stream]
		if n == 0 {
			continue // it follows another stream or does not change
		}
		switch random.IntN(14) {
		case 0:
			n = 2
		case 1:
			n = 0
		default:
			n = n*7/10 + random.IntN(n*6/10)
		}
		v.sim.SetCount(stream, n)
	}
	v.mu.Unlock()
	v.recordContents(name)
}

// setUsualCounts gives a vendor about the usual numbers of records, so that no
// snapshot is held, but not the same numbers twice in a row.
func (v *vendors) setUsualCounts(name string) {
	if name == "nvd" {
		v.changeCVEs(1)
	}
	for _, stream := range streamsByVendor[name] {
		if n := usualCounts[stream]; n > 0 {
			v.sim.SetCount(stream, n+len(v.ledger[stream])%7)
		}
	}
	v.recordContents(name)
}

// changeCVEs adds n CVEs, and modifies as many. The files have them at once, so that a
// run has them whether it reads the files or what was modified.
func (v *vendors) changeCVEs(n int) {
	now := time.Now().Truncate(time.Millisecond) // as in the API
	for i := range n {
		v.nvd.Modify(i*7%firstCVEs, now)
		v.nvd.Add(now)
	}
	v.nvd.Publish()
}

// recordContents adds the current contents of a vendor to the ledger.
func (v *vendors) recordContents(name string) {
	for _, stream := range streamsByVendor[name] {
		g := generation{time.Now().Truncate(time.Millisecond), v.presentContent(stream)}
		v.mu.Lock()
		v.ledger[stream] = append(v.ledger[stream], g)
		v.mu.Unlock()
	}
}

// presentContent returns what a run of a stream must deliver now.
func (v *vendors) presentContent(stream string) content {
	if c, known := v.domains[stream]; known {
		return c
	}
	var sums [][sha256.Size]byte
	for _, i := range v.expectedIndices(stream) {
		sums = append(sums, sha256.Sum256(v.expectedRecord(stream, i)))
	}
	return contentOf(sums)
}

// expectedIndices returns the indices of the records that a run of a stream
// must deliver.
func (v *vendors) expectedIndices(stream string) (list []int) {
	switch stream {
	case vendorsim.CrowdStrikeVulns:
		list, err := v.crowdstrike.Select("cve.id:!['']+last_seen_within:'14'") // the default filter of the settings
		if err != nil {
			panic(err) // the filter is a constant
		}
		return list
	case vendorsim.CrowdStrikeZTA:
		return v.crowdstrike.Assessed()
	}
	for i := range v.sim.RecordCount(stream) {
		list = append(list, i)
	}
	return list
}

// expectedRecord returns a record as the destinations must have it, without the
// three members that collectord adds to all records.
func (v *vendors) expectedRecord(stream string, i int) []byte {
	switch stream {
	case vendorsim.TenableWAS:
		return v.tenable.WASRecord(i)
	case vendorsim.GitHubRepositories, vendorsim.GitHubMembers, vendorsim.GitHubDependabot, vendorsim.GitHubCode, vendorsim.GitHubSecrets, vendorsim.GitHubRules:
		r := v.sim.Record(stream, i)
		return append(r[:len(r)-1], v.github.ParentMembers(stream, i)+"}"...)
	case vendorsim.EntraUsers:
		return v.entra.UserWithoutActivity(i)
	case vendorsim.EOLReleases:
		return v.endOfLife.ReleaseRecord(i)
	case vendorsim.IntuneDetectedApps:
		return []byte(v.intune.DetectedApp(i, detectedAppColumns))
	case vendorsim.OSVVulnerabilities:
		return v.osv.StoredRecord(i)
	case vendorsim.SnykMembers:
		r := v.sim.Record(stream, i)
		org := v.snyk.Organization(stream, i)
		return append(r[:len(r)-1], `,"_org_id":"`+v.sim.RecordID(vendorsim.SnykOrganizations, org)+`"}`...)
	}
	return v.sim.Record(stream, i)
}

// allowedContents returns what a run may have delivered: the content of the
// vendor at its start and, if it continued an export job of an interrupted run,
// the content at the start of that run. before are the earlier runs of the
// stream, newest first.
func (v *vendors) allowedContents(r state.Run, before []state.Run) []content {
	list := []content{v.contentAt(r.Stream, r.Started)}
	if !slices.Contains(exportStreams, r.Stream) {
		return list
	}
	for _, b := range before {
		if b.Outcome.IsSuccess() || b.Outcome == state.Held {
			break
		}
		if b.Outcome != state.Skipped {
			list = append(list, v.contentAt(r.Stream, b.Started))
		}
	}
	return list
}

// contentAt returns the content of a stream at a point in time.
func (v *vendors) contentAt(stream string, t time.Time) content {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := v.ledger[stream]
	for i := len(list) - 1; i > 0; i-- {
		if !list[i].since.After(t) {
			return list[i].content
		}
	}
	return list[0].content
}

// detectedAppColumns are the members of detected apps.
var detectedAppColumns = []string{
	"ApplicationKey", "ApplicationName", "ApplicationPublisher", "ApplicationShortVersion", "ApplicationVersion",
	"DeviceId", "DeviceName", "OSDescription", "OSVersion", "Platform", "UserId", "EmailAddress", "UserName",
}

// extraSettings take the place of usual settings, or are beside them. Records must be those
// of the vendor: the fields of OKTA_COMPAT_FIELDS would be added to them, and a user without
// signInActivity, which a fault can refuse, would be another record.
var extraSettings = []string{"OKTA_COMPAT_FIELDS=false", "AZURE_SIGN_IN_ACTIVITY=false", "DOMAINS=" + strings.Join(soakedDomains, ";")}

// settingsEnv returns the settings of the vendors, and apart from them the keys that
// the vendors accept at the start.
func (v *vendors) settingsEnv() (env []string, keys map[string]string) {
	keys = map[string]string{}
	for _, h := range v.sim.Hosts() {
		for _, line := range h.Env() {
			if key, ok := strings.CutPrefix(line, keyVariables[h.Name()]+"="); ok {
				keys[h.Name()] = key
				continue
			}
			env = append(env, line)
		}
	}
	return append(env, extraSettings...), keys
}
