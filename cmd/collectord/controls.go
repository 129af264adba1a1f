package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/backup"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/store"
)

// controlsDebounce is how long the service waits after a run for others before it
// measures controls.
const controlsDebounce = time.Minute

// controlSettings returns the settings of the controls. The runner seals their results.
func (a *assembly) controlSettings(r *run.Runner) control.Settings {
	s := a.settings.Controls
	return control.Settings{
		Dir: s.Dir, Timeout: s.Timeout, Memory: int64(s.Memory), Detail: s.Detail, Keep: s.Keep, Register: s.Resources, Runner: r,
		Missing: a.explainMissing,
	}
}

// controlSettingsWith returns the settings of the controls whose results go to sinks.
func (a *assembly) controlSettingsWith(r *run.Runner, sinks []store.Sink) control.Settings {
	s := a.controlSettings(r)
	s.Restore = func(ctx context.Context) error { return a.restoreControls(ctx, sinks) }
	return s
}

// restoreControls restores the results of the controls from the backup.
func (a *assembly) restoreControls(ctx context.Context, sinks []store.Sink) (err error) {
	for _, r := range a.newRestorer(sinks).Run(ctx, []backup.Stream{
		{Collector: control.CollectorName, Name: control.SummaryStream},
		{Collector: control.CollectorName, Name: control.DetailStream},
	}) {
		if r.Outcome == backup.Failed {
			err = errors.Join(err, fmt.Errorf("%s: %w", r.Name, r.Err))
		}
	}
	return err
}

// newEvaluator returns the evaluator of the controls.
func (a *assembly) newEvaluator(engine *query.Engine, r *run.Runner, sinks []store.Sink) *control.Evaluator {
	e := &control.Evaluator{State: a.state, Tenancy: a.settings.Tenancy, Engine: engine, Log: a.log, Debounce: controlsDebounce}
	e.ApplySettings(a.controlSettingsWith(r, sinks))
	return e
}

// newQueryEngine returns an engine for controls and queries of a command, for which a
// person waits.
func (a *assembly) newQueryEngine(memory int64) *query.Engine {
	o := a.queryOptions(memory)
	o.MemorySetting = "--memory"
	return query.New(o)
}

// newSharedEngine returns the engine that works beside extractions. It shares the bounds of
// another one, which may be nil.
func (a *assembly) newSharedEngine(bounds *query.Engine) *query.Engine {
	o := a.queryOptions(0)
	o.LowPriority, o.Bounds = true, bounds
	return query.New(o)
}

func (a *assembly) queryOptions(memory int64) query.Options {
	return query.Options{
		State: a.state, Tenancy: a.settings.Tenancy, Tenancies: a.tenancyNames(), Dir: a.queryDir(), Memory: memory, Optional: optionalMembers(),
		Declared: control.DeclaredMembers(),
	}
}

// optionalMembers returns the members that records may lack, by stream.
func optionalMembers() map[string][]string {
	optional := map[string][]string{}
	for _, d := range sources.All() {
		for _, stream := range d.Streams {
			optional[stream.Name] = stream.Optional
		}
	}
	return optional
}

// checkControls returns an error when the settings of the controls name what does not
// exist or cannot be read.
func (a *assembly) checkControls() error {
	s := a.settings.Controls
	if s.Dir == "" {
		return nil
	}
	if info, err := os.Stat(s.Dir); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New(s.Dir + " is a file")
		}
		return &exitError{exitSettings, fmt.Errorf("CONTROLS: %w: want the directory of the files of controls", err)}
	}
	return nil
}

// checkRegister returns an error when the register of resources cannot be used. People
// change it at any time: then controls fail, and nothing else does.
func (a *assembly) checkRegister() error {
	if a.settings.Controls.Dir == "" {
		return nil
	}
	if err := a.controlSettings(nil).CheckRegister(); err != nil {
		return &exitError{exitSettings, err}
	}
	return nil
}

// controlProblems returns what is wrong with the files of controls, also streams that do
// not exist.
func (a *assembly) controlProblems() (texts []string) {
	controls, problems, err := control.LoadSettings(a.controlSettings(nil))
	if err != nil {
		return []string{err.Error()}
	}
	for _, p := range problems {
		texts = append(texts, "CONTROLS: "+p.Error())
	}
	for _, c := range controls {
		for _, q := range c.Queries {
			for _, stream := range q.Streams {
				if text, exists := a.explainMissing(stream); !exists {
					texts = append(texts, fmt.Sprintf("CONTROLS: %s:%d: %s", q.File, q.Line, text))
				}
			}
		}
	}
	return texts
}

// explainMissing returns a text about a stream that has no data, and whether there is such a
// stream.
func (a *assembly) explainMissing(stream string) (text string, exists bool) {
	noData := "there is no data of " + stream + ": "
	if stream == control.DetailStream || stream == control.SummaryStream {
		return noData + "it has the results of controls, and there are none yet", true
	}
	section, found := a.findStream(stream)
	if found == nil {
		return stream + " is no stream" + a.suggestStream(stream), false
	}
	switch {
	case !section.Active:
		_, why := sectionState(section)
		return noData + "the collector " + section.Name + " is off: " + why, true
	case found.Off != "":
		return noData + "the stream is off: " + found.Off, true
	}
	return noData + "it was not collected yet: its next run does that", true
}

// suggestStream returns the name of a stream that a misspelled one may mean.
func (a *assembly) suggestStream(name string) string {
	best, text := 4, ""
	for _, section := range a.sections {
		for _, stream := range section.Streams {
			if d := levenshtein.Distance(strings.ToLower(name), stream.Name, nil); d < best {
				best, text = d, ": did you mean "+stream.Name+"?"
			}
		}
	}
	return text
}

// reloadControls puts the settings of the controls in force that a reload has read, or
// keeps those of before. What is in the files and in the register is no setting: they are
// read again and again, and a control whose file is broken fails.
func (a *assembly) reloadControls(before *assembly) error {
	err := a.checkControls()
	if err != nil {
		a.settings.Controls = before.settings.Controls
	}
	return err
}

// measureControls measures the controls that are due after a single run, and returns the
// results of their streams.
func (a *assembly) measureControls(ctx context.Context, r *run.Runner, sinks []store.Sink) ([]run.Result, error) {
	if a.settings.Controls.Dir == "" || ctx.Err() != nil {
		return nil, nil
	}
	done, err := a.newEvaluator(a.engine, r, sinks).EvaluateDue(ctx, "once")
	if err != nil {
		a.log.Error("the controls could not be measured", zap.Error(err))
	}
	return done.Results, errors.Join(err, failedControls(done.Failed))
}

// failedControls returns the error of controls that failed; nil for none.
func failedControls(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return &exitError{exitPartial, fmt.Errorf("controls that failed, and keep the score that they had: %s", strings.Join(ids, ", "))}
}

// hasNewData reports whether a run has brought or confirmed data that controls may read.
func hasNewData(results []run.Result) bool {
	return slices.ContainsFunc(results, func(r run.Result) bool { return r.Outcome.IsSuccess() })
}
