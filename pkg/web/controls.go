package web

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

const (
	trendDays          = 90  // in the trends
	maxShownResources  = 100 // on the page of a control
	maxListedResources = 1000
	maxShownUnits      = 200
)

// A ControlSource is where the controls come from, and what is shown of them.
type ControlSource struct {
	// Dir is the directory of the files; "" means that there are no controls.
	Dir string
	// Detail reports whether resources may be shown.
	Detail bool
}

// controlSource returns the source of the controls in force.
func (s *Server) controlSource() ControlSource {
	if s.Controls == nil {
		return ControlSource{}
	}
	return s.Controls()
}

// controlsOff says how to switch controls on.
const controlsOff = "CONTROLS names the directory of their files"

// errControlsOff is the text of the error for controls when CONTROLS is not set.
const errControlsOff = "controls are off: " + controlsOff

// controlsView is the data of controls.html.
type controlsView struct {
	baseData
	// Framework is that of the controls that are shown; "" for all.
	Framework  string
	Frameworks []frameworkLink
	Tiles      []scoreTile
	Categories []controlCategory
	Empty      bool // there is no control at all
}

// frameworkLink is a link to the controls that refer to a framework.
type frameworkLink struct {
	Name, Query string
	Current     bool
}

// scoreTile is the score of several controls.
type scoreTile struct {
	ID, Title string
	control.Aggregate
	Known bool
	// Label is the colour as a word, or "no score".
	Label string
	Trend template.HTML
	Bar   template.HTML
	// Red, Amber, Failed and Missing are numbers of controls; those that failed are in
	// no other, and Missing are those without a score.
	Red, Amber, Failed, Missing int
}

// controlCategory is the controls of one category.
type controlCategory struct {
	Name string
	Rows []controlRow
}

// controlRow is a control in the list.
type controlRow struct {
	control.Status
	// Path is the path of the page of the control below the prefix.
	Path       string
	Label      string
	Age        string // of the data
	Bar, Trend template.HTML
	References []control.Reference
	Notices    []notice
}

// controlLabel returns the word for a control: its colour, or its state if that is not
// measured.
func controlLabel(s control.Status) string {
	if s.State == control.Measured {
		return string(s.Colour)
	}
	return string(s.State)
}

// newControlRow returns the row of a control. now is the time of the page.
func newControlRow(s control.Status, trend []control.DayScore, now time.Time) controlRow {
	r := controlRow{
		Status: s, Path: "/controls/" + url.PathEscape(s.ID), Label: controlLabel(s), Age: "–", References: s.Frameworks(),
		Trend: drawTrend(trend, now),
	}
	if !s.Data.IsZero() && s.State != control.Off {
		r.Age = formatAge(now, s.Data)
	}
	if s.Known {
		r.Bar = drawScore(s.Score, s.Target, s.Minimum, s.Colour)
	}
	switch s.State {
	case control.Failed:
		text := s.Err
		if s.Known {
			text += ". The score is of " + formatAge(now, s.Measured) + " ago."
		}
		r.Notices = append(r.Notices, notice{Kind: "error", Text: text})
	case control.Empty:
		r.Notices = append(r.Notices, notice{Kind: "warning", Text: "No row has a compliance, so that there is no score."})
	case control.Pending:
		r.Notices = append(r.Notices, notice{Kind: "info", Text: "It was not measured yet."})
	case control.Off:
		r.Notices = append(r.Notices, notice{Kind: "info", Text: "It is not measured: " + s.Off + "."})
	}
	if s.Note != "" && s.State != control.Off {
		r.Notices = append(r.Notices, notice{Kind: "warning", Text: s.Note})
	}
	return r
}

// newScoreTile returns the tile of controls.
func newScoreTile(id, title string, all []control.Status, trend []control.DayScore, now time.Time) scoreTile {
	t := scoreTile{ID: id, Title: title, Label: "no score", Trend: drawTrend(trend, now)}
	if t.Aggregate, t.Known = control.OverallScore(all); t.Known {
		t.Label = string(t.Colour)
		t.Bar = drawScore(t.Score, t.Target, t.Minimum, t.Colour)
	}
	for _, s := range all {
		switch {
		case s.State == control.Failed:
			t.Failed++
		case s.State == control.Empty || s.State == control.Pending:
			t.Missing++
		case s.Colour == control.Red:
			t.Red++
		case s.Colour == control.Amber:
			t.Amber++
		}
	}
	return t
}

