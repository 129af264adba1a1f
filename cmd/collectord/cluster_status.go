package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state/shared"
)

func clusterStatusCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "List the processes that share the state, and the runs in progress and waiting", Args: noArgs,
		Long: `status lists the processes that use the state in CLUSTER_POSTGRES_URL: which service leads,
which ones follow, and which do not respond any more. Those are listed for a day. A service
whose settings or whose version differ from those of the one that leads executes no runs.
Below are the runs of all tenancies that are in progress or wait.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withCluster(cmd.Context(), "status is about the processes for all tenancies", func(a *assembly, s *shared.State) error {
				return a.printCluster(cmd.Context(), s, asJSON)
			})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// clusterStatusView is the document of cluster status --json.
type clusterStatusView struct {
	Version     string     `json:"version"`
	Now         time.Time  `json:"now"`
	PausedSince *time.Time `json:"paused_since"`
	PausedBy    *string    `json:"paused_by"`
	Processes   []nodeView `json:"processes"`
	Tasks       []taskView `json:"tasks"`
}

type nodeView struct {
	Name     string    `json:"name"`
	PID      int64     `json:"pid"`
	Command  string    `json:"command"`
	State    string    `json:"state"`
	Version  *string   `json:"version"`
	Capacity int       `json:"capacity"`
	Tasks    int       `json:"tasks"`
	Started  time.Time `json:"started"`
	Beat     time.Time `json:"last_beat"`
	Differs  bool      `json:"settings_differ"`
	Locks    int       `json:"locks"`
}

type taskView struct {
	Tenancy   string    `json:"tenancy"`
	Collector string    `json:"collector"`
	Streams   []string  `json:"streams"`
	Trigger   string    `json:"trigger"`
	State     string    `json:"state"`
	Node      *string   `json:"node"`
	Since     time.Time `json:"since"`
	Attempt   int       `json:"attempt"`
	Cancelled *string   `json:"cancelled"`
}

// newClusterStatusView returns the document about the processes and their tasks.
func newClusterStatusView(known cluster.View) clusterStatusView {
	v := clusterStatusView{
		Version: version, Now: known.Read.UTC().Truncate(time.Millisecond), PausedSince: timeOrNull(known.Pause.Since), PausedBy: orNull(known.Pause.By),
		Processes: []nodeView{}, Tasks: []taskView{},
	}
	for _, n := range known.Nodes {
		v.Processes = append(v.Processes, nodeView{
			n.Name, n.PID, n.Command, n.StateName(), orNull(n.Version), n.Capacity, n.Tasks, n.Started.UTC(), n.Beat.UTC(), known.Differs(n), n.Locks,
		})
	}
	for _, t := range known.Tasks {
		v.Tasks = append(v.Tasks, taskView{
			t.Tenancy, t.Collector, append([]string{}, t.Streams...), t.Trigger, string(t.State), orNull(t.NodeName), t.Since(), t.Attempt, orNull(t.Cancelled),
		})
	}
	return v
}

// printCluster prints the processes that share the state, and their tasks.
func (a *assembly) printCluster(ctx context.Context, s *shared.State, asJSON bool) error {
	known, err := cluster.Read(ctx, s)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, newClusterStatusView(known))
	}
	if !known.Pause.Since.IsZero() {
		fmt.Fprintf(a.stdout, "%s\n\n", describePause(known.Pause))
	}
	if err := a.printNodes(known); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	return a.printTasks(known)
}

// printNodes prints the processes, and below them which ones receive no tasks.
func (a *assembly) printNodes(known cluster.View) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPROCESS\tSTATE\tVERSION\tCAPACITY\tTASKS\tSTARTED\tLAST BEAT")
	var differing []string
	for _, n := range known.Nodes {
		fmt.Fprintf(w, "%s\t%d (%s)\t%s\t%s\t%d\t%d\t%s\t%s\n", query.ReplaceControl(n.Name), n.PID, query.ReplaceControl(n.Command), n.StateName(),
			cmp.Or(query.ReplaceControl(n.Version), "-"), n.Capacity, n.Tasks, humanize.Time(n.Started), humanize.Time(n.Beat))
		if known.Differs(n) {
			differing = append(differing, query.ReplaceControl(n.Name))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range differing {
		fmt.Fprintf(a.stdout, "%s executes no runs: its settings or its version differ from those of %s, which leads\n", name, query.ReplaceControl(known.Leader().Name))
	}
	if known.Leader() == nil {
		fmt.Fprintln(a.stdout, "no service leads: nothing runs until one does")
	}
	return nil
}

// printTasks prints the runs in progress and waiting.
func (a *assembly) printTasks(known cluster.View) error {
	if len(known.Tasks) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no run is in progress or waits")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANCY\tCOLLECTOR\tSTREAMS\tTRIGGER\tSTATE\tNODE\tSINCE\tATTEMPT")
	for _, t := range known.Tasks {
		label := string(t.State)
		if t.Cancelled != "" {
			label += ", " + query.ReplaceControl(t.Cancelled)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", query.ReplaceControl(t.Tenancy), t.Collector, strings.Join(t.Streams, ","), t.Trigger, label,
			cmp.Or(query.ReplaceControl(t.NodeName), "-"), humanize.Time(t.Since()), t.Attempt)
	}
	return w.Flush()
}
