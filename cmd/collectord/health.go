package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/doctor"
)

func healthCommand(p *program) *cobra.Command {
	var ready bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "health", Short: "Ask the running service whether it is healthy, for the health check of a container", Args: noArgs,
		Long: `health asks the service that listens on HTTP_LISTEN of this machine whether the loop
that starts runs makes progress, prints one line, and ends with 0 or 1. It needs neither
HTTP_TOKEN nor a password. A failing vendor or destination does not make the service
unhealthy, since a restart repairs neither.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError(fmt.Errorf("--timeout is %v: want more than 0", timeout))
			}
			if err := p.refuseTenancyFlag("health is that of the service"); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return runHealth(ctx, p, ready)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it is ready: the state is open, and the restore has finished")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "the time limit")
	return cmd
}

func runHealth(ctx context.Context, p *program, ready bool) error {
	// Only the address counts: the service goes on with its settings when these are
	// invalid now.
	c, err := readConfiguration(p.from)
	if c.settings.HTTP.Listen == "" && err != nil {
		return &exitError{exitFailed, err}
	}
	path, word := "/-/healthy", "healthy"
	if ready {
		path, word = "/-/ready", "ready"
	}
	r, err := doctor.AskService(ctx, c.settings.HTTP.Listen, c.settings.HTTP.ConfigFile != "", path)
	switch {
	case errors.Is(err, doctor.ErrServiceOff):
		return errors.New("HTTP_LISTEN is off, so that the service cannot be asked: set it, such as to 127.0.0.1:19610, or remove the health check")
	case errors.Is(err, doctor.ErrNoPort):
		return errors.New("HTTP_LISTEN has the port 0, so that the service has another one at each start: set a port, such as 127.0.0.1:19610")
	case err != nil:
		return fmt.Errorf("not %s: no service responds at %s (HTTP_LISTEN): %w", word, c.settings.HTTP.Listen, err)
	case r.NeedsPassword():
		_, err = fmt.Fprintf(p.stdout, "the service at %s responds, and asks for a password\n", r.URL)
		return err
	case r.Status != http.StatusOK:
		return fmt.Errorf("not %s: %s: %s", word, r.URL, describeResponse(r))
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s\n", word, r.URL)
	return err
}

// describeResponse returns the error in a response of the API.
func describeResponse(r doctor.ServiceResponse) string {
	var view struct{ Error string }
	if json.Unmarshal([]byte(r.Text), &view) == nil && view.Error != "" {
		return view.Error
	}
	return fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status))
}
