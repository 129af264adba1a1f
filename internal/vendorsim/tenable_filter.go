package vendorsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of filters that the exports accept, in addition to those of tags.
var (
	commonFilters = []string{"since", "state", "first_found", "last_found", "last_fixed", "indexed_at", "severity", "severity_modification_type"}
	filterNames   = map[string][]string{
		TenableVulns: append([]string{
			"first_seen", "last_seen", "resurfaced_date", "cidr_range", "network_id", "plugin_id", "plugin_family", "plugin_type", "scan_uuid",
			"source", "cve_id", "cve_category", "exploit_maturity", "vpr_threat_intensity", "weaponization", "zero_day", "initiative_id",
			"time_taken_to_fix", "vpr_score", "vpr_v2_score", "epss_score", "cvss4_base_score",
		}, commonFilters...),
		TenableWASBulk: append([]string{
			"asset_uuid", "asset_name", "plugin_ids", "ipv4s", "owasp_2010", "owasp_2013", "owasp_2017", "owasp_2021", "owasp_api_2019",
			"vpr_score", "epss_score", "cvss3_base_score",
		}, commonFilters...),
		TenableFindings: {
			"last_seen", "last_observed", "first_seen", "indexed_at", "since", "state", "compliance_results", "audit_name", "audit_file_name",
			"ipv4_addresses", "ipv6_addresses", "plugin_id", "network_id", "tags",
		},
		TenableAssets:   append([]string{}, assetFilters...),
		TenableAssetsV2: append([]string{"since", "types"}, assetFilters...),
	}
	assetFilters = []string{
		"created_at", "updated_at", "deleted_at", "terminated_at", "first_scan_time", "last_authenticated_scan_time", "last_assessed",
		"is_deleted", "is_terminated", "is_licensed", "has_plugin_results", "servicenow_sysid", "last_scan_id", "network_id", "sources",
	}
	findingTimes = []string{"since", "first_found", "first_seen", "last_found", "last_seen", "last_fixed", "last_observed",
		"indexed_at", "resurfaced_date"}
)

// setFilters checks the filters of a request and sets which records the job
// exports and which filters it echoes.
func (t *Tenable) setFilters(j *exportJob, req map[string]any) error {
	given, ok := req["filters"].(map[string]any)
	if req["filters"] != nil && !ok {
		return fmt.Errorf("%q must be an object", "filters")
	}
	tags := j.records == TenableVulns || j.records == TenableAssets
	for name := range given {
		known := slices.Contains(filterNames[j.records], name) || tags && strings.HasPrefix(name, "tag.") ||
			j.records == TenableVulns && strings.HasPrefix(name, "software_vulns_potential")
		if !known {
			return fmt.Errorf("%q is not allowed", name)
		}
	}
	j.filters = map[string]any{}
	for name, v := range given {
		j.filters[name] = v
	}
	var match func(int) bool
	var err error
	switch j.kind.stream {
	case TenableAssets:
		match, err = t.assetFilter(j)
	case TenableFindings:
		match, err = t.complianceFilter(j, req)
	default:
		match, err = t.findingFilter(j, req["include_unlicensed"] == true)
	}
	if err != nil {
		return err
	}
	j.match = match
	if loss := uint64(j.config.RoleLoss); loss > 0 {
		salt := t.model.g.saltOf("tenable role")
		j.match = func(i int) bool { return hashAt(salt, i)%100 >= loss && (match == nil || match(i)) }
	}
	return nil
}

// findingFilter selects vulnerability and web application findings.
func (t *Tenable) findingFilter(j *exportJob, unlicensed bool) (func(int) bool, error) {
	f := j.filters
	times, err := parseTimeFilters(f, findingTimes)
	if err != nil {
		return nil, err
	}
	if times["since"] > 0 {
		for _, name := range []string{"first_found", "first_seen", "last_found", "last_seen", "last_fixed"} {
			if times[name] > 0 {
				return nil, fmt.Errorf("%q conflicts with %q", "since", name)
			}
		}
	}
	states, err := parseEnumFilter(f, "state", []string{stateOpen, stateReopened, stateFixed}, []string{stateOpen, stateReopened})
	if err != nil {
		return nil, err
	}
	severities, err := parseEnumFilter(f, "severity", severityNames, severityNames)
	if err != nil {
		return nil, err
	}
	first := max(times["first_found"], times["first_seen"])
	last := max(times["last_found"], times["last_seen"])
	seen := times["since"]
	if seen+first+last+times["last_fixed"]+times["indexed_at"]+times["resurfaced_date"] == 0 {
		seen = t.model.g.Base.Add(-30 * 24 * time.Hour).Unix()
	}
	for _, name := range []string{"since", "first_found", "last_found", "last_fixed", "indexed_at"} {
		f[name] = times[name] // unset times are echoed as 0
	}
	m, salt := t.model, t.model.g.saltOf(j.records)
	return func(i int) bool {
		a := m.finding(i, hashAt(salt, i))
		observed := a.last
		if a.state == stateFixed {
			observed = a.fixed
		}
		return (unlicensed || m.asset(a.asset).licensed) && slices.Contains(states, a.state) &&
			slices.Contains(severities, severityNames[a.severity]) &&
			observed >= seen && a.first >= first && a.last >= last && a.fixed >= times["last_fixed"] && a.indexed >= times["indexed_at"]
	}, nil
}

