package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/state"
)

// vendorNames are all vendors. Those that are posted have no schedule: their
// data change before each run, those of the others while the daemon is down.
// So no run ever sees a change, and what each must bring is known.
var (
	vendorNames = []string{"crowdstrike", "knowbe4", "okta", "snyk", "tenable"}
	posted      = []string{"knowbe4", "tenable"}
)

// exports are the streams whose runs may go on with the job of one before.
var exports = []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings}

// usual is about how many records each stream has. The enrollments' object in
// S3 is large enough to be uploaded in parts, most of the time.
var usual = map[string]int{
	vendorsim.CrowdStrikeHosts: 120, vendorsim.CrowdStrikeVulns: 200,
	vendorsim.KnowBe4Enrollments: 220, vendorsim.OktaUsers: 150,
	vendorsim.SnykMembers: 60, vendorsim.SnykProjects: 60, vendorsim.SnykIssues: 120,
	vendorsim.TenableVulns: 160, vendorsim.TenableAssets: 100, vendorsim.TenableFindings: 120, vendorsim.TenableWAS: 60,
}

const organizations = 6

// streams are what the daemon collects, by vendor.
var streams = map[string][]string{
	"crowdstrike": {vendorsim.CrowdStrikeHosts, vendorsim.CrowdStrikeVulns, vendorsim.CrowdStrikeZTA},
	"knowbe4":     {vendorsim.KnowBe4Enrollments},
	"okta":        {vendorsim.OktaUsers},
	"snyk":        {vendorsim.SnykOrganizations, vendorsim.SnykMembers, vendorsim.SnykProjects, vendorsim.SnykIssues},
	"tenable":     {vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings, vendorsim.TenableWAS},
}

func allStreams() (all []string) {
	for _, name := range vendorNames {
		all = append(all, streams[name]...)
	}
	return all
}

// content is a set of records: how many, and a sum that tells whether each is
// there once, in whatever order.
type content struct {
	records int
	sum     [sha256.Size]byte
}

func (c content) String() string { return fmt.Sprintf("%d records (%.8x)", c.records, c.sum) }

// contentOf makes one of the records' own sums, which it sorts.
func contentOf(sums [][sha256.Size]byte) content {
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	for _, s := range sums {
		h.Write(s[:])
	}
	return content{len(sums), [sha256.Size]byte(h.Sum(nil))}
}

// generation is what a stream has from some moment on.
type generation struct {
	since time.Time
	content
}

// vendors are the simulated vendors, with a ledger of what they had when.
type vendors struct {
	sim     *vendorsim.Server
	falcon  *vendorsim.CrowdStrike
	tenable *vendorsim.Tenable
	snyk    *vendorsim.Snyk
	faults  *tally
	seed    uint64
	jobs    map[string]string // the kind of fault that the next export of a stream meets

	mu     sync.Mutex
	random map[string]*rand.Rand
	ledger map[string][]generation
}

func newVendors(seed uint64, faults *tally) (*vendors, error) {
	v := &vendors{
		falcon: vendorsim.NewCrowdStrike(), tenable: vendorsim.NewTenable(), snyk: vendorsim.NewSnyk(), faults: faults, seed: seed,
		jobs:   map[string]string{},
		random: map[string]*rand.Rand{}, ledger: map[string][]generation{},
	}
	counts := map[string]int{vendorsim.SnykOrganizations: organizations}
	for stream, n := range usual {
		counts[stream] = n
	}
	plenty := vendorsim.LimitNumbers{Max: 1 << 30}
	var err error
	v.sim, err = vendorsim.Start(vendorsim.Options{
		Vendors: []vendorsim.Vendor{v.falcon, vendorsim.NewKnowBe4(), vendorsim.NewOkta(), v.snyk, v.tenable},
		Seed:    seed, Counts: counts,
		RecordBytes: map[string]int{vendorsim.KnowBe4Enrollments: 27 << 10},
		PageLimits:  map[string]int{vendorsim.OktaUsers: 40, vendorsim.CrowdStrikeHosts: 50, vendorsim.CrowdStrikeVulns: 60, vendorsim.KnowBe4Enrollments: 100},
		// The soak asks more often than anybody does in practice.
		Limits: map[string]vendorsim.LimitNumbers{"okta": plenty, "crowdstrike_token": plenty, "crowdstrike": plenty, "snyk-minute": plenty, "knowbe4-day": plenty},
	})
	if err != nil {
		return nil, err
	}
	for _, stream := range exports {
		v.tenable.Configure(stream, func(s *vendorsim.TenableStream) {
			// A job whose number is lost must not stay busy until it is too old:
			// each is finished when it is made.
			s.QueuedPolls, s.GrowPolls, s.ChunkRecords = -1, 0, 30
		})
	}
	for i, name := range vendorNames {
		v.random[name] = rand.New(rand.NewPCG(seed, 100+uint64(i)))
		v.note(name)
	}
	return v, nil
}

