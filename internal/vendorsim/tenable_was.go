package vendorsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writeWebAppError writes an error in the format of WAS v2.
func writeWebAppError(w http.ResponseWriter, code int, word, reason string) {
	writeJSON(w, code, map[string]any{"reasons": []map[string]string{{"code": word, "reason": reason}}})
}

// webAppPage is the response format of the two searches.
type webAppPage struct {
	Pagination struct {
		Total  int                 `json:"total"`
		Offset int                 `json:"offset"`
		Limit  int                 `json:"limit"`
		Sort   []map[string]string `json:"sort"`
	} `json:"pagination"`
	Items []json.RawMessage `json:"items"`
}

// writeWebAppPage writes one page of n items. If limit or offset is invalid, it
// responds with 400.
func (t *Tenable) writeWebAppPage(w http.ResponseWriter, r *http.Request, n int, sort, order string, item func(i, offset int) []byte) {
	var p webAppPage
	p.Pagination.Total, p.Pagination.Limit, p.Items = n, 10, []json.RawMessage{}
	p.Pagination.Sort = []map[string]string{{"name": sort, "order": order}}
	for name, into := range map[string]*int{"limit": &p.Pagination.Limit, "offset": &p.Pagination.Offset} {
		text := r.URL.Query().Get(name)
		v, err := strconv.Atoi(text)
		if text != "" && (err != nil || v < 0 || name == "limit" && (v < 1 || v > 200)) {
			writeWebAppError(w, http.StatusBadRequest, "INVALID_PARAMETER", name+" is out of range")
			return
		}
		if text != "" {
			*into = v
		}
	}
	limit := min(p.Pagination.Limit, t.host.PageLimit(TenableWAS, 200))
	for i := p.Pagination.Offset; i < min(p.Pagination.Offset+limit, n); i++ {
		p.Items = append(p.Items, item(i, p.Pagination.Offset))
	}
	writeJSON(w, http.StatusOK, p)
}

// serveWebAppConfigs serves POST /was/v2/configs/search.
func (t *Tenable) serveWebAppConfigs(w http.ResponseWriter, r *http.Request) {
	filter := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&filter); err != nil && !errors.Is(err, io.EOF) {
		writeWebAppError(w, http.StatusBadRequest, "INVALID_JSON_BODY", "The body is not JSON")
		return
	}
	x := t.webAppScans()
	var configs []int
	for c := range x.configs {
		if t.matchesConfigFilter(x, c, filter) {
			configs = append(configs, c)
		}
	}
	if offset := r.URL.Query().Get("offset"); t.config[TenableWAS].Shift && offset != "" && offset != "0" {
		t.shifts++
	}
	t.writeWebAppPage(w, r, len(configs), "configs.updated_at", "desc", func(i, _ int) []byte {
		return t.renderConfig(x, configs[(i+len(configs)-t.shifts%len(configs))%len(configs)])
	})
}

// matchesConfigFilter reports whether a config matches a search filter: a
// comparison, or lists of comparisons under AND and OR. Comparisons of fields
// that are not of the last scan always match.
func (t *Tenable) matchesConfigFilter(x *webAppIndex, c int, f map[string]any) bool {
	each := func(name string) (hits, all int) {
		list, _ := f[name].([]any)
		for _, item := range list {
			if leaf, ok := item.(map[string]any); ok {
				all++
				if t.matchesConfigFilter(x, c, leaf) {
					hits++
				}
			}
		}
		return hits, all
	}
	if hits, all := each("AND"); hits < all {
		return false
	}
	if hits, all := each("OR"); all > 0 && hits == 0 {
		return false
	}
	field, _ := f["field"].(string)
	if !strings.HasPrefix(field, "scans_") {
		return true
	}
	if !x.hasLastScan(c) {
		return false
	}
	if field == "scans_status" {
		list, ok := f["value"].([]any)
		if !ok {
			list = []any{f["value"]}
		}
		return slices.Contains(list, any(t.lastScanStatus(c)))
	}
	started, finalized := t.model.scanTimes(c)
	at := started
	if field == "scans_finalized_at" {
		at = finalized
	}
	text, _ := f["value"].(string)
	day, err := time.Parse("2006/01/02", text)
	if err != nil {
		return false
	}
	if f["operator"] == "lte" {
		return !at.After(day)
	}
	return !at.Before(day)
}

// lastScanStatus returns the status of a config's last scan; the caller holds the
// lock.
func (t *Tenable) lastScanStatus(c int) string {
	n, ok := configOrdinal(c)
	if c%10 == configRunning || ok && slices.Contains(t.config[TenableWAS].RunningParents, n) {
		return webAppRunning
	}
	return t.finishedScanStatus(c)
}

