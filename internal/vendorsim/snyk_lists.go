package vendorsim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// snykDistribution assigns records to organisations in a cycle, in which each
// organisation occurs as often as its weight. It depends only on the number of
// organisations, so that records keep their owner when the number of records
// changes.
type snykDistribution struct {
	cycle     []int   // organisation by position
	positions [][]int // positions by organisation
}

func newSnykDistribution(orgs int, weight func(org int) int) snykDistribution {
	s := snykDistribution{positions: make([][]int, orgs)}
	for pass, more := 0, true; more; pass++ {
		more = false
		for org := range orgs {
			if pass < weight(org) {
				s.positions[org] = append(s.positions[org], len(s.cycle))
				s.cycle, more = append(s.cycle, org), true
			}
		}
	}
	return s
}

// ownerOf returns the owner of record i.
func (s *snykDistribution) ownerOf(i int) int { return s.cycle[i%len(s.cycle)] }

// recordAt returns the index of the j-th record of an organisation, and false
// if it is not among the first total records.
func (s *snykDistribution) recordAt(org, j, total int) (int, bool) {
	positions := s.positions[org]
	if len(positions) == 0 {
		return 0, false
	}
	i := j/len(positions)*len(s.cycle) + positions[j%len(positions)]
	return i, i < total
}

func (s *Snyk) serveOrganizations(w http.ResponseWriter, r *http.Request) {
	s.serveListing(w, r, SnykOrganizations, func(j int) (int, bool) { return j, j < s.host.server.RecordCount(SnykOrganizations) },
		func(rec Rec) bool { return !s.isDeleted(rec.Index) })
}

func (s *Snyk) serveOrganization(w http.ResponseWriter, _ *http.Request, org int) {
	w.Header().Set("Content-Type", "application/vnd.api+json")
	_ = s.host.server.WriteRecords(w, `{"jsonapi":{"version":"1.0"},"data":`, SnykOrganizations, slices.Values([]int{org}), `}`)
}

func (s *Snyk) serveProjects(w http.ResponseWriter, r *http.Request, org int) {
	types := r.URL.Query().Get("types")
	s.serveListing(w, r, SnykProjects, s.organizationRecords(&s.items, SnykProjects, org),
		func(rec Rec) bool { return inCommaList(types, snykProjectType(rec)) })
}

func (s *Snyk) serveIssues(w http.ResponseWriter, r *http.Request, org int) {
	q := r.URL.Query()
	s.serveListing(w, r, SnykIssues, s.organizationRecords(&s.items, SnykIssues, org), func(rec Rec) bool {
		return inCommaList(q.Get("type"), snykIssueType(rec)) && inCommaList(q.Get("effective_severity_level"), snykSeverity(rec)) &&
			inCommaList(q.Get("status"), snykStatus(rec))
	})
}

// inCommaList reports whether value is in a comma-separated list. An empty list
// contains every value.
func inCommaList(list, value string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), value)
}

// organizationRecords returns a function that returns the index of the j-th
// record of an organisation.
func (s *Snyk) organizationRecords(share *snykDistribution, stream string, org int) func(j int) (int, bool) {
	return func(j int) (int, bool) { return share.recordAt(org, j, s.host.server.RecordCount(stream)) }
}

// serveMembers writes all members of an organisation at once.
func (s *Snyk) serveMembers(w http.ResponseWriter, _ *http.Request, org int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	recordOf := s.organizationRecords(&s.users, SnykMembers, org)
	_ = s.host.server.WriteRecords(w, "[", SnykMembers, func(yield func(int) bool) {
		for j := 0; ; j++ {
			if i, ok := recordOf(j); !ok || !yield(i) {
				return
			}
		}
	}, "]")
}

// serveListing writes a page of a listing. recordOf returns the index of its
// j-th record.
func (s *Snyk) serveListing(w http.ResponseWriter, r *http.Request, stream string, recordOf func(j int) (int, bool), fits func(Rec) bool) {
	q := r.URL.Query()
	size, err := 10, error(nil)
	if text := q.Get("limit"); text != "" {
		if size, err = strconv.Atoi(text); err != nil || size < 10 || size > maxSnykPage || size%10 != 0 {
			writeSnykError(w, http.StatusBadRequest, "Validation error", "limit must be a multiple of 10 from 10 to 100")
			return
		}
	}
	size = s.host.PageLimit(stream, size)
	at, empty, ok := parseSnykCursor(q.Get("starting_after"))
	if !ok {
		writeSnykError(w, http.StatusBadRequest, "Validation error", "starting_after is invalid")
		return
	}
	st := s.host.server.mustStream(stream)
	scan := func(at, n int) (page []int, after int) {
		after = at
		for j := at; len(page) < n; j++ {
			i, ok := recordOf(j)
			if !ok {
				break
			}
			if fits(st.recAt(i)) {
				page, after = append(page, i), j+1
			}
		}
		return page, after
	}
	if empty {
		size = 0
	}
	page, after := scan(at, size)
	_, last := scan(after, 1)
	config := s.behaviour()
	next := ""
	switch {
	case last != after:
		q.Set("starting_after", formatSnykCursor(after, config.EmptyBetween && !empty))
		next = s.nextLink(r.URL.Path, q, config.Next)
	case config.EmptyLast && len(page) > 0:
		q.Set("starting_after", formatSnykCursor(after, false))
		next = s.nextLink(r.URL.Path, q, config.Next)
	case config.EmptyLoops && len(page) == 0:
		next = s.nextLink(r.URL.Path, q, config.Next)
	}
	w.Header().Set("Content-Type", "application/vnd.api+json")
	_ = s.host.server.WriteRecords(w, `{"jsonapi":{"version":"1.0"},"data":[`, stream, slices.Values(page),
		`]`+renderSnykLinks(r.URL.RequestURI(), next, config)+`}`)
}

// nextLink returns the link to the next page as JSON.
func (s *Snyk) nextLink(path string, q url.Values, form SnykNext) string {
	switch form {
	case SnykNextShort:
		path = strings.TrimPrefix(path, "/rest")
	case SnykNextAbsolute:
		path = s.host.URL() + path
	case SnykNextBare:
		q.Del("version")
		q.Del("limit")
	}
	link := quoteJSON(path + "?" + q.Encode())
	if form == SnykNextObject {
		return `{"href":` + link + `,"meta":{}}`
	}
	return link
}

// renderSnykLinks returns the member links, preceded by a comma.
func renderSnykLinks(self, next string, config SnykBehaviour) string {
	if next == "" {
		switch config.End {
		case SnykEndNoLinks:
			return ""
		case SnykEndNull:
			next = "null"
		case SnykEndEmpty:
			next = `""`
		}
	}
	if next != "" {
		next = `,"next":` + next
	}
	return `,"links":{"self":` + quoteJSON(self) + next + `}`
}

func quoteJSON(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string can always be marshaled
	}
	return string(b)
}

// formatSnykCursor returns a cursor with characters that must be escaped in a
// query. empty means that the page is empty.
func formatSnykCursor(at int, empty bool) string {
	version := "v1."
	if empty {
		version = "v1.empty."
	}
	return version + string(AppendHex(nil, uint64(at), 8)) + "+/=="
}

func parseSnykCursor(text string) (at int, empty, ok bool) {
	if text == "" {
		return 0, false, true
	}
	text, prefix := strings.CutPrefix(text, "v1.")
	text, empty = strings.CutPrefix(text, "empty.")
	text, suffix := strings.CutSuffix(text, "+/==")
	n, err := strconv.ParseUint(text, 16, 31)
	return int(n), empty, prefix && suffix && err == nil
}
