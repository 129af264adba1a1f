package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/external"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/sinks"
	"github.com/collectord/collectord/pkg/web"
)

// configuration is what the environment and the files of settings say.
type configuration struct {
	settings    config.Settings
	definitions []collector.Definition
	sections    []*config.Section // one for each definition
	warnings    []string          // settings that have no effect, such as misspelled ones
	secrets     []string          // the values that must not be shown
	libraries   []config.Variable // those that libraries read from the environment
	systemd     []string          // what systemd reads differently in the file of --env-file
	external    []*external.File  // the collectors of EXEC_DIR
	problem     error             // why some of the settings cannot be used; nil if all can
	tenancies   []*tenancyFile    // the files in TENANCIES_DIR
	hasJitter   bool              // whether SCHEDULE_JITTER is set, which may be to 0
}

// settingSources is where settings are read from: the environment of the process as it was
// at the start, the file of --env-file, and the tenancy of --tenancy.
type settingSources struct {
	environ []string
	envFile string
	tenancy string
}

// openEnvironment reads the environment, and envFile or .env.
func (s settingSources) openEnvironment() (*config.Environment, error) {
	return config.Open(config.Source{Environ: s.environ, Dir: ".", EnvFile: s.envFile})
}

// readConfiguration reads the environment, and envFile or .env. With an error the
// configuration has the settings that could be read.
func readConfiguration(from settingSources) (*configuration, error) {
	c := newConfiguration()
	env, err := from.openEnvironment()
	if err != nil {
		return c, &exitError{exitSettings, err}
	}
	problems := c.addExternalCollectors(env, nil)
	load := env.Load
	if c.settings.Tenancies != "" {
		load = env.LoadShared
	}
	c.warnings, err = load(&c.settings, c.sections...)
	c.readSources(env)
	if err = addProblems(err, problems); err == nil {
		err = c.settleSharedState(env)
	}
	if err == nil && c.settings.Tenancies != "" {
		err = c.readTenancies(env)
		c.warnOfTokens()
	}
	if err != nil {
		c.problem = &exitError{exitSettings, c.addWarnings(err)}
		return c, c.problem
	}
	return c, nil
}

// addWarnings returns an error about the settings with the warnings about them below it:
// one may explain the error, such as that of a misspelled name.
func (c *configuration) addWarnings(err error) error {
	if len(c.warnings) == 0 {
		return err
	}
	return &explainedError{err, c.warnings}
}

// An explainedError is an error about the settings, and the warnings about them.
type explainedError struct {
	error
	warnings []string
}

func (e *explainedError) Error() string {
	return e.error.Error() + "\n" + strings.Join(e.warnings, "\n")
}

func (e *explainedError) Unwrap() error { return e.error }

// newConfiguration returns a configuration without any value.
func newConfiguration() *configuration {
	return &configuration{settings: *sinks.NewSettings(), definitions: sources.All(), sections: sources.Sections()}
}

// readSources sets what follows from the sources themselves, after the settings were
// loaded from them.
func (c *configuration) readSources(env *config.Environment) {
	c.secrets, c.libraries, c.systemd = env.Secrets(), env.LibraryVariables(), env.SystemdDifferences()
	c.hasJitter = !env.IsDefault("SCHEDULE_JITTER")
}

// inForce returns the settings for a reload.
func (c *configuration) inForce() config.InForce {
	return config.InForce{Core: &c.settings, Sections: c.sections}
}

// describeOpenServer returns what other machines can see when they can send requests
// to the server without authentication; "" when they cannot.
func (c *configuration) describeOpenServer() string {
	s := c.settings.HTTP
	if s.Listen == "" {
		return ""
	}
	access, err := web.AccessTo(s.Listen, s.ConfigFile)
	if err != nil || !access.Open() || s.TokensFile != "" {
		return "" // the start reports the error
	}
	private := "records, columns, queries and profiles need HTTP_TOKEN"
	if !s.Token.IsSet() {
		private = "records, columns, queries and profiles are not shown without HTTP_TOKEN"
	}
	return fmt.Sprintf("HTTP_LISTEN: %s is open to other machines without authentication: everyone who reaches it sees the status, errors and metrics; %s: set HTTP_WEB_CONFIG_FILE to ask for a password",
		s.Listen, private)
}

// exportVariables sets the variables of libraries from files and credentials in the
// environment of the process, where the libraries read them, and removes those of
// before that are not set any more.
func (c *configuration) exportVariables(before []config.Variable) error {
	var errs []error
	for _, v := range before {
		if v.Origin != config.FromEnvironment && !slices.ContainsFunc(c.libraries, func(w config.Variable) bool { return w.Name == v.Name }) {
			errs = append(errs, os.Unsetenv(v.Name))
		}
	}
	for _, v := range c.libraries {
		// C code reads the environment without a lock, so that it is not written in vain.
		if v.Origin != config.FromEnvironment && os.Getenv(v.Name) != v.Value {
			errs = append(errs, os.Setenv(v.Name, v.Value))
		}
	}
	return errors.Join(errs...)
}

