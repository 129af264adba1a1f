package vendorsim

import (
	"strconv"
	"sync"
	"time"
)

// crowdstrikeModel derives the content of records from their indices.
type crowdstrikeModel struct {
	g     Gen
	hosts int // at the start; hosts that are added later have no vulnerabilities
	vulns int
	salt  uint32

	mu      sync.Mutex
	updates map[int]time.Time // of vulnerabilities that were updated, by index
}

func newCrowdStrikeModel(h *Host) *crowdstrikeModel {
	s := h.Server()
	m := &crowdstrikeModel{g: h.Gen(), hosts: s.RecordCount(CrowdStrikeHosts), vulns: s.RecordCount(CrowdStrikeVulns)}
	m.salt = uint32(m.g.saltOf("falcon id"))
	return m
}

// idMultiplier and idInverse define a permutation of the 32-bit numbers and its
// inverse: ids look random, but the index can be computed from an id without a
// table.
const idMultiplier uint32 = 0x9e3779b1

var idInverse = func() uint32 {
	inverse := idMultiplier
	for range 5 { // each step of Newton's iteration doubles the number of correct bits
		inverse *= 2 - idMultiplier*inverse
	}
	return inverse
}()

// appendAID appends the id of host i: 32 hexadecimal digits.
func (c *crowdstrikeModel) appendAID(dst []byte, i int) []byte {
	x := c.g.Hash("falcon host", i)
	dst = AppendHex(dst, uint64(uint32(i)*idMultiplier^c.salt), 8)
	return AppendHex(AppendHex(dst, x, 16), mixBits(x), 8)
}

// hostIndex returns the index of the host with an id, and false if there is
// none.
func (c *crowdstrikeModel) hostIndex(aid string, count int) (int, bool) {
	if len(aid) != 32 {
		return 0, false
	}
	n, err := strconv.ParseUint(aid[:8], 16, 32)
	if err != nil {
		return 0, false
	}
	i := int((uint32(n) ^ c.salt) * idInverse)
	return i, i < count && string(c.appendAID(nil, i)) == aid
}

// appendVulnID appends the id of vulnerability r: the id of its host, "_" and
// eight digits.
func (c *crowdstrikeModel) appendVulnID(dst []byte, r Rec) []byte {
	dst = append(c.appendAID(dst, c.hostOf(r)), '_')
	return AppendHex(dst, uint64(uint32(r.Index)*idMultiplier^c.salt), 8)
}

// hostOf returns the index of the host of vulnerability r.
func (c *crowdstrikeModel) hostOf(r Rec) int { return int(r.Hash >> 8 % uint64(max(1, c.hosts))) }

// findingCreated returns when vulnerability i was found first. The times rise
// with i: a fifth is spread over two years long past, a quarter is within six
// hours of one day, as after a roll-out of the sensor, and the rest gets denser
// towards the base time.
func (c *crowdstrikeModel) findingCreated(i int) time.Time {
	const day = 24 * time.Hour
	u := float64(i) / float64(max(1, c.vulns))
	var age time.Duration
	switch {
	case u < 0.2:
		age = 1000*day - time.Duration(u/0.2*float64(700*day))
	case u < 0.45:
		age = 200*day - time.Duration((u-0.2)/0.25*float64(6*time.Hour))
	case u < 1:
		left := (1 - u) / 0.55
		age = time.Duration(left * left * left * float64(190*day))
	}
	return c.g.Base.Add(-age).Truncate(time.Second)
}

// daysSinceSeen returns how many days ago the sensor reported vulnerability r.
func (c *crowdstrikeModel) daysSinceSeen(r Rec) int {
	if r.Hash>>20%20 == 0 {
		return 14 + int(r.Hash>>24%31)
	}
	return int(r.Hash >> 24 % 14)
}

var (
	crowdstrikeStatuses   = []string{"open", "open", "open", "open", "open", "open", "open", "reopen", "closed", "expired"}
	crowdstrikeSeverities = []string{"CRITICAL", "HIGH", "HIGH", "MEDIUM", "MEDIUM", "LOW", "UNKNOWN", "NONE"}
	crowdstrikePlatforms  = []string{"Windows", "Windows", "Windows", "Linux", "Mac"}
)

