// Package doctor looks at what collectord needs of its surroundings, and tells
// in plain words what is wrong with them. It changes nothing.
package doctor

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A Result says how a check ended.
type Result string

// The results. A warning is what will become a failure, or may be one.
const (
	OK      Result = "ok"
	Warning Result = "warning"
	Failed  Result = "failed"
)

// A Finding is what one check found out.
type Finding struct {
	// Group is the heading that it stands under, such as "machine".
	Group string `json:"group"`
	// Check names what was looked at, such as "clock".
	Check  string `json:"check"`
	Result Result `json:"result"`
	// Text says what there is.
	Text string `json:"text"`
	// Advice says what to do; "" where nothing is to be done.
	Advice string `json:"advice,omitempty"`
}

// Print writes the findings for a person, group by group in their order.
func Print(w io.Writer, findings []Finding) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, f := range findings {
		if f.Group != group {
			group = f.Group
			fmt.Fprintln(out, group)
		}
		word := string(f.Result)
		if f.Result == Failed {
			word = "FAILED"
		}
		fmt.Fprintf(out, "  %s\t%s\t%s\n", word, f.Check, f.Text)
		if f.Advice != "" {
			fmt.Fprintf(out, "  \t\t-> %s\n", f.Advice)
		}
	}
	return out.Flush()
}

// Count returns how many of the findings have the result.
func Count(findings []Finding, result Result) int {
	n := 0
	for _, f := range findings {
		if f.Result == result {
			n++
		}
	}
	return n
}
