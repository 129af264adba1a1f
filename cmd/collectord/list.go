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
			s, err := p.choose()
			if err != nil {
				return err
			}
			return s.report(asJSON, common{}, func(a *assembly) (any, error) { return s.listCollectors(a, asJSON) })
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// listCollectors prints the collectors of a tenancy, or returns the document about them. There is none of
// a single tenancy whose settings cannot be used.
func (s *selection) listCollectors(a *assembly, asJSON bool) (view any, err error) {
	switch {
	case asJSON && (s.several || a.problem == nil):
		return a.newListView(), a.problem
	case a.problem != nil:
		return nil, a.problem
	}
	return nil, a.printCollectors()
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
