package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/state"
)

// A Cluster is the services that share a state with this one. Its methods may be called
// concurrently.
type Cluster interface {
	// View returns what this service knows of the services and their tasks.
	View() cluster.View
	// NodeID identifies this service among the nodes of the view.
	NodeID() string
	// CancelTasks asks for the end of the tasks of a collector of a tenancy, and returns how
	// many there are.
	CancelTasks(ctx context.Context, tenancy, collector, by string) (n int64, err error)
	// Pause keeps tasks from beginning until Resume.
	Pause(ctx context.Context, by string) error
	Resume(ctx context.Context) error
}

// clusterView is the services that share a state, in the API.
type clusterView struct {
	Services    []serviceView `json:"services"`
	Tasks       []taskView    `json:"tasks"`
	PausedSince time.Time     `json:"paused_since,omitzero"`
	PausedBy    string        `json:"paused_by,omitempty"`
	Read        time.Time     `json:"read,omitzero"`
	Error       string        `json:"error,omitempty"`
}

// serviceView is one of the services that share a state, in the API.
type serviceView struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Version  string    `json:"version"`
	Capacity int       `json:"capacity"`
	Started  time.Time `json:"started"`
	Beat     time.Time `json:"last_beat"`
	Self     bool      `json:"self"`
	Differs  bool      `json:"settings_differ"`
	id       string
}

// taskView is a task that has not ended, in the API.
type taskView struct {
	Tenancy   string          `json:"tenancy"`
	Collector string          `json:"collector"`
	Streams   []string        `json:"streams"`
	Trigger   string          `json:"trigger"`
	State     state.TaskState `json:"state"`
	Service   string          `json:"service,omitempty"`
	Since     time.Time       `json:"since"`
	Attempt   int             `json:"attempt"`
	Cancelled string          `json:"cancelled,omitempty"`
	node      string
}

// newClusterView returns the services and the tasks of the tenancies that sees reports; nil when
// the state is not shared. Only visitors who see all tenancies see the error and who has paused.
func (s *Server) newClusterView(ctx context.Context, sees func(tenancy string) bool) *clusterView {
	if s.Cluster == nil {
		return nil
	}
	known := s.Cluster.View()
	v := &clusterView{Services: []serviceView{}, Tasks: []taskView{}, PausedSince: known.Pause.Since, Read: known.Read.UTC()}
	v.Error = describeError(ctx, known.Err)
	if visitorOf(ctx).seesAll() {
		v.PausedBy = known.Pause.By
	}
	for _, n := range known.Nodes {
		if n.Service {
			v.Services = append(v.Services, serviceView{
				n.Name, n.StateName(), n.Version, n.Capacity, n.Started.UTC(), n.Beat.UTC(), n.ID == s.Cluster.NodeID(), known.Differs(n), n.ID,
			})
		}
	}
	for _, t := range known.Tasks {
		if sees(t.Tenancy) {
			v.Tasks = append(v.Tasks, taskView{
				t.Tenancy, t.Collector, t.Streams, t.Trigger, t.State, t.NodeName, t.Since(), t.Attempt, t.Cancelled, t.Node,
			})
		}
	}
	return v
}

// describeError returns the text of an error of the shared state, which only visitors who see all
// tenancies see; "" for none.
func describeError(ctx context.Context, err error) string {
	if err != nil && !visitorOf(ctx).seesAll() {
		err = errHidden
	}
	return errorText(err)
}

// isOwn reports whether a tenancy is that of the server.
func (s *Server) isOwn(tenancy string) bool { return tenancy == s.Tenancy }

// addCluster adds the services that share the state to a status.
func (s *Server) addCluster(ctx context.Context, status map[string]any, sees func(tenancy string) bool) {
	if v := s.newClusterView(ctx, sees); v != nil {
		status["cluster"] = v
	}
}

// servicesBox is the data of the services on an overview.
type servicesBox struct {
	*clusterView
	Rows []serviceRow
	// Waiting describes the tasks that wait.
	Waiting []string
}

// serviceRow is a service on an overview.
type serviceRow struct {
	serviceView
	ID    string // for the element
	Tasks []string
}

// newServicesBox returns nil when the state is not shared. named reports whether tasks are
// described with their tenancies.
func (s *Server) newServicesBox(ctx context.Context, sees func(tenancy string) bool, named bool) *servicesBox {
	v := s.newClusterView(ctx, sees)
	if v == nil {
		return nil
	}
	box := &servicesBox{clusterView: v}
	for _, one := range v.Services {
		row := serviceRow{serviceView: one, ID: url.PathEscape(one.id)}
		for _, t := range v.Tasks {
			if t.State == state.TaskRunning && t.node == one.id {
				row.Tasks = append(row.Tasks, t.describe(named))
			}
		}
		box.Rows = append(box.Rows, row)
	}
	for _, t := range v.Tasks {
		if t.State != state.TaskRunning {
			box.Waiting = append(box.Waiting, t.describe(named))
		}
	}
	return box
}

// maxTaskStreams is how many streams of a task are named on an overview.
const maxTaskStreams = 3

// describe returns the collector of a task and its streams.
func (t taskView) describe(named bool) string {
	text := t.Collector
	if named {
		text = t.Tenancy + " " + text
	}
	streams := strings.Join(t.Streams, ", ")
	if len(t.Streams) > maxTaskStreams {
		streams = english.Plural(len(t.Streams), "stream", "")
	}
	text += ": " + streams
	if t.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", t.Attempt)
	}
	if t.Cancelled != "" {
		text += ", " + t.Cancelled
	}
	return text
}

