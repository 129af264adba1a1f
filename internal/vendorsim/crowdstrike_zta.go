package vendorsim

import (
	"fmt"
	"net/http"
	"strconv"
)

// Assessed returns the indices of the hosts that have an assessment.
func (c *CrowdStrike) Assessed() []int {
	var out []int
	for i := range c.host.Server().RecordCount(CrowdStrikeZTA) {
		if c.model.hasAssessment(i) {
			out = append(out, i)
		}
	}
	return out
}

// HasScore reports whether the assessment of host i has a score. The list of
// assessments leaves out those without one.
func (c *CrowdStrike) HasScore(i int) bool {
	_, ok := c.model.hostScore(i)
	return ok
}

// serveAssessments serves GET /zero-trust-assessment/entities/assessments/v1.
func (c *CrowdStrike) serveAssessments(w http.ResponseWriter, r *http.Request) {
	s, ids := c.effectiveConfig(), r.URL.Query()["ids"]
	if len(ids) == 0 || s.MaxAssessments > 0 && len(ids) > s.MaxAssessments {
		writeCrowdStrikeError(w, http.StatusBadRequest, fmt.Sprintf("ids: between 1 and %d are expected", s.MaxAssessments))
		return
	}
	n := c.host.Server().RecordCount(CrowdStrikeZTA)
	var list []int32
	missing := ""
	for _, id := range ids {
		if i, ok := c.model.hostIndex(id, n); ok && c.model.hasAssessment(i) && !s.Gone[i] {
			list = append(list, int32(i))
		} else if missing == "" {
			missing = id
		}
	}
	if len(list) == 0 && s.AssessmentNotFound {
		writeCrowdStrikeError(w, http.StatusNotFound, "no assessment found")
		return
	}
	after := `],"errors":null}`
	if missing != "" && s.AssessmentErrors {
		after = `],"errors":[{"code":404,"message":"assessment for ` + missing + ` not found"}]}`
	}
	w.Header().Set("Content-Type", "application/json")
	_ = c.host.Server().WriteRecords(w, crowdstrikeEnvelope("zta-api", ""), CrowdStrikeZTA, sliceIndices(list, 0, len(list)), after)
}

// serveAssessmentScores serves GET
// /zero-trust-assessment/queries/assessments/v1.
func (c *CrowdStrike) serveAssessmentScores(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := parseCrowdStrikeLimit(r, 1000)
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	e, err := parseFQL(q.Get("filter"), func(f string) bool { return f == "score" })
	if err != nil {
		writeCrowdStrikeError(w, http.StatusBadRequest, err.Error())
		return
	}
	n, gone := c.host.Server().RecordCount(CrowdStrikeZTA), c.effectiveConfig().Gone
	key := fmt.Sprint("assessments ", n, len(gone), " ", q.Get("filter"))
	list := c.selectIndices(key, n, func(i int) bool {
		score, ok := c.model.hostScore(i)
		return ok && c.model.hasAssessment(i) && !gone[i] && e.evaluate(func(string) string { return strconv.Itoa(score) })
	})
	at, err := c.parseCursor(q.Get("after"), key)
	if err != nil || at > len(list) {
		writeCrowdStrikeError(w, http.StatusBadRequest, "invalid after")
		return
	}
	end := min(at+limit, len(list))
	after := ""
	if end < len(list) {
		after = c.newCursor(key, end)
	}
	buf := []byte(crowdstrikeEnvelope("zta-api", fmt.Sprintf(`"limit":%d,"total":%d,"after":%q`, limit, len(list), after)))
	for k, i := range list[at:end] {
		if k > 0 {
			buf = append(buf, ',')
		}
		score, _ := c.model.hostScore(int(i))
		buf = append(c.model.appendAID(append(buf, `{"aid":"`...), int(i)), `","score":`...)
		buf = append(AppendInt(buf, int64(score)), '}')
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(buf, `],"errors":null}`...))
}
