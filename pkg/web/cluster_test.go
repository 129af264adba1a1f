package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

// fakeCluster is a Cluster with a fixed view. It records what it is asked to do.
type fakeCluster struct {
	mu   sync.Mutex
	view cluster.View
	err  error // of requests
	asks []string
}

func (f *fakeCluster) View() cluster.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

// change changes the view while a server shows it.
func (f *fakeCluster) change(do func(*cluster.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view.Nodes, f.view.Tasks = slices.Clone(f.view.Nodes), slices.Clone(f.view.Tasks)
	do(&f.view)
}

func (f *fakeCluster) NodeID() string { return "id-b" }

func (f *fakeCluster) CancelTasks(_ context.Context, tenancy, name, by string) (n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asks = append(f.asks, fmt.Sprintf("cancel %s %s by %s", tenancy, name, by))
	for _, t := range f.view.Tasks {
		if t.Tenancy == tenancy && t.Collector == name {
			n++
		}
	}
	return n, f.err
}

func (f *fakeCluster) Pause(_ context.Context, by string) error {
	f.asks = append(f.asks, "pause by "+by)
	return f.err
}

func (f *fakeCluster) Resume(context.Context) error {
	f.asks = append(f.asks, "resume")
	return f.err
}

// newFakeCluster returns three services: the one that leads, the one that serves, and one with
// other settings; with a run of okta at the first one, and one of tenable that waits.
func newFakeCluster() *fakeCluster {
	node := func(id, name, settings string) shared.Node {
		return shared.Node{
			NodeInfo: shared.NodeInfo{Version: "v1.0.0", Settings: settings, Capacity: 4}, ID: id, Name: name, Service: true, Alive: true,
			Started: shownAt.Add(-time.Hour), Beat: shownAt.Add(-2 * time.Second),
		}
	}
	nodes := []shared.Node{node("id-a", "collectord-0", "x"), node("id-b", "collectord-1", "x"), node("id-c", "collectord-2", "y")}
	nodes[0].Leads = true
	command := shared.Node{ID: "id-d", Name: "laptop", Command: "collectord status", Alive: true}
	return &fakeCluster{view: cluster.View{
		Read: shownAt, Nodes: append(nodes, command),
		Tasks: []state.Task{
			{ID: "1", Tenancy: "acme", Collector: "okta", Streams: []string{"okta_users"}, Trigger: "schedule", State: state.TaskRunning,
				Started: shownAt.Add(-time.Minute), Attempt: 2, Node: "id-a", NodeName: "collectord-0"},
			{ID: "2", Tenancy: "acme", Collector: "tenable", Streams: []string{"tenable_assets", "tenable_was", "x", "y"}, Trigger: "manual", State: state.TaskDue,
				Tick: shownAt.Add(-time.Minute), Attempt: 1},
			{ID: "3", Tenancy: "umbrella", Collector: "hidden", Streams: []string{"hidden_stream"}, Trigger: "schedule", State: state.TaskRunning,
				Started: shownAt.Add(-time.Minute), Attempt: 1, Node: "id-b", NodeName: "collectord-1"},
		},
		Pause: shared.Pause{Since: shownAt.Add(-10 * time.Minute), By: "ada@laptop"},
	}}
}

// errFollows is the error of Ready of a service that follows.
var errFollows = fmt.Errorf("%w: %w: by collectord-0", state.ErrStandby, state.ErrLocked)

// newClusterFixture returns a fixture whose service follows another one, which runs okta_users.
func newClusterFixture(t testing.TB) *fixture {
	f := newFullFixture(t)
	f.daemon.ready = errFollows
	f.daemon.active = []*run.ActiveRun{{
		Collector: "okta", Stream: "okta_users", Started: shownAt.Add(-time.Minute), Node: "collectord-0", Recorded: collector.Progress{Records: 120, Requests: 3},
	}}
	return f
}

// TestServicesInABrowser shows the services that share a state, cancels a run, and shows what
// changes.
func TestServicesInABrowser(t *testing.T) {
	t.Parallel()
	f, c := newClusterFixture(t), newFakeCluster()
	server := f.startServerWith(func(o *Options) { o.Token, o.Cluster = "secret-token", c })
	b := openBrowser(t, server.URL)
	b.setSize(1280, 800)
	b.openURL(server.URL+"/", "#services")
	text := evaluate[string](b, `document.body.innerText`)
	for _, want := range []string{
		"This service follows: collectord-0 leads", "collectord-1 serves this page", "okta: okta_users, attempt 2", "Waiting: tenable: 4 streams", "leader", "follower",
		"differ from those of the leader", "Paused since 2026-11-24 11:50:00 UTC by ada@laptop", "on collectord-0", "2\u202fs",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the overview does not say %q", want)
		}
	}
	for _, secret := range []string{"locked", "hidden", "laptop\t"} {
		if strings.Contains(text, secret) {
			t.Errorf("the overview says %q", secret)
		}
	}
	if evaluate[bool](b, `document.getElementById("alarm").checkVisibility()`) {
		t.Error("a service that follows has an alarm")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.setColorScheme(scheme)
		if low := evaluate[string](b, lowContrast); low != "" {
			t.Errorf("%s: the contrast is too low: %s", scheme, low)
		}
		b.saveScreenshot("cluster-" + scheme)
	}
	const cancel = "[data-post='/api/v1/collectors/okta/cancel']"
	b.setField("#token", "secret-token")
	b.click(cancel)
	b.waitUntil(`document.getElementById("confirm").open`)
	b.click("#confirm button[value=yes]")
	b.waitForMessage("The runs of okta are cancelled")
	if len(c.asks) != 1 || c.asks[0] != "cancel acme okta by HTTP_TOKEN" {
		t.Errorf("asked for %q", c.asks)
	}
	c.change(func(v *cluster.View) {
		v.Tasks[0].Cancelled, v.Nodes[2].Alive, v.Pause = "cancelled by HTTP_TOKEN", false, shared.Pause{}
	})
	b.waitUntil(`document.body.innerText.includes("okta: okta_users, attempt 2, cancelled by HTTP_TOKEN")`)
	if evaluate[bool](b, `document.querySelector("`+cancel+`") !== null`) {
		t.Error("a run that is cancelled can be cancelled")
	}
	if text := evaluate[string](b, `document.body.innerText`); !strings.Contains(text, "silent") || strings.Contains(text, "Paused") {
		t.Errorf("after the change: %s", text)
	}
	c.change(func(v *cluster.View) { v.Nodes[0].Alive = false })
	b.waitUntil(`document.getElementById("alarm").textContent.includes("No service leads")`)
	b.setColorScheme("light")
	b.setSize(360, 740)
	b.assertFits("the services on a phone")
	b.openURL(server.URL+"/streams/okta_users", "#data pre")
	if text := evaluate[string](b, `document.body.innerText`); !strings.Contains(text, "on collectord-0") {
		t.Error("the page of the stream does not name the service that runs it")
	}
	b.assertNoViolations()
}

