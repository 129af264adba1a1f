package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/notify"
	"github.com/collectord/collectord/pkg/store"
)

func (a *app) checkCommand() *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use: "check", Short: "Check the settings; with --connect try credentials and destinations, too", Args: noArgs,
		Long: `check reads the settings as a run would and reports everything that is wrong with
them. With --connect it also asks each vendor whether the credentials are accepted
and each destination whether it can be written to; it collects and stores nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(); err != nil {
				return err
			}
			on, _ := a.active()
			if len(on) == 0 {
				return none(a.sources, a.sections)
			}
			targets, err := a.targets()
			if err != nil {
				return err
			}
			sinks, err := a.sinks()
			if err != nil {
				return err
			}
			defer closeSinks(sinks, a.log)
			if len(a.warnings) == 0 {
				fmt.Fprintln(a.stdout, "settings are good")
			}
			a.printSettings(on, sinks, targets)
			if len(a.warnings) > 0 {
				return &exitError{exitSettings, fmt.Errorf("%s", strings.Join(a.warnings, "\n"))}
			}
			if !connect {
				return nil
			}
			return a.connect(cmd.Context(), sinks)
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "try credentials and destinations")
	return cmd
}

func (a *app) printSettings(on []collector.Source, sinks []store.Sink, targets []*notify.Target) {
	for _, s := range on {
		fmt.Fprintf(a.stdout, "  collector    %s (%d streams)\n", s.Name, len(s.Streams))
	}
	for _, s := range sinks {
		fmt.Fprintf(a.stdout, "  destination  %s\n", s.Name())
	}
	for _, t := range targets {
		fmt.Fprintf(a.stdout, "  notification %s\n", t)
	}
	fmt.Fprintf(a.stdout, "  state        %s\n", a.settings.StateDir)
}

// checkTimeout bounds one vendor's or destination's answer.
const checkTimeout = 30 * time.Second

// A probe asks one vendor or destination whether it can be used.
type probe struct {
	kind, name string
	try        func(context.Context) error
	// err is how it ended.
	err error
}

// probes are those of the collectors that are on and of the destinations.
func (a *app) probes(sinks []store.Sink) ([]*probe, error) {
	jobs, err := a.jobs(nil)
	if err != nil {
		return nil, err
	}
	var probes []*probe
	for _, j := range jobs {
		probes = append(probes, &probe{kind: "collector", name: j.Collector.Name, try: j.Collector.Check})
	}
	for _, s := range sinks {
		probes = append(probes, &probe{kind: "destination", name: s.Name(), try: s.Check})
	}
	return probes, nil
}

// tryAll asks all at once, and waits so long. Each is asked with what watch
// makes of ctx.
func tryAll(ctx context.Context, limit time.Duration, probes []*probe, watch func(context.Context, *probe) context.Context) {
	var all sync.WaitGroup
	for _, p := range probes {
		all.Go(func() {
			ctx, cancel := context.WithTimeoutCause(watch(ctx, p), limit, fmt.Errorf("no answer within %v", limit))
			defer cancel()
			p.err = p.try(ctx)
		})
	}
	all.Wait()
}

// connect asks all vendors and destinations and reports in order.
func (a *app) connect(ctx context.Context, sinks []store.Sink) error {
	probes, err := a.probes(sinks)
	if err != nil {
		return err
	}
	tryAll(ctx, checkTimeout, probes, func(ctx context.Context, _ *probe) context.Context { return ctx })
	failed := 0
	for _, p := range probes {
		word := "ok"
		if p.err != nil {
			failed++
			word = p.err.Error()
		}
		fmt.Fprintf(a.stdout, "  %-24s %s\n", fmt.Sprintf("%-12s %s", p.kind, p.name), word)
	}
	if failed > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %d cannot be used as they are", failed, len(probes))}
	}
	return nil
}