// finishedScanStatus returns the status of a config's newest scan that is not
// running; the caller holds the lock.
func (t *Tenable) finishedScanStatus(c int) string {
	if n, ok := configOrdinal(c); ok && slices.Contains(t.config[TenableWAS].AbortedParents, n) {
		return "aborted"
	}
	return "completed"
}

// webAppRunning is the status of a scan that has not ended.
const webAppRunning = "running"

// renderLastScan renders a config's last scan; the caller holds the lock.
func (t *Tenable) renderLastScan(c int) map[string]any {
	started, _ := t.model.scanTimes(c)
	id, status := t.model.parentScanID(c), t.lastScanStatus(c)
	if status == webAppRunning {
		if c%10 != configRunning {
			id = t.model.g.UUID("tenable was running", c)
		}
		started = t.model.g.Base.Add(-time.Hour)
	}
	return t.renderParentScan(c, id, status, started)
}

// renderParentScan renders a scan of a config. It has no end while it is
// running.
func (t *Tenable) renderParentScan(c int, id, status string, started time.Time) map[string]any {
	finalized := started.Add(webAppScanTime).Format(LayoutMicros)
	scan := map[string]any{
		"scan_id": id, "user_id": webAppOwner, "config_id": t.model.webAppConfigID(c), "requested_action": "start",
		"created_at": started.Add(-2 * time.Minute).Format(LayoutMicros), "started_at": started.Format(LayoutMicros),
		"updated_at": finalized, "finalized_at": finalized, "status": status, "template_name": "quick",
	}
	if status == webAppRunning {
		scan["finalized_at"] = nil
	}
	return scan
}

// serveWebAppScans serves POST /was/v2/configs/{config}/scans/search, which
// lists the scans of a config. A config with findings also has a scan that is a
// week older than that with the findings.
func (t *Tenable) serveWebAppScans(w http.ResponseWriter, r *http.Request) {
	x := t.webAppScans()
	c, ok := x.configIDs[r.PathValue("config")]
	if !ok {
		writeWebAppError(w, http.StatusNotFound, "NOT_FOUND", "Scan config not found")
		return
	}
	var scans []map[string]any
	if len(x.targetsOf(c)) > 0 {
		started, _ := t.model.scanTimes(c)
		older := t.model.g.UUID("tenable was older", c)
		scans = append(scans, t.renderParentScan(c, older, "completed", started.Add(-7*24*time.Hour)),
			t.renderParentScan(c, t.model.parentScanID(c), t.finishedScanStatus(c), started))
	}
	if t.lastScanStatus(c) == webAppRunning {
		scans = append(scans, t.renderLastScan(c))
	}
	t.writeWebAppPage(w, r, len(scans), "scans.created_at", "asc", func(i, _ int) []byte { return mustJSON(scans[i]) })
}

// renderConfig renders a config for the search.
func (t *Tenable) renderConfig(x *webAppIndex, c int) []byte {
	name, description := webAppConfigName(c)
	started, finalized := t.model.scanTimes(c)
	var last map[string]any
	if x.hasLastScan(c) {
		last = t.renderLastScan(c)
	}
	return mustJSON(map[string]any{
		"config_id": t.model.webAppConfigID(c), "owner_id": webAppOwner, "name": name, "description": description,
		"target":       webAppTargetURL(2 * c),
		"target_count": len(x.targetsOf(c)), "is_shared": true, "user_permissions": "configure", "schedule": nil, "in_trash": false,
		"created_at": started.Add(-240 * time.Hour).Format(LayoutMicros), "updated_at": finalized.Format(LayoutMicros),
		"last_scan": last, "user_template": nil,
	})
}

// serveWebAppTargets serves POST /was/v2/scans/{scan}/vulnerabilities/by-targets/search.
func (t *Tenable) serveWebAppTargets(w http.ResponseWriter, r *http.Request) {
	x := t.webAppScans()
	c, ok := x.parents[r.PathValue("scan")]
	if !ok || !x.hasLastScan(c) {
		writeWebAppError(w, http.StatusNotFound, "NOT_FOUND", "Scan not found")
		return
	}
	targets := x.targetsOf(c)
	t.writeWebAppPage(w, r, len(targets), "target", "desc", func(i, _ int) []byte { return t.renderTarget(x, targets[i]) })
}

