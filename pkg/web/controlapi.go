package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/collectord/collectord/pkg/control"
)

// controlRoutes returns the routes of the API of controls.
func (s *Server) controlRoutes() []route {
	return []route{
		{method: "GET", path: "/api/v1/controls", handler: s.serveControlList, query: []string{"framework"}},
		{method: "GET", path: "/api/v1/controls/{id}", handler: s.serveOneControl},
		{method: "GET", path: "/api/v1/controls/{id}/details", handler: s.serveDetailList, protected: true, query: []string{"format", "limit"}},
	}
}

// scoreView is the score of several controls in the API.
type scoreView struct {
	Score    float64        `json:"score"`
	Colour   control.Colour `json:"colour"`
	Target   float64        `json:"target"`
	Minimum  float64        `json:"minimum"`
	Controls int            `json:"controls"`
}

// newScoreView returns nil when there is no score.
func newScoreView(a control.Aggregate, known bool) *scoreView {
	if !known {
		return nil
	}
	return &scoreView{a.Score, a.Colour, a.Target, a.Minimum, a.Controls}
}

// categoryView is a category of controls in the API.
type categoryView struct {
	Category string     `json:"category"`
	Score    *scoreView `json:"score,omitempty"`
	Controls int        `json:"controls"`
}

// controlView is a control in the API.
type controlView struct {
	ID           string              `json:"id"`
	Title        string              `json:"title"`
	Category     string              `json:"category"`
	Type         string              `json:"type,omitempty"`
	State        control.State       `json:"state"`
	Colour       control.Colour      `json:"colour,omitempty"`
	Score        *float64            `json:"score,omitempty"`
	Target       float64             `json:"target"`
	Minimum      float64             `json:"minimum"`
	Weight       float64             `json:"weight"`
	Indicator    bool                `json:"indicator"`
	OK           float64             `json:"ok"`
	Total        int64               `json:"total"`
	Rows         int64               `json:"rows"`
	NotCompliant int64               `json:"not_compliant"`
	Measured     time.Time           `json:"measured,omitzero"`
	Data         time.Time           `json:"data_timestamp,omitzero"`
	Note         string              `json:"note,omitempty"`
	Error        string              `json:"error,omitempty"`
	FailedSince  time.Time           `json:"failed_since,omitzero"`
	Off          string              `json:"why,omitempty"`
	File         string              `json:"file"`
	References   []control.Reference `json:"references,omitempty"`
}

func newControlView(s control.Status) controlView {
	v := controlView{
		ID: s.ID, Title: s.Title, Category: s.Category, Type: s.Type, State: s.State, Colour: s.Colour, Target: s.Target, Minimum: s.Minimum,
		Weight: s.Weight, Indicator: s.Indicator, OK: s.OK, Total: s.Total, Rows: s.Rows, NotCompliant: s.NotFull,
		Measured: s.ControlResult.Measured, Data: s.Data, Note: s.Note, Error: s.Err, FailedSince: s.Attempt.FailedSince, Off: s.Off,
		File: s.File, References: s.Frameworks(),
	}
	if s.Known {
		v.Score = &s.Score
	}
	return v
}

// serveControlList responds with all controls and their scores.
func (s *Server) serveControlList(w http.ResponseWriter, r *http.Request) {
	if why := s.whyControlsOff(); why != "" {
		s.writeError(w, http.StatusForbidden, why)
		return
	}
	list, err := s.State.Controls(s.Tenancy).ListControls(r.Context())
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	all := selectFramework(control.StatusesOf(list), r.URL.Query().Get("framework"))
	controls, categories := []controlView{}, []categoryView{}
	for _, one := range all {
		controls = append(controls, newControlView(one))
	}
	for _, c := range control.ByCategory(all) {
		categories = append(categories, categoryView{c.Name, newScoreView(c.Score, c.Known), len(c.Controls)})
	}
	response := map[string]any{"categories": categories, "controls": controls}
	if overall := newScoreView(control.OverallScore(all)); overall != nil {
		response["score"] = overall
	}
	s.writeJSON(w, http.StatusOK, response)
}

// wholeControlView is a control with its history in the API.
type wholeControlView struct {
	controlView
	Description string            `json:"description,omitempty"`
	How         string            `json:"how,omitempty"`
	Queries     []controlSQLView  `json:"queries,omitempty"`
	Days        []controlDayView  `json:"days"`
	Units       []controlUnitView `json:"units,omitempty"`
}

// controlSQLView is a query of a control in the API.
type controlSQLView struct {
	SQL     string   `json:"sql"`
	Streams []string `json:"streams"`
	File    string   `json:"file"`
	Line    int      `json:"line"`
}

