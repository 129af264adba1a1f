package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	if c, err := p.read(); err != nil {
		findings := append(doctor.Settings(err, nil, nil), doctor.Machine(c.machineChecks(false))...)
		return errors.Join(printFindings(p.stdout, c.settings.Tenancy, findings, asJSON), &exitError{exitSettings, errReported})
	}
	s, err := p.choose()
	if err != nil {
		return err
	}
	all := map[*assembly]*examination{}
	for _, a := range s.chosen {
		all[a] = a.examineSettings()
		defer all[a].closeParts()
	}
	program := doctor.Machine(s.base.machineChecks(true))
	if s.several || all[s.chosen[0]].loaded {
		program = append(program, s.examineState(ctx, all)...)
	}
	shared, err := s.examineShared(program, asJSON)
	if err != nil {
		return err
	}
	return s.report(asJSON, shared, func(a *assembly) (any, error) {
		e := all[a]
		if !s.several {
			e.ofSettings = append(e.ofSettings, program...)
		}
		network := e.examineNetwork(ctx)
		findings := slices.Concat(e.ofSettings, e.ofData, network)
		if !asJSON {
			return nil, errors.Join(doctor.Print(a.stdout, findings), e.failure(findings))
		}
		return newDoctorView(a.settings.Tenancy, findings), e.failure(findings)
	})
}

// examineState examines the state, and what it has of the tenancies.
func (s *selection) examineState(ctx context.Context, all map[*assembly]*examination) []doctor.Finding {
	return doctor.State(ctx, s.base.stateChecks(func(ctx context.Context, st *state.State) error {
		for _, a := range s.chosen {
			if err := all[a].examineData(ctx, st); err != nil {
				return err
			}
		}
		return nil
	}))
}

// examineShared returns what several tenancies share, with the findings about the program, and
// prints it unless it is for a document. For a single tenancy it returns nothing.
func (s *selection) examineShared(program []doctor.Finding, asJSON bool) (shared common, err error) {
	if !s.several {
		return common{}, nil
	}
	shared.err, shared.warnings = s.base.checkTokens(), slices.Concat(s.base.warnings, s.base.systemd)
	shared.findings = append(doctor.SharedSettings(shared.err, shared.warnings), program...)
	if n := doctor.Count(shared.findings, doctor.Failed); n > 0 && shared.err == nil {
		shared.err = &exitError{exitPartial, fmt.Errorf("%d of %d checks of the program failed", n, len(shared.findings))}
	}
	if asJSON {
		return shared, nil
	}
	err = doctor.Print(s.base.stdout, shared.findings)
	fmt.Fprintln(s.base.stdout)
	return shared, err
}

// An examination is what doctor finds about a tenancy.
type examination struct {
	*assembly
	loaded     bool             // whether the settings were loaded and switch something on
	parts      *parts           // nil when they cannot be opened
	usable     bool             // whether the settings can be used
	ofSettings []doctor.Finding // and of the program for a single tenancy
	ofData     []doctor.Finding
}

// examineSettings examines the settings. Some of their errors appear only when destinations and
// collectors are opened.
func (a *assembly) examineSettings() *examination {
	var names []string
	on, _ := a.active()
	for _, d := range on {
		names = append(names, d.Name)
	}
	warnings := slices.Clone(a.warnings)
	if a.problem == nil {
		for _, caution := range a.cautions() {
			warnings = append(warnings, caution.Text)
		}
	}
	e := &examination{assembly: a, ofSettings: doctor.Settings(a.problem, warnings, names)}
	if e.loaded = a.problem == nil && len(on) > 0; !e.loaded {
		return e
	}
	parts, err := a.openReceivers()
	if err != nil {
		e.ofSettings = append(e.ofSettings, doctor.RefusedSettings(err)...)
		return e
	}
	e.parts, e.usable = parts, true
	return e
}

func (e *examination) closeParts() {
	if e.parts != nil {
		e.closeDestinations(e.parts.sinks)
	}
}

// examineData examines what the state has of the tenancy.
func (e *examination) examineData(ctx context.Context, st *state.State) (err error) {
	if !e.loaded {
		return nil
	}
	checks := doctor.DataChecks{Tenancy: e.settings.Tenancy, Others: e.hasTenancies(), Streams: e.streamData, SinksUnknown: e.parts == nil}
	if e.parts != nil {
		checks.Sinks = sinkNames(e.parts.sinks)
	}
	e.ofData, err = doctor.Data(ctx, st, checks)
	return err
}

// examineNetwork examines the vendors and destinations.
func (e *examination) examineNetwork(ctx context.Context) []doctor.Finding {
	if e.parts == nil {
		return nil
	}
	probes, err := e.newProbes(e.parts.sinks, true)
	if err != nil {
		e.usable = false
		return doctor.RefusedSettings(err)
	}
	return doctor.Network(ctx, probes)
}

// failure returns the error that gives the exit code.
func (e *examination) failure(findings []doctor.Finding) error {
	if !e.usable {
		return &exitError{exitSettings, errReported}
	}
	if n := doctor.Count(findings, doctor.Failed); n > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %d checks failed", n, len(findings))}
	}
	return nil
}

func printFindings(w io.Writer, tenancy string, findings []doctor.Finding, asJSON bool) error {
	if !asJSON {
		return doctor.Print(w, findings)
	}
	return writeJSON(w, newDoctorView(tenancy, findings))
}

func newDoctorView(tenancy string, findings []doctor.Finding) doctorView {
	return doctorView{Version: version, Tenancy: tenancy, Findings: findingViews(findings)}
}

func findingViews(findings []doctor.Finding) []findingView {
	views := []findingView{}
	for _, f := range findings {
		views = append(views, findingView{f.Group, f.Check, string(f.Result), f.Text, orNull(f.Advice)})
	}
	return views
}

// A doctorView is the document of doctor --json.
type doctorView struct {
	Version  string        `json:"version"`
	Tenancy  string        `json:"tenancy"`
	Findings []findingView `json:"findings"`
}

type findingView struct {
	Group  string  `json:"group"`
	Check  string  `json:"check"`
	Result string  `json:"result"`
	Text   string  `json:"text"`
	Advice *string `json:"advice"`
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

// stateChecks returns what doctor examines of the state besides its data, which examine does.
func (a *assembly) stateChecks(examine func(context.Context, *state.State) error) doctor.StateChecks {
	return doctor.StateChecks{
		Dir: a.settings.StateDir, Open: a.openForReading, Listen: a.settings.HTTP.Listen, WebConfig: a.settings.HTTP.ConfigFile != "", Examine: examine,
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
