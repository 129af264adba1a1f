package vendorsim

import (
	"bytes"
	"strconv"
	"time"
)

// findingsPerReport is the number of findings in the report of a target.
const findingsPerReport = 20

// webAppOwner is the user id of the owner of all scans.
const webAppOwner = "0b1c2d3e-0000-4000-8000-000000000002"

// Kinds of scan configs by their number modulo ten. The other configs have a
// parent scan with two targets.
const (
	configNeverRan = 1
	configRunning  = 2
	configEmpty    = 3
)

// configRank is the position of a config among those with findings within its
// group of ten, or -1.
var configRank = [10]int{0, -1, -1, -1, 1, 2, 3, 4, 5, 6}

// webAppIndex is an index of the scans of a tenant, for a number of findings
// and a minimum number of configs.
type webAppIndex struct {
	findings, least int
	configs         int
	configIDs       map[string]int // config by config id
	targets         int            // with findings
	parents         map[string]int // config by parent scan id
	scans           map[string]int // target by target scan id
}

// webAppScans returns the index for the current number of findings; the caller
// holds the lock.
func (t *Tenable) webAppScans() *webAppIndex {
	n, least := t.host.Server().RecordCount(TenableWAS), t.config[TenableWAS].Configs
	if t.webApps != nil && t.webApps.findings == n && t.webApps.least == least {
		return t.webApps
	}
	x := &webAppIndex{
		findings: n, least: least, targets: (n + findingsPerReport - 1) / findingsPerReport,
		configIDs: map[string]int{}, parents: map[string]int{}, scans: map[string]int{},
	}
	for c := 0; c < least || !x.coversTargets(c); c++ {
		x.configs = c + 1
		x.configIDs[t.model.webAppConfigID(c)] = c
		x.parents[t.model.parentScanID(c)] = c
		for _, target := range x.targetsOf(c) {
			x.scans[t.model.targetScanID(target)] = target
		}
	}
	t.webApps = x
	return x
}

// coversTargets reports whether the configs before c have all targets.
func (w *webAppIndex) coversTargets(c int) bool {
	parents := (w.targets + 1) / 2
	n := c / 10 * 7
	for k := range c % 10 {
		if configRank[k] >= 0 {
			n++
		}
	}
	return n >= parents
}

// configOrdinal returns the position of a config among those with findings, and
// false if it has none.
func configOrdinal(c int) (n int, ok bool) {
	rank := configRank[c%10]
	return c/10*7 + rank, rank >= 0
}

// configOf returns the config of a target.
func configOf(target int) int {
	if target < 0 {
		return -target - 1
	}
	n := target / 2
	for c := range configRank {
		if configRank[c] == n%7 {
			return n/7*10 + c
		}
	}
	panic("unreachable: every rank has a config")
}

// targetsOf returns the targets of a config's last scan. The target of a
// config without findings is negative.
func (w *webAppIndex) targetsOf(c int) []int {
	if c%10 == configEmpty {
		return []int{-c - 1}
	}
	n, ok := configOrdinal(c)
	if !ok || 2*n >= w.targets {
		return nil
	}
	if 2*n+1 < w.targets {
		return []int{2 * n, 2*n + 1}
	}
	return []int{2 * n}
}

// hasLastScan reports whether a config has a last scan.
func (w *webAppIndex) hasLastScan(c int) bool {
	return c%10 == configRunning || len(w.targetsOf(c)) > 0
}

// findingsOf returns the range of findings of a target.
func (w *webAppIndex) findingsOf(target int) (from, to int) {
	if target < 0 {
		return 0, 0
	}
	return target * findingsPerReport, min((target+1)*findingsPerReport, w.findings)
}

func (t tenableModel) targetScanID(target int) string { return t.g.UUID("tenable was scan", target) }

func (t tenableModel) parentScanID(c int) string { return t.g.UUID("tenable was parent", c) }

func (t tenableModel) webAppConfigID(c int) string { return t.g.UUID("tenable was config", c) }

// webAppConfigName returns the name and the description of a config. Some have
// no description.
func webAppConfigName(c int) (name string, description *string) {
	name = "Shop " + strconv.Itoa(c)
	if c%4 != 0 {
		text := "Scan of shop " + strconv.Itoa(c) + " <é>"
		description = &text
	}
	return name, description
}

// webAppScanTime is how long a scan takes.
const webAppScanTime = 18*time.Minute + 123456*time.Microsecond

// scanTimes returns when the last scan of a config started and ended.
func (t tenableModel) scanTimes(c int) (started, finalized time.Time) {
	started = t.g.Base.Add(-time.Duration(c+2) * time.Hour).Add(250002 * time.Microsecond)
	return started, started.Add(webAppScanTime)
}

// reportTime is the format of times in reports.
const reportTime = "2006-01-02T15:04:05.000000+00:00"

// renderScan renders the scan object of a report.
func (t *Tenable) renderScan(target int, status string) []byte {
	c := configOf(target)
	started, finalized := t.model.scanTimes(c)
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
		User: webAppOwner, Scan: t.model.targetScanID(target), Status: status, Started: started.Format(reportTime),
		Finalized: finalized.Format(reportTime),
		Asset:     t.model.g.UUID("tenable was asset", target), Target: webAppTargetURL(target),
		Created: started.Add(-2 * time.Minute).Format(reportTime),
	})
}

func webAppTargetURL(target int) string {
	return "https://app-" + strconv.Itoa(max(target, 0)) + ".example.test/?rel=nofollow&target=_blank"
}

// WASOrigin returns the ids of the target's scan, the parent scan and the config
// that finding i of [TenableWAS] belongs to.
func (t *Tenable) WASOrigin(i int) (scan, parent, config string) {
	target := i / findingsPerReport
	c := configOf(target)
	return t.model.targetScanID(target), t.model.parentScanID(c), t.model.webAppConfigID(c)
}

// WASRecord returns the record that a client builds from finding i of
// [TenableWAS]: the finding and its scan as they are in the report, the end of
// the parent scan, and three members of the config, without whitespace between
// them.
func (t *Tenable) WASRecord(i int) []byte {
	target := i / findingsPerReport
	c := configOf(target)
	_, finalized := t.model.scanTimes(c)
	name, description := webAppConfigName(c)
	t.mu.Lock()
	status := t.finishedScanStatus(c)
	t.mu.Unlock()
	var b bytes.Buffer
	b.WriteString(`{"finding":`)
	b.Write(t.host.Server().Record(TenableWAS, i))
	b.WriteString(`,"parent_scan":{"finalized_at":"` + finalized.Format(LayoutMicros) + `"},"config":`)
	b.Write(mustJSON(struct {
		ID          string  `json:"config_id"`
		Name        string  `json:"name"`
		Description *string `json:"description"`
	}{ID: t.model.webAppConfigID(c), Name: name, Description: description}))
	b.WriteString(`,"scan":`)
	b.Write(t.renderScan(target, status))
	b.WriteByte('}')
	return b.Bytes()
}
