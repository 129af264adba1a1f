package vendorsim

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Select returns the indices of the vulnerabilities that match a filter.
func (c *CrowdStrike) Select(filter string) ([]int, error) {
	list, err := c.selectVulns(filter)
	if err != nil {
		return nil, err
	}
	out := make([]int, len(list))
	for k, i := range list {
		out[k] = int(i)
	}
	return out, nil
}

// selectVulns returns the indices of the vulnerabilities that match a filter.
// The selection by all terms but ranges of created_timestamp is cached. The
// ranges then select a part of it.
func (c *CrowdStrike) selectVulns(filter string) ([]int32, error) {
	known := func(f string) bool { return slices.Contains(vulnFilterFields, f) }
	e, err := parseFQL(filter, known)
	if err != nil {
		return nil, err
	}
	s, server := c.effectiveConfig(), c.host.Server()
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
	st, n := server.mustStream(CrowdStrikeVulns), server.RecordCount(CrowdStrikeVulns)
	list := c.selectIndices(fmt.Sprint("vulnerabilities ", n, untimed, others), n, func(i int) bool {
		r := st.recAt(i)
		return (untimed == 0 || i%untimed != 0) && c.matchesVuln(others, r)
	})
	for _, p := range ranges {
		if list, err = c.selectCreated(list, p.term); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// matchesVuln reports whether a vulnerability matches a filter. It exists
// because last_seen_within compares differently from the other fields.
func (c *CrowdStrike) matchesVuln(e *fqlExpr, r Rec) bool {
	if e.term == nil {
		for _, p := range e.parts {
			if c.matchesVuln(p, r) == e.any {
				return e.any
			}
		}
		return !e.any
	}
	if e.term.field == "last_seen_within" {
		days, err := strconv.Atoi(e.term.values[0])
		return err == nil && c.model.daysSinceSeen(r) < days
	}
	return e.evaluate(func(field string) string { return c.model.vulnField(r, field) })
}

// selectCreated returns the part of a list whose creation times match a term.
// The list is sorted by creation time.
func (c *CrowdStrike) selectCreated(list []int32, t *fqlTerm) ([]int32, error) {
	at, err := time.Parse(time.RFC3339, t.values[0])
	if err != nil {
		return nil, fmt.Errorf("invalid filter expression supplied: time %q", t.values[0])
	}
	first := sort.Search(len(list), func(k int) bool { return !c.model.findingCreated(int(list[k])).Before(at) })
	after := sort.Search(len(list), func(k int) bool { return c.model.findingCreated(int(list[k])).After(at) })
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

// UpdateVulnerabilities lets the vendor update the vulnerabilities with the given
// indices now, so that they move to the end of listings, which are in the
// order of updates.
func (c *CrowdStrike) UpdateVulnerabilities(indices ...int) {
	for _, i := range indices {
		c.model.updateFinding(i, c.host.Now().Truncate(time.Second))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.ordered)
	clear(c.selections)
}

// VulnerabilitiesInOrder returns the indices of the vulnerabilities that match a
// filter, in the order in which they are listed.
func (c *CrowdStrike) VulnerabilitiesInOrder(filter string) ([]int, error) {
	list, err := c.selectVulns(filter)
	if err != nil {
		return nil, err
	}
	return slices.Collect(sliceIndices(c.orderVulns("", list), 0, len(list))), nil
}

// orderVulns returns a list of vulnerabilities in the order of their last
// updates, which is the vendor's default. Lists are cached by key unless it is
// "".
func (c *CrowdStrike) orderVulns(key string, list []int32) []int32 {
	c.mu.Lock()
	ordered, ok := c.ordered[key]
	c.mu.Unlock()
	if ok {
		return ordered
	}
	positions := make([]vulnPosition, len(list))
	for k, i := range list {
		positions[k] = c.vulnPosition(int(i))
	}
	slices.SortFunc(positions, vulnPosition.compare)
	ordered = make([]int32, len(list))
	for k, p := range positions {
		ordered[k] = int32(p.index)
	}
	if key != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ordered[key] = ordered
	}
	return ordered
}

// vulnPosition is the position of a vulnerability in the order of listings.
type vulnPosition struct {
	updated int64 // Unix seconds
	index   int
}

func (v vulnPosition) compare(o vulnPosition) int {
	return cmp.Or(cmp.Compare(v.updated, o.updated), cmp.Compare(v.index, o.index))
}

func (c *CrowdStrike) vulnPosition(i int) vulnPosition {
	return vulnPosition{c.model.findingUpdated(c.host.Server().mustStream(CrowdStrikeVulns).recAt(i)).Unix(), i}
}

// positionAfter returns the position in an ordered list of the first record
// behind a cursor.
func (c *CrowdStrike) positionAfter(list []int32, cursor crowdstrikeCursor) int {
	last := vulnPosition{cursor.Update, cursor.Next}
	return sort.Search(len(list), func(k int) bool { return c.vulnPosition(int(list[k])).compare(last) > 0 })
}

var (
	crowdstrikeFacets = []string{"cve", "host_info", "remediation", "evaluation_logic"}
	crowdstrikeSorts  = []string{"", "updated_timestamp|asc", "closed_timestamp|asc"}
)

// serveVulnerabilities serves GET /spotlight/combined/vulnerabilities/v1.
func (c *CrowdStrike) serveVulnerabilities(w http.ResponseWriter, r *http.Request) {
	s, q := c.effectiveConfig(), r.URL.Query()
	limit, err := parseCrowdStrikeLimit(r, 5000)
	var list []int32
	switch {
	case err != nil:
	case strings.Trim(q.Get("filter"), "* ") == "":
		err = errors.New("filter is required")
	case !slices.Contains(crowdstrikeSorts, q.Get("sort")):
		err = errors.New("invalid sort")
	case slices.ContainsFunc(q["facet"], func(f string) bool { return !slices.Contains(crowdstrikeFacets, f) }):
		err = errors.New("invalid facet")
	default:
		list, err = c.selectVulns(q.Get("filter"))
	}
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	total := c.driftedTotal(len(list) + s.HiddenVulns)
	key := fmt.Sprintf("vulnerabilities %x", c.host.Gen().saltOf(q.Get("filter")+q.Get("sort")))
	if limit > 1 { // a request for the total is often the only one with its filter
		list = c.orderVulns(fmt.Sprint(key, len(list)), list)
	}
	at := 0
	if after := q.Get("after"); after != "" {
		cursor, err := c.decodeCursor(after, key)
		if errors.Is(err, errCursorExpired) {
			writeCursorExpired(w, limit)
			return
		}
		if err != nil {
			writeCrowdStrikeError(w, http.StatusBadRequest, "invalid after")
			return
		}
		at = c.positionAfter(list, cursor)
	}
	limit = c.host.PageLimit(CrowdStrikeVulns, limit)
	end, after := min(at+limit, len(list)), ""
	switch {
	case at == end && (at > 0 || s.HiddenVulns == 0):
		total = 0
	case at < end && (end < len(list) || !s.CleanEnd):
		after = c.newVulnCursor(key, int(list[end-1]))
	}
	before := crowdstrikeEnvelope("spapi", fmt.Sprintf(`"limit":%d,"total":%d,"after":%q`, limit, total, after))
	w.Header().Set("Content-Type", "application/json")
	if slices.Contains(q["facet"], "cve") && slices.Contains(q["facet"], "host_info") && slices.Contains(q["facet"], "remediation") {
		_ = c.host.Server().WriteRecords(w, before, CrowdStrikeVulns, sliceIndices(list, at, end), "]}")
		return
	}
	c.writeSelectedFacets(w, before, list[at:end], q["facet"])
}

// newVulnCursor returns a cursor for the records behind vulnerability i.
func (c *CrowdStrike) newVulnCursor(key string, i int) string {
	p := c.vulnPosition(i)
	return crowdstrikeCursor{Issued: c.host.Now().UnixMilli(), Key: key, Next: p.index, Update: p.updated}.String()
}

// writeSelectedFacets writes vulnerabilities with only the requested facets.
func (c *CrowdStrike) writeSelectedFacets(w http.ResponseWriter, before string, list []int32, facets []string) {
	buf := []byte(before)
	for k, i := range list {
		if k > 0 {
			buf = append(buf, ',')
		}
		buf = append(buf, filterMembers(c.host.Server().Record(CrowdStrikeVulns, int(i)), func(name string) bool {
			return !slices.Contains(crowdstrikeFacets, name) || slices.Contains(facets, name)
		})...)
	}
	_, _ = w.Write(append(buf, "]}"...))
}

// writeCursorExpired writes the response to a cursor that is too old.
func writeCursorExpired(w http.ResponseWriter, limit int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = fmt.Fprintf(w, `{"meta":{"query_time":0.002,"pagination":{"limit":%d,"total":0,"after":""},"powered_by":"spapi","trace_id":"5a1f0c2e-0000-4000-8000-000000000000"},"resources":[],"errors":[{"code":404,"message":"Search context expired, 'after' key no longer valid"}]}`, limit)
}