func (u *ui) serveControls(w http.ResponseWriter, r *http.Request) {
	if u.controlSource().Dir == "" {
		u.serveMissing(w, r, "Controls are off", "Controls are off: "+controlsOff+".")
		return
	}
	data, err := u.readControls(r.Context(), r.URL.Query().Get("framework"))
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	u.render(w, r, http.StatusOK, "controls.html", data)
}

// readControls reads the controls that refer to a framework, or all for "".
func (u *ui) readControls(ctx context.Context, framework string) (data controlsView, err error) {
	data.baseData, data.Framework = u.newBaseData(ctx, "Controls"), framework
	list, err := u.State.Controls(u.Tenancy).ListControls(ctx)
	if err != nil {
		return data, err
	}
	all := control.StatusesOf(list)
	data.Empty = len(all) == 0
	data.Frameworks = linkFrameworks(control.AllFrameworks(all), framework)
	all = selectFramework(all, framework)
	scores, err := u.State.Controls(u.Tenancy).DailyScores(ctx, "", u.trendStart())
	if err != nil {
		return data, err
	}
	trends := trendsByControl(scores)
	data.Tiles = append(data.Tiles, newScoreTile("all", "All controls", all, trendOfSome(scores, all), data.Now))
	for i, c := range control.ByCategory(all) {
		name := cmp.Or(c.Name, "Without a category")
		data.Tiles = append(data.Tiles, newScoreTile("category-"+strconv.Itoa(i), name, c.Controls, trendOfSome(scores, c.Controls), data.Now))
		category := controlCategory{Name: name}
		for _, s := range c.Controls {
			category.Rows = append(category.Rows, newControlRow(s, trends[s.ID], data.Now))
		}
		data.Categories = append(data.Categories, category)
	}
	return data, nil
}

// trendStart returns the first day of the trends.
func (s *Server) trendStart() string {
	return s.Now().UTC().AddDate(0, 0, -trendDays+1).Format(time.DateOnly)
}

// trendsByControl returns the trend of each control.
func trendsByControl(scores []state.ControlScore) map[string][]control.DayScore {
	trends := map[string][]control.DayScore{}
	for i, d := range control.TrendOf(scores) {
		trends[scores[i].ID] = append(trends[scores[i].ID], d)
	}
	return trends
}

// trendOfSome returns the trend of some of the controls together.
func trendOfSome(scores []state.ControlScore, some []control.Status) []control.DayScore {
	ids := map[string]bool{}
	for _, s := range some {
		ids[s.ID] = true
	}
	return control.TrendOfAll(slices.DeleteFunc(slices.Clone(scores), func(s state.ControlScore) bool { return !ids[s.ID] }))
}

// selectFramework returns the controls that refer to a framework, or all for "".
func selectFramework(all []control.Status, framework string) []control.Status {
	if framework == "" {
		return all
	}
	return slices.DeleteFunc(all, func(s control.Status) bool { return !s.RefersTo(framework) })
}

// linkFrameworks returns the links to the controls of each framework, and one to all.
func linkFrameworks(names []string, current string) (links []frameworkLink) {
	if len(names) == 0 {
		return nil
	}
	links = append(links, frameworkLink{Name: "All", Current: current == ""})
	for _, name := range names {
		links = append(links, frameworkLink{name, "?" + url.Values{"framework": {name}}.Encode(), name == current})
	}
	return links
}

// controlData is the data of control.html.
type controlData struct {
	baseData
	controlRow
	Chart    *chart
	From, To string
	Days     []control.DayScore // the newest first
	Units    []controlUnit
	// MoreUnits reports that there are more units than Units has.
	MoreUnits bool
	Queries   []control.Query
	// QueryNote says why there are no queries, or that the files are newer than the
	// result.
	QueryNote string
	// WhyHidden says why resources are not shown; "" when they are.
	WhyHidden string
	// Protected reports whether the resources need the token.
	Protected bool
	MaxShown  int
}