// active returns the collectors that are switched on, with their settings.
func (c *configuration) active() (on []collector.Definition, settings []any) {
	for i, d := range c.definitions {
		if c.sections[i].Active {
			on, settings = append(on, d), append(settings, c.sections[i].Into)
		}
	}
	return on, settings
}

// cautions returns why valid settings may not be what a person wants.
func (c *configuration) cautions() []store.Caution {
	list := store.NetworkCaution("STATE_DIR", c.settings.StateDir)
	for _, destination := range c.settings.Store.Destinations {
		if s, ok := destination.Into.(store.CautiousSettings); ok {
			list = append(list, s.Cautions()...)
		}
	}
	for _, f := range c.external {
		if c.findSection(f.Collector()).Active {
			for _, text := range f.Cautions() {
				list = append(list, store.Caution{Text: text, Urgent: true})
			}
		}
	}
	for _, text := range external.NearMisses(c.settings.ExecDir) {
		list = append(list, store.Caution{Text: text, Urgent: true})
	}
	if text := c.describeOpenServer(); text != "" {
		list = append(list, store.Caution{Text: text})
	}
	if s := c.settings.HTTP; s.Queries != "" && (!s.Query || !s.Token.IsSet() || s.Listen == "") {
		list = append(list, store.Caution{Text: "HTTP_QUERIES: queries over HTTP are off: HTTP_QUERY=true together with HTTP_TOKEN and HTTP_LISTEN switches them on"})
	}
	return list
}

// requireActive returns an error when no collector is switched on. It names the
// settings that switch each one on, unless many tenancies would repeat them, and has the
// warnings, such as that of a misspelled key.
func (c *configuration) requireActive() error {
	if on, _ := c.active(); len(on) > 0 {
		return nil
	}
	if c.hasTenancies() {
		return &exitError{exitSettings, c.addWarnings(errNoCollectorOfTenancy)}
	}
	var b strings.Builder
	b.WriteString(errNoCollectors.Error() + ":")
	for i, d := range c.definitions {
		_, why := sectionState(c.sections[i])
		fmt.Fprintf(&b, "\n  %-12s %s", d.Name, why)
	}
	return &exitError{exitSettings, c.addWarnings(errors.New(b.String()))}
}

var errNoCollectors = errors.New("no collector is switched on; set the variables of at least one in the environment or in .env")

var errNoCollectorOfTenancy = errors.New("no collector is switched on; set the variables of at least one in this file; `collectord list` names them")

// sectionState returns whether a collector is on or off, and why it is off.
func sectionState(s *config.Section) (state, why string) {
	switch {
	case s.Active:
		return "on", ""
	case s.Off != "":
		return "off", s.Off
	case s.Advice != "":
		return "off", "set " + s.Advice
	}
	return "off", "COLLECTORS does not name it"
}

// disabledStreams returns the streams that are off although their collector is on.
func (c *configuration) disabledStreams() (disabled []freshness.DisabledStream) {
	for _, s := range c.sections {
		for _, stream := range s.Streams {
			if s.Active && stream.Off != "" {
				disabled = append(disabled, freshness.DisabledStream{Collector: s.Name, Stream: stream.Name, Why: stream.Off})
			}
		}
	}
	return disabled
}

// countEnabledStreams returns how many streams are on.
func (c *configuration) countEnabledStreams() (n int) {
	for _, s := range c.sections {
		for _, stream := range s.Streams {
			if s.Active && stream.Off == "" {
				n++
			}
		}
	}
	return n
}

// findStream returns the settings of a stream and of its collector; nil when there is
// no such stream.
func (c *configuration) findStream(name string) (*config.Section, *config.Stream) {
	for _, s := range c.sections {
		for i := range s.Streams {
			if s.Streams[i].Name == name {
				return s, &s.Streams[i]
			}
		}
	}
	return nil, nil
}

// chooseStreams returns the streams of d that the names choose: a collector's name
// chooses all of its streams, which an empty list stands for, and so do no names.
func chooseStreams(d collector.Definition, names []string) (streams []string, chosen bool) {
	if len(names) == 0 || slices.Contains(names, d.Name) {
		return nil, true
	}
	for _, stream := range d.Streams {
		if slices.Contains(names, stream.Name) {
			streams = append(streams, stream.Name)
		}
	}
	return streams, len(streams) > 0
}

// indexOf returns the index of the definition that a collector's or a stream's
// name chooses; -1 when there is none.
func (c *configuration) indexOf(name string) int {
	return slices.IndexFunc(c.definitions, func(d collector.Definition) bool {
		_, chosen := chooseStreams(d, []string{name})
		return chosen
	})
}

// checkSelection returns an error when no collector is switched on, or when the names
// choose what does not exist or is off.
func (c *configuration) checkSelection(names []string) error {
	if err := c.requireActive(); err != nil {
		return err
	}
	return c.checkNames(names)
}

