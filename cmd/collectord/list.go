package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the collectors, their streams, and what switches them on", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.load(); err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "COLLECTOR\tSTATE\tSTREAMS\tWHY")
			for i, s := range a.sources {
				state, why := stateOf(a.sections[i])
				for n, stream := range s.Streams {
					if n == 0 {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, state, stream.Name, why)
					} else {
						fmt.Fprintf(w, "\t\t%s\t\n", stream.Name)
					}
				}
			}
			return w.Flush()
		},
	}
}

// stateOf says whether a collector is on, and why not.
func stateOf(s *config.Section) (state, why string) {
	switch {
	case s.Active:
		return "on", ""
	case len(s.Missing) > 0:
		return "off", "set " + strings.Join(s.Missing, " and ")
	}
	return "off", "COLLECTORS does not name it"
}

// none is the error of a program that has nothing to do.
func none(all []collector.Source, sections []*config.Section) error {
	var b strings.Builder
	b.WriteString("no collector is switched on; one is, when its variables are set in the environment or in .env:")
	for i, s := range all {
		_, why := stateOf(sections[i])
		fmt.Fprintf(&b, "\n  %-12s %s", s.Name, why)
	}
	return &exitError{exitSettings, fmt.Errorf("%s", b.String())}
}
