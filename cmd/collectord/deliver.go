package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
)

func deliverCommand(p *program) *cobra.Command {
	var to []string
	var asJSON bool
	cmd := &cobra.Command{
		ValidArgsFunction: completeNames(p, true),
		Use:               "deliver [collector|stream ...]", Short: "Deliver the last-known snapshots again, and retry what is queued",
		Long: `deliver stores the last-known snapshot of each stream in the destinations, also where
it was stored before: it fills a table that was truncated or dropped, and a database
that was set back. No row is stored twice. What is queued is attempted at once.

It may be used while the service runs. Without names it delivers all streams; the name
of a collector stands for its streams.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("to") && (len(to) == 0 || slices.Contains(to, "")) {
				return usageError(errors.New("--to: empty: want the name of a destination"))
			}
			return p.withState(cmd.Context(), func(a *assembly) error { return a.deliver(cmd.Context(), to, args, asJSON) })
		},
	}
	addJSONFlag(cmd, &asJSON)
	cmd.Flags().StringSliceVar(&to, "to", nil, "deliver to this destination only; may be given several times")
	// The flag was defined above, so that this cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("to", completeWords(sinks.Names()...))
	return cmd
}

// deliver delivers the last-known snapshots of the streams that the names choose, or of
// all streams, to some destinations, or to all.
func (a *assembly) deliver(ctx context.Context, to, names []string, asJSON bool) error {
	streams, err := a.expandCollectors(ctx, names)
	if err != nil {
		return err
	}
	configured, err := a.openDestinations()
	if err != nil {
		return err
	}
	defer a.closeDestinations(configured)
	a.registerDestinations(ctx, configured)
	slices.Sort(to)
	queued, chosen, err := a.newOperator(configured).Redeliver(ctx, slices.Compact(to), streams)
	if err != nil {
		return operationError(err)
	}
	d := a.newDeliverer(slices.DeleteFunc(slices.Clone(configured), func(s store.Sink) bool { return !slices.Contains(chosen, s.Name()) }))
	d.Streams = streams
	undelivered, err := a.deliverDuring(ctx, d, func() {})
	if err != nil {
		return err
	}
	failure := runError(ctx, nil, undelivered)
	if asJSON {
		return errors.Join(failure, writeJSON(a.stdout, a.newDeliverView(queued, chosen, d.DeliveryStatus, len(undelivered), failure)))
	}
	a.printDelivered(queued, chosen, d.DeliveryStatus)
	return failure
}

// expandCollectors replaces the names of collectors by those of their streams that have
// a last-known snapshot. It returns an error for a name that is neither a collector nor
// a stream, and for a collector without such streams.
func (a *assembly) expandCollectors(ctx context.Context, names []string) (streams []string, err error) {
	known, err := a.state.Streams(ctx)
	if err != nil {
		return nil, err
	}
	add := func(name string) {
		if !slices.Contains(streams, name) {
			streams = append(streams, name)
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(a.sections, func(s *config.Section) bool { return s.Name == name })
		if i < 0 {
			if err := a.requireStream(name); err != nil {
				return nil, err
			}
			add(name)
			continue
		}
		before := len(streams)
		for _, s := range known {
			if s.Collector == name && s.Tenancy == a.settings.Tenancy && !s.Taken.IsZero() {
				add(s.Stream)
			}
		}
		if len(streams) == before {
			return nil, usageError(fmt.Errorf("no stream of %s has a last-known snapshot; its streams are %s", name, streamNames(a.sections[i])))
		}
	}
	return streams, nil
}

// requireStream returns an error for a name that is no stream.
func (c *configuration) requireStream(name string) error {
	if c.collectorOf(name) != "" {
		return nil
	}
	for _, s := range c.sections {
		if s.Name == name {
			return usageError(fmt.Errorf("%q is a collector: want a stream of it: %s", name, streamNames(s)))
		}
	}
	return usageError(fmt.Errorf("%q is not a stream%s; `collectord list` shows them", name, c.suggestSource(name)))
}

// streamNames returns the names of the streams of a collector as a list.
func streamNames(section *config.Section) string {
	var names []string
	for _, s := range section.Streams {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// printDelivered prints a row for each stream with a column for each destination, and
// the errors below it.
func (a *assembly) printDelivered(queued []operation.Redelivery, names []string, status deliveryStatus) {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "STREAM\tDATA OF\tRECORDS\t%s\n", strings.ToUpper(strings.Join(names, "\t")))
	var problems []string
	for _, s := range queued {
		cells := []string{s.Stream, formatTime(s.Taken), fmt.Sprint(s.Records)}
		for _, sink := range names {
			d := status(s.UploadID, s.Stream, sink)
			label := d.Label()
			if s.UploadID == "" {
				label = "empty"
			}
			cells = append(cells, label)
			if d.Err != nil {
				problems = append(problems, fmt.Sprintf("%s to %s: %v", s.Stream, sink, d.Err))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // nothing can report that standard output is closed
	for _, text := range problems {
		fmt.Fprintln(a.stdout, text)
	}
}

// registerDestinations records the destinations in the state, queues the last-known
// snapshots for those that are new or have another target, and ends older deliveries
// that a newer snapshot replaces.
func (a *assembly) registerDestinations(ctx context.Context, configured []store.Sink) {
	targets := map[string]string{}
	for _, s := range configured {
		targets[s.Name()] = store.TargetOf(s)
	}
	policy := a.policy(configured)
	changes, err := a.state.Queue.RegisterSinks(ctx, a.settings.Tenancy, targets, policy)
	if err != nil {
		a.log.Error("the destinations could not be recorded; new ones receive the next snapshots", zap.Error(err))
	}
	for _, c := range changes {
		log := a.log.With(zap.String("sink", c.Sink), zap.String("target", targets[c.Sink]), zap.Int("queued", c.Queued))
		if c.Before != "" {
			log.Warn("the destination has another target; it receives the last-known snapshots, and what was queued for the earlier one",
				zap.String("earlier_target", c.Before))
		} else if c.Queued > 0 {
			log.Info("the destination is new; it receives the last-known snapshots")
		}
	}
	if err := a.state.Queue.SupersedeAll(ctx, a.settings.Tenancy, policy); err != nil {
		a.log.Error("reading the queue", zap.Error(err))
	}
	if !a.hasTenancies() {
		a.warnOfOtherTenancies(ctx)
	}
}

// warnOfOtherTenancies logs the queued deliveries of tenancies that are none of the settings.
func (a *assembly) warnOfOtherTenancies(ctx context.Context) {
	queue, err := a.state.Queue.List(ctx)
	if err != nil {
		a.log.Error("reading the queue", zap.Error(err))
		return
	}
	advice, known := "use a STATE_DIR for each TENANCY", []string{a.settings.Tenancy}
	if a.hasTenancies() {
		advice, known = "give it a file in TENANCIES_DIR, or delete its data with collectord tenancy forget", a.tenancyNames()
	}
	counts := map[string]int{}
	for _, d := range queue {
		if !slices.Contains(known, d.Tenancy) {
			counts[d.Tenancy]++
		}
	}
	for tenancy, n := range counts {
		a.log.Warn("the state directory has queued snapshots of another tenancy, which are not delivered by this process: "+advice,
			zap.String("other_tenancy", tenancy), zap.Int("deliveries", n))
	}
}