// checkNames returns an error for names that choose nothing, or a collector or a
// stream that is off.
func (c *configuration) checkNames(names []string) error {
	for _, name := range names {
		i := c.indexOf(name)
		if i < 0 {
			var all []string
			for _, d := range c.definitions {
				all = append(all, d.Name)
			}
			return usageError(fmt.Errorf("%q is neither a collector nor a stream%s; the collectors are %s; `collectord list` shows the streams",
				name, c.suggestSource(name), strings.Join(all, ", ")))
		}
		if !c.sections[i].Active {
			_, why := sectionState(c.sections[i])
			return &exitError{exitSettings, fmt.Errorf("%s: the collector %s is off: %s", name, c.definitions[i].Name, why)}
		}
		if _, stream := c.findStream(name); stream != nil && stream.Off != "" {
			return &exitError{exitSettings, fmt.Errorf("%s: the stream is off: %s", name, stream.Off)}
		}
	}
	return nil
}

// collectorOf returns the name of the collector that a stream belongs to; "" when
// there is no such stream.
func (c *configuration) collectorOf(stream string) string {
	if section, _ := c.findStream(stream); section != nil {
		return section.Name
	}
	return ""
}

// calendarOf returns the schedule of a stream.
func (c *configuration) calendarOf(name string) calendar.Calendar {
	section, stream := c.findStream(name)
	if section == nil {
		return calendar.Calendar{}
	}
	return c.settings.CalendarOf(section, stream)
}

// maxAgeOf returns the DATA_MAX_AGE of a stream; 0 when it is not set.
func (c *configuration) maxAgeOf(name string) time.Duration {
	section, stream := c.findStream(name)
	if section == nil {
		return 0
	}
	_, maxAge := c.settings.MaxAgeOf(section, stream)
	return maxAge
}

// publicJitter is the longest delay of the ticks of public data, so that not all
// installations request it at midnight.
const publicJitter = time.Hour

// tenancyJitter is the longest delay of the ticks of several tenancies without
// SCHEDULE_JITTER, so that not all of them begin at once.
const tenancyJitter = 30 * time.Minute

// longestJitterOf returns the longest delay of a collector's ticks.
func (c *configuration) longestJitterOf(name string) time.Duration {
	longest := c.settings.Schedule.Jitter
	if !c.hasJitter && c.hasTenancies() {
		longest = tenancyJitter
	}
	if i := c.indexOf(name); i >= 0 && c.sections[i].IsPublic && !c.sections[i].HasSchedule() {
		longest = max(longest, publicJitter)
	}
	return longest
}

// instance returns a text that identifies the state; "" before the state directory exists.
func (c *configuration) instance() string {
	if c.hasSharedState() { // not the address of the database, which may differ between machines
		return c.settings.Cluster.Schema + " " + c.settings.Cluster.Prefix
	}
	instance, err := local.ReadInstance(c.settings.StateDir)
	if err != nil {
		return ""
	}
	return instance
}

// jitterOf returns the delay of a collector's ticks. It depends on the state, not on the
// host, whose name is random in containers; it is 0 before the state exists.
func (c *configuration) jitterOf(name string) time.Duration {
	instance := c.instance()
	if instance == "" {
		return 0
	}
	return schedule.Jitter(c.longestJitterOf(name), instance, c.settings.Tenancy, name)
}

// nextRun returns the time of a stream's next run by its schedule; zero when it is off
// or has no schedule. Retries and runs that catch up come on top.
func (c *configuration) nextRun(stream string, now time.Time) time.Time {
	section, own := c.findStream(stream)
	if section == nil || !section.Active || own.Off != "" {
		return time.Time{}
	}
	jitter := c.jitterOf(section.Name)
	next := c.calendarOf(stream).Next(now.Add(-jitter))
	if next.IsZero() {
		return next
	}
	return next.Add(jitter)
}

// runSettings are the settings that the result of a collector's run depends on.
type runSettings struct {
	collector               any
	revision                string
	timeout, idle, patience time.Duration
}

// runSettingsOf returns the settings of the runs of a collector.
func (c *configuration) runSettingsOf(name string) runSettings {
	i, limits := c.indexOf(name), c.settings.Run
	return runSettings{
		collector: c.sections[i].Into, revision: c.definitions[i].Revision,
		timeout: limits.Timeout, idle: limits.IdleTimeout, patience: limits.Patience,
	}
}

// plansOf returns the plans of a collector's streams: one for each schedule.
func (c *configuration) plansOf(job run.Job) (plans []schedule.Plan) {
	name := job.Collector.Name
	for _, stream := range job.StreamNames() {
		own := c.calendarOf(stream)
		at := slices.IndexFunc(plans, func(p schedule.Plan) bool { return p.Calendar.Equal(own.Expression) })
		if at < 0 {
			at = len(plans)
			plans = append(plans, schedule.Plan{
				Job: run.Job{Collector: job.Collector}, Calendar: own, Zone: c.settings.Schedule.Zone.String(), Jitter: c.jitterOf(name),
				Settings: c.runSettingsOf(name),
			})
		}
		plans[at].Job.Streams = append(plans[at].Job.Streams, stream)
	}
	return plans
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}
