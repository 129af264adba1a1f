package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/state"
)

// tenancyStatus is a tenancy with its streams.
type tenancyStatus struct {
	Tenancy
	streams []freshness.Stream
}

// whyUnusable is the WhyOff of the streams of a tenancy whose settings cannot be used.
const whyUnusable = "the settings of its tenancy cannot be used"

// readStatuses returns the tenancies that the visitor of a request sees, with their streams.
func (t *Tenancies) readStatuses(ctx context.Context) (all []tenancyStatus, err error) {
	list, sources := t.visibleTenancies(ctx), map[string]freshness.StatusSource{}
	for _, one := range list {
		sources[one.Name] = nil
		if one.Server != nil {
			sources[one.Name] = one.Server.Daemon
		}
	}
	streams, err := freshness.ReadTenancies(ctx, t.State, sources, t.root.Now())
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		status := tenancyStatus{one, streams[one.Name]}
		for i := range status.streams {
			if s := &status.streams[i]; one.Server == nil && !s.HasResults() {
				s.WhyOff = whyUnusable
			}
		}
		all = append(all, status)
	}
	return all, nil
}

// tenancyView is a tenancy in the API.
type tenancyView struct {
	Tenancy string `json:"tenancy"`
	// Path is before the paths of its pages and its API.
	Path string `json:"path"`
	// Usable reports whether its settings can be used.
	Usable  bool                    `json:"usable"`
	Error   string                  `json:"error,omitempty"`
	Streams int                     `json:"streams"`
	Labels  map[freshness.Label]int `json:"freshness"`
	Overdue int                     `json:"overdue"`
	Oldest  time.Time               `json:"oldest_data,omitzero"`
	Queued  int                     `json:"queued_deliveries"`
	Refused int                     `json:"refused_deliveries"`
	Retried int                     `json:"retried_deliveries"`
	Next    time.Time               `json:"next,omitzero"`
}

func newTenancyView(s tenancyStatus, path string) tenancyView {
	v := tenancyView{
		Tenancy: s.Name, Path: path, Usable: s.Server != nil, Error: errorText(s.Err), Streams: len(s.streams), Labels: map[freshness.Label]int{},
	}
	for _, one := range s.streams {
		v.Labels[one.Freshness]++
		v.Queued, v.Refused, v.Retried = v.Queued+one.Queued, v.Refused+one.Refused, v.Retried+one.Retried
		if one.Overdue {
			v.Overdue++
		}
		if at := one.DataTime(); !at.IsZero() && (one.WhyOff == "" || !v.Usable) && (v.Oldest.IsZero() || at.Before(v.Oldest)) {
			v.Oldest = at
		}
		if at := one.Plan.Next; !at.IsZero() && (v.Next.IsZero() || at.Before(v.Next)) {
			v.Next = at
		}
	}
	return v
}

// serveTenancies responds with the one tenancy, as a service with several does.
func (s *Server) serveTenancies(w http.ResponseWriter, r *http.Request) {
	streams, err := s.readStreams(r)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	_, reload := s.Daemon.LastReload()
	view := newTenancyView(tenancyStatus{Tenancy{s.Tenancy, s, reload}, streams}, s.path)
	s.writeJSON(w, http.StatusOK, map[string]any{"tenancies": []tenancyView{view}})
}

// serveList responds with the tenancies.
func (t *Tenancies) serveList(w http.ResponseWriter, r *http.Request) {
	all, err := t.readStatuses(r.Context())
	if err != nil {
		t.root.writeInternalError(w, r, err)
		return
	}
	views := []tenancyView{}
	for _, s := range all {
		views = append(views, newTenancyView(s, t.pathOf(s.Name)))
	}
	t.root.writeJSON(w, http.StatusOK, map[string]any{"tenancies": views})
}

// serveStatus responds with the status of the program and of the streams of all tenancies.
func (t *Tenancies) serveStatus(w http.ResponseWriter, r *http.Request) {
	all, err := t.readStatuses(r.Context())
	if err != nil {
		t.root.writeInternalError(w, r, err)
		return
	}
	views := []streamView{}
	for _, s := range all {
		for _, one := range s.streams {
			views = append(views, newStreamView(one))
		}
	}
	at, reload := t.LastReload()
	status := map[string]any{
		"version": t.Version, "now": t.root.Now().UTC(),
		"alive": okOrError(t.hideFrom(r, t.Alive())), "ready": okOrError(t.hideFrom(r, t.Ready())),
		"last_reload": reloadView{at.UTC(), errorText(t.hideFrom(r, reload))}, "streams": views,
	}
	t.root.addCluster(r.Context(), status, visitorOf(r.Context()).seesTenancy)
	t.root.writeJSON(w, http.StatusOK, status)
}

