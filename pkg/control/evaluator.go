package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// An Evaluator measures controls, records their results and seals them as snapshots.
// Its methods may be called concurrently; one evaluation runs at a time.
type Evaluator struct {
	State   *state.State
	Tenancy string
	Engine  *query.Engine
	Log     *zap.Logger
	// Now returns the time; nil means time.Now.
	Now func() time.Time
	// Debounce is how long Run waits for further data after Wake.
	Debounce time.Duration
	// OnEvaluated, if not nil, is called with the status of all controls before and
	// after an evaluation.
	OnEvaluated func(before, after []Status)

	mu       sync.Mutex
	settings *Settings
	running  sync.Mutex
	restored *Settings       // those whose backup was asked for the history; under running
	logged   map[string]bool // the problems of files that were logged and last; under running
	wake     chan struct{}   // see Wake
	applied  chan struct{}   // settings were put in force, for which Run does not wait
	making   sync.Once       // of both
}

// checkInterval is how often Run looks whether a control is due, also because its file or
// the register has changed.
const checkInterval = time.Minute

func (e *Evaluator) makeChannels() {
	e.making.Do(func() { e.wake, e.applied = make(chan struct{}, 1), make(chan struct{}, 1) })
}

// Wake says that there may be new data or files. It does not block.
func (e *Evaluator) Wake() {
	e.makeChannels()
	notify(e.wake)
}

// notify writes to a channel that holds one value.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain removes the value that a channel may hold.
func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// ApplySettings puts settings in force, and makes Run measure what is due with them. An
// evaluation in progress ends with the old ones.
func (e *Evaluator) ApplySettings(s Settings) {
	s.Runner = withoutLimits(s.Runner)
	e.mu.Lock()
	e.settings = &s
	e.mu.Unlock()
	e.Wake()
	notify(e.applied)
}

func (e *Evaluator) currentSettings() *Settings {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settings
}

func (e *Evaluator) timeNow() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}

// Run measures the controls that are due, now and whenever there may be some, until ctx
// is cancelled.
func (e *Evaluator) Run(ctx context.Context) {
	e.makeChannels()
	logged := "" // each error once while it lasts
	for {
		drain(e.wake) // what happened meanwhile is part of this evaluation
		drain(e.applied)
		text := ""
		if _, err := e.EvaluateDue(ctx, "schedule"); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != logged {
				e.Log.Error("the controls could not be measured; it is tried again", zap.Error(err))
			}
		}
		logged = text
		if !waitFor(ctx, e.wake, checkInterval) || !waitFor(ctx, e.applied, e.Debounce) {
			return
		}
	}
}

