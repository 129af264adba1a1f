package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strings"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/cluster"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
)

func clusterCommand(p *program) *cobra.Command {
	return groupCommand("cluster", "Show the services that share a state and what they run, pause them, cancel runs",
		clusterStatusCommand(p), clusterPauseCommand(p), clusterResumeCommand(p), clusterCancelCommand(p), importCommand(p))
}

func clusterPauseCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "pause", Short: "Let no run begin in any service", Args: noArgs,
		Long: `pause lets no run begin in the services that share the state in CLUSTER_POSTGRES_URL, until
collectord cluster resume. Runs in progress go on, and deliveries too. What is due meanwhile
waits. cluster status and the status page show who has paused the services, and since when.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withCluster(cmd.Context(), "pause is for the services of all tenancies", func(a *assembly, s *shared.State) error {
				if err := s.Pause(cmd.Context(), caller()); err != nil {
					return err
				}
				return a.printPaused(cmd.Context(), s)
			})
		},
	}
}

func clusterResumeCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "Let runs begin again", Args: noArgs,
		Long:              `resume ends a pause. What was due meanwhile begins as there are free slots.`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withCluster(cmd.Context(), "resume is for the services of all tenancies", func(a *assembly, s *shared.State) error {
				if err := s.Resume(cmd.Context()); err != nil {
					return err
				}
				return a.printPaused(cmd.Context(), s)
			})
		},
	}
}

// printPaused prints whether the services are paused.
func (a *assembly) printPaused(ctx context.Context, s *shared.State) error {
	pause, err := s.ReadPause(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, describePause(pause))
	return err
}

// describePause returns whether runs begin, and if not since when and who has said so.
func describePause(p shared.Pause) string {
	if p.Since.IsZero() {
		return "not paused: runs begin"
	}
	return fmt.Sprintf("paused since %s by %s: no run begins until `collectord cluster resume`", formatTime(p.Since), p.By)
}

func clusterCancelCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "cancel COLLECTOR", Short: "Cancel the runs of a collector, whichever service has them",
		Long: `cancel ends the runs of a collector that are in progress or wait, in all tenancies or in that
of --tenancy. What they have read is discarded, and the last-known data stays. A service that
executes one ends it within a few seconds. The schedule goes on.

It ends with 1 when no run of the collector is in progress or waits.`,
		Example:           "  collectord cluster cancel tenable --tenancy acme",
		Args:              oneArg("one collector, such as tenable"),
		ValidArgsFunction: completeOne(completeCollectors(p)),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := p.loadOneOrAll()
			if err != nil {
				return err
			}
			return a.withTables(cmd.Context(), func(s *shared.State) error { return a.cancelRuns(cmd.Context(), s, p.from.tenancy, args[0]) })
		},
	}
}

// completeCollectors offers the names of collectors.
func completeCollectors(p *program) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var words []string
		c, _ := readConfiguration(p.from)
		for _, d := range c.definitions {
			words = append(words, cobra.CompletionWithDesc(d.Name, d.Title))
		}
		return completeWords(words...)(cmd, args, prefix)
	}
}

// cancelRuns cancels the runs of a collector, in a tenancy or with "" in all.
func (a *assembly) cancelRuns(ctx context.Context, s *shared.State, tenancy, name string) error {
	if err := a.requireCollector(name); err != nil {
		return err
	}
	n, err := s.Tasks().Cancel(ctx, tenancy, name, cluster.CancelReason(caller()))
	if err != nil {
		return err
	}
	of := name
	if tenancy != "" {
		of += " of " + tenancy
	}
	if n == 0 {
		return fmt.Errorf("cancel %s: no run of it is in progress or waits; `collectord cluster status` shows all", of)
	}
	_, err = fmt.Fprintf(a.stdout, "cancelled: %s of %s\n", english.Plural(int(n), "run", ""), of)
	return err
}

// requireCollector returns an error when there is no collector with a name.
func (c *configuration) requireCollector(name string) error {
	var all []string
	for _, d := range c.definitions {
		if d.Name == name {
			return nil
		}
		all = append(all, d.Name)
	}
	return usageError(fmt.Errorf("%q is not a collector%s; the collectors are %s", name, c.suggestCollector(name), strings.Join(all, ", ")))
}

// suggestCollector returns the end of a message about a name that is no collector: the collector
// with the nearest name, or that of the stream with the name; or "".
func (c *configuration) suggestCollector(name string) string {
	if of := c.collectorOf(name); of != "" {
		return " (it is a stream of " + of + ")"
	}
	return c.suggestSource(name)
}

// withCluster calls do with the tables of the shared state, for a command about all tenancies.
func (p *program) withCluster(ctx context.Context, why string, do func(*assembly, *shared.State) error) error {
	if err := p.refuseTenancyFlag(why); err != nil {
		return err
	}
	a, err := p.loadAll()
	if err != nil {
		return err
	}
	return a.withTables(ctx, func(s *shared.State) error { return do(a, s) })
}

// withTables calls do with the tables of the shared state. It does not need the bucket.
func (a *assembly) withTables(ctx context.Context, do func(*shared.State) error) (err error) {
	if !a.hasSharedState() {
		return usageError(errors.New("the state is not shared: CLUSTER_POSTGRES_URL is not set"))
	}
	o, err := a.sharedOptions()
	if err != nil {
		return err
	}
	s, err := shared.Look(ctx, o)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &missingStateError{a.describeState()}
	case errors.Is(err, state.ErrUnusable):
		return &exitError{exitSettings, err}
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return do(s)
}

// caller returns who calls the command, as USER@HOST.
func caller() string {
	name := "?"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name + "@" + hostname()
}
