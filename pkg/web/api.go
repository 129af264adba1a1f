package web

import (
	"net/http"
	"time"

	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
)

// apiPath is the start of the paths of the API.
const apiPath = "/api/v1/"

// apiRoutes returns the routes of the API.
func (s *Server) apiRoutes() []route {
	return append(s.pauseRoutes(), []route{
		{method: "GET", path: "/api/v1/openapi.yaml", handler: s.serveOpenAPI},
		{method: "GET", path: "/api/v1/status", handler: s.serveStatus},
		{method: "GET", path: "/api/v1/tenancies", handler: s.serveTenancies},
		{method: "GET", path: "/api/v1/collectors", handler: s.serveCollectors},
		{method: "GET", path: "/api/v1/runs", handler: s.serveRuns, query: []string{"stream", "outcome", "before", "after", "limit"}},
		{method: "GET", path: "/api/v1/deliveries", handler: s.serveDeliveries, query: []string{"stream", "destination"}},
		{method: "GET", path: "/api/v1/streams/{name}/records", handler: s.serveRecords, protected: true, query: []string{"format"}},
		{method: "POST", path: "/api/v1/collectors/{name}/run", handler: s.serveRunNow, right: RunRight},
		{method: "POST", path: "/api/v1/collectors/{name}/cancel", handler: s.serveCancel, right: RunRight},
		{method: "POST", path: "/api/v1/streams/{name}/run", handler: s.serveRunStreamNow, right: RunRight},
		{method: "POST", path: "/api/v1/streams/{name}/accept", handler: s.serveAccept, right: RunRight},
		{method: "POST", path: "/api/v1/deliveries", handler: s.serveRedeliver, right: RunRight, query: []string{"stream", "destination"}},
		{method: "POST", path: "/api/v1/deliveries/retry", handler: s.serveRetryDeliveries, right: RunRight},
		{
			method: "POST", path: "/api/v1/deliveries/drop", handler: s.serveDrop, right: RunRight,
			query: []string{"destination", "stream", "upload_id"},
		},
	}...)
}

// streamView is a stream in the API.
type streamView struct {
	Tenancy     string          `json:"tenancy"`
	Collector   string          `json:"collector"`
	Stream      string          `json:"stream"`
	Freshness   freshness.Label `json:"freshness"`
	Overdue     bool            `json:"overdue"`
	Deadline    time.Time       `json:"deadline,omitzero"`
	Taken       time.Time       `json:"data_timestamp,omitzero"`
	Checked     time.Time       `json:"checked,omitzero"`
	Records     int64           `json:"records"`
	Source      string          `json:"source,omitempty"`
	LastSuccess time.Time       `json:"last_success,omitzero"`
	LastFailure time.Time       `json:"last_failure,omitzero"`
	LastError   string          `json:"last_error,omitempty"`
	LastOutcome string          `json:"last_outcome,omitempty"`
	Held        bool            `json:"held"`
	Queued      int             `json:"queued_deliveries"`
	Refused     int             `json:"refused_deliveries"`
	Retried     int             `json:"retried_deliveries"`
	Doubts      snapshot.Doubts `json:"doubts,omitempty"`
	On          bool            `json:"on"`
	Why         string          `json:"why,omitempty"`
	Schedule    string          `json:"schedule,omitempty"`
	Next        time.Time       `json:"next,omitzero"`
	Retry       time.Time       `json:"retry,omitzero"`
	Waiting     bool            `json:"queued"`
	Running     *activeRunView  `json:"running,omitempty"`
}

// activeRunView is a running extraction in the API.
type activeRunView struct {
	Started       time.Time `json:"started"`
	Records       int64     `json:"records"`
	Requests      int64     `json:"requests"`
	Retries       int64     `json:"retries"`
	Step          string    `json:"step,omitempty"`
	WaitFor       string    `json:"wait_for,omitempty"`
	WaitUntil     time.Time `json:"wait_until,omitzero"`
	WaitRequested bool      `json:"wait_requested,omitempty"`
	Service       string    `json:"service,omitempty"`
}

// newActiveRunView returns nil if no extraction is running.
func newActiveRunView(active *run.ActiveRun) *activeRunView {
	if active == nil {
		return nil
	}
	p := active.Progress()
	return &activeRunView{active.Started, p.Records, p.Requests, p.Retries, p.Step, p.WaitFor, p.WaitUntil, p.WaitRequested, active.Node}
}

func newStreamView(one freshness.Stream) streamView {
	return streamView{
		one.Tenancy, one.Collector, one.Stream, one.Freshness, one.Overdue, one.Deadline, one.Taken, one.Checked, one.Records, string(one.Source),
		one.LastSuccess, one.LastFailure, one.FailureErr, string(one.Last.Outcome), one.Held, one.Queued, one.Refused, one.Retried,
		one.Doubts, one.WhyOff == "", one.WhyOff, one.Plan.Schedule, one.Plan.Next, one.Plan.Retry, one.Plan.Queued, newActiveRunView(one.Active),
	}
}