// TestFollowing checks what a service shows that does not lead.
func TestFollowing(t *testing.T) {
	t.Parallel()
	f, c := newClusterFixture(t), newFakeCluster()
	server := New(Options{State: f.state, Daemon: f.daemon, Tenancy: "acme", Cluster: c})
	for _, tc := range []struct {
		name          string
		ready         error
		change        func(*cluster.View)
		alarm, notice string
	}{
		{"follows", errFollows, func(*cluster.View) {}, "", "This service follows: collectord-0 leads."},
		{"differs", errFollows, func(v *cluster.View) { v.Nodes[1].Settings = "z" }, "", "and executes no runs"},
		{"leads", nil, func(*cluster.View) {}, "", ""},
		{"starts", errors.New("restoring"), func(*cluster.View) {}, "Not ready yet: restoring", ""},
		{"no leader", errFollows, func(v *cluster.View) { v.Nodes[0].Alive = false }, "No service leads", ""},
		{"no database", errFollows, func(v *cluster.View) { v.Err = errors.New("connection refused") }, "The shared state does not respond: connection refused", ""},
		{"leads without a database", nil, func(v *cluster.View) { v.Err = errors.New("connection refused") }, "The shared state does not respond", ""},
		{"no lock", fmt.Errorf("%w: the shared state does not respond: timeout", state.ErrStandby), func(*cluster.View) {}, "the shared state does not respond: timeout", ""},
	} {
		f.daemon.ready, c.view = tc.ready, newFakeCluster().view
		c.change(tc.change)
		d := server.newBaseData(t.Context(), "collectord")
		if !strings.Contains(d.Alarm, tc.alarm) || (d.Alarm == "") != (tc.alarm == "") || !strings.Contains(d.Notice, tc.notice) || (d.Notice == "") != (tc.notice == "") {
			t.Errorf("%s: alarm %q, notice %q", tc.name, d.Alarm, d.Notice)
		}
	}
}

