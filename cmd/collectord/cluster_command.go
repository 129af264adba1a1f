package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/state/shared"
)

func clusterCommand(p *program) *cobra.Command {
	return groupCommand("cluster", "Show which processes share a state", clusterStatusCommand(p))
}

func clusterStatusCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "List the processes that share the state", Args: noArgs,
		Long: `status lists the processes that use the state in CLUSTER_POSTGRES_URL: which one runs the
service, which ones stand by, and which do not respond any more. Those are listed for a day.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.refuseTenancyFlag("status is about the processes for all tenancies"); err != nil {
				return err
			}
			a, err := p.loadAll()
			if err != nil {
				return err
			}
			return a.printNodes(cmd.Context(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// nodeView is a process in the JSON of cluster status.
type nodeView struct {
	Name    string    `json:"name"`
	PID     int64     `json:"pid"`
	Command string    `json:"command"`
	State   string    `json:"state"`
	Started time.Time `json:"started"`
	Beat    time.Time `json:"last_beat"`
	Locks   int       `json:"locks"`
}

// nodesView is the JSON of cluster status.
type nodesView struct {
	Version   string     `json:"version"`
	Now       time.Time  `json:"now"`
	Processes []nodeView `json:"processes"`
}

// printNodes prints the processes that share the state.
func (a *assembly) printNodes(ctx context.Context, asJSON bool) error {
	if !a.hasSharedState() {
		return usageError(errors.New("the state is not shared: CLUSTER_POSTGRES_URL is not set"))
	}
	o, err := a.sharedOptions()
	if err != nil {
		return err
	}
	nodes, err := shared.ListNodes(ctx, o)
	if errors.Is(err, fs.ErrNotExist) {
		return &missingStateError{a.describeState()}
	}
	if err != nil {
		return err
	}
	if asJSON {
		view := nodesView{Version: version, Now: time.Now().UTC().Truncate(time.Millisecond), Processes: []nodeView{}}
		for _, n := range nodes {
			view.Processes = append(view.Processes, nodeView{n.Name, n.PID, n.Command, nodeState(n), n.Started.UTC(), n.Beat.UTC(), n.Locks})
		}
		return writeJSON(a.stdout, view)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPROCESS\tSTATE\tSTARTED\tLAST BEAT\tLOCKS")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t%d (%s)\t%s\t%s\t%s\t%d\n", n.Name, n.PID, n.Command, nodeState(n), humanize.Time(n.Started), humanize.Time(n.Beat), n.Locks)
	}
	return w.Flush()
}

// nodeState describes what a process does.
func nodeState(n shared.Node) string {
	switch {
	case !n.Alive:
		return "silent"
	case n.Draining:
		return "stopping"
	case n.Leads:
		return "leader"
	case n.Service:
		return "follower"
	}
	return "command"
}
