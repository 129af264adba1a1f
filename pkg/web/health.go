package web

import (
	"net/http"
	"time"
)

// mountHealth adds what tells whether the program lives, is ready, and has
// fresh data. A failing vendor or destination changes neither of the first two.
func (s *Server) mountHealth(mux *http.ServeMux) {
	for _, path := range []string{"/-/healthy", "/healthz", "/livez"} {
		s.route(mux, "GET", path, s.probe(s.Daemon.Alive, "alive"))
	}
	for _, path := range []string{"/-/ready", "/readyz"} {
		s.route(mux, "GET", path, s.probe(s.Daemon.Ready, "ready"))
	}
	s.route(mux, "GET", "/-/data", s.data)
	s.route(mux, "POST", "/-/reload", s.permitted(s.reload))
}

func (s *Server) probe(ask func() error, good string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := ask(); err != nil {
			s.refuse(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		s.answer(w, http.StatusOK, map[string]string{"status": good})
	}
}

// overdue is a stream whose data are missing or too old.
type overdue struct {
	Collector string    `json:"collector"`
	Stream    string    `json:"stream"`
	Known     time.Time `json:"data_timestamp,omitzero"`
	MaxAge    float64   `json:"max_age_seconds"`
	LastError string    `json:"last_error,omitempty"`
}

// data answers 503 when any stream's data are older than its schedule allows.
func (s *Server) data(w http.ResponseWriter, r *http.Request) {
	streams, err := s.streams(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	late := []overdue{}
	for _, one := range streams {
		if one.Overdue {
			late = append(late, overdue{one.Collector, one.Stream, one.Known, MaxAge(one.Standing.Interval).Seconds(), one.FailureErr})
		}
	}
	if len(late) > 0 {
		s.answer(w, http.StatusServiceUnavailable, map[string]any{"error": "data are missing or older than their schedule allows", "overdue": late})
		return
	}
	s.answer(w, http.StatusOK, map[string]any{"status": "fresh", "streams": len(streams)})
}

func (s *Server) streams(r *http.Request) ([]Stream, error) {
	return Streams(r.Context(), s.State, s.Daemon, s.Tenancy, s.Now())
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	if err := s.Daemon.Reload(r.Context()); err != nil {
		s.refuse(w, http.StatusUnprocessableEntity, "the old settings stay in force: "+err.Error())
		return
	}
	s.answer(w, http.StatusOK, map[string]string{"status": "reloaded"})
}