// controlUnit is the result of a control for one unit of the organisation.
type controlUnit struct {
	BusinessUnit, Team, Location string
	Score                        float64
	OK                           float64
	Total                        int64
	Label                        string
	Bar                          template.HTML
}

func (u *ui) serveControl(w http.ResponseWriter, r *http.Request) {
	if u.controlSource().Dir == "" {
		u.serveMissing(w, r, "Controls are off", "Controls are off: "+controlsOff+".")
		return
	}
	id := r.PathValue("id")
	status, found, err := u.findControl(r.Context(), id)
	if err == nil && !found {
		u.serveMissing(w, r, "No such control", "There is no control "+id+".")
		return
	}
	var data controlData
	if err == nil {
		data, err = u.readControl(r.Context(), status)
	}
	if err != nil {
		u.writeInternalError(w, r, err)
		return
	}
	u.render(w, r, http.StatusOK, "control.html", data)
}

// findControl returns the status of a control, and false when there is none.
func (s *Server) findControl(ctx context.Context, id string) (status control.Status, found bool, err error) {
	list, err := s.State.Controls(s.Tenancy).ListControls(ctx)
	for _, one := range list {
		if one.ID == id {
			return control.StatusOf(one), true, nil
		}
	}
	return status, false, err
}

func (u *ui) readControl(ctx context.Context, status control.Status) (data controlData, err error) {
	data.baseData = u.newBaseData(ctx, status.ID+" · Controls")
	data.Protected, data.MaxShown = u.Access.Open() && !data.Granted, maxShownResources
	data.WhyHidden = u.whyDetailsHidden()
	scores, err := u.State.Controls(u.Tenancy).DailyScores(ctx, status.ID, u.trendStart())
	if err != nil {
		return data, err
	}
	data.Days = control.TrendOf(scores)
	data.controlRow = newControlRow(status, data.Days, data.Now)
	data.Chart = drawDays(data.Days, data.Now)
	if len(data.Days) > 0 {
		data.From, data.To = data.Days[0].Day, data.Days[len(data.Days)-1].Day
	}
	slices.Reverse(data.Days)
	parts, err := u.State.Controls(u.Tenancy).LastParts(ctx, status.ID)
	if err != nil {
		return data, err
	}
	data.Units = newControlUnits(status, parts)
	if data.MoreUnits = len(data.Units) > maxShownUnits; data.MoreUnits {
		data.Units = data.Units[:maxShownUnits]
	}
	data.Queries, data.QueryNote = u.readQueries(status)
	return data, nil
}

// newControlUnits returns the units of a control, the lowest score first; none when the
// result has only one.
func newControlUnits(status control.Status, parts []state.ControlDay) (units []controlUnit) {
	if len(parts) < 2 || !status.Known {
		return nil
	}
	for _, p := range parts {
		score, known := control.Score(p.OK, p.Total)
		if !known {
			continue
		}
		colour := control.ColourOf(score, status.Target, status.Minimum)
		units = append(units, controlUnit{
			p.BusinessUnit, p.Team, p.Location, score, p.OK, p.Total, string(colour), drawScore(score, status.Target, status.Minimum, colour),
		})
	}
	slices.SortStableFunc(units, func(a, b controlUnit) int { return cmp.Compare(a.Score, b.Score) })
	return units
}

// readQueries returns the queries in the files of a control, and a note about them.
func (s *Server) readQueries(status control.Status) ([]control.Query, string) {
	if status.Problem != "" {
		return nil, "The file cannot be used: " + status.Problem + "."
	}
	all, _, err := control.Load(s.controlSource().Dir)
	if err != nil {
		return nil, "The files cannot be read: " + err.Error()
	}
	for _, c := range all {
		switch {
		case c.ID != status.ID:
		case len(c.Queries) == 0:
			return nil, "There is no query to run: " + c.Off + "."
		case c.Hash != status.Hash:
			return c.Queries, "The file has changed since the last result."
		default:
			return c.Queries, ""
		}
	}
	return nil, "The file has been removed since the last result."
}

// whyDetailsHidden returns why the resources of controls are not shown; "" when they are.
func (s *Server) whyDetailsHidden() string {
	switch {
	case !s.ShowData:
		return "HTTP_SHOW_DATA=false hides the resources of controls"
	case !s.controlSource().Detail:
		return "CONTROLS_DETAIL=false keeps no resources of controls"
	}
	return ""
}

