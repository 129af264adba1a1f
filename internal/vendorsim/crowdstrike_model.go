package vendorsim

import (
	"strconv"
	"time"
)

// falconModel derives what the records say from their indices.
type falconModel struct {
	g     Gen
	hosts int // at the start; hosts that come later belong to no vulnerability
	vulns int
	salt  uint32
}

func newFalconModel(h *Host) *falconModel {
	s := h.Server()
	m := &falconModel{g: h.Gen(), hosts: s.Count(CrowdStrikeHosts), vulns: s.Count(CrowdStrikeVulns)}
	m.salt = uint32(m.g.salt("falcon id"))
	return m
}

// falconScatter and falconGather are a permutation of the 32-bit numbers and its inverse:
// ids look random, and yet lead back to their index without a table.
const falconScatter uint32 = 0x9e3779b1

var falconGather = func() uint32 {
	inverse := falconScatter
	for range 5 { // Newton's iteration doubles the right bits each time
		inverse *= 2 - falconScatter*inverse
	}
	return inverse
}()

// appendAID appends the id of host i: 32 hexadecimal digits.
func (m *falconModel) appendAID(dst []byte, i int) []byte {
	x := m.g.Hash("falcon host", i)
	dst = AppendHex(dst, uint64(uint32(i)*falconScatter^m.salt), 8)
	return AppendHex(AppendHex(dst, x, 16), mix(x), 8)
}

// hostIndex finds a host by its id; false when there is none.
func (m *falconModel) hostIndex(aid string, count int) (int, bool) {
	if len(aid) != 32 {
		return 0, false
	}
	n, err := strconv.ParseUint(aid[:8], 16, 32)
	if err != nil {
		return 0, false
	}
	i := int((uint32(n) ^ m.salt) * falconGather)
	return i, i < count && string(m.appendAID(nil, i)) == aid
}

// appendVulnID appends the id of vulnerability r: the host's id and eight
// digits of its own.
func (m *falconModel) appendVulnID(dst []byte, r Rec) []byte {
	dst = append(m.appendAID(dst, m.hostOf(r)), '_')
	return AppendHex(dst, uint64(uint32(r.Index)*falconScatter^m.salt), 8)
}

// hostOf is the host that vulnerability r is on.
func (m *falconModel) hostOf(r Rec) int { return int(r.Hash >> 8 % uint64(max(1, m.hosts))) }

// created is when vulnerability i was found first. It never falls with i:
// a fifth over two old years, a quarter within six hours of one day, as after
// the sensor's roll-out, and the rest ever closer together up to the base.
func (m *falconModel) created(i int) time.Time {
	const day = 24 * time.Hour
	u := float64(i) / float64(max(1, m.vulns))
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
	return m.g.Base.Add(-age).Truncate(time.Second)
}

// lastSeen is how many days ago the sensor reported vulnerability r.
func (m *falconModel) lastSeen(r Rec) int {
	if r.Hash>>20%20 == 0 {
		return 14 + int(r.Hash>>24%31)
	}
	return int(r.Hash >> 24 % 14)
}

var (
	falconStatuses   = []string{"open", "open", "open", "open", "open", "open", "open", "reopen", "closed", "expired"}
	falconSeverities = []string{"CRITICAL", "HIGH", "HIGH", "MEDIUM", "MEDIUM", "LOW", "UNKNOWN", "NONE"}
	falconPlatforms  = []string{"Windows", "Windows", "Windows", "Linux", "Mac"}
)

func (m *falconModel) status(r Rec) string { return falconStatuses[r.Hash>>12%10] }

func (m *falconModel) severity(r Rec) string { return falconSeverities[r.Hash>>16%8] }

// appendCVE appends the CVE of a vulnerability; some have none.
func (m *falconModel) appendCVE(dst []byte, r Rec) []byte {
	if r.Hash>>30%100 == 7 {
		return dst
	}
	dst = append(dst, "CVE-20"...)
	dst = AppendInt(dst, int64(15+r.Hash>>33%12))
	return AppendInt(append(dst, '-'), int64(1000+r.Hash>>40%60000))
}

// vulnField is a vulnerability's value of a filter field.
func (m *falconModel) vulnField(r Rec, field string) string {
	switch field {
	case "status":
		return m.status(r)
	case "cve.id":
		return string(m.appendCVE(nil, r))
	case "cve.severity":
		return m.severity(r)
	case "aid":
		return string(m.appendAID(nil, m.hostOf(r)))
	case "created_timestamp":
		return string(falconTime(nil, m.created(r.Index)))
	case "updated_timestamp":
		return string(falconTime(nil, m.updated(r)))
	case "host_info.platform_name":
		return m.platform(m.hostOf(r))
	}
	return ""
}

func (m *falconModel) updated(r Rec) time.Time {
	return m.g.Base.Add(-time.Duration(r.Hash>>22%(10*86400)) * time.Second)
}

func (m *falconModel) platform(host int) string {
	return falconPlatforms[m.g.Hash("falcon platform", host)%uint64(len(falconPlatforms))]
}

// vulnFields are the fields that a filter of vulnerabilities may name.
var vulnFields = []string{
	"aid", "status", "cve.id", "cve.severity", "created_timestamp", "updated_timestamp", "last_seen_within", "host_info.platform_name",
}

// hostFields are the fields that a filter of hosts may name.
var hostFields = []string{"device_id", "hostname", "platform_name", "last_seen", "modified_timestamp"}

// hostField is a host's value of a filter field.
func (m *falconModel) hostField(i int, field string) string {
	switch field {
	case "device_id":
		return string(m.appendAID(nil, i))
	case "hostname":
		return string(appendHostname(nil, i))
	case "platform_name":
		return m.platform(i)
	}
	return string(falconTime(nil, m.seen(i)))
}

func (m *falconModel) seen(host int) time.Time {
	return m.g.Base.Add(-time.Duration(m.g.Hash("falcon seen", host)%(45*86400)) * time.Second)
}

func appendHostname(dst []byte, i int) []byte {
	return AppendInt(append(dst, "LAB-"...), int64(100000+i))
}

// assessed tells whether host i has an assessment.
func (m *falconModel) assessed(i int) bool { return m.g.Hash("falcon assessed", i)%10 != 3 }

// score is the overall score of host i; false for one that enrolled a moment
// ago and has none yet.
func (m *falconModel) score(i int) (int, bool) {
	x := m.g.Hash("falcon score", i)
	return int(x >> 8 % 101), x%40 != 5
}

// falconTime appends a time as most members have it, to the second.
func falconTime(dst []byte, t time.Time) []byte { return AppendUnix(dst, t.Unix(), "Z") }
