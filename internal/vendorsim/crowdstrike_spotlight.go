package vendorsim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Select returns the indices of the vulnerabilities that a filter selects.
func (c *CrowdStrike) Select(filter string) ([]int, error) {
	list, err := c.vulnList(filter)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(list))
	for k, i := range list {
		out[k] = int(i)
	}
	return out, nil
}

// vulnList selects vulnerabilities. Ranges of created_timestamp cut a part out
// of the list that the rest of the filter selects, which is made once.
func (c *CrowdStrike) vulnList(filter string) ([]int32, error) {
	known := func(f string) bool { return slices.Contains(vulnFields, f) }
	e, err := parseFQL(filter, known)
	if err != nil {
		return nil, err
	}
	s, server := c.settings(), c.host.Server()
	var rest, ranges []*fqlExpr
	for _, p := range e.conjuncts() {
		if p.term != nil && p.term.field == "created_timestamp" && p.term.op != "" && len(p.term.values) == 1 {
			if !s.IgnoreTimes {
				ranges = append(ranges, p)
			}
			continue
		}
		rest = append(rest, p)
	}
	others := &fqlExpr{parts: rest}
	untimed := s.Untimed
	if len(ranges) == 0 {
		untimed = 0
	}
	st, n := server.stream(CrowdStrikeVulns), server.Count(CrowdStrikeVulns)
	list := c.choose(fmt.Sprint("vulnerabilities ", n, untimed, others), n, func(i int) bool {
		r := st.rec(i)
		return (untimed == 0 || i%untimed != 0) && c.vulnHolds(others, r)
	})
	for _, p := range ranges {
		if list, err = c.cutTimes(list, p.term); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// vulnHolds evaluates a filter for one vulnerability. The filter
// last_seen_within compares another way than the others.
func (c *CrowdStrike) vulnHolds(e *fqlExpr, r Rec) bool {
	if e.term == nil {
		for _, p := range e.parts {
			if c.vulnHolds(p, r) == e.any {
				return e.any
			}
		}
		return !e.any
	}
	if e.term.field == "last_seen_within" {
		days, err := strconv.Atoi(e.term.values[0])
		return err == nil && c.model.lastSeen(r) < days
	}
	return e.holds(func(field string) string { return c.model.vulnField(r, field) })
}

// cutTimes cuts the part of a list whose creation compares as wanted: the list
// rises with that time.
func (c *CrowdStrike) cutTimes(list []int32, t *fqlTerm) ([]int32, error) {
	at, err := time.Parse(time.RFC3339, t.values[0])
	if err != nil {
		return nil, fmt.Errorf("invalid filter expression supplied: time %q", t.values[0])
	}
	first := sort.Search(len(list), func(k int) bool { return !c.model.created(int(list[k])).Before(at) })
	after := sort.Search(len(list), func(k int) bool { return c.model.created(int(list[k])).After(at) })
	switch t.op {
	case ">=":
		return list[first:], nil
	case ">":
		return list[after:], nil
	case "<":
		return list[:first], nil
	}
	return list[:after], nil
}

var (
	falconFacets = []string{"cve", "host_info", "remediation", "evaluation_logic"}
	falconSorts  = []string{"", "updated_timestamp|asc", "closed_timestamp|asc"}
)

// vulnerabilities is GET /spotlight/combined/vulnerabilities/v1.
func (c *CrowdStrike) vulnerabilities(w http.ResponseWriter, r *http.Request) {
	s, q := c.settings(), r.URL.Query()
	limit, err := falconLimit(r, 5000)
	var list []int32
	switch {
	case err != nil:
	case strings.Trim(q.Get("filter"), "* ") == "":
		err = errors.New("filter is required")
	case !slices.Contains(falconSorts, q.Get("sort")):
		err = errors.New("invalid sort")
	case slices.ContainsFunc(q["facet"], func(f string) bool { return !slices.Contains(falconFacets, f) }):
		err = errors.New("invalid facet")
	default:
		list, err = c.vulnList(q.Get("filter"))
	}
	if err != nil {
		falconError(w, http.StatusBadRequest, err.Error())
		return
	}
	key := fmt.Sprintf("vulnerabilities %x", c.host.Gen().salt(q.Get("filter")+q.Get("sort")))
	at, err := c.cursor(q.Get("after"), key)
	if errors.Is(err, errFalconExpired) {
		spotlightExpired(w, limit)
		return
	}
	if err != nil || at > len(list) {
		falconError(w, http.StatusBadRequest, "invalid after")
		return
	}
	limit = c.host.PageLimit(CrowdStrikeVulns, limit)
	end := min(at+limit, len(list))
	total, after := c.drifted(len(list)), ""
	switch {
	case at == end:
		total = 0
	case end < len(list) || !s.CleanEnd:
		after = c.next(key, end)
	}
	before := falconMeta("spapi", fmt.Sprintf(`"limit":%d,"total":%d,"after":%q`, limit, total, after))
	w.Header().Set("Content-Type", "application/json")
	if slices.Contains(q["facet"], "cve") && slices.Contains(q["facet"], "host_info") && slices.Contains(q["facet"], "remediation") {
		_ = c.host.Server().WriteRecords(w, before, CrowdStrikeVulns, falconPart(list, at, end), "]}")
		return
	}
	c.writeBare(w, before, list[at:end], q["facet"])
}

// writeBare writes vulnerabilities without the facets that were not asked for.
func (c *CrowdStrike) writeBare(w http.ResponseWriter, before string, list []int32, facets []string) {
	buf := []byte(before)
	for k, i := range list {
		if k > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, falconKeep(c.host.Server().Record(CrowdStrikeVulns, int(i)), func(name string) bool {
			return !slices.Contains(falconFacets, name) || slices.Contains(facets, name)
		})...)
	}
	_, _ = w.Write(append(buf, "]}"...))
}

// spotlightExpired answers a cursor that is too old.
func spotlightExpired(w http.ResponseWriter, limit int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = fmt.Fprintf(w, `{"meta":{"query_time":0.002,"pagination":{"limit":%d,"total":0,"after":""},"powered_by":"spapi","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"resources":[],"errors":[{"code":404,"message":"Search context expired, 'after' key no longer valid"}]}`, limit)
}
