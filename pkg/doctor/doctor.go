// Package doctor examines the settings, the machine, the state directory and the
// network for what keeps collectord from working, and says what to do about it.
// It changes nothing. It knows no collector and no destination: the caller
// passes what to examine as plain values.
package doctor

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// A Result is the result of a check.
type Result string

// The results. A warning is a failure to come, or a possible one.
const (
	OK      Result = "ok"
	Warning Result = "warning"
	Failed  Result = "failed"
)

// A Finding is the result of one check with its explanation.
type Finding struct {
	// Group is the heading of the finding, such as "machine".
	Group string
	// Check names what was examined, such as "memory".
	Check  string
	Result Result
	// Text describes what was found.
	Text string
	// Advice says what to do; "" if nothing is to be done.
	Advice string
}

// failed returns the finding as a failure with the text.
func (f Finding) failed(format string, args ...any) Finding {
	f.Result, f.Text = Failed, fmt.Sprintf(format, args...)
	return f
}

// withAdvice returns the finding with the advice.
func (f Finding) withAdvice(format string, args ...any) Finding {
	f.Advice = fmt.Sprintf(format, args...)
	return f
}

// Print writes the findings as text, with a heading for each group.
func Print(w io.Writer, findings []Finding) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, f := range findings {
		if f.Group != group {
			group = f.Group
			fmt.Fprintln(out, group)
		}
		label := string(f.Result)
		if f.Result == Failed {
			label = "FAILED"
		}
		fmt.Fprintf(out, "  %s\t%s\t%s\n", label, f.Check, f.Text)
		if f.Advice != "" {
			fmt.Fprintf(out, "  \t\t-> %s\n", f.Advice)
		}
	}
	return out.Flush()
}

// Count returns the number of findings with the result.
func Count(findings []Finding, result Result) int {
	n := 0
	for _, f := range findings {
		if f.Result == result {
			n++
		}
	}
	return n
}
