package vendorsim

import (
	"bytes"
	"strconv"
	"time"
)

// findingsPerReport is how many findings the report of a target has.
const findingsPerReport = 20

// wasUser is the owner of all scans.
const wasUser = "0b1c2d3e-0000-4000-8000-000000000002"

// Kinds of scan configs by their number modulo ten; the others have a parent
// scan with two targets.
const (
	wasNeverRan = 1
	wasRunning  = 2
	wasEmpty    = 3
)

// wasRank is the place of a config among those with findings, within its ten.
var wasRank = [10]int{0, -1, -1, -1, 1, 2, 3, 4, 5, 6}

// wasIndex knows the scans of a tenant with a number of findings and a least
// number of configs.
type wasIndex struct {
	findings, least int
	configs         int
	targets         int            // with findings
	parents         map[string]int // config by parent scan id
	scans           map[string]int // target by target scan id
}

// wasScans returns the index for the present number of findings; the caller
// holds the lock.
func (t *Tenable) wasScans() *wasIndex {
	n, least := t.host.Server().Count(TenableWAS), t.config[TenableWAS].Configs
	if t.was != nil && t.was.findings == n && t.was.least == least {
		return t.was
	}
	x := &wasIndex{
		findings: n, least: least, targets: (n + findingsPerReport - 1) / findingsPerReport,
		parents: map[string]int{}, scans: map[string]int{},
	}
	for c := 0; c < least || !x.complete(c); c++ {
		x.configs = c + 1
		x.parents[t.model.wasParentID(c)] = c
		for _, target := range x.targetsOf(c) {
			x.scans[t.model.wasScanID(target)] = target
		}
	}
	t.was = x
	return x
}

// complete reports whether the configs before c hold all targets.
func (x *wasIndex) complete(c int) bool {
	parents := (x.targets + 1) / 2
	n := c / 10 * 7
	for k := range c % 10 {
		if wasRank[k] >= 0 {
			n++
		}
	}
	return n >= parents
}

// ordinal is the number of a config among those with findings.
func ordinal(c int) (n int, ok bool) {
	rank := wasRank[c%10]
	return c/10*7 + rank, rank >= 0
}

// configOf is the config of a target.
func configOf(target int) int {
	if target < 0 {
		return -target - 1
	}
	n := target / 2
	for c := range wasRank {
		if wasRank[c] == n%7 {
			return n/7*10 + c
		}
	}
	panic("unreachable: every rank has a config")
}

// targetsOf returns the targets of a config's last scan. The target of a
// config without findings is negative.
func (x *wasIndex) targetsOf(c int) []int {
	if c%10 == wasEmpty {
		return []int{-c - 1}
	}
	n, ok := ordinal(c)
	if !ok || 2*n >= x.targets {
		return nil
	}
	if 2*n+1 < x.targets {
		return []int{2 * n, 2*n + 1}
	}
	return []int{2 * n}
}

// ran reports whether a config has a last scan.
func (x *wasIndex) ran(c int) bool {
	return c%10 == wasRunning || len(x.targetsOf(c)) > 0
}

// findingsOf returns the range of findings of a target.
func (x *wasIndex) findingsOf(target int) (from, to int) {
	if target < 0 {
		return 0, 0
	}
	return target * findingsPerReport, min((target+1)*findingsPerReport, x.findings)
}

func (m tenableModel) wasScanID(target int) string { return m.g.UUID("tenable was scan", target) }

func (m tenableModel) wasParentID(c int) string { return m.g.UUID("tenable was parent", c) }

func (m tenableModel) wasConfigID(c int) string { return m.g.UUID("tenable was config", c) }

// wasConfigName returns name and description of a config; some have none.
func wasConfigName(c int) (name string, description *string) {
	name = "Shop " + strconv.Itoa(c)
	if c%4 != 0 {
		text := "Scan of shop " + strconv.Itoa(c) + " <é>"
		description = &text
	}
	return name, description
}

// wasTimes returns when the last scan of a config started and ended.
func (m tenableModel) wasTimes(c int) (started, finalized time.Time) {
	started = m.g.Base.Add(-time.Duration(c+2) * time.Hour).Add(250002 * time.Microsecond)
	return started, started.Add(18*time.Minute + 123456*time.Microsecond)
}

// reportTime is the spelling of times in reports.
const reportTime = "2006-01-02T15:04:05.000000+00:00"

// wasScan renders the scan object of a report.
func (t *Tenable) wasScan(target int, status string) []byte {
	c := configOf(target)
	started, finalized := t.model.wasTimes(c)
	return mustJSON(struct {
		User      string `json:"user_id"`
		Scan      string `json:"scan_id"`
		Status    string `json:"status"`
		Started   string `json:"started_at"`
		Finalized string `json:"finalized_at"`
		Asset     string `json:"asset_id"`
		Target    string `json:"target"`
		Created   string `json:"created_at"`
	}{
		wasUser, t.model.wasScanID(target), status, started.Format(reportTime), finalized.Format(reportTime),
		t.model.g.UUID("tenable was asset", target), wasTargetURL(target), started.Add(-2 * time.Minute).Format(reportTime),
	})
}

func wasTargetURL(target int) string {
	return "https://app-" + strconv.Itoa(max(target, 0)) + ".example.test/?rel=nofollow&target=_blank"
}

// WASRecord returns the record that a client builds from finding i of
// [TenableWAS]: the finding and its scan as they stand in the report, the end
// of the parent scan, and three members of the config, without white space between them.
func (t *Tenable) WASRecord(i int) []byte {
	target := i / findingsPerReport
	c := configOf(target)
	_, finalized := t.model.wasTimes(c)
	name, description := wasConfigName(c)
	t.mu.Lock()
	status := t.wasStatus(c)
	t.mu.Unlock()
	var b bytes.Buffer
	b.WriteString(`{"finding":`)
	b.Write(t.host.Server().Record(TenableWAS, i))
	b.WriteString(`,"parent_scan":{"finalized_at":"` + finalized.Format(LayoutMicros) + `"},"config":`)
	b.Write(mustJSON(struct {
		ID          string  `json:"config_id"`
		Name        string  `json:"name"`
		Description *string `json:"description"`
	}{t.model.wasConfigID(c), name, description}))
	b.WriteString(`,"scan":`)
	b.Write(t.wasScan(target, status))
	b.WriteByte('}')
	return b.Bytes()
}