// reloadView is the last reload in the API.
type reloadView struct {
	At    time.Time `json:"at,omitzero"`
	Error string    `json:"error,omitempty"`
}

// serveStatus responds with the status of the program and of every stream.
func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	streams, err := s.readStreams(r)
	if err != nil {
		s.writeInternalError(w, r, err)
		return
	}
	views := []streamView{}
	for _, one := range streams {
		views = append(views, newStreamView(one))
	}
	at, reload := s.Daemon.LastReload()
	status := map[string]any{
		"version": s.Version, "tenancy": s.Tenancy, "now": s.Now().UTC(),
		"alive": okOrError(s.Daemon.Alive()), "ready": okOrError(s.Daemon.Ready()),
		"last_reload": reloadView{at.UTC(), errorText(reload)}, "streams": views,
	}
	s.addCluster(r.Context(), status, s.isOwn)
	s.writeJSON(w, http.StatusOK, status)
}

// okOrError returns "ok" when err is nil, and its text otherwise.
func okOrError(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// errorText returns "" when err is nil, and its text otherwise.
func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// collectorView is a collector in the API.
type collectorView struct {
	Collector string   `json:"collector"`
	On        bool     `json:"on"`
	Streams   []string `json:"streams,omitempty"`
	// Schedule and Zone are those of all streams; they are missing when the streams
	// have several schedules.
	Schedule  string               `json:"schedule,omitempty"`
	Zone      string               `json:"zone,omitempty"`
	Interval  float64              `json:"interval_seconds,omitempty"`
	Next      time.Time            `json:"next,omitzero"`
	Running   bool                 `json:"running"`
	Queued    bool                 `json:"queued"`
	Started   time.Time            `json:"started,omitzero"`
	Missed    int64                `json:"missed_ticks"`
	Schedules []scheduleView       `json:"stream_schedules,omitempty"`
	Disabled  []disabledStreamView `json:"disabled_streams,omitempty"`
	Missing   []string             `json:"missing,omitempty"`
	Why       string               `json:"why,omitempty"`
}

// scheduleView is the schedule of a stream in the API.
type scheduleView struct {
	Stream   string    `json:"stream"`
	Schedule string    `json:"schedule"`
	Zone     string    `json:"zone"`
	Interval float64   `json:"interval_seconds,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Retry    time.Time `json:"retry,omitzero"`
	Running  bool      `json:"running"`
	Queued   bool      `json:"queued"`
	Started  time.Time `json:"started,omitzero"`
}

// disabledStreamView is a stream in the API that is off although its collector is on.
type disabledStreamView struct {
	Stream string `json:"stream"`
	Why    string `json:"why"`
}

func newCollectorView(c schedule.CollectorStatus) collectorView {
	v := collectorView{
		Collector: c.Collector, On: true, Streams: c.Names(), Interval: c.Interval().Seconds(), Next: c.Next(), Missed: c.Missed,
		Queued: c.Queued(),
	}
	v.Running, v.Started = c.Running()
	for i, s := range c.Streams {
		v.Schedules = append(v.Schedules, scheduleView{s.Stream, s.Schedule, s.Zone, s.Interval.Seconds(), s.Next, s.Retry, s.Running, s.Queued, s.Started})
		switch {
		case i == 0:
			v.Schedule, v.Zone = s.Schedule, s.Zone
		case s.Schedule != c.Streams[0].Schedule:
			v.Schedule, v.Zone = "", ""
		}
	}
	return v
}

// serveCollectors responds with the collectors that are on and those that are off.
func (s *Server) serveCollectors(w http.ResponseWriter, _ *http.Request) {
	views := []collectorView{}
	disabled := s.Daemon.DisabledStreams()
	for _, c := range s.Daemon.Statuses() {
		v := newCollectorView(c)
		for _, d := range disabled {
			if d.Collector == c.Collector {
				v.Disabled = append(v.Disabled, disabledStreamView{d.Stream, d.Why})
			}
		}
		views = append(views, v)
	}
	for _, o := range s.Daemon.Disabled() {
		views = append(views, collectorView{Collector: o.Collector, Missing: o.Missing, Why: o.Why})
	}
	s.writeJSON(w, http.StatusOK, map[string]any{"collectors": views})
}

// serveRunNow starts the streams of a collector.
func (s *Server) serveRunNow(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	streams, err := s.Daemon.RunNow(name)
	s.writeStarted(w, r, map[string]any{"status": "started", "collector": name, "streams": streams}, err)
}

// serveRunStreamNow starts one stream.
func (s *Server) serveRunStreamNow(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	err := s.Daemon.RunStreamNow(name)
	s.writeStarted(w, r, map[string]any{"status": "started", "stream": name}, err)
}

// writeStarted writes the response to a request that starts a run; err is the error of
// the start.
func (s *Server) writeStarted(w http.ResponseWriter, r *http.Request, started map[string]any, err error) {
	if err != nil {
		s.writeOperationError(w, r, err)
		return
	}
	s.writeJSON(w, http.StatusAccepted, started)
}
