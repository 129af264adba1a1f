package main

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/store/sinks"
)

func dropCommand(p *program) *cobra.Command {
	return &cobra.Command{
		ValidArgsFunction: completeDrop(p),
		Use:               "drop DESTINATION [STREAM]", Short: "Give up snapshots that are queued for a destination",
		Long: `drop gives up what is queued for a destination that the settings no longer have.

With a stream it gives up only the first queued snapshot of that stream, which the
later ones wait for, also for a destination of the settings. The destination never
receives that snapshot.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usageError(fmt.Errorf("drop takes a destination, such as postgres, and optionally a stream, got %q", args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withState(cmd.Context(), func(a *assembly) error {
				if len(args) == 2 {
					return a.dropFirst(cmd.Context(), args[0], args[1])
				}
				return a.dropAll(cmd.Context(), args[0])
			})
		},
	}
}

// completeDrop offers destinations and then streams.
func completeDrop(p *program) completer {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return completeWords(sinks.Names()...)(cmd, args, prefix)
		case 1:
			return completeNames(p, false)(cmd, args, prefix)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// dropAll drops the deliveries that are queued for a destination that is not configured.
func (a *assembly) dropAll(ctx context.Context, destination string) error {
	configured, err := a.openDestinations()
	if err != nil {
		return err
	}
	defer a.closeDestinations(configured)
	n, err := a.newOperator(configured).DropAll(ctx, destination)
	if err != nil {
		return operationError(err)
	}
	_, err = fmt.Fprintf(a.stdout, "deliveries dropped: %d\n", n)
	return err
}

// dropFirst drops the first queued delivery of a stream to a destination.
func (a *assembly) dropFirst(ctx context.Context, destination, stream string) error {
	d, err := a.newOperator(nil).DropFirst(ctx, destination, stream, "")
	if err != nil {
		return operationError(err)
	}
	_, err = fmt.Fprintf(a.stdout, "dropped: %s of %s with %s; still queued for %s: %d\n",
		stream, formatTime(d.Taken), english.Plural(int(d.Records), "record", ""), destination, d.Left)
	return err
}
