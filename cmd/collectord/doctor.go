package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

func doctorCommand(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out what keeps collectord from working, and what to do about it", Args: noArgs,
		Long: `doctor examines the settings, the machine (clock, disk, memory, limits), the state
directory, the network path to each vendor and destination (name, proxy, connection,
TLS), their response to the credentials, the records in Postgres, and the age of the
data. It collects, stores and changes nothing, and may run beside the service.

Exit codes: 0 no check failed; 3 a check failed; 78 the settings are wrong.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), p, asJSON) },
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func runDoctor(ctx context.Context, p *program, asJSON bool) error {
	findings, usable, err := examine(ctx, p, asJSON)
	if err != nil {
		return err
	}
	if !usable {
		return &exitError{exitSettings, errReported}
	}
	if n := doctor.Count(findings, doctor.Failed); n > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %d checks failed", n, len(findings))}
	}
	return nil
}

// examine runs all checks that the settings allow, and prints the findings. usable
// reports whether the settings can be used.
func examine(ctx context.Context, p *program, asJSON bool) (findings []doctor.Finding, usable bool, err error) {
	c, loadErr := readConfiguration(p.from)
	if loadErr == nil {
		loadErr = c.exportVariables(nil)
	}
	var names []string
	on, _ := c.active()
	for _, d := range on {
		names = append(names, d.Name)
	}
	warnings := c.warnings
	if loadErr == nil {
		for _, caution := range c.cautions() {
			warnings = append(warnings, caution.Text)
		}
	}
	findings = doctor.Settings(loadErr, warnings, names)
	findings = append(findings, doctor.Machine(c.machineChecks(loadErr == nil))...)
	if loadErr != nil {
		return findings, false, printFindings(p.stdout, findings, asJSON)
	}
	a := &assembly{configuration: c, output: newOutput(p.stdout, p.stderr, c)}
	if len(on) > 0 {
		var more []doctor.Finding
		more, usable = a.examineParts(ctx)
		findings = append(findings, more...)
	}
	return findings, usable, printFindings(a.stdout, findings, asJSON)
}

func printFindings(w io.Writer, findings []doctor.Finding, asJSON bool) error {
	if !asJSON {
		return doctor.Print(w, findings)
	}
	view := doctorView{Version: version, Findings: []findingView{}}
	for _, f := range findings {
		view.Findings = append(view.Findings, findingView{f.Group, f.Check, string(f.Result), f.Text, orNull(f.Advice)})
	}
	return writeJSON(w, view)
}

// A doctorView is the document of doctor --json.
type doctorView struct {
	Version  string        `json:"version"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Group  string  `json:"group"`
	Check  string  `json:"check"`
	Result string  `json:"result"`
	Text   string  `json:"text"`
	Advice *string `json:"advice"`
}

// examineParts runs the checks that need destinations, state and collectors. Some
// errors of the settings appear only when those are opened: usable reports that
// there is none.
func (a *assembly) examineParts(ctx context.Context) (findings []doctor.Finding, usable bool) {
	parts, err := a.openReceivers()
	if err != nil {
		findings = doctor.RefusedSettings(err)
		return append(findings, doctor.State(ctx, a.stateChecks(nil, true))...), false
	}
	defer a.closeDestinations(parts.sinks)
	findings = doctor.State(ctx, a.stateChecks(parts.sinks, false))
	probes, err := a.newProbes(parts.sinks, true)
	if err != nil {
		return append(findings, doctor.RefusedSettings(err)...), false
	}
	return append(findings, doctor.Network(ctx, probes)...), true
}

// machineChecks returns what doctor examines of the machine; loaded reports
// whether the settings were loaded, without which no directory is known.
func (c *configuration) machineChecks(loaded bool) doctor.MachineChecks {
	s := c.settings.Store
	checks := doctor.MachineChecks{DuckDBMemory: int64(s.DuckDBMemory)}
	if !loaded {
		return checks
	}
	checks.StateDir, checks.SpoolMax = c.settings.StateDir, int64(s.SpoolMax)
	for _, destination := range s.Destinations {
		local, ok := destination.Into.(store.LocalSettings)
		if !ok {
			continue
		}
		if setting, dir := local.LocalDir(); dir != "" {
			checks.Outputs = append(checks.Outputs, doctor.OutputDirectory{Setting: setting, Dir: dir})
		}
	}
	return checks
}

// stateChecks returns what doctor examines of the state. sinksUnknown reports
// that sinks lacks destinations of the settings.
func (a *assembly) stateChecks(sinks []store.Sink, sinksUnknown bool) doctor.StateChecks {
	return doctor.StateChecks{
		Dir: a.settings.StateDir, Open: a.openForReading, Tenancy: a.settings.Tenancy, Listen: a.settings.HTTP.Listen, WebConfig: a.settings.HTTP.ConfigFile != "",
		Streams: a.streamData, Sinks: sinkNames(sinks), SinksUnknown: sinksUnknown,
	}
}

// streamData returns what doctor reports of the streams in the state.
func (a *assembly) streamData(known []state.StreamStatus) []doctor.StreamData {
	var data []doctor.StreamData
	for _, s := range freshness.Evaluate(known, a.planned(time.Time{}), a.settings.Tenancy, time.Now()) {
		if s.HasResults() {
			s.WhyOff = "" // its failures count
		}
		data = append(data, doctor.StreamData{
			Stream: s.Stream, Records: s.Records, Known: s.AsOf, LastFailure: s.LastFailure, FailureErr: s.FailureErr,
			Held: s.Held, Late: s.Freshness == freshness.Late, WhyOff: s.WhyOff,
		})
	}
	return data
}