// controlDayView is the result of a control on one day in the API.
type controlDayView struct {
	Day     string         `json:"day"`
	State   control.State  `json:"state"`
	Score   *float64       `json:"score,omitempty"`
	Colour  control.Colour `json:"colour,omitempty"`
	Target  float64        `json:"target"`
	Minimum float64        `json:"minimum"`
	OK      float64        `json:"ok"`
	Total   int64          `json:"total"`
}

// controlUnitView is the result of a control for one unit in the API.
type controlUnitView struct {
	BusinessUnit string         `json:"business_unit"`
	Team         string         `json:"team"`
	Location     string         `json:"location"`
	Score        float64        `json:"score"`
	Colour       control.Colour `json:"colour"`
	OK           float64        `json:"ok"`
	Total        int64          `json:"total"`
}

// serveOneControl responds with a control and its history.
func (s *Server) serveOneControl(w http.ResponseWriter, r *http.Request) {
	status, found := s.requireControl(w, r)
	if !found {
		return
	}
	repository := s.State.Controls(s.Tenancy)
	scores, err := repository.DailyScores(r.Context(), status.ID, "")
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	parts, err := repository.LastParts(r.Context(), status.ID)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	v := wholeControlView{controlView: newControlView(status), Description: status.Description, How: status.How, Days: []controlDayView{}}
	queries, _ := s.readQueries(status)
	for _, q := range queries {
		v.Queries = append(v.Queries, controlSQLView{q.Text, q.Streams, q.File, q.Line})
	}
	for _, d := range control.TrendOf(scores) {
		day := controlDayView{Day: d.Day, State: d.State, Colour: d.Colour, Target: d.Target, Minimum: d.Minimum, OK: d.OK, Total: d.Total}
		if d.Known {
			day.Score = &d.Score
		}
		v.Days = append(v.Days, day)
	}
	for _, u := range newControlUnits(status, parts) {
		v.Units = append(v.Units, controlUnitView{u.BusinessUnit, u.Team, u.Location, u.Score, control.Colour(u.Label), u.OK, u.Total})
	}
	s.writeJSON(w, http.StatusOK, v)
}

// requireControl returns the control that a request to the API names. Without one it
// writes the error and returns false.
func (s *Server) requireControl(w http.ResponseWriter, r *http.Request) (status control.Status, found bool) {
	if why := s.whyControlsOff(); why != "" {
		s.writeError(w, http.StatusForbidden, why)
		return status, false
	}
	id := r.PathValue("id")
	status, found, err := s.findControl(r.Context(), id)
	switch {
	case err != nil:
		s.writeInternalError(w, r, err)
	case !found:
		s.writeError(w, http.StatusNotFound, fmt.Sprintf("%q is not a control: GET /api/v1/controls lists them", id))
	}
	return status, found
}

// serveDetailList responds with resources that a control finds not compliant: the first
// ones as JSON, or all of them as CSV.
func (s *Server) serveDetailList(w http.ResponseWriter, r *http.Request) {
	status, found := s.requireControl(w, r)
	if !found {
		return
	}
	if why := s.whyDetailsHidden(); why != "" {
		s.writeError(w, http.StatusForbidden, why)
		return
	}
	parameters := r.URL.Query()
	limit, err := strconv.Atoi(cmp.Or(parameters.Get("limit"), strconv.Itoa(maxShownResources)))
	if err != nil || limit < 1 || limit > maxListedResources {
		s.writeError(w, http.StatusBadRequest, fmt.Sprintf("limit: %q: want a number from 1 to %d", parameters.Get("limit"), maxListedResources))
		return
	}
	switch format := cmp.Or(parameters.Get("format"), "json"); {
	case format == "csv" && parameters.Has("limit"):
		s.writeError(w, http.StatusBadRequest, "limit: CSV has all resources: leave limit out")
	case format == "csv":
		s.sendDetailsCSV(w, r, status.ID)
	case format == "json":
		s.sendDetailsJSON(w, r, status.ID, limit)
	default:
		s.writeError(w, http.StatusBadRequest, fmt.Sprintf("format: %q: want json or csv", format))
	}
}

func (s *Server) sendDetailsJSON(w http.ResponseWriter, r *http.Request, id string, limit int) {
	rows, more, taken, err := s.readDetails(r.Context(), id, limit)
	extendDeadline(w)
	if err != nil {
		s.writeDetailsError(w, r, err)
		return
	}
	if rows == nil {
		rows = []control.Detail{}
	}
	s.writeJSON(w, http.StatusOK, map[string]any{"id": id, "data_timestamp": taken, "resources": rows, "truncated": more})
}