// TestClusterOfTenancies checks that a token of one tenancy sees the services without the runs of
// other tenancies, and that only one of all tenancies can pause them.
func TestClusterOfTenancies(t *testing.T) {
	t.Parallel()
	s, c := newTwo(t), newFakeCluster()
	c.view.Err = errors.New("connect to db of umbrella")
	s.options.Cluster, s.options.Tokens, s.options.Ready = c, readTokens(t, tokensText), func() error { return errFollows }
	s.daemons["acme"].ready = errFollows
	handler := NewTenancies(s.options).Handler()
	for _, path := range []string{"/", "/api/v1/status", "/tenancies/acme/", "/tenancies/acme/api/v1/status"} {
		w := request(handler, "GET", path, "token-of-acme-all-1")
		text := w.Body.String()
		if w.Code != 200 || !strings.Contains(text, "collectord-2") || !strings.Contains(text, "okta") {
			t.Errorf("%s: %d %.300s", path, w.Code, text)
		}
		for _, other := range []string{"umbrella", "hidden_stream", "ada@laptop"} {
			if strings.Contains(text, other) && !strings.HasPrefix(path, "/tenancies/") {
				t.Errorf("%s for acme has %q", path, other)
			}
		}
		if strings.Contains(text, "hidden_stream") {
			t.Errorf("%s for acme has a run of umbrella", path)
		}
	}
	w := request(handler, "GET", "/api/v1/status", "token-of-all-read")
	var status struct{ Cluster clusterView }
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil || len(status.Cluster.Tasks) != 3 || len(status.Cluster.Services) != 3 || status.Cluster.PausedBy == "" ||
		status.Cluster.Error != "connect to db of umbrella" || !status.Cluster.Services[1].Self || !status.Cluster.Services[2].Differs {
		t.Errorf("all tenancies: %+v %v", status.Cluster, err)
	}
	for _, tc := range []struct {
		path, token string
		want        int
	}{
		{"/api/v1/cluster/pause", "token-of-acme-all-1", http.StatusForbidden},
		{"/api/v1/cluster/pause", "token-of-all-read", http.StatusForbidden},
		{"/api/v1/cluster/pause", "token-of-all-run-1", http.StatusOK},
		{"/tenancies/acme/api/v1/cluster/resume", "token-of-acme-run-1", http.StatusForbidden},
		{"/api/v1/cluster/resume", "token-of-all-run-1", http.StatusOK},
		{"/tenancies/acme/api/v1/collectors/okta/cancel", "token-of-acme-read", http.StatusForbidden},
		{"/tenancies/acme/api/v1/collectors/okta/cancel", "token-of-acme-run-1", http.StatusOK},
		{"/tenancies/umbrella/api/v1/collectors/okta/cancel", "token-of-acme-run-1", http.StatusNotFound},
	} {
		if w := request(handler, "POST", tc.path, tc.token); w.Code != tc.want {
			t.Errorf("%s with %s: %d %s, want %d", tc.path, tc.token, w.Code, w.Body, tc.want)
		}
	}
	if want := []string{"pause by operator", "resume", "cancel acme okta by runner"}; !slices.Equal(c.asks, want) {
		t.Errorf("asked for %q, want %q", c.asks, want)
	}
	if w := request(handler, "GET", "/-/ready", ""); w.Code != 200 || strings.Contains(w.Body.String(), "collectord-0") {
		t.Errorf("ready without a token: %d %s", w.Code, w.Body)
	}
}
