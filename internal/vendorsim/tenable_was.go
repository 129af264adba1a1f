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

// wasError writes an error in the shape of WAS v2.
func wasError(w http.ResponseWriter, code int, word, reason string) {
	writeJSON(w, code, map[string]any{"reasons": []map[string]string{{"code": word, "reason": reason}}})
}

// wasPage is the envelope of the two searches.
type wasPage struct {
	Pagination struct {
		Total  int                 `json:"total"`
		Offset int                 `json:"offset"`
		Limit  int                 `json:"limit"`
		Sort   []map[string]string `json:"sort"`
	} `json:"pagination"`
	Items []json.RawMessage `json:"items"`
}

// wasSearch answers one page out of n items. If limit or offset are bad it
// answers 400.
func (t *Tenable) wasSearch(w http.ResponseWriter, r *http.Request, n int, sort, order string, item func(i, offset int) []byte) {
	var p wasPage
	p.Pagination.Total, p.Pagination.Limit, p.Items = n, 10, []json.RawMessage{}
	p.Pagination.Sort = []map[string]string{{"name": sort, "order": order}}
	for name, into := range map[string]*int{"limit": &p.Pagination.Limit, "offset": &p.Pagination.Offset} {
		text := r.URL.Query().Get(name)
		v, err := strconv.Atoi(text)
		if text != "" && (err != nil || v < 0 || name == "limit" && (v < 1 || v > 200)) {
			wasError(w, http.StatusBadRequest, "INVALID_PARAMETER", name+" is out of range")
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

// wasConfigs serves POST /was/v2/configs/search.
func (t *Tenable) wasConfigs(w http.ResponseWriter, r *http.Request) {
	filter := map[string]any{}
	if err := json.NewDecoder(r.Body).Decode(&filter); err != nil && !errors.Is(err, io.EOF) {
		wasError(w, http.StatusBadRequest, "INVALID_JSON_BODY", "The body is not JSON")
		return
	}
	x := t.wasScans()
	var configs []int
	for c := range x.configs {
		if t.wasFilter(x, c, filter) {
			configs = append(configs, c)
		}
	}
	shift := t.config[TenableWAS].Shift
	t.wasSearch(w, r, len(configs), "configs.updated_at", "desc", func(i, offset int) []byte {
		if shift && offset > 0 {
			i = (i + len(configs) - 1) % len(configs)
		}
		return t.wasConfig(x, configs[i])
	})
}

// wasFilter reports whether a config passes a search filter: a leaf, or lists
// of them under AND and OR. Other fields than those of the last scan pass.
func (t *Tenable) wasFilter(x *wasIndex, c int, f map[string]any) bool {
	each := func(name string) (hits, all int) {
		list, _ := f[name].([]any)
		for _, item := range list {
			if leaf, ok := item.(map[string]any); ok {
				all++
				if t.wasFilter(x, c, leaf) {
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
	if !x.ran(c) {
		return false
	}
	if field == "scans_status" {
		list, ok := f["value"].([]any)
		if !ok {
			list = []any{f["value"]}
		}
		return slices.Contains(list, any(t.wasStatus(c)))
	}
	started, finalized := t.model.wasTimes(c)
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

// wasStatus returns the status of a config's last scan; the caller holds the
// lock.
func (t *Tenable) wasStatus(c int) string {
	if n, ok := ordinal(c); ok && slices.Contains(t.config[TenableWAS].AbortedParents, n) {
		return "aborted"
	}
	if c%10 == wasRunning {
		return "running"
	}
	return "completed"
}

// wasConfig renders a config as the search shows it.
func (t *Tenable) wasConfig(x *wasIndex, c int) []byte {
	name, description := wasConfigName(c)
	started, finalized := t.model.wasTimes(c)
	var last map[string]any
	if x.ran(c) {
		status := t.wasStatus(c)
		last = map[string]any{
			"scan_id": t.model.wasParentID(c), "user_id": wasUser, "config_id": t.model.wasConfigID(c), "requested_action": "start",
			"created_at": started.Add(-2 * time.Minute).Format(LayoutMicros), "started_at": started.Format(LayoutMicros),
			"updated_at": finalized.Format(LayoutMicros), "finalized_at": finalized.Format(LayoutMicros), "status": status, "template_name": "quick",
		}
		if status == "running" {
			last["finalized_at"] = nil
		}
	}
	return mustJSON(map[string]any{
		"config_id": t.model.wasConfigID(c), "owner_id": wasUser, "name": name, "description": description, "target": wasTargetURL(2 * c),
		"target_count": len(x.targetsOf(c)), "is_shared": true, "user_permissions": "configure", "schedule": nil, "in_trash": false,
		"created_at": started.Add(-240 * time.Hour).Format(LayoutMicros), "updated_at": finalized.Format(LayoutMicros), "last_scan": last, "user_template": nil,
	})
}

// wasTargets serves POST /was/v2/scans/{scan}/vulnerabilities/by-targets/search.
func (t *Tenable) wasTargets(w http.ResponseWriter, r *http.Request) {
	x := t.wasScans()
	c, ok := x.parents[r.PathValue("scan")]
	if !ok || !x.ran(c) {
		wasError(w, http.StatusNotFound, "NOT_FOUND", "Scan not found")
		return
	}
	targets := x.targetsOf(c)
	t.wasSearch(w, r, len(targets), "target", "desc", func(i, _ int) []byte { return t.wasTarget(x, targets[i]) })
}

// wasTarget renders a target with its counts, of which finding_count leaves
// the informational ones out.
func (t *Tenable) wasTarget(x *wasIndex, target int) []byte {
	var by [5]int
	from, to := x.findingsOf(target)
	for i := from; i < to; i++ {
		by[severityOf[t.model.g.Hash(TenableWAS, i)>>8%10]]++
	}
	if slices.Contains(t.config[TenableWAS].MiscountTargets, target) {
		by[2]++
	}
	c := configOf(target)
	started, _ := t.model.wasTimes(c)
	return mustJSON(map[string]any{
		"target": map[string]string{
			"target_id": t.model.g.UUID("tenable was target", target), "asset_id": t.model.g.UUID("tenable was asset", target), "target_url": wasTargetURL(target),
		},
		"scan": map[string]any{
			"scan_id": t.model.wasScanID(target), "created_at": started.Add(-2 * time.Minute).Format(LayoutMicros), "started_at": started.Format(LayoutMicros),
			"status": t.wasStatus(c), "estimate_percent_complete": nil,
		},
		"findings": map[string]int{
			"finding_count": by[1] + by[2] + by[3] + by[4], "info_vulns": by[0], "low_vulns": by[1], "medium_vulns": by[2], "high_vulns": by[3], "critical_vulns": by[4],
		},
	})
}

// openReport finds the target of a report request. Otherwise it answers.
func (t *Tenable) openReport(w http.ResponseWriter, r *http.Request, x *wasIndex) (target int, ok bool) {
	target, ok = x.scans[r.PathValue("scan")]
	switch {
	case r.Header.Get("Content-Type") != "application/json":
		wasError(w, http.StatusUnsupportedMediaType, "INVALID_PARAMETER", "The Content-Type header selects the format of the report")
		return 0, false
	case !ok || slices.Contains(t.config[TenableWAS].GoneTargets, target):
		wasError(w, http.StatusNotFound, "NOT_FOUND", "Scan not found")
		return 0, false
	}
	return target, true
}

// needsPut reports whether nobody has made the report of a target yet.
func needsPut(target int) bool { return target%5 == 2 }

// wasMakeReport serves PUT /was/v2/scans/{scan}/report.
func (t *Tenable) wasMakeReport(w http.ResponseWriter, r *http.Request) {
	target, ok := t.openReport(w, r, t.wasScans())
	if !ok {
		return
	}
	if _, ordered := t.reports[target]; ordered || !needsPut(target) {
		w.WriteHeader(http.StatusOK)
		return
	}
	t.reports[target] = 0
	w.WriteHeader(http.StatusAccepted)
}

// wasReport serves GET /was/v2/scans/{scan}/report. The report itself is
// written without the lock, which a slow client would hold.
func (t *Tenable) wasReport(w http.ResponseWriter, r *http.Request) {
	var before, after string
	var from, to int
	refusal := t.record(func(w http.ResponseWriter, r *http.Request) {
		x := t.wasScans()
		target, ok := t.openReport(w, r, x)
		if !ok {
			return
		}
		if !t.reportReady(target) {
			wasError(w, http.StatusNotFound, "NOT_FOUND", "Report not found")
			return
		}
		before, after = t.reportFrame(target)
		from, to = x.findingsOf(target)
	}, r)
	if before == "" {
		refusal.send(w)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = t.host.Server().WriteRecords(w, before, TenableWAS, span(from, to), after)
}

// reportReady reports whether the report of a target has been made; the
// caller holds the lock.
func (t *Tenable) reportReady(target int) bool {
	if !needsPut(target) {
		return true
	}
	polls, ordered := t.reports[target]
	if ordered && polls < t.config[TenableWAS].ReportPolls {
		t.reports[target]++
		return false
	}
	return ordered
}

// reportFrame renders what stands around the findings of a report; the caller
// holds the lock.
func (t *Tenable) reportFrame(target int) (before, after string) {
	c := configOf(target)
	_, finalized := t.model.wasTimes(c)
	name, description := wasConfigName(c)
	status := t.wasStatus(c)
	config := mustJSON(map[string]any{
		"config_id": t.model.wasConfigID(c), "owner_id": wasUser, "name": name, "description": description,
		"settings": map[string]any{"timeout": "08:00:00", "credentials": map[string]any{"credential_ids": []string{}}},
	})
	notes := "[]"
	if status == "aborted" {
		notes = `[{"severity":"info","title":"Scan Time Limit Reached","message":"The scan stopped at its time limit."}]`
	}
	before = fmt.Sprintf(`{"report":{"version":"1.1","created_at":%q},"config":%s,"template":{"name":"quick","description":"Quick scan","template_id":%q},`+
		`"user_template":{"name":null,"owner_id":null,"description":null,"user_template_id":null},"scan":%s,"findings":[`,
		finalized.Format(reportTime), config, t.model.g.UUID("tenable was template", 0), t.wasScan(target, status))
	return before, `],"notes":` + notes + `}`
}
