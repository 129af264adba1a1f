package metrics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

// fixedCluster is a Cluster with fixed values.
type fixedCluster struct {
	view  cluster.View
	leads bool
}

func (f *fixedCluster) View() cluster.View   { return f.view }
func (f *fixedCluster) Leads() bool          { return f.leads }
func (*fixedCluster) Counts() cluster.Counts { return cluster.Counts{Takeovers: 2, Refused: 3} }

// TestClusterMetrics checks the metrics of services that share a state.
func TestClusterMetrics(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	node := func(settings string, alive, leads bool) shared.Node {
		return shared.Node{NodeInfo: shared.NodeInfo{Settings: settings, Capacity: 1}, Service: true, Alive: alive, Leads: leads}
	}
	c := &fixedCluster{leads: true, view: cluster.View{
		Read:  time.Now(),
		Nodes: []shared.Node{node("x", true, true), node("x", true, false), node("y", true, false), node("z", false, false), {Alive: true}},
		Tasks: []state.Task{{State: state.TaskDue}, {State: state.TaskRunning}, {State: state.TaskRunning}},
		Pause: shared.Pause{Since: time.Now(), By: "ada"},
	}}
	f.metrics.Cluster = c
	text := f.scrape()
	f.assertLines(text,
		`collectord_cluster_leader{tenancy="acme"} 1`,
		`collectord_cluster_nodes{tenancy="acme"} 3`,
		`collectord_cluster_database_up{tenancy="acme"} 1`,
		`collectord_cluster_tasks{state="requested",tenancy="acme"} 0`,
		`collectord_cluster_tasks{state="due",tenancy="acme"} 1`,
		`collectord_cluster_tasks{state="running",tenancy="acme"} 2`,
		`collectord_cluster_takeovers_total{tenancy="acme"} 2`,
		`collectord_cluster_refused_total{tenancy="acme"} 3`,
		`collectord_cluster_settings_differ{tenancy="acme"} 1`,
		`collectord_cluster_paused{tenancy="acme"} 1`)
	for _, d := range definitions {
		if strings.HasPrefix(d.name, "collectord_cluster") && !strings.Contains(text, "\n"+d.name+"{") {
			t.Errorf("%s is not published", d.name)
		}
	}
	c.leads, c.view.Err, c.view.Pause = false, errors.New("no connection"), shared.Pause{}
	f.assertLines(f.scrape(),
		`collectord_cluster_leader{tenancy="acme"} 0`,
		`collectord_cluster_database_up{tenancy="acme"} 0`,
		`collectord_cluster_paused{tenancy="acme"} 0`)
}
