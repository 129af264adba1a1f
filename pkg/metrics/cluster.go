package metrics

import (
	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/state"
)

// A Cluster is the services that share a state with this one.
type Cluster interface {
	// View returns what this service knows of the services and their tasks.
	View() cluster.View
	// Leads reports whether this service leads.
	Leads() bool
	// Counts returns the counts of this process.
	Counts() cluster.Counts
}

// openStates are the states of the tasks that have not ended.
var openStates = []state.TaskState{state.TaskRequested, state.TaskDue, state.TaskRunning}

// publishCluster publishes the metrics of the services that share the state, if it is shared.
func (m *Metrics) publishCluster(publish publisher) {
	if m.Cluster == nil {
		return
	}
	v, counts := m.Cluster.View(), m.Cluster.Counts()
	publish(clusterLeader, boolValue(m.Cluster.Leads()))
	publish(clusterDatabase, boolValue(v.Err == nil && !v.Read.IsZero()))
	publish(clusterTakeovers, float64(counts.Takeovers))
	publish(clusterRefused, float64(counts.Refused))
	publish(clusterPaused, boolValue(!v.Pause.Since.IsZero()))
	nodes, differing := 0, 0
	for _, n := range v.Nodes {
		if n.Service && n.Alive {
			nodes++
		}
		if v.Differs(n) {
			differing++
		}
	}
	publish(clusterNodes, float64(nodes))
	publish(clusterDiffering, float64(differing))
	tasks := map[state.TaskState]int{}
	for _, t := range v.Tasks {
		tasks[t.State]++
	}
	for _, s := range openStates {
		publish(clusterTasks, float64(tasks[s]), string(s))
	}
}
