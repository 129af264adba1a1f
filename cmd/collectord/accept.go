package main

import (
	"context"

	"github.com/spf13/cobra"
)

func acceptCommand(p *program) *cobra.Command {
	return &cobra.Command{
		ValidArgsFunction: completeOne(completeNames(p, false)),
		Use:               "accept STREAM", Short: "Release a snapshot that was held for having far fewer records than the last",
		Args: oneArg("one stream, such as tenable_assets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.withState(cmd.Context(), func(a *assembly) error {
				if err := a.requireStream(args[0]); err != nil {
					return err
				}
				return a.acceptHeld(cmd.Context(), args[0])
			})
		},
	}
}

// acceptHeld makes the held snapshot of a stream the last-known one and delivers it.
func (a *assembly) acceptHeld(ctx context.Context, stream string) error {
	sinks, err := a.openDestinations()
	if err != nil {
		return err
	}
	defer a.closeDestinations(sinks)
	if _, err := a.newOperator(sinks).Accept(ctx, stream); err != nil {
		return operationError(err)
	}
	undelivered, err := a.deliverDuring(ctx, a.newDeliverer(sinks), func() {})
	if err != nil {
		return err
	}
	return runError(ctx, nil, undelivered)
}
