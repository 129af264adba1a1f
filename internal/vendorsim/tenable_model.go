package vendorsim

import "strconv"

// findingsPerAsset is the number of findings of an asset.
const findingsPerAsset = 20

// States of findings.
const (
	stateOpen     = "OPEN"
	stateReopened = "REOPENED"
	stateFixed    = "FIXED"
)

// severityNames are the severities by id.
var severityNames = []string{"INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

var severityOf = [10]int{4, 3, 3, 2, 2, 2, 1, 1, 0, 0}

var complianceResults = []string{"PASSED", "FAILED", "WARNING", "SKIPPED", "ERROR", "UNKNOWN"}

// tenableModel derives the facts of records that filters use.
type tenableModel struct {
	g      Gen
	assets uint64 // salt of the assets
	base   int64  // Unix time of Gen.Base
}

func newTenableModel(g Gen) tenableModel {
	return tenableModel{g: g, assets: g.saltOf(TenableAssets), base: g.Base.Unix()}
}

const daySeconds = 24 * 60 * 60

// findingFacts are the facts of a finding. Times are Unix times, or 0 if there
// is none.
type findingFacts struct {
	asset                       int
	state                       string
	severity                    int
	first, last, fixed, indexed int64
}

// finding returns the facts of finding i, whose hash is h. A tenth is fixed, a
// twentieth is reopened, and a tenth has not been seen for 30 days.
func (t tenableModel) finding(i int, h uint64) findingFacts {
	f := findingFacts{asset: assetOf(i), state: stateOpen, severity: severityOf[h>>8%10]}
	switch h % 20 {
	case 0, 1:
		f.state = stateFixed
	case 2:
		f.state = stateReopened
	}
	f.last = t.base - int64(h>>16%(29*daySeconds)) - 3600
	if h>>40%10 == 0 {
		f.last -= int64(31+h>>44%200) * daySeconds
	}
	f.first = f.last - int64(1+h>>52%400)*daySeconds
	f.indexed = f.last + 600
	if f.state == stateFixed {
		f.fixed = f.last
		f.last -= 2 * daySeconds
	}
	return f
}

// assetOf returns the asset of finding i. The findings of two assets are
// interleaved.
func assetOf(i int) int { return i/(2*findingsPerAsset)*2 + i%2 }

// assetFacts are the facts of an asset. Times are Unix times, or 0 if there is
// none.
type assetFacts struct {
	hash                                  uint64
	created, updated, deleted, terminated int64
	licensed, webapp                      bool
}

// asset returns the facts of asset i. A twentieth are web applications, a
// twentieth are unlicensed, and some are deleted or terminated.
func (t tenableModel) asset(i int) assetFacts {
	h := hashAt(t.assets, i)
	a := assetFacts{hash: h, licensed: h%20 != 0, webapp: h>>8%20 == 0}
	a.updated = t.base - int64(h>>16%(60*daySeconds))
	a.created = a.updated - int64(1+h>>40%500)*daySeconds
	switch h >> 50 % 50 {
	case 0, 1:
		a.deleted = a.updated
	case 2:
		a.terminated = a.updated
	}
	return a
}

// complianceResult returns the result of the compliance finding with the hash
// h.
func complianceResult(h uint64) string {
	return complianceResults[[8]int{0, 0, 0, 1, 1, 2, 3, 5}[h>>8%8]]
}

// appendTimeOrNull appends a quoted time, or null for 0.
func appendTimeOrNull(dst []byte, sec int64, suffix string) []byte {
	if sec == 0 {
		return append(dst, "null"...)
	}
	return append(AppendUnix(append(dst, '"'), sec, suffix), '"')
}

// appendHostName appends a host name: lab-000123.
func appendHostName(dst []byte, i int) []byte {
	dst = append(dst, "lab-"...)
	for limit := 100000; limit > 1 && i < limit; limit /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(i), 10)
}

// appendIPv4 appends an address of 10.0.0.0/8.
func appendIPv4(dst []byte, i int) []byte {
	dst = append(dst, "10."...)
	dst = append(strconv.AppendInt(dst, int64(i>>16&255), 10), '.')
	dst = append(strconv.AppendInt(dst, int64(i>>8&255), 10), '.')
	return strconv.AppendInt(dst, int64(i&255), 10)
}