// complianceFilter selects host audit results.
func (t *Tenable) complianceFilter(j *exportJob, req map[string]any) (func(int) bool, error) {
	f := j.filters
	if list, ok := req["asset"].([]any); ok && len(list) > 200 {
		return nil, fmt.Errorf("%q must contain at most 200 items", "asset")
	}
	times, err := parseTimeFilters(f, findingTimes)
	if err != nil {
		return nil, err
	}
	if times["first_seen"] > 0 && times["last_seen"] == 0 {
		return nil, fmt.Errorf("%q is allowed only together with %q", "first_seen", "last_seen")
	}
	states, err := parseEnumFilter(f, "state", []string{stateOpen, stateReopened, stateFixed}, []string{stateOpen, stateReopened})
	if err != nil {
		return nil, err
	}
	results, err := parseEnumFilter(f, "compliance_results", complianceResults, complianceResults)
	if err != nil {
		return nil, err
	}
	m, salt, indexed := t.model, t.model.g.saltOf(TenableFindings), max(times["indexed_at"], times["since"])
	return func(i int) bool {
		h := hashAt(salt, i)
		a := m.finding(i, h)
		active := a.state != stateFixed
		return slices.Contains(states, a.state) && slices.Contains(results, complianceResult(h)) && a.indexed >= indexed &&
			(times["last_seen"] == 0 || active && a.last >= times["last_seen"]) && a.first >= times["first_seen"] &&
			a.last >= times["last_observed"]
	}, nil
}

// assetFilter selects assets. Without filters it selects all assets or, in the
// second version, all hosts.
func (t *Tenable) assetFilter(j *exportJob) (func(int) bool, error) {
	f := j.filters
	times, err := parseTimeFilters(f, []string{"since", "created_at", "updated_at", "deleted_at", "terminated_at"})
	if err != nil {
		return nil, err
	}
	flags := map[string]bool{}
	for _, name := range []string{"is_deleted", "is_terminated", "is_licensed"} {
		if v, given := f[name]; given {
			b, ok := v.(bool)
			if !ok {
				return nil, fmt.Errorf("%q must be a boolean", name)
			}
			flags[name] = b
		}
	}
	types := []string{"HOST", "WEBAPP"}
	if j.records == TenableAssetsV2 {
		if types, err = parseEnumFilter(f, "types", types, types[:1]); err != nil {
			return nil, err
		}
	}
	if len(types) == 2 && len(times) == 0 && len(flags) == 0 {
		return nil, nil
	}
	m := t.model
	fits := func(name string, v bool) bool { want, given := flags[name]; return !given || want == v }
	return func(i int) bool {
		a := m.asset(i)
		kind := "HOST"
		if a.webapp {
			kind = "WEBAPP"
		}
		since := times["since"]
		return slices.Contains(types, kind) && max(a.updated, a.deleted, a.terminated) >= since &&
			a.created >= times["created_at"] && a.updated >= times["updated_at"] && a.deleted >= times["deleted_at"] &&
			a.terminated >= times["terminated_at"] &&
			fits("is_deleted", a.deleted > 0) && fits("is_terminated", a.terminated > 0) && fits("is_licensed", a.licensed)
	}, nil
}

// parseTimeFilters returns the Unix times of the named filters that are set. 0
// counts as not set.
func parseTimeFilters(f map[string]any, names []string) (map[string]int64, error) {
	times := map[string]int64{}
	for _, name := range names {
		n, given, err := parseIntMember(f, name)
		if err != nil {
			return nil, err
		}
		if given && n != 0 {
			times[name] = int64(n)
		}
	}
	return times, nil
}

// parseEnumFilter returns a list of known values, which may be given in any
// case. A filter that is not given gets the fallback and is echoed with it.
func parseEnumFilter(f map[string]any, name string, known, fallback []string) ([]string, error) {
	v, given := f[name]
	if !given {
		f[name] = fallback
		return fallback, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%q must be an array", name)
	}
	var out []string
	for _, item := range list {
		word, _ := item.(string)
		word = strings.ToUpper(word)
		if !slices.Contains(known, word) {
			return nil, fmt.Errorf("%q must be one of [%s]", name, strings.Join(known, ", "))
		}
		out = append(out, word)
	}
	return out, nil
}

// parseIntMember returns a member that is an integer or a string with an
// integer.
func parseIntMember(m map[string]any, name string) (n int, given bool, err error) {
	v, given := m[name]
	if !given || v == nil {
		return 0, false, nil
	}
	text := ""
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	if n, err = strconv.Atoi(text); err != nil {
		return 0, true, fmt.Errorf("%q must be a number", name)
	}
	return n, true, nil
}
