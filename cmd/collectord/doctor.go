package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/collectord/collectord/pkg/doctor"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/web"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out what keeps collectord from working, and what to do about it", Args: noArgs,
		Long: `doctor looks at the settings, the machine (clock, disk, memory, limits), the state
folder, the way to each vendor and destination (name, proxy, connection, TLS), their
answer to the credentials, and the age of the data. It collects, stores and changes
nothing, and may run beside the service.

Exit codes: 0 nothing has failed; 3 something has; 78 the settings are wrong.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the findings as JSON")
	return cmd
}

func (a *app) doctor(ctx context.Context, asJSON bool) error {
	e := &examination{app: a}
	wrong := e.checkSettings()
	e.checkMachine()
	if wrong == nil {
		wrong = e.open()
		defer closeSinks(e.opened, a.log)
		e.checkState(ctx)
	}
	if wrong == nil {
		wrong = e.checkNetwork(ctx)
	}
	if err := a.printFindings(e.found, asJSON); err != nil {
		return err
	}
	if wrong != nil {
		return &exitError{code: exitSettings}
	}
	if n := doctor.Count(e.found, doctor.Failed); n > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d of %d checks failed", n, len(e.found))}
	}
	return nil
}

func (a *app) printFindings(found []doctor.Finding, asJSON bool) error {
	if !asJSON {
		return doctor.Print(a.stdout, found)
	}
	out := json.NewEncoder(a.stdout)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		Version  string           `json:"version"`
		Findings []doctor.Finding `json:"findings"`
	}{version, found})
}

// An examination is one call of doctor.
type examination struct {
	*app
	opened []store.Sink // the destinations
	known  bool         // opened is what the settings ask for
	found  []doctor.Finding
}

func (e *examination) add(f doctor.Finding) { e.found = append(e.found, f) }

// addIf adds what could be found out.
func (e *examination) addIf(f doctor.Finding, ok bool) {
	if ok {
		e.add(f)
	}
}

// checkSettings returns why the settings cannot be used.
func (e *examination) checkSettings() error {
	const group = "settings"
	if err := e.load(); err != nil {
		for line := range strings.Lines(err.Error()) {
			e.add(doctor.Finding{Group: group, Check: "settings", Result: doctor.Failed, Text: strings.TrimSpace(line)})
		}
		return err
	}
	for _, w := range e.warnings {
		e.add(doctor.Finding{Group: group, Check: "settings", Result: doctor.Warning, Text: w})
	}
	on, _ := e.active()
	if len(on) == 0 {
		err := none(e.sources, e.sections)
		e.add(doctor.Finding{Group: group, Check: "collectors", Result: doctor.Failed, Text: "none is switched on", Advice: "`collectord list` tells what switches each on"})
		return err
	}
	var names []string
	for _, s := range on {
		names = append(names, s.Name)
	}
	e.add(doctor.Finding{Group: group, Check: "collectors", Result: doctor.OK, Text: strings.Join(names, ", ") + " on"})
	return nil
}

// open opens what only opening tells of. It returns why the settings cannot be
// used.
func (e *examination) open() (err error) {
	if _, err = e.targets(); err == nil {
		e.opened, err = e.sinks()
	}
	e.known = err == nil
	return e.refused(err)
}

// refused adds why the settings cannot be used.
func (e *examination) refused(err error) error {
	if err != nil {
		e.add(doctor.Finding{Group: "settings", Check: "settings", Result: doctor.Failed, Text: err.Error()})
	}
	return err
}

func (e *examination) checkMachine() {
	e.addIf(doctor.Synchronised())
	e.add(doctor.Memory(int64(e.settings.Store.DuckDB.Memory)))
	e.addIf(doctor.Files())
	if e.log == nil {
		return // there are no settings that name folders
	}
	used := doctor.Size(filepath.Join(e.settings.StateDir, "snapshots"))
	e.addIf(doctor.Disk("disk of STATE_DIR", e.settings.StateDir, used, int64(e.settings.Store.SpoolMax)))
	for _, s := range []struct{ setting, path string }{{"STORE_FILE", e.settings.Store.File}, {"STORE_DUCKDB", e.settings.Store.DuckDB.Path}} {
		if template, err := store.ParsePath(s.setting, s.path); s.path != "" && err == nil {
			e.addIf(doctor.Disk("disk of "+s.setting, template.Folder(), used, 0))
		}
	}
}

// checkState looks at the state folder and at what is known.
func (e *examination) checkState(ctx context.Context) {
	const group = "state"
	dir, err := filepath.Abs(e.settings.StateDir)
	if err != nil {
		e.add(doctor.Finding{Group: group, Check: "folder", Result: doctor.Failed, Text: err.Error()})
		return
	}
	e.add(doctor.Folder(group, "STATE_DIR", dir))
	e.checkService(ctx)
	st, err := state.Inspect(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.add(doctor.Finding{Group: group, Check: "data", Result: doctor.OK, Text: "nothing has been collected yet"})
		return
	case errors.Is(err, state.ErrOlder):
		e.add(doctor.Finding{Group: group, Check: "database", Result: doctor.Warning, Text: err.Error(),
			Advice: "the next start of the service brings it up to date; until then its data are not looked at"})
		return
	case err != nil:
		e.add(doctor.Finding{Group: group, Check: "database", Result: doctor.Failed, Text: err.Error()})
		return
	}
	e.add(doctor.Finding{Group: group, Check: "database", Result: doctor.OK, Text: "opens, and is sound"})
	if err := errors.Join(e.checkData(ctx, st), st.Close()); err != nil {
		e.add(doctor.Finding{Group: group, Check: "data", Result: doctor.Failed, Text: err.Error()})
	}
}

// checkData tells how old the data are and what is undelivered.
func (e *examination) checkData(ctx context.Context, st *state.State) error {
	known, err := st.Streams(ctx)
	if err != nil {
		return err
	}
	for _, s := range web.StreamsOf(known, e.standings(), nil, e.settings.Tenancy, time.Now()) {
		e.add(freshness(s))
	}
	queue, err := st.Queue(ctx)
	if err != nil {
		return err
	}
	e.checkQueue(queue)
	return nil
}

// standings are how the collectors that are on would stand if the service ran.
func (e *examination) standings() (all []schedule.Standing) {
	on, _ := e.active()
	for _, s := range on {
		standing := schedule.Standing{Collector: s.Name, Interval: expressionOf(e.app, s.Name).In(e.settings.Schedule.Zone.Location()).Interval()}
		for _, stream := range s.Streams {
			standing.Streams = append(standing.Streams, stream.Name)
		}
		all = append(all, standing)
	}
	return all
}

// freshness tells how a stream's data stand.
func freshness(s web.Stream) doctor.Finding {
	f := doctor.Finding{Group: "state", Check: s.Stream, Result: doctor.OK, Text: "no data yet"}
	if !s.Known.IsZero() {
		f.Text = fmt.Sprintf("%d records of %s", s.Records, when(s.Known))
	}
	switch {
	case s.LastFailure.After(s.Known):
		f.Result = doctor.Warning
		f.Text += "; the last run failed: " + s.FailureErr
	case s.Held:
		f.Result = doctor.Warning
		f.Text += "; a newer snapshot is held"
		f.Advice = "it has far fewer records: see why, or release it with `collectord accept " + s.Stream + "`"
	case s.Freshness == web.Late:
		f.Result = doctor.Warning
		f.Text += "; that is older than its schedule allows"
		f.Advice = "see that the service runs, or run `collectord --once " + s.Stream + "`"
	case s.Standing.Collector == "":
		f.Text += "; its collector is off"
	}
	return f
}

// checkQueue tells what waits for each destination.
func (e *examination) checkQueue(queue []state.Delivery) {
	count, last := waiting(queue), map[string]string{}
	for _, d := range queue {
		if d.Err != "" {
			last[d.Sink] = ": " + d.Err
		}
	}
	names := sinkNames(e.opened)
	for _, sink := range slices.Sorted(maps.Keys(count)) {
		f := doctor.Finding{Group: "state", Check: "undelivered", Result: doctor.Warning,
			Text: fmt.Sprintf("%d snapshots wait for %s%s", count[sink], sink, last[sink])}
		if e.known && !slices.Contains(names, sink) {
			f.Text = fmt.Sprintf("%d snapshots wait for %s, which the settings do not have", count[sink], sink)
			f.Advice = giveUp(sink)
		}
		e.add(f)
	}
}

// checkService tells whether a daemon serves HTTP here.
func (e *examination) checkService(ctx context.Context) {
	listen := e.settings.HTTP.Listen
	host, port, err := net.SplitHostPort(listen)
	if listen == "" || err != nil || port == "0" {
		return
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	f := doctor.Finding{Group: "state", Check: "service", Result: doctor.OK, Text: "none answers at " + listen + " (HTTP_LISTEN)"}
	address := net.JoinHostPort(host, port)
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/-/ready", nil); err == nil {
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close() // its status is all that is asked for
			f.Text = "one answers at " + listen + " and is ready"
			if resp.StatusCode != http.StatusOK {
				f.Result, f.Text = doctor.Warning, fmt.Sprintf("what answers at %s is not ready: %s", listen, resp.Status)
				f.Advice = "see its log; a web configuration (HTTP_WEB_CONFIG_FILE) with TLS or users answers so, too"
			}
		}
	}
	e.add(f)
}

// doctorTimeout bounds one vendor's or destination's answer: somebody waits,
// and what has not answered by then is what they want to hear of.
const doctorTimeout = 10 * time.Second

// checkNetwork asks the vendors and destinations, and watches the way to them.
// It returns why the settings cannot be used, where only opening them tells.
func (e *examination) checkNetwork(ctx context.Context) error {
	probes, err := e.probes(e.opened)
	if err != nil {
		return e.refused(err)
	}
	journeys := map[*probe]*doctor.Journey{}
	for _, p := range probes {
		journeys[p] = &doctor.Journey{}
	}
	tryAll(ctx, doctorTimeout, probes, func(ctx context.Context, p *probe) context.Context { return journeys[p].Watch(ctx) })
	for _, p := range probes {
		group := p.kind + " " + p.name
		e.addIf(journeys[p].Finding(group, "network", p.err, time.Now()))
		f := doctor.Finding{Group: group, Check: "access", Result: doctor.OK, Text: "it takes the credentials"}
		if p.kind == "destination" {
			f.Text = "it can be written to"
		}
		if p.err != nil {
			f.Result, f.Text = doctor.Failed, p.err.Error()
		}
		e.add(f)
	}
	e.checkClock(ctx, probes, journeys)
	return nil
}

// checkClock compares this machine's with that of the first server that tells.
func (e *examination) checkClock(ctx context.Context, probes []*probe, journeys map[*probe]*doctor.Journey) {
	client := &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, p := range probes {
		address := journeys[p].Address()
		if address == "" {
			continue
		}
		if f, ok := doctor.ClockAgainst(ctx, client, address); ok {
			e.add(f)
			return
		}
	}
}