// change gives a vendor other numbers of records. Now and then a stream has
// hardly any, which holds the snapshot back, or none.
func (v *vendors) change(name string) {
	v.mu.Lock()
	random := v.random[name]
	for _, stream := range streams[name] {
		n := usual[stream]
		if n == 0 {
			continue // it follows another, or stays
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
	v.note(name)
}

// usual gives a vendor about as many records as it has most of the time, so
// that nothing is held back, and never the same twice.
func (v *vendors) usual(name string) {
	for _, stream := range streams[name] {
		if n := usual[stream]; n > 0 {
			v.sim.SetCount(stream, n+len(v.ledger[stream])%7)
		}
	}
	v.note(name)
}

// note enters what a vendor has now into the ledger.
func (v *vendors) note(name string) {
	for _, stream := range streams[name] {
		var sums [][sha256.Size]byte
		for _, i := range v.indices(stream) {
			sums = append(sums, sha256.Sum256(v.record(stream, i)))
		}
		g := generation{time.Now().Truncate(time.Millisecond), contentOf(sums)}
		v.mu.Lock()
		v.ledger[stream] = append(v.ledger[stream], g)
		v.mu.Unlock()
	}
}

// indices are the records that a stream must bring.
func (v *vendors) indices(stream string) (list []int) {
	switch stream {
	case vendorsim.CrowdStrikeVulns:
		list, err := v.falcon.Select("cve.id:!['']+last_seen_within:'14'") // the default of the settings
		if err != nil {
			panic(err) // the filter is a constant
		}
		return list
	case vendorsim.CrowdStrikeZTA:
		return v.falcon.Assessed()
	}
	for i := range v.sim.Count(stream) {
		list = append(list, i)
	}
	return list
}

// record is a record as the destinations must have it, but for the three
// members that collectord adds.
func (v *vendors) record(stream string, i int) []byte {
	switch stream {
	case vendorsim.TenableWAS:
		return v.tenable.WASRecord(i)
	case vendorsim.SnykMembers:
		r := v.sim.Record(stream, i)
		org := v.snyk.Organization(stream, i)
		return append(r[:len(r)-1], `,"_org_id":"`+v.sim.RecordID(vendorsim.SnykOrganizations, org)+`"}`...)
	}
	return v.sim.Record(stream, i)
}

// allowed are what a run may have brought: what its vendor had when it began
// and, when it went on with an export job of a run that was cut off, what it
// had when that began. before are the stream's earlier runs, newest first.
func (v *vendors) allowed(r state.Run, before []state.Run) []content {
	list := []content{v.at(r.Stream, r.Started)}
	if !slices.Contains(exports, r.Stream) {
		return list
	}
	for _, b := range before {
		if b.Outcome == state.Success || b.Outcome == state.Empty || b.Outcome == state.Held {
			break
		}
		if b.Outcome != state.Skipped {
			list = append(list, v.at(r.Stream, b.Started))
		}
	}
	return list
}

// at is what a stream had at some moment.
func (v *vendors) at(stream string, t time.Time) content {
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

// env are the settings that lead to the vendors.
func (v *vendors) env() (env []string) {
	for _, h := range v.sim.Hosts() {
		env = append(env, h.Env()...)
	}
	return append(env, "OKTA_COMPAT_FIELDS=false") // these would be added to the vendor's records
}