// errHidden replaces an error that may name tenancies.
var errHidden = errors.New("not ok; a token of all tenancies shows why")

// errFollowing replaces the error of a service that follows another one.
var errFollowing = hiddenError{"standing by: another service leads", []error{state.ErrStandby, state.ErrLocked}}

// A hiddenError is an error without the texts of those that it wraps.
type hiddenError struct {
	text  string
	wraps []error
}

func (e hiddenError) Error() string { return e.text }

func (e hiddenError) Unwrap() []error { return e.wraps }

// hideFrom returns err to a visitor who sees all tenancies, and otherwise only that there
// is an error, or that another service leads.
func (t *Tenancies) hideFrom(r *http.Request, err error) error {
	if err == nil || visitorOf(r.Context()).seesAll() {
		return err
	}
	if errors.Is(err, state.ErrStandby) && errors.Is(err, state.ErrLocked) {
		return errFollowing
	}
	return errHidden
}

// serveDataCheck responds with 503 when the data of any stream is missing or late, or the
// settings of a tenancy cannot be used, or when there is no tenancy.
func (t *Tenancies) serveDataCheck(w http.ResponseWriter, r *http.Request) {
	all, err := t.readStatuses(r.Context())
	if err != nil {
		t.root.writeInternalError(w, r, err)
		return
	}
	overdue, on := []overdueView{}, 0
	var late, unusable, problems []string
	for _, s := range all {
		ofOne, onOfOne := findOverdue(s.streams)
		overdue, on = append(overdue, ofOne...), on+onOfOne
		if len(ofOne) > 0 {
			late = append(late, s.Name)
		}
		if s.Server == nil {
			unusable = append(unusable, s.Name)
		}
	}
	if len(late) > 0 {
		problems = append(problems, "data is missing or older than DATA_MAX_AGE or its schedule allows, of "+strings.Join(late, ", "))
	}
	if len(t.List()) == 0 {
		problems = append(problems, "TENANCIES_DIR has no tenancy")
	}
	if len(unusable) > 0 {
		problems = append(problems, "settings cannot be used, of "+strings.Join(unusable, ", "))
	}
	if len(problems) > 0 {
		t.root.writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": strings.Join(problems, "; "), "overdue": overdue})
		return
	}
	t.root.writeJSON(w, http.StatusOK, map[string]any{"status": "fresh", "streams": on})
}

func (t *Tenancies) serveReload(w http.ResponseWriter, r *http.Request) {
	t.root.writeReloaded(w, t.Reload(r.Context()))
}

// The states of the deliveries of a stream, which the overview of tenancies shows beside the
// labels of its data.
const (
	refusedState  freshness.Label = "refused"  // a destination refuses a snapshot
	retryingState freshness.Label = "retrying" // a delivery failed otherwise and is retried
)

// stateOrder has the labels and the states of deliveries, the worst first.
var stateOrder = slices.Insert(slices.Clone(summaryOrder), 1+slices.Index(summaryOrder, freshness.Failing), refusedState, retryingState)

// deliveryState returns the state of the deliveries of a stream; "" when none has failed.
func deliveryState(s freshness.Stream) freshness.Label {
	switch {
	case s.Refused > 0:
		return refusedState
	case s.Retried > 0:
		return retryingState
	}
	return ""
}

// hasState reports whether a stream has a label, or a state of its deliveries. One that is
// collected again because it is late is late, too.
func hasState(s freshness.Stream, state freshness.Label) bool {
	isLate := state == freshness.Late && s.Overdue && s.Freshness == freshness.Running
	return s.Freshness == state || isLate || deliveryState(s) == state
}

// worstState returns the state by which a tenancy is ordered: the first of stateOrder that a
// stream has.
func worstState(streams []freshness.Stream) freshness.Label {
	for _, state := range stateOrder {
		if slices.ContainsFunc(streams, func(s freshness.Stream) bool { return hasState(s, state) }) {
			return state
		}
	}
	return freshness.Off
}