// newCancelAction returns the button that cancels the runs of a collector of which one has the
// stream; nil when none has it, or it is cancelled.
func (s *Server) newCancelAction(collector, stream string) *action {
	if s.Cluster == nil {
		return nil
	}
	for _, t := range s.Cluster.View().Tasks {
		if t.Tenancy == s.Tenancy && t.Collector == collector && t.Cancelled == "" && slices.Contains(t.Streams, stream) {
			return &action{
				Label: "Cancel", Path: s.path + "/api/v1/collectors/" + url.PathEscape(collector) + "/cancel",
				Confirm: "Cancel the runs of " + collector + " that are in progress or wait?\n\nWhat they have read is discarded, and the last-known data stays. The next run is that of the schedule.",
				Done:    "The runs of " + collector + " are cancelled", Title: "Cancel the runs of " + collector,
			}
		}
	}
	return nil
}

// serveCancel cancels the tasks of a collector.
func (s *Server) serveCancel(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	known := s.collectorNames()
	switch {
	case !slices.Contains(known, name):
		s.writeError(w, http.StatusNotFound, fmt.Sprintf("no collector %q: want one of %s", name, strings.Join(known, ", ")))
		return
	case s.Cluster == nil:
		s.writeError(w, http.StatusConflict, errNotShared.Error())
		return
	}
	n, err := s.Cluster.CancelTasks(r.Context(), s.Tenancy, name, requesterOf(r))
	switch {
	case err != nil:
		s.writeUnavailable(w, err)
	case n == 0:
		s.writeError(w, http.StatusConflict, "no run of "+name+" is in progress or waits")
	default:
		s.writeJSON(w, http.StatusOK, map[string]any{"status": "cancelled", "collector": name, "runs": n})
	}
}

// errNotShared is the error of requests that need a shared state.
var errNotShared = errors.New("the state is not shared with other services: CLUSTER_POSTGRES_URL is not set")

// collectorNames returns the names of the collectors, on and off, in order.
func (s *Server) collectorNames() (names []string) {
	for _, c := range s.Daemon.Statuses() {
		names = append(names, c.Collector)
	}
	for _, c := range s.Daemon.Disabled() {
		names = append(names, c.Collector)
	}
	slices.Sort(names)
	return names
}

// requesterOf returns who sends a request that changes something.
func requesterOf(r *http.Request) string {
	if v := visitorOf(r.Context()); v != nil {
		return v.name
	}
	return "HTTP_TOKEN"
}

// pauseRoutes returns the routes that pause all services and let them go on.
func (s *Server) pauseRoutes() []route {
	return []route{
		{method: "POST", path: "/api/v1/cluster/pause", handler: s.servePause, right: RunRight, program: true},
		{method: "POST", path: "/api/v1/cluster/resume", handler: s.serveResume, right: RunRight, program: true},
	}
}

func (s *Server) servePause(w http.ResponseWriter, r *http.Request) {
	s.servePaused(w, "paused", func() error { return s.Cluster.Pause(r.Context(), requesterOf(r)) })
}

func (s *Server) serveResume(w http.ResponseWriter, r *http.Request) {
	s.servePaused(w, "resumed", func() error { return s.Cluster.Resume(r.Context()) })
}

// servePaused changes whether tasks begin.
func (s *Server) servePaused(w http.ResponseWriter, status string, change func() error) {
	if s.Cluster == nil {
		s.writeError(w, http.StatusConflict, errNotShared.Error())
		return
	}
	if err := change(); err != nil {
		s.writeUnavailable(w, err)
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]string{"status": status})
}

// setReadiness sets the alarm, or the notice of a service that follows, from the error of Ready.
func (b *baseData) setReadiness(ctx context.Context, ready error, known Cluster) {
	switch {
	case ready == nil && known != nil && known.View().Err != nil:
		b.Alarm = "The shared state does not respond: " + describeError(ctx, known.View().Err)
	case ready == nil:
	case errors.Is(ready, state.ErrStandby):
		b.setFollowing(ctx, ready, known)
	default:
		b.Alarm = "Not ready yet: " + ready.Error()
	}
}

// setFollowing is setReadiness for a service that does not lead. That is no alarm if another one
// does.
func (b *baseData) setFollowing(ctx context.Context, ready error, known Cluster) {
	var v cluster.View
	if known != nil {
		v = known.View()
	}
	leader := v.Leader()
	switch {
	case v.Err != nil:
		b.Alarm = "The shared state does not respond: " + describeError(ctx, v.Err)
	case !errors.Is(ready, state.ErrLocked):
		b.Alarm = "This service is " + ready.Error()
	case leader == nil:
		b.Alarm = "No service leads: the one that did does not respond. Runs begin when another one has taken over, within two times CLUSTER_LEASE."
	default:
		b.Notice = "This service follows: " + leader.Name + " leads. All of them execute runs."
		for _, n := range v.Nodes {
			if n.ID == known.NodeID() && v.Differs(n) {
				b.Notice = "This service follows " + leader.Name + ", and executes no runs: its settings or its version differ from those of " + leader.Name + "."
			}
		}
	}
}
