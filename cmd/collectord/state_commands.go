package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
)

// withState runs do with the settings loaded and the state open.
func (a *app) withState(ctx context.Context, do func(*state.State) error) (err error) {
	if err := a.load(); err != nil {
		return err
	}
	st, err := a.openState(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(st)
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the last-known data of each stream, how old it is, and what is undelivered", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withState(cmd.Context(), func(st *state.State) error { return a.status(cmd.Context(), st) })
		},
	}
}

func (a *app) status(ctx context.Context, st *state.State) error {
	streams, err := st.Streams(ctx)
	if err != nil {
		return err
	}
	if len(streams) == 0 {
		_, err := fmt.Fprintln(a.stdout, "nothing has been collected yet")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tTENANCY\tDATA OF\tRECORDS\tSOURCE\tLAST SUCCESS\tLAST FAILURE\tUNDELIVERED\tNEXT RUN")
	for _, s := range streams {
		source := string(s.Source)
		if s.Held {
			source += ", a newer one is held"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\n", s.Stream, s.Tenancy,
			when(s.Taken), s.Records, source, when(s.LastSuccess), when(s.LastFailure), s.Queued, a.nextRun(s.Collector, time.Now()))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range streams {
		if s.LastFailure.After(s.LastSuccess) {
			fmt.Fprintf(a.stdout, "%s: %s\n", s.Stream, s.FailureErr)
		}
	}
	queue, err := st.Queue(ctx)
	if err != nil {
		return err
	}
	a.tellOrphans(queue)
	for _, d := range queue {
		if d.Err != "" {
			fmt.Fprintf(a.stdout, "%s to %s, %d tries: %s\n", d.Stream, d.Sink, d.Attempts, d.Err)
		}
	}
	return nil
}

// tellOrphans names the destinations for which something is queued though the
// settings have them no more.
func (a *app) tellOrphans(queue []state.Delivery) {
	sinks, err := a.sinks()
	if err != nil {
		return // `check` tells of bad settings
	}
	defer closeSinks(sinks, a.log)
	names, count := sinkNames(sinks), waiting(queue)
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if !slices.Contains(names, name) {
			fmt.Fprintf(a.stdout, "%s: %d deliveries wait, but the settings have no such destination: %s\n", name, count[name], giveUp(name))
		}
	}
}

// waiting counts what is queued for each destination.
func waiting(queue []state.Delivery) map[string]int {
	count := map[string]int{}
	for _, d := range queue {
		count[d.Sink]++
	}
	return count
}

// giveUp tells what to do about a destination that the settings do not have.
func giveUp(sink string) string {
	return "set it again, or give them up with `collectord drop " + sink + "`"
}

func (a *app) dropCommand() *cobra.Command {
	return &cobra.Command{
		ValidArgsFunction: completeOne(fixed("file", "duckdb", "postgres", "s3", "backup")),
		Use:               "drop DESTINATION", Short: "Give up what is queued for a destination that the settings do not have any more",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(errors.New("drop wants one destination, such as postgres"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withState(cmd.Context(), func(st *state.State) error { return a.drop(cmd.Context(), st, args[0]) })
		},
	}
}

// drop refuses a destination that is configured: what waits for it is on its
// way.
func (a *app) drop(ctx context.Context, st *state.State, name string) error {
	sinks, err := a.sinks()
	if err != nil {
		return err
	}
	defer closeSinks(sinks, a.log)
	if slices.Contains(sinkNames(sinks), name) {
		return usage(fmt.Errorf("%s is configured, and what is queued for it is on its way: take it out of the settings first", name))
	}
	n, err := st.DropSink(ctx, name)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "deliveries given up: %d\n", n)
	return err
}

// nextRun is when the service's schedule has a collector run next; retries and
// catching up come on top.
func (a *app) nextRun(name string, now time.Time) string {
	for _, s := range a.sections {
		if s.Name != name || !s.Active {
			continue
		}
		delay := a.delay(name)
		next := expressionOf(a, name).In(a.settings.Schedule.Zone.Location()).Next(now.Add(-delay))
		if next.IsZero() {
			break
		}
		return next.Add(delay).Format("2006-01-02 15:04:05 MST")
	}
	return "-"
}

// when is an instant with its age.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z") + " (" + humanize.Time(t) + ")"
}

func (a *app) acceptCommand() *cobra.Command {
	return &cobra.Command{
		ValidArgsFunction: completeOne(completeNames(false)),
		Use:               "accept STREAM", Short: "Release a snapshot that was held for having far fewer records than the last",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(errors.New("accept wants one stream, such as tenable_assets"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withState(cmd.Context(), func(st *state.State) error { return a.accept(cmd.Context(), st, args[0]) })
		},
	}
}

// accept makes the held snapshot the last-known one and delivers it.
func (a *app) accept(ctx context.Context, st *state.State, stream string) error {
	name := a.collectorOf(stream)
	if name == "" {
		return usage(fmt.Errorf("%q is no stream; `collectord list` shows them", stream))
	}
	sinks, err := a.sinks()
	if err != nil {
		return err
	}
	defer closeSinks(sinks, a.log)
	lock, err := st.Lock(name)
	if err != nil {
		return &exitError{exitLocked, err}
	}
	info, err := st.Accept(ctx, stream, a.settings.Tenancy, a.policy(sinks))
	if err := errors.Join(err, lock.Unlock()); err != nil {
		return err
	}
	a.log.Info("accepted", zap.String("stream", stream), zap.Int64("records", info.Records), zap.String("upload_id", info.UploadID))
	d := a.deliverer(st, sinks)
	left, err := a.deliver(ctx, d, nil)
	if err != nil {
		return err
	}
	return conclude(ctx, nil, left)
}

// collectorOf is the collector that a stream belongs to, "" for none.
func (a *app) collectorOf(stream string) string {
	for _, s := range a.sources {
		if streams, chosen := choose(s, []string{stream}); chosen && len(streams) > 0 {
			return s.Name
		}
	}
	return ""
}
