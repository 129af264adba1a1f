package web

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

const (
	usualRuns = 100
	mostRuns  = 1000
)

func (s *Server) mountAPI(mux *http.ServeMux) {
	s.route(mux, "GET", "/api/v1/status", s.status)
	s.route(mux, "GET", "/api/v1/collectors", s.collectors)
	s.route(mux, "GET", "/api/v1/runs", s.runs)
	s.route(mux, "POST", "/api/v1/collectors/{name}/run", s.permitted(s.run))
	s.route(mux, "POST", "/api/v1/deliveries/retry", s.permitted(s.retry))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, http.StatusNotFound, "no such path: "+r.URL.Path)
	})
}

// streamView is a stream in the API.
type streamView struct {
	Collector   string    `json:"collector"`
	Stream      string    `json:"stream"`
	Freshness   Freshness `json:"freshness"`
	Overdue     bool      `json:"overdue"`
	Taken       time.Time `json:"data_timestamp,omitzero"`
	Records     int64     `json:"records"`
	Source      string    `json:"source,omitempty"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	LastOutcome string    `json:"last_outcome,omitempty"`
	Held        bool      `json:"held"`
	Queued      int       `json:"queued_deliveries"`
}

func viewOf(one Stream) streamView {
	return streamView{
		one.Collector, one.Stream, one.Freshness, one.Overdue, one.Taken, one.Records, string(one.Source),
		one.LastSuccess, one.LastFailure, one.FailureErr, string(one.Last.Outcome), one.Held, one.Queued,
	}
}

type reloadView struct {
	At    time.Time `json:"at,omitzero"`
	Error string    `json:"error,omitempty"`
}

// status tells everything at a glance.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	streams, err := s.streams(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	views := []streamView{}
	for _, one := range streams {
		views = append(views, viewOf(one))
	}
	at, reload := s.Daemon.LastReload()
	s.answer(w, http.StatusOK, map[string]any{
		"version": s.Version, "tenancy": s.Tenancy, "now": s.Now().UTC(),
		"alive": words(s.Daemon.Alive()), "ready": words(s.Daemon.Ready()),
		"last_reload": reloadView{at.UTC(), text(reload)}, "streams": views,
	})
}

// words is "ok" or what is wrong.
func words(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// collectorView is a collector in the API.
type collectorView struct {
	Collector string    `json:"collector"`
	On        bool      `json:"on"`
	Streams   []string  `json:"streams,omitempty"`
	Schedule  string    `json:"schedule,omitempty"`
	Zone      string    `json:"zone,omitempty"`
	Interval  float64   `json:"interval_seconds,omitempty"`
	Next      time.Time `json:"next,omitzero"`
	Running   bool      `json:"running"`
	Started   time.Time `json:"started,omitzero"`
	Missed    int64     `json:"missed_ticks"`
	Missing   []string  `json:"missing,omitempty"`
	Why       string    `json:"why,omitempty"`
}

func (s *Server) collectors(w http.ResponseWriter, _ *http.Request) {
	views := []collectorView{}
	for _, c := range s.Daemon.Standings() {
		views = append(views, collectorView{
			Collector: c.Collector, On: true, Streams: c.Streams, Schedule: c.Schedule, Zone: c.Zone,
			Interval: c.Interval.Seconds(), Next: c.Next, Running: c.Running, Started: c.Started, Missed: c.Missed,
		})
	}
	for _, o := range s.Daemon.Off() {
		views = append(views, collectorView{Collector: o.Collector, Missing: o.Missing, Why: o.Why})
	}
	s.answer(w, http.StatusOK, map[string]any{"collectors": views})
}

// runView is a run in the API.
type runView struct {
	ID        state.RunID `json:"id"`
	Collector string      `json:"collector"`
	Stream    string      `json:"stream"`
	UploadID  string      `json:"upload_id"`
	Trigger   string      `json:"trigger"`
	Started   time.Time   `json:"started"`
	Ended     time.Time   `json:"ended,omitzero"`
	Outcome   string      `json:"outcome,omitempty"`
	Error     string      `json:"error,omitempty"`
	Records   int64       `json:"records"`
	Bytes     int64       `json:"bytes"`
	Requests  int64       `json:"requests"`
	Retries   int64       `json:"retries"`
	Waited    float64     `json:"rate_limit_wait_seconds"`
}

// runs lists the newest runs first; ?stream= and ?limit= choose.
func (s *Server) runs(w http.ResponseWriter, r *http.Request) {
	limit := usualRuns
	if given := r.URL.Query().Get("limit"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > mostRuns {
			s.refuse(w, http.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(mostRuns))
			return
		}
		limit = n
	}
	runs, err := s.State.RunsOf(r.Context(), r.URL.Query().Get("stream"), s.Tenancy, limit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	views := []runView{}
	for _, one := range runs {
		views = append(views, runView{
			one.ID, one.Collector, one.Stream, one.UploadID, one.Trigger, one.Started, one.Ended, string(one.Outcome), one.Err,
			one.Records, one.Bytes, one.Requests, one.Retries, one.RateLimitWait.Seconds(),
		})
	}
	s.answer(w, http.StatusOK, map[string]any{"runs": views})
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	switch err := s.Daemon.RunNow(name); {
	case err == nil:
		s.answer(w, http.StatusAccepted, map[string]string{"status": "started", "collector": name})
	case errors.Is(err, ErrUnknown):
		s.refuse(w, http.StatusNotFound, err.Error())
	case errors.Is(err, ErrRunning):
		s.refuse(w, http.StatusConflict, err.Error())
	case errors.Is(err, ErrStopping):
		s.refuse(w, http.StatusServiceUnavailable, err.Error())
	default:
		s.fail(w, r, err)
	}
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) {
	if err := s.Daemon.DeliverNow(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, http.StatusAccepted, map[string]string{"status": "every queued delivery is due"})
}
