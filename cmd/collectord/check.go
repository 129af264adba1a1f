package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize/english"
	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
	"github.com/collectord/collectord/pkg/web"
)

func checkCommand(p *program) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use: "check", Short: "Check the settings; with --connect also try credentials, permissions and destinations", Args: noArgs,
		Long: `check reads the settings as a run would and reports everything that is wrong with
them. With --connect it also asks each vendor whether the credentials are accepted and
may read each stream that is on, each destination whether it can be written to, and
whether STATE_DIR can be; it collects and stores nothing.

Warnings, such as misspelled names, do not keep a run from starting, and check ends
with 0; with --strict they are errors.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := p.runCheck(cmd.Context(), f)
			var refused *refusedSettingsError
			if f.json && errors.As(err, &refused) {
				if err := writeJSON(p.stdout, newRefusedView("", refused.err)); err != nil {
					return err
				}
				return &exitError{exitSettings, errReported}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&f.strict, "strict", false, "end with 78 when there are warnings")
	cmd.Flags().BoolVar(&f.connect, "connect", false, "try credentials, permissions and destinations")
	addJSONFlag(cmd, &f.json)
	return cmd
}

// checkTokens returns what is wrong with HTTP_TOKENS_FILE.
func (c *configuration) checkTokens() error {
	if c.settings.HTTP.TokensFile == "" {
		return nil
	}
	if _, _, err := c.readTokens(); err != nil {
		return &exitError{exitSettings, err}
	}
	return nil
}

// checkFlags are the flags of check.
type checkFlags struct{ connect, strict, json bool }

// A refusedSettingsError is the error of settings that cannot be used.
type refusedSettingsError struct{ err error }

func (e *refusedSettingsError) Error() string { return e.err.Error() }

func (e *refusedSettingsError) Unwrap() error { return e.err }

// A checkReport is what the command check shows besides the settings.
type checkReport struct {
	warnings      []string // about the settings
	cautions      []string // about valid settings that may not be what a person wants
	destinations  []string // the names of those that are on
	notifications []string
	probes        []*doctor.Probe // nil without --connect
}

// runCheck checks the tenancies that the command is for. The error is a refusedSettingsError
// when settings cannot be used and no document says so.
func (p *program) runCheck(ctx context.Context, f checkFlags) error {
	s, err := p.choose()
	if err != nil {
		return &refusedSettingsError{err}
	}
	shared := common{err: s.base.checkTokens()}
	if !s.several {
		if err := errors.Join(s.chosen[0].problem, shared.err); err != nil {
			return &refusedSettingsError{err}
		}
		return s.report(f.json, common{}, func(a *assembly) (any, error) { return a.checkTenancy(ctx, f, a.printSettings) })
	}
	shared.warnings = slices.Concat(s.base.warnings, s.base.systemd)
	if f.strict && len(shared.warnings) > 0 {
		shared.err = errors.Join(shared.err, errWarnings)
	}
	var doubtful atomic.Int64
	err = s.report(f.json, shared, func(a *assembly) (any, error) {
		return a.checkOne(ctx, f, &doubtful)
	})
	if !f.json {
		s.printCheckSummary(shared, int(doubtful.Load()))
	}
	return err
}

// checkOne is checkTenancy for one of several tenancies. It adds one to doubtful if there are warnings.
func (a *assembly) checkOne(ctx context.Context, f checkFlags, doubtful *atomic.Int64) (view any, err error) {
	view, err = a.checkTenancy(ctx, f, func(c *checkReport, now time.Time) {
		if len(c.warnings)+len(c.cautions) > 0 {
			doubtful.Add(1)
		}
		a.printOwnSettings(c, now)
		a.printCautions(c)
	})
	refused := (*refusedSettingsError)(nil)
	if !errors.As(err, &refused) {
		return view, err
	}
	a.problem = refused.err
	if f.json {
		return newRefusedView(a.settings.Tenancy, refused.err), &exitError{exitSettings, errReported}
	}
	a.printRefusal(refused.err)
	return nil, &exitError{exitSettings, errors.New("its settings cannot be used: standard output says why")}
}

// errWarnings is the error of check --strict when there are warnings.
var errWarnings = &exitError{exitSettings, errors.New("there are warnings")}

// checkTenancy checks the settings of a tenancy, and prints them with print and the results of
// probes, or returns the document about them. The error is a refusedSettingsError when they
// cannot be used.
func (a *assembly) checkTenancy(ctx context.Context, f checkFlags, print func(*checkReport, time.Time)) (view any, err error) {
	err = a.problem
	if err == nil {
		err = errors.Join(a.requireActive(), a.checkControls(), a.checkRegister())
	}
	if err != nil {
		return nil, &refusedSettingsError{err}
	}
	parts, err := a.openReceivers()
	if err != nil {
		return nil, &refusedSettingsError{err}
	}
	defer a.closeDestinations(parts.sinks)
	if err := web.CheckQueries(ctx, a.settings.HTTP.Queries); err != nil {
		return nil, &refusedSettingsError{&exitError{exitSettings, err}}
	}
	report := a.newCheckReport(parts)
	if f.connect {
		if report.probes, err = a.probeEverything(ctx, parts.sinks); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	if f.json {
		view = a.newCheckView(report, now)
	} else {
		print(report, now)
		a.printProbes(report.probes)
	}
	err = report.failure()
	if f.strict && len(report.warnings) > 0 {
		return view, errors.Join(errWarnings, err)
	}
	return view, err
}

func (a *assembly) newCheckReport(p *parts) *checkReport {
	c := &checkReport{warnings: slices.Concat(a.warnings, a.systemd, a.controlProblems()), destinations: sinkNames(p.sinks)}
	for _, caution := range a.cautions() {
		c.cautions = append(c.cautions, caution.Text)
	}
	if len(p.sinks) == 0 {
		c.cautions = append(c.cautions, noDestination+": snapshots stay in the state directory only")
	}
	for _, t := range p.targets {
		c.notifications = append(c.notifications, t.String())
	}
	return c
}

// ran returns the probes that ran, with those of streams.
func (c *checkReport) ran() (all []*doctor.Probe) {
	for _, p := range c.probes {
		all = append(all, p.Ran()...)
	}
	return all
}

// failure returns the error that gives the exit code.
func (c *checkReport) failure() error {
	failed, all := 0, c.ran()
	for _, p := range all {
		if p.Err != nil {
			failed++
		}
	}
	if failed > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %s failed", failed, english.Plural(len(all), "check", ""))}
	}
	return nil
}

// printSettings prints what the settings of the only tenancy, or of a chosen one, switch on.
func (a *assembly) printSettings(c *checkReport, now time.Time) {
	a.printOwnSettings(c, now)
	a.printSharedSettings()
	a.printCautions(c)
}

// printRefusal prints why settings cannot be used.
func (a *assembly) printRefusal(err error) {
	fmt.Fprintln(a.stdout, "settings cannot be used")
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(a.stdout, "  error        %s\n", strings.TrimRight(line, "\n"))
	}
}

// printOwnSettings prints what the settings of a tenancy switch on.
func (a *assembly) printOwnSettings(c *checkReport, now time.Time) {
	if len(c.warnings) == 0 {
		fmt.Fprintln(a.stdout, "settings are good")
	} else {
		fmt.Fprintln(a.stdout, "settings can be used, with warnings")
	}
	for _, w := range c.warnings {
		fmt.Fprintf(a.stdout, "  warning      %s\n", w)
	}
	for _, section := range a.sections {
		if !section.Active {
			continue
		}
		fmt.Fprintf(a.stdout, "  collector    %s (%s)\n", section.Name, countStreams(section))
		for _, stream := range section.Streams {
			fmt.Fprintf(a.stdout, "  stream       %-*s %s\n", longestName(section.Streams), stream.Name, a.describeStream(stream, now))
		}
	}
	for _, name := range c.destinations {
		fmt.Fprintf(a.stdout, "  destination  %s\n", name)
	}
	if sinks.IsBackupOff(a.settings.Store) {
		fmt.Fprintf(a.stdout, "  destination  %s: off (%s)\n", backup.Name, backup.Setting)
	}
	for _, t := range c.notifications {
		fmt.Fprintf(a.stdout, "  notification %s\n", t)
	}
}

// printSharedSettings prints what tenancies share.
func (a *assembly) printSharedSettings() {
	for _, v := range a.libraries {
		fmt.Fprintf(a.stdout, "  library      %s (%s)\n", v.Name, v.Origin)
	}
	fmt.Fprintf(a.stdout, "  state        %s\n", a.statePlace())
}

func (a *assembly) printCautions(c *checkReport) {
	for _, text := range c.cautions {
		fmt.Fprintf(a.stdout, "  warning      %s\n", text)
	}
}

// printCheckSummary prints what several tenancies share and how many of them can be used.
// doubtful is the number of those that have warnings.
func (s *selection) printCheckSummary(shared common, doubtful int) {
	fmt.Fprintf(s.base.stdout, "\n# all tenancies\n")
	unusable := s.unusable()
	fmt.Fprintf(s.base.stdout, "%s: %d good, %d with warnings, %d unusable\n", english.Plural(len(s.chosen), "tenancy", "tenancies"),
		len(s.chosen)-len(unusable)-doubtful, doubtful, len(unusable))
	for _, name := range unusable {
		fmt.Fprintf(s.base.stdout, "  unusable     %s\n", name)
	}
	for _, text := range errorTexts(shared.err) {
		fmt.Fprintf(s.base.stdout, "  error        %s\n", text)
	}
	for _, text := range shared.warnings {
		fmt.Fprintf(s.base.stdout, "  warning      %s\n", text)
	}
	s.base.printSharedSettings()
}

// longestName returns the length of the longest name.
func longestName(streams []config.Stream) (longest int) {
	for _, s := range streams {
		longest = max(longest, len(s.Name))
	}
	return longest
}

// countStreams returns how many streams of a collector are on, such as "4 streams"
// or "3 of 4 streams".
func countStreams(s *config.Section) string {
	on := 0
	for _, stream := range s.Streams {
		if stream.Off == "" {
			on++
		}
	}
	if on < len(s.Streams) {
		return fmt.Sprintf("%d of %s", on, english.Plural(len(s.Streams), "stream", ""))
	}
	return english.Plural(on, "stream", "")
}

// describeStream returns the schedule of a stream of an active collector, or why it
// is off.
func (a *assembly) describeStream(stream config.Stream, now time.Time) string {
	if stream.Off != "" {
		return "off: " + stream.Off
	}
	next := a.nextRun(stream.Name, now)
	if next.IsZero() {
		return "no schedule"
	}
	return fmt.Sprintf("%s %s%s, next %s", a.calendarOf(stream.Name), a.settings.Schedule.Zone, a.describeJitter(stream.Name),
		next.Format("2006-01-02 15:04:05 MST"))
}

// describeJitter returns the delay of a stream's ticks after its schedule.
func (a *assembly) describeJitter(stream string) string {
	name := a.collectorOf(stream)
	longest := a.longestJitterOf(name)
	if longest == 0 {
		return ""
	}
	if delay := a.jitterOf(name); delay > 0 {
		return " and " + shortenDuration(delay.Round(time.Second)) + " later"
	}
	return " and up to " + shortenDuration(longest) + " later"
}

// shortenDuration returns a duration without the units of which there are none at its end,
// such as 1h in place of 1h0m0s.
func shortenDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// checkTimeout bounds the check of one vendor, stream or destination.
const checkTimeout = 30 * time.Second

// newProbes returns the probes of the active collectors and their streams, and of the
// destinations. withRecords lets the probes of destinations examine the stored records.
func (a *assembly) newProbes(sinks []store.Sink, withRecords bool) ([]*doctor.Probe, error) {
	jobs, err := a.openCollectors(nil)
	if err != nil {
		return nil, err
	}
	var probes []*doctor.Probe
	for _, j := range jobs {
		p := &doctor.Probe{
			Kind: doctor.KindCollector, Name: j.Collector.Name, IsPublic: a.isPublic(j.Collector.Name), Check: checkCredentials(j.Collector),
		}
		for _, s := range j.Collector.Streams {
			p.Streams = append(p.Streams, &doctor.Probe{Kind: doctor.KindStream, Name: s.Name, Check: s.Check})
		}
		probes = append(probes, p)
	}
	for _, s := range sinks {
		probe := &doctor.Probe{Kind: doctor.KindDestination, Name: s.Name(), Check: a.checkDestination(s)}
		if d, ok := s.(store.Describer); ok {
			probe.Describe = d.Description
		}
		if inspector, ok := s.(store.Inspector); ok {
			probe.Inspect = func(ctx context.Context) ([]doctor.Observation, error) {
				return inspectSink(ctx, inspector, withRecords)
			}
		}
		probes = append(probes, probe)
	}
	return probes, nil
}

// isPublic reports whether a collector reads public data.
func (a *assembly) isPublic(name string) bool {
	return slices.ContainsFunc(a.sections, func(s *config.Section) bool { return s.Collector && s.Name == name && s.IsPublic })
}

// checkDestination returns the check of a destination and of the tables that it has for
// the streams that are on.
func (a *assembly) checkDestination(s store.Sink) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.Check(ctx); err != nil {
			return err
		}
		tables, ok := s.(store.TableChecker)
		if !ok {
			return nil
		}
		var streams []snapshot.Header
		for _, section := range a.sections {
			for _, stream := range section.Streams {
				if a.reasonOff(stream.Name) == "" {
					streams = append(streams, snapshot.Header{Collector: section.Name, Stream: stream.Name, Tenancy: a.settings.Tenancy})
				}
			}
		}
		return tables.CheckTables(ctx, streams)
	}
}

// checkCredentials returns the check of a collector's credentials. A missing
// permission is left to the checks of its streams.
func checkCredentials(c *collector.Collector) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := c.Check(ctx); !errors.Is(err, collector.ErrForbidden) {
			return err
		}
		return nil
	}
}

// inspectSink returns what a destination reports, with or without that of its
// records.
func inspectSink(ctx context.Context, i store.Inspector, withRecords bool) ([]doctor.Observation, error) {
	found, err := i.Inspect(ctx)
	if err == nil && withRecords {
		var more []store.Observation
		more, err = i.InspectRecords(ctx)
		found = append(found, more...)
	}
	var list []doctor.Observation
	for _, o := range found {
		list = append(list, doctor.Observation(o))
	}
	return list, err
}

// probeEverything runs the probes of the collectors, their streams, the destinations
// and the state directory.
func (a *assembly) probeEverything(ctx context.Context, sinks []store.Sink) ([]*doctor.Probe, error) {
	probes, err := a.newProbes(sinks, false)
	if err != nil {
		return nil, err
	}
	probes = append(probes, &doctor.Probe{Kind: doctor.KindState, Name: "STATE_DIR", Check: func(context.Context) error {
		return doctor.CheckDirectory("STATE_DIR", a.stateDir())
	}})
	doctor.RunProbes(ctx, checkTimeout, probes, nil)
	return probes, nil
}

// printProbes prints the results of probes in order.
func (a *assembly) printProbes(probes []*doctor.Probe) {
	c := checkReport{probes: probes}
	longest := 0
	for _, p := range c.ran() {
		longest = max(longest, len(p.Name))
	}
	for _, p := range c.ran() {
		result := p.Summary("ok")
		if p.Err != nil {
			result = p.Err.Error()
		}
		fmt.Fprintf(a.stdout, "  %-12s %-*s %s\n", p.Kind, longest, p.Name, result)
		for _, o := range p.Observations {
			fmt.Fprintf(a.stdout, "  %-12s %-*s warning: %s\n", "", longest, "", o.Text)
			if o.Advice != "" {
				fmt.Fprintf(a.stdout, "  %-12s %-*s -> %s\n", "", longest, "", o.Advice)
			}
		}
	}
	if without := a.withoutRefused(probes); without != "" {
		fmt.Fprintf(a.stdout, "  to do without all streams that are refused: COLLECTORS=%s\n", without)
	}
}

// withoutRefused returns the value of COLLECTORS that switches off all streams whose
// probes found a missing permission, since the advice of each is about that one alone;
// "" when there are not several, or when it would leave nothing.
func (a *assembly) withoutRefused(probes []*doctor.Probe) string {
	names, refused := a.settings.Collectors, 0
	for _, probe := range probes {
		for _, p := range probe.Streams {
			if !errors.Is(p.Err, collector.ErrForbidden) {
				continue
			}
			without := config.WithoutStream(names, probe.Name, p.Name)
			if without == "" {
				return ""
			}
			names = strings.Split(without, ",")
			refused++
		}
	}
	if refused < 2 || refused >= a.countEnabledStreams() {
		return ""
	}
	return strings.Join(names, ",")
}
