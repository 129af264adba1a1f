package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// The default and the maximum number of runs in a response.
const (
	defaultRunLimit = 100
	maxRunLimit     = 1000
)

// runView is a run in the API.
type runView struct {
	ID        state.RunID     `json:"id"`
	Collector string          `json:"collector"`
	Stream    string          `json:"stream"`
	UploadID  string          `json:"upload_id"`
	Trigger   string          `json:"trigger"`
	Started   time.Time       `json:"started"`
	Ended     time.Time       `json:"ended,omitzero"`
	Outcome   string          `json:"outcome,omitempty"`
	Error     string          `json:"error,omitempty"`
	Records   int64           `json:"records"`
	Bytes     int64           `json:"bytes"`
	Requests  int64           `json:"requests"`
	Retries   int64           `json:"retries"`
	Waited    float64         `json:"rate_limit_wait_seconds"`
	Doubts    snapshot.Doubts `json:"doubts,omitempty"`
}

// serveRuns responds with a page of the runs, the newest first.
func (s *Server) serveRuns(w http.ResponseWriter, r *http.Request) {
	page, err := parseRunPage(r.URL.Query())
	if err != nil {
		s.writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	if err := s.checkStreams(r); err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	limit := page.Limit
	page.Tenancy, page.Limit = s.Tenancy, limit+1
	runs, err := s.State.Runs.ListPage(r.Context(), page)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	response := map[string]any{}
	if len(runs) > limit {
		// The additional run is the farthest from where the page begins.
		if page.After > 0 {
			runs = runs[1:]
			response["next_after"] = runs[0].ID
		} else {
			runs = runs[:limit]
			response["next_before"] = runs[limit-1].ID
		}
	}
	views := []runView{}
	for _, one := range runs {
		views = append(views, runView{
			one.ID, one.Collector, one.Stream, one.UploadID, one.Trigger, one.Started, one.Ended, string(one.Outcome), one.Err,
			one.Records, one.Bytes, one.Requests, one.Retries, one.RateLimitWait.Seconds(), one.Doubts,
		})
	}
	response["runs"] = views
	s.writeJSON(w, http.StatusOK, response)
}

// parseRunPage returns the page that the parameters of a request select. It does not check
// the stream.
func parseRunPage(query url.Values) (page state.RunPage, err error) {
	page.Stream, page.Limit = query.Get("stream"), defaultRunLimit
	for _, name := range query["outcome"] {
		outcome := state.Outcome(name)
		if !slices.Contains(state.Outcomes, outcome) {
			return page, fmt.Errorf("outcome: %q is none: want one of %v", name, state.Outcomes)
		}
		page.Outcomes = append(page.Outcomes, outcome)
	}
	for name, id := range map[string]*state.RunID{"before": &page.Before, "after": &page.After} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.ParseInt(query.Get(name), 10, 64)
		if err != nil || n < 1 {
			return page, fmt.Errorf("%s: %q is not the id of a run: want a number from 1", name, query.Get(name))
		}
		*id = state.RunID(n)
	}
	if query.Has("limit") {
		page.Limit, err = strconv.Atoi(query.Get("limit"))
		if err != nil || page.Limit < 1 || page.Limit > maxRunLimit {
			return page, fmt.Errorf("limit: %q: want a number from 1 to %d", query.Get("limit"), maxRunLimit)
		}
	}
	return page, nil
}

// checkStreams returns an error for the first parameter stream of a request that names no
// stream.
func (s *Server) checkStreams(r *http.Request) error {
	for _, name := range r.URL.Query()["stream"] {
		if err := s.checkStream(r, name); err != nil {
			return err
		}
	}
	return nil
}

// checkStream returns an operation.RefusedError if there is no stream of a name, neither
// in this program nor in the state.
func (s *Server) checkStream(r *http.Request, name string) error {
	if slices.Contains(s.Daemon.Operator().Streams, name) {
		return nil
	}
	known, err := s.State.TenancyStreams(r.Context(), s.Tenancy)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(k state.StreamStatus) bool { return k.Stream == name }) {
		return nil
	}
	return operation.UnknownStreamError(name)
}
