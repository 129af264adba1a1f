package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
)

// healthRoutes returns the routes of the health checks: whether the program is alive, whether
// it is ready, and whether its data is fresh. A failing vendor or destination does not affect
// the first two.
func (s *Server) healthRoutes() []route {
	alive, ready := s.checkHandler(s.Daemon.Alive, "alive"), s.checkHandler(s.Daemon.Ready, "ready")
	return []route{
		{method: "GET", path: "/-/healthy", handler: alive, public: true},
		{method: "GET", path: "/healthz", handler: alive, public: true},
		{method: "GET", path: "/livez", handler: alive, public: true},
		{method: "GET", path: "/-/ready", handler: ready, public: true},
		{method: "GET", path: "/readyz", handler: ready, public: true},
		{method: "GET", path: "/-/data", handler: s.serveDataCheck},
		{method: "POST", path: "/-/reload", handler: s.serveReload, right: RunRight, program: true},
	}
}

// checkHandler returns a handler that responds with status if check returns nil, with 200 if
// the service stands by, and with 503 otherwise.
func (s *Server) checkHandler(check func() error, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		err := check()
		if errors.Is(err, state.ErrStandby) { // it can do all that is asked of it
			s.writeJSON(w, http.StatusOK, map[string]string{"status": err.Error()})
			return
		}
		if err != nil {
			s.writeUnavailable(w, err)
			return
		}
		s.writeJSON(w, http.StatusOK, map[string]string{"status": status})
	}
}

// overdueView is a stream whose data is missing or late, in the API.
type overdueView struct {
	Tenancy   string    `json:"tenancy"`
	Collector string    `json:"collector"`
	Stream    string    `json:"stream"`
	AsOf      time.Time `json:"data_timestamp,omitzero"`
	LateSince time.Time `json:"late_since"`
	LastError string    `json:"last_error,omitempty"`
}

// serveDataCheck responds with 503 when the data of any stream is missing or late.
func (s *Server) serveDataCheck(w http.ResponseWriter, r *http.Request) {
	streams, err := s.readStreams(r)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	overdue, on := findOverdue(streams)
	if len(overdue) > 0 {
		s.writeJSON(w, http.StatusServiceUnavailable, map[string]any{
			"error": "data is missing or older than DATA_MAX_AGE or its schedule allows", "overdue": overdue,
		})
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]any{"status": "fresh", "streams": on})
}

// findOverdue returns the streams whose data is missing or late, and the number of those
// that are on.
func findOverdue(streams []freshness.Stream) (overdue []overdueView, on int) {
	for _, one := range streams {
		if one.WhyOff == "" {
			on++
		}
		if one.Overdue {
			overdue = append(overdue, overdueView{one.Tenancy, one.Collector, one.Stream, one.AsOf, one.Deadline.UTC(), one.FailureErr})
		}
	}
	return overdue, on
}

func (s *Server) readStreams(r *http.Request) ([]freshness.Stream, error) {
	return freshness.Read(r.Context(), s.State, s.Daemon, s.Tenancy, s.Now())
}

func (s *Server) serveReload(w http.ResponseWriter, r *http.Request) {
	s.writeReloaded(w, s.Daemon.Reload(r.Context()))
}

// writeReloaded writes the response to a reload that ended with err.
func (s *Server) writeReloaded(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, schedule.ErrStopping), errors.Is(err, state.ErrStandby):
		s.writeUnavailable(w, err)
		return
	case err != nil:
		s.writeError(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]string{"status": "reloaded"})
}