func (c *crowdstrikeModel) findingStatus(r Rec) string { return crowdstrikeStatuses[r.Hash>>12%10] }

func (c *crowdstrikeModel) findingSeverity(r Rec) string { return crowdstrikeSeverities[r.Hash>>16%8] }

// appendCVE appends the CVE of a vulnerability, or nothing if it has none.
func (c *crowdstrikeModel) appendCVE(dst []byte, r Rec) []byte {
	if r.Hash>>30%100 == 7 {
		return dst
	}
	return appendFoundCVE(dst, r.Hash)
}

// vulnField returns the value of a filter field of vulnerability r.
func (c *crowdstrikeModel) vulnField(r Rec, field string) string {
	switch field {
	case "status":
		return c.findingStatus(r)
	case "cve.id":
		return string(c.appendCVE(nil, r))
	case "cve.severity":
		return c.findingSeverity(r)
	case "aid":
		return string(c.appendAID(nil, c.hostOf(r)))
	case "created_timestamp":
		return string(appendCrowdStrikeTime(nil, c.findingCreated(r.Index)))
	case "updated_timestamp":
		return string(appendCrowdStrikeTime(nil, c.findingUpdated(r)))
	case "host_info.platform_name":
		return c.hostPlatform(c.hostOf(r))
	}
	return ""
}

// findingUpdated returns when vulnerability r was updated last.
func (c *crowdstrikeModel) findingUpdated(r Rec) time.Time {
	c.mu.Lock()
	at, updated := c.updates[r.Index]
	c.mu.Unlock()
	switch {
	case updated:
		return at
	case r.Index >= c.vulns: // added later
		return c.findingCreated(r.Index)
	}
	return c.g.Base.Add(-time.Duration(r.Hash>>22%(10*86400)) * time.Second)
}

// updateFinding sets when vulnerability i was updated last.
func (c *crowdstrikeModel) updateFinding(i int, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.updates == nil {
		c.updates = map[int]time.Time{}
	}
	c.updates[i] = at
}

func (c *crowdstrikeModel) hostPlatform(host int) string {
	return crowdstrikePlatforms[c.g.Hash("falcon platform", host)%uint64(len(crowdstrikePlatforms))]
}

// vulnFilterFields are the fields that a filter of vulnerabilities may contain.
var vulnFilterFields = []string{
	"aid", "status", "cve.id", "cve.severity", "created_timestamp", "updated_timestamp", "last_seen_within", "host_info.platform_name",
}

// hostFilterFields are the fields that a filter of hosts may contain.
var hostFilterFields = []string{"device_id", "hostname", "platform_name", "last_seen", "modified_timestamp"}

// hostField returns the value of a filter field of host i.
func (c *crowdstrikeModel) hostField(i int, field string) string {
	switch field {
	case "device_id":
		return string(c.appendAID(nil, i))
	case "hostname":
		return string(appendHostname(nil, i))
	case "platform_name":
		return c.hostPlatform(i)
	}
	return string(appendCrowdStrikeTime(nil, c.hostSeen(i)))
}

func (c *crowdstrikeModel) hostSeen(host int) time.Time {
	return c.g.Base.Add(-time.Duration(c.g.Hash("falcon seen", host)%(45*86400)) * time.Second)
}

func appendHostname(dst []byte, i int) []byte {
	return AppendInt(append(dst, "LAB-"...), int64(100000+i))
}

// hasAssessment reports whether host i has an assessment.
func (c *crowdstrikeModel) hasAssessment(i int) bool { return c.g.Hash("falcon assessed", i)%10 != 3 }

// hostScore returns the overall score of host i, and false for a host that
// enrolled a moment ago and has no score yet.
func (c *crowdstrikeModel) hostScore(i int) (int, bool) {
	x := c.g.Hash("falcon score", i)
	return int(x >> 8 % 101), x%40 != 5
}

// appendCrowdStrikeTime appends a time in the format of most members, with a
// precision of one second.
func appendCrowdStrikeTime(dst []byte, t time.Time) []byte { return AppendUnix(dst, t.Unix(), "Z") }