// detailsData is the data of details.html.
type detailsData struct {
	Err   string
	Rows  []control.Detail
	More  bool
	Units bool // whether a resource has a unit
	Taken time.Time
	Most  int
}

// serveControlDetails serves the first resources that a control finds not compliant.
func (u *ui) serveControlDetails(w http.ResponseWriter, r *http.Request) {
	status, found := u.requireControl(w, r)
	if !found {
		return
	}
	if why := u.whyDetailsHidden(); why != "" {
		u.writeError(w, http.StatusForbidden, why)
		return
	}
	data := detailsData{Most: maxShownResources}
	var err error
	data.Rows, data.More, data.Taken, err = u.readDetails(r.Context(), status.ID, maxShownResources)
	extendDeadline(w)
	if errors.Is(err, state.ErrNoSnapshot) {
		data.Err = "There are no resources yet: no control was measured since CONTROLS_DETAIL is true."
	} else if err != nil {
		data.Err = err.Error()
	}
	data.Units = slices.ContainsFunc(data.Rows, func(d control.Detail) bool { return hasUnit(d.BusinessUnit, d.Team, d.Location) })
	u.render(w, r, http.StatusOK, "details.html", data)
}

// whyControlsOff returns why there are no controls; "" when there are.
func (s *Server) whyControlsOff() string {
	if s.controlSource().Dir == "" {
		return errControlsOff
	}
	return ""
}

// hasUnit reports whether one of the units of a resource is known.
func hasUnit(units ...string) bool {
	return slices.ContainsFunc(units, func(name string) bool { return name != "" && name != "undefined" })
}

// readDetails returns the first resources that a control finds not compliant, whether
// there are more, and the time of the snapshot that has them.
func (s *Server) readDetails(ctx context.Context, id string, most int) (rows []control.Detail, more bool, taken time.Time, err error) {
	taken, err = control.EachNonCompliant(ctx, s.State, s.Tenancy, id, func(d control.Detail) error {
		if more = len(rows) == most; more {
			return state.ErrEnough
		}
		rows = append(rows, d)
		return nil
	})
	return rows, more, taken, err
}

// sendDetailsCSV sends all resources that a control finds not compliant as CSV, whose
// text a spreadsheet program does not take for a formula. Data that turns out to be
// damaged ends the connection, so that the client does not take a part for the whole.
func (s *Server) sendDetailsCSV(w http.ResponseWriter, r *http.Request, id string) {
	select {
	case s.downloads <- struct{}{}:
		defer func() { <-s.downloads }()
	default:
		s.writeUnavailable(w, fmt.Errorf("%d downloads are running: try again when one has ended", maxDownloads))
		return
	}
	name := id + "_" + s.Now().UTC().Format("20060102T150405Z") + ".csv"
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	paced := newPacedWriter(w)
	out := csv.NewWriter(paced)
	err := out.Write([]string{"resource", "resource_type", "compliance", "detail", "business_unit", "team", "location"})
	if err == nil {
		_, err = control.EachNonCompliant(r.Context(), s.State, s.Tenancy, id, func(d control.Detail) error {
			return out.Write([]string{
				query.GuardText(d.Resource), query.GuardText(d.ResourceType), strconv.FormatFloat(d.Compliance, 'g', -1, 64), query.GuardText(d.Detail),
				query.GuardText(d.BusinessUnit), query.GuardText(d.Team), query.GuardText(d.Location),
			})
		})
	}
	if err == nil {
		out.Flush()
		err = out.Error()
	}
	switch {
	case err == nil:
	case !paced.wrote:
		w.Header().Del("Content-Disposition")
		s.writeDetailsError(w, r, err)
	default:
		if r.Context().Err() == nil {
			s.Log.Error("sending the resources of a control", zap.String("control", id), zap.Error(err))
		}
		panic(http.ErrAbortHandler)
	}
}

// writeDetailsError writes the error of reading resources.
func (s *Server) writeDetailsError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, state.ErrNoSnapshot) {
		s.writeError(w, http.StatusNotFound, "there are no resources yet: no control was measured since CONTROLS_DETAIL is true")
		return
	}
	s.writeInternalError(w, r, err)
}
