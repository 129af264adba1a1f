package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func listCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the collectors, their streams, and what switches them on", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return p.forEachTenancy(!asJSON, func(p *program) error { return runList(p, asJSON) })
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func runList(p *program, asJSON bool) error {
	a, err := p.load()
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, a.newListView())
	}
	return a.printCollectors()
}

// printCollectors prints a row for each stream of each collector.
func (a *assembly) printCollectors() error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COLLECTOR\tSTATE\tSTREAMS\tWHY")
	for _, section := range a.sections {
		name := section.Name
		for _, stream := range section.Streams {
			state, why := sectionState(section)
			switch {
			case section.Active && stream.Off != "":
				state, why = "off", stream.Off
			case name == "": // the row of the first stream says why the collector is off
				why = ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, state, stream.Name, why)
			name = ""
		}
	}
	return w.Flush()
}