// renderTarget renders a target with its counts. finding_count does not include
// informational findings.
func (t *Tenable) renderTarget(x *webAppIndex, target int) []byte {
	var by [5]int
	from, to := x.findingsOf(target)
	for i := from; i < to; i++ {
		by[severityOf[t.model.g.Hash(TenableWAS, i)>>8%10]]++
	}
	if slices.Contains(t.config[TenableWAS].MiscountTargets, target) {
		by[2]++
	}
	c := configOf(target)
	started, _ := t.model.scanTimes(c)
	findings := map[string]int{
		"finding_count": by[1] + by[2] + by[3] + by[4],
		"info_vulns":    by[0], "low_vulns": by[1], "medium_vulns": by[2], "high_vulns": by[3], "critical_vulns": by[4],
	}
	if t.config[TenableWAS].Uncounted {
		delete(findings, "info_vulns")
	}
	return mustJSON(map[string]any{
		"target": map[string]string{
			"target_id": t.model.g.UUID("tenable was target", target), "asset_id": t.model.g.UUID("tenable was asset", target),
			"target_url": webAppTargetURL(target),
		},
		"scan": map[string]any{
			"scan_id": t.model.targetScanID(target), "created_at": started.Add(-2 * time.Minute).Format(LayoutMicros),
			"started_at": started.Format(LayoutMicros),
			"status":     t.finishedScanStatus(c), "estimate_percent_complete": nil,
		},
		"findings": findings,
	})
}

// findReportTarget returns the target of a report request. If there is none, it
// writes the response and returns false.
func (t *Tenable) findReportTarget(w http.ResponseWriter, r *http.Request, x *webAppIndex) (target int, ok bool) {
	target, ok = x.scans[r.PathValue("scan")]
	switch {
	case r.Header.Get("Content-Type") != "application/json":
		writeWebAppError(w, http.StatusUnsupportedMediaType, "INVALID_PARAMETER", "The Content-Type header selects the format of the report")
		return 0, false
	case !ok || slices.Contains(t.config[TenableWAS].GoneTargets, target):
		writeWebAppError(w, http.StatusNotFound, "NOT_FOUND", "Scan not found")
		return 0, false
	}
	return target, true
}

// needsReportOrder reports whether the report of a target must be requested
// with PUT.
func needsReportOrder(target int) bool { return target%5 == 2 }

// createWebAppReport serves PUT /was/v2/scans/{scan}/report.
func (t *Tenable) createWebAppReport(w http.ResponseWriter, r *http.Request) {
	target, ok := t.findReportTarget(w, r, t.webAppScans())
	if !ok {
		return
	}
	if _, ordered := t.reports[target]; ordered || !needsReportOrder(target) {
		w.WriteHeader(http.StatusOK)
		return
	}
	t.reports[target] = 0
	w.WriteHeader(http.StatusAccepted)
}

// serveWebAppReport serves GET /was/v2/scans/{scan}/report. The report is
// written without the lock, because a slow client would hold it.
func (t *Tenable) serveWebAppReport(w http.ResponseWriter, r *http.Request) {
	var before, after string
	var from, to int
	refusal := t.captureLocked(func(w http.ResponseWriter, r *http.Request) {
		x := t.webAppScans()
		target, ok := t.findReportTarget(w, r, x)
		if !ok {
			return
		}
		if !t.reportReady(target) {
			writeWebAppError(w, http.StatusNotFound, "NOT_FOUND", "Report not found")
			return
		}
		before, after = t.renderReportFrame(target)
		from, to = x.findingsOf(target)
	}, r)
	if before == "" {
		refusal.writeTo(w)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = t.host.Server().WriteRecords(w, before, TenableWAS, indexRange(from, to), after)
}

// reportReady reports whether the report of a target is available; the caller
// holds the lock.
func (t *Tenable) reportReady(target int) bool {
	if slices.Contains(t.config[TenableWAS].UncreatedTargets, target) {
		return false
	}
	if !needsReportOrder(target) {
		return true
	}
	polls, ordered := t.reports[target]
	if ordered && polls < t.config[TenableWAS].ReportPolls {
		t.reports[target]++
		return false
	}
	return ordered
}

// renderReportFrame renders the parts of a report before and after its
// findings; the caller holds the lock.
func (t *Tenable) renderReportFrame(target int) (before, after string) {
	c := configOf(target)
	_, finalized := t.model.scanTimes(c)
	name, description := webAppConfigName(c)
	status := t.finishedScanStatus(c)
	config := mustJSON(map[string]any{
		"config_id": t.model.webAppConfigID(c), "owner_id": webAppOwner, "name": name, "description": description,
		"settings": map[string]any{"timeout": "08:00:00", "credentials": map[string]any{"credential_ids": []string{}}},
	})
	notes := "[]"
	if status == "aborted" {
		notes = `[{"severity":"info","title":"Scan Time Limit Reached","message":"The scan stopped at its time limit."}]`
	}
	before = fmt.Sprintf(`{"report":{"version":"1.1","created_at":%q},"config":%s,"template":{"name":"quick","description":"Quick scan","template_id":%q},`+
		`"user_template":{"name":null,"owner_id":null,"description":null,"user_template_id":null},"scan":%s,"findings":[`,
		finalized.Format(reportTime), config, t.model.g.UUID("tenable was template", 0), t.renderScan(target, status))
	return before, `],"notes":` + notes + `}`
}