// waitFor waits for the channel, at most for a time. It returns false when ctx ended.
func waitFor(ctx context.Context, wake <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// An Evaluation is what an evaluation did.
type Evaluation struct {
	// Measured are the ids of the controls that were measured, and Failed those of them
	// that failed.
	Measured, Failed []string
	// Results are those of the streams of results.
	Results []run.Result
	// Problems are those of the files.
	Problems []Problem
}

// EvaluateDue measures the controls that are due, and records their results.
func (e *Evaluator) EvaluateDue(ctx context.Context, trigger string) (Evaluation, error) {
	return e.evaluate(ctx, trigger, nil)
}

// EvaluateNow measures controls whether they are due or not, all without ids, and
// records their results.
func (e *Evaluator) EvaluateNow(ctx context.Context, trigger string, ids []string) (Evaluation, error) {
	return e.evaluate(ctx, trigger, func(c Control) bool { return len(ids) == 0 || slices.Contains(ids, c.ID) })
}

// evaluate measures the controls that choose chooses, or those that are due.
func (e *Evaluator) evaluate(ctx context.Context, trigger string, choose func(Control) bool) (done Evaluation, err error) {
	e.running.Lock()
	defer e.running.Unlock()
	s := e.currentSettings()
	lock, err := e.State.Locks.LockStream(CollectorName, e.Tenancy)
	if errors.Is(err, state.ErrLocked) {
		return done, fmt.Errorf("measure the controls: %w", err)
	}
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	v, before, problems, err := e.prepare(ctx, *s, choose)
	done.Problems = problems
	if err != nil || v == nil {
		return done, err
	}
	if len(v.chosen) > 0 {
		if err := e.restoreHistory(ctx, s); err != nil {
			return done, err
		}
	}
	if err := v.run(ctx, trigger, &done); err != nil {
		return done, err
	}
	if e.OnEvaluated != nil {
		after, err := e.State.Controls(e.Tenancy).ListControls(ctx)
		if err != nil {
			return done, err
		}
		e.OnEvaluated(StatusesOf(before), StatusesOf(after))
	}
	return done, nil
}

// prepare reads the files, records the definitions and chooses the controls to measure.
// Without any it returns nil.
func (e *Evaluator) prepare(ctx context.Context, s Settings, choose func(Control) bool) (*evaluation, []state.ControlStatus, []Problem, error) {
	repository := e.State.Controls(e.Tenancy)
	before, err := repository.ListControls(ctx)
	if err != nil || s.Dir == "" && len(before) == 0 {
		return nil, nil, nil, err
	}
	controls, problems, err := loadSettings(s, before)
	if err != nil {
		return nil, nil, problems, err
	}
	v := &evaluation{Evaluator: e, settings: s, now: e.timeNow().UTC().Truncate(time.Second), known: map[string]bool{}}
	v.register, v.registerErr = s.readRegister()
	if err := repository.ReplaceDefinitions(ctx, definitionsOf(controls)); err != nil {
		return nil, nil, problems, err
	}
	e.logProblems(problems)
	if v.taken, err = e.readTaken(ctx); err != nil {
		return nil, nil, problems, err
	}
	attempts := map[string]state.ControlAttempt{}
	for _, status := range before {
		attempts[status.ID] = status.Attempt
		v.known[status.ID] = status.Total > 0
	}
	for _, c := range controls {
		chosen := choose == nil && v.isDue(c, attempts[c.ID]) || choose != nil && choose(c)
		if c.isMeasured() && chosen {
			v.chosen = append(v.chosen, c)
		}
	}
	if len(v.chosen) == 0 && !e.needsSummary(before, v.taken) {
		return nil, nil, problems, nil
	}
	return v, before, problems, nil
}

// LoadSettings returns the controls of the settings and the problems of their files.
func LoadSettings(s Settings) ([]Control, []Problem, error) { return loadSettings(s, nil) }

// loadSettings is LoadSettings with what is known about the controls. What describes one
// whose file cannot be used is that of before.
func loadSettings(s Settings, before []state.ControlStatus) ([]Control, []Problem, error) {
	if s.Dir == "" {
		return nil, nil, nil
	}
	ids, last := map[string]string{}, map[string]state.ControlDefinition{}
	for _, status := range before {
		ids[status.File] = status.ID
		if status.Hash != "" {
			last[status.ID] = status.ControlDefinition
		}
	}
	controls, problems, err := loadKnown(s.Dir, ids)
	if err != nil {
		return nil, problems, fmt.Errorf("CONTROLS: %w", err)
	}
	for i, c := range controls {
		if d, known := last[c.ID]; known && c.Problem != "" {
			controls[i].Title, controls[i].Category, controls[i].Indicator = d.Title, d.Category, d.Indicator
			controls[i].Target, controls[i].Minimum, controls[i].Weight = d.Target, d.Minimum, d.Weight
		}
	}
	return controls, problems, nil
}

// isMeasured reports whether each day has a row of the control, also of a failure.
func (c Control) isMeasured() bool { return c.Problem != "" || len(c.Queries) > 0 }

// needsSummary reports whether a process died between recording results and sealing
// their summary.
func (e *Evaluator) needsSummary(before []state.ControlStatus, taken map[string]time.Time) bool {
	return slices.ContainsFunc(before, func(s state.ControlStatus) bool {
		return s.Attempt.Tried.After(taken[SummaryStream]) && !s.Attempt.Tried.After(e.timeNow())
	})
}

// logProblems logs the problems of files, each once while it lasts.
func (e *Evaluator) logProblems(problems []Problem) {
	before := e.logged
	e.logged = map[string]bool{}
	for _, p := range problems {
		e.logged[p.Error()] = true
		if before[p.Error()] {
			continue
		}
		if p.Harmless {
			e.Log.Debug("a file of controls has a flaw", zap.Error(p))
		} else {
			e.Log.Error("a file of controls cannot be used", zap.Error(p))
		}
	}
}

// readTaken returns the times of the last-known snapshots by stream.
func (e *Evaluator) readTaken(ctx context.Context) (map[string]time.Time, error) {
	streams, err := e.State.TenancyStreams(ctx, e.Tenancy)
	taken := map[string]time.Time{}
	for _, s := range streams {
		if !s.Taken.IsZero() {
			taken[s.Stream] = s.Taken
		}
	}
	return taken, err
}

// newDefinition returns the definition of a control for the state.
func newDefinition(c Control) state.ControlDefinition {
	references, err := json.Marshal(c.References)
	if err != nil || c.References == nil {
		references = []byte("[]")
	}
	d := state.ControlDefinition{
		ID: c.ID, File: c.Files[0], Title: c.Title, Category: c.Category, Type: c.Type, Description: c.Description, How: c.How,
		Target: c.Target, Minimum: c.Minimum, Weight: c.Weight, Indicator: c.Indicator, References: string(references),
		Off: c.Off, Hash: c.Hash, Problem: c.Problem,
	}
	if c.Problem != "" {
		d.Title, d.Hash = cmp.Or(c.Title, c.ID), "" // the next text that can be used replaces it
	}
	return d
}

// definitionsOf returns the definitions of controls.
func definitionsOf(controls []Control) (all []state.ControlDefinition) {
	for _, c := range controls {
		all = append(all, newDefinition(c))
	}
	return all
}

// run measures the chosen controls, records the results and seals them.
func (e *evaluation) run(ctx context.Context, trigger string, done *Evaluation) error {
	if len(e.chosen) > 0 {
		if err := e.measureAndSeal(ctx, trigger, done); err != nil {
			return err
		}
		outcomes := make([]state.ControlOutcome, 0, len(e.chosen))
		for _, c := range e.chosen {
			o := e.outcomes[c.ID]
			outcomes = append(outcomes, o)
			done.Measured = append(done.Measured, c.ID)
			if o.Result == nil {
				done.Failed = append(done.Failed, c.ID)
			}
		}
		if err := e.State.Controls(e.Tenancy).Record(ctx, outcomes); err != nil {
			return err
		}
		crashPoint("recorded")
		e.logOutcomes()
	}
	oldest := e.now.Add(-e.settings.Keep).Format(time.DateOnly)
	if err := e.State.Controls(e.Tenancy).RemoveDaysBefore(ctx, oldest); err != nil {
		return err
	}
	return e.seal(ctx, trigger, SummaryStream, done, func(ctx context.Context, out collector.Output) error {
		return writeSummary(ctx, e.State.Controls(e.Tenancy), out)
	})
}

// measureAndSeal measures the chosen controls. With details, it seals those of all
// controls, also of those that are not measured now or fail.
func (e *evaluation) measureAndSeal(ctx context.Context, trigger string, done *Evaluation) error {
	if !e.settings.Detail {
		return e.measure(ctx, nil)
	}
	return e.seal(ctx, trigger, DetailStream, done, func(ctx context.Context, out collector.Output) error {
		if err := e.measure(ctx, out); err != nil {
			return err
		}
		return e.keepOtherDetails(ctx, out)
	})
}

// keepOtherDetails keeps the details of the controls that have no new result.
func (e *evaluation) keepOtherDetails(ctx context.Context, out collector.Output) error {
	all, err := e.State.Controls(e.Tenancy).ListControls(ctx)
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, s := range all {
		if s.Off == "" && e.outcomes[s.ID].Result == nil {
			ids[s.ID] = true
		}
	}
	return keepDetails(ctx, e.State, e.Tenancy, ids, out)
}

// runnerOf returns the runner of a stream. Results without a record replace those that this
// state directory has, and no others: a new one knows none when no control can be measured,
// and destinations may have those of yesterday.
func (e *evaluation) runnerOf(ctx context.Context, stream string) *run.Runner {
	own := *e.settings.Runner
	_, _, err := e.State.Snapshots.LastKnown(ctx, stream, e.Tenancy)
	own.Policy.StoreEmpty = err == nil
	return &own
}

// seal seals the records that extract writes as a snapshot of one stream.
func (e *evaluation) seal(ctx context.Context, trigger, stream string, done *Evaluation, extract func(context.Context, collector.Output) error) error {
	job := run.Job{Collector: &collector.Collector{Name: CollectorName, Streams: []collector.Stream{{Name: stream, Extract: extract}}}}
	results := e.runnerOf(ctx, stream).Run(ctx, job, trigger)
	done.Results = append(done.Results, results...)
	for _, r := range results {
		if r.Err != nil {
			return fmt.Errorf("%s: %w", stream, r.Err)
		}
	}
	crashPoint(stream)
	return nil
}

// crashPoint is called between steps that a crash of the process may separate, with the
// name of the step that was just done. Tests replace it to kill the process there.
var crashPoint = func(step string) {}
