package vendorsim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// snykShare deals records to organisations in turns, each organisation taking
// part in as many turns of a round as its weight says. It depends on the
// number of organisations only, so that records keep their owner when their
// number changes.
type snykShare struct {
	round  []int   // organisation by place
	places [][]int // places by organisation
}

func newSnykShare(orgs int, weight func(org int) int) snykShare {
	s := snykShare{places: make([][]int, orgs)}
	for turn, more := 0, true; more; turn++ {
		more = false
		for org := range orgs {
			if turn < weight(org) {
				s.places[org] = append(s.places[org], len(s.round))
				s.round, more = append(s.round, org), true
			}
		}
	}
	return s
}

// org returns the owner of record i.
func (s *snykShare) org(i int) int { return s.round[i%len(s.round)] }

// at returns the j-th record of an organisation, and false when there are not
// as many among the first total records.
func (s *snykShare) at(org, j, total int) (int, bool) {
	places := s.places[org]
	if len(places) == 0 {
		return 0, false
	}
	i := j/len(places)*len(s.round) + places[j%len(places)]
	return i, i < total
}

func (s *Snyk) organizations(w http.ResponseWriter, r *http.Request) {
	s.list(w, r, SnykOrganizations, func(j int) (int, bool) { return j, j < s.host.server.Count(SnykOrganizations) },
		func(rec Rec) bool { return !s.isDeleted(rec.Index) })
}

func (s *Snyk) organization(w http.ResponseWriter, _ *http.Request, org int) {
	w.Header().Set("Content-Type", "application/vnd.api+json")
	_ = s.host.server.WriteRecords(w, `{"jsonapi":{"version":"1.0"},"data":`, SnykOrganizations, slices.Values([]int{org}), `}`)
}

func (s *Snyk) projects(w http.ResponseWriter, r *http.Request, org int) {
	types := r.URL.Query().Get("types")
	s.list(w, r, SnykProjects, s.of(&s.items, SnykProjects, org), func(rec Rec) bool { return snykAmong(types, snykProjectType(rec)) })
}

func (s *Snyk) issues(w http.ResponseWriter, r *http.Request, org int) {
	q := r.URL.Query()
	s.list(w, r, SnykIssues, s.of(&s.items, SnykIssues, org), func(rec Rec) bool {
		return snykAmong(q.Get("type"), snykIssueType(rec)) && snykAmong(q.Get("effective_severity_level"), snykSeverity(rec)) &&
			snykAmong(q.Get("status"), snykStatus(rec))
	})
}

// snykAmong tells whether value is in a comma list; everything is in "".
func snykAmong(list, value string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), value)
}

// of returns the way to the j-th record of an organisation.
func (s *Snyk) of(share *snykShare, stream string, org int) func(j int) (int, bool) {
	return func(j int) (int, bool) { return share.at(org, j, s.host.server.Count(stream)) }
}

// members answers all members of an organisation at once.
func (s *Snyk) members(w http.ResponseWriter, _ *http.Request, org int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	way := s.of(&s.users, SnykMembers, org)
	_ = s.host.server.WriteRecords(w, "[", SnykMembers, func(yield func(int) bool) {
		for j := 0; ; j++ {
			if i, ok := way(j); !ok || !yield(i) {
				return
			}
		}
	}, "]")
}

// list answers a page of a listing: way leads to its j-th record.
func (s *Snyk) list(w http.ResponseWriter, r *http.Request, stream string, way func(j int) (int, bool), fits func(Rec) bool) {
	q := r.URL.Query()
	size, err := 10, error(nil)
	if text := q.Get("limit"); text != "" {
		if size, err = strconv.Atoi(text); err != nil || size < 10 || size > snykPage || size%10 != 0 {
			snykError(w, http.StatusBadRequest, "Validation error", "limit must be a multiple of 10 from 10 to 100")
			return
		}
	}
	size = s.host.PageLimit(stream, size)
	at, ok := snykCursor(q.Get("starting_after"))
	if !ok {
		snykError(w, http.StatusBadRequest, "Validation error", "starting_after is invalid")
		return
	}
	st := s.host.server.stream(stream)
	scan := func(at, n int) (page []int, after int) {
		after = at
		for j := at; len(page) < n; j++ {
			i, ok := way(j)
			if !ok {
				break
			}
			if fits(st.rec(i)) {
				page, after = append(page, i), j+1
			}
		}
		return page, after
	}
	page, after := scan(at, size)
	_, last := scan(after, 1)
	how := s.behaviour()
	next := ""
	if last != after || how.EmptyLast && len(page) > 0 {
		q.Set("starting_after", snykAfter(after))
		next = s.nextLink(r.URL.Path, q, how.Next)
	}
	w.Header().Set("Content-Type", "application/vnd.api+json")
	_ = s.host.server.WriteRecords(w, `{"jsonapi":{"version":"1.0"},"data":[`, stream, slices.Values(page),
		`]`+snykLinks(r.URL.RequestURI(), next, how)+`}`)
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
	link := snykText(path + "?" + q.Encode())
	if form == SnykNextObject {
		return `{"href":` + link + `,"meta":{}}`
	}
	return link
}

// snykLinks returns the member links with a comma before it.
func snykLinks(self, next string, how SnykBehaviour) string {
	if next == "" {
		switch how.End {
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
	return `,"links":{"self":` + snykText(self) + next + `}`
}

func snykText(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always marshals
	}
	return string(b)
}

// snykAfter makes a cursor with characters that a query must escape.
func snykAfter(at int) string { return "v1." + string(AppendHex(nil, uint64(at), 8)) + "+/==" }

func snykCursor(text string) (int, bool) {
	if text == "" {
		return 0, true
	}
	text, prefix := strings.CutPrefix(text, "v1.")
	text, suffix := strings.CutSuffix(text, "+/==")
	n, err := strconv.ParseUint(text, 16, 31)
	return int(n), prefix && suffix && err == nil
}
