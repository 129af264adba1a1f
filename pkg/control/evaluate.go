package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/state"
)

// Settings are the settings of an Evaluator.
type Settings struct {
	// Dir is the directory of the files; "" means that there are no controls.
	Dir string
	// Timeout bounds each control.
	Timeout time.Duration
	// Memory bounds the process that measures, in bytes.
	Memory int64
	// Detail makes the rows of the controls a stream.
	Detail bool
	// Keep is how long the days are kept.
	Keep time.Duration
	// Register is the path of the register of resources; "" for none.
	Register string
	// Missing returns a text about a stream that has no data, with the reason and what to do,
	// and whether there is such a stream. Nil means that every stream exists.
	Missing func(stream string) (text string, exists bool)
	// Runner seals the results. Its limits of time do not count.
	Runner *run.Runner
	// Restore restores the last-known snapshots of the results from the backup. It returns
	// an error when another attempt may succeed. Nil means that there is no backup.
	Restore func(context.Context) error
}

// withoutLimits returns a runner for the results: limits of time, and the guard against
// vendors that lose records, do not apply to them.
func withoutLimits(r *run.Runner) *run.Runner {
	own := *r
	own.Timeout, own.IdleTimeout = noLimit, noLimit
	own.Policy.GuardDropPercent = 0
	return &own
}

// noLimit is longer than any evaluation.
const noLimit = 30 * 24 * time.Hour

// An evaluation is one measurement of controls.
type evaluation struct {
	*Evaluator
	settings Settings
	register *register
	// registerErr is why the register cannot be used. All controls then fail, and keep their
	// last score: without it their rows would belong to no unit.
	registerErr error
	chosen      []Control
	// usable are those of chosen that the engine measures.
	usable []Control
	now    time.Time
	// taken has the times of the last-known snapshots by stream.
	taken map[string]time.Time
	// known are the controls that have a result.
	known   map[string]bool
	details collector.Output // nil when the details are not kept
	// batch has the records of the control that is measured, template is theirs, and record
	// the buffer of one.
	batch    collector.Batch
	template detailTemplate
	record   []byte
	outcomes map[string]state.ControlOutcome
}

// day returns the date of the evaluation.
func (e *evaluation) day() string { return e.now.UTC().Format(time.DateOnly) }

// measure measures the chosen controls. The records of their rows go to details, unless
// that is nil.
func (e *evaluation) measure(ctx context.Context, details collector.Output) error {
	e.details, e.outcomes = details, map[string]state.ControlOutcome{}
	for _, c := range e.chooseUsable() {
		e.outcomes[c.ID] = e.newFailure(c, e.obstacle(c))
	}
	o := e.options()
	o.Detail = details != nil
	defer e.discardBatch()
	return e.Engine.Measure(ctx, e.measures(), o, e)
}

// chooseUsable sets the usable controls, and returns those of the chosen ones that cannot
// be measured.
func (e *evaluation) chooseUsable() (others []Control) {
	for _, c := range e.chosen {
		if e.obstacle(c) == "" {
			e.usable = append(e.usable, c)
		} else {
			others = append(others, c)
		}
	}
	return others
}

// obstacle returns why a control cannot be measured; "" when it can.
func (e *evaluation) obstacle(c Control) string {
	if c.Problem == "" && e.registerErr != nil {
		return c.Files[0] + ": " + e.registerErr.Error()
	}
	return c.Problem
}

// measures returns the queries of the usable controls.
func (e *evaluation) measures() (measures []query.Measure) {
	for _, c := range e.usable {
		var m query.Measure
		for _, q := range c.Queries {
			m.Queries = append(m.Queries, query.MeasureQuery{Text: q.Text, Streams: q.Streams})
		}
		measures = append(measures, m)
	}
	return measures
}

// options returns the options of the measurement.
func (e *evaluation) options() query.MeasureOptions {
	o := query.MeasureOptions{Time: e.settings.Timeout, Memory: e.settings.Memory, MemorySetting: "CONTROLS_MEMORY"}
	if e.register != nil {
		o.Register = e.register.text
	}
	return o
}

func (e *evaluation) discardBatch() {
	if e.batch != nil {
		e.batch.Discard()
		e.batch = nil
	}
}

// ReceiveRow implements query.MeasureReceiver.
func (e *evaluation) ReceiveRow(index int, row query.MeasureRow) error {
	if e.batch == nil {
		e.batch = e.details.NewBatch()
		var err error
		if e.template, err = newDetailTemplate(e.usable[index], e.day()); err != nil {
			return err
		}
	}
	e.record = e.template.appendDetail(e.record[:0], row)
	return e.batch.Append(e.record)
}

// ReceiveEnd implements query.MeasureReceiver.
func (e *evaluation) ReceiveEnd(index int, result query.MeasureResult, err error) error {
	c := e.usable[index]
	if err != nil {
		e.discardBatch()
	} else if e.batch != nil {
		commitErr := e.batch.Commit()
		e.batch = nil
		if commitErr != nil {
			return commitErr
		}
	}
	e.outcomes[c.ID] = e.newOutcome(c, result, err)
	return nil
}

// newOutcome returns the outcome of a control that the engine has measured. Without data,
// nothing to measure is no failure, unless the control had a score or names a stream that
// does not exist.
func (e *evaluation) newOutcome(c Control, result query.MeasureResult, err error) state.ControlOutcome {
	switch noData := errors.Is(err, query.ErrNoData); {
	case noData && (e.known[c.ID] || e.namesUnknown(result.Skipped)):
		return e.newFailure(c, e.describeNoData(c, result.Skipped))
	case err != nil && !noData:
		return e.newFailure(c, describeError(c, err))
	}
	return e.newResult(c, result)
}

// newAttempt returns the outcome of a control without a result.
func (e *evaluation) newAttempt(c Control) state.ControlOutcome {
	return state.ControlOutcome{ID: c.ID, Attempt: state.ControlAttempt{Tried: e.now, Data: e.newestData(c), Hash: e.hashOf(c)}}
}

// newFailure returns the outcome of a control that failed.
func (e *evaluation) newFailure(c Control, text string) state.ControlOutcome {
	o := e.newAttempt(c)
	o.Attempt.Err = text
	o.Days = []state.ControlDay{e.newDay(c, query.MeasurePart{}, Failed)}
	return o
}

// newResult returns the outcome of a control that has a result.
func (e *evaluation) newResult(c Control, result query.MeasureResult) state.ControlOutcome {
	o := e.newAttempt(c)
	r := &state.ControlResult{Measured: e.now, Rows: result.Rows, NotFull: result.NotFull, Note: e.describeSkipped(result.Skipped)}
	for _, used := range result.Streams {
		if r.Data.IsZero() || used.Taken.Before(r.Data) {
			r.Data = used.Taken
		}
	}
	for _, part := range result.Parts {
		r.OK += part.OK
		r.Total += part.Total
		if part.Total > 0 {
			o.Days = append(o.Days, e.newDay(c, part, Measured))
		}
	}
	if len(o.Days) == 0 {
		o.Days = []state.ControlDay{e.newDay(c, query.MeasurePart{}, Empty)}
	}
	o.Result = r
	return o
}

func (e *evaluation) newDay(c Control, part query.MeasurePart, s State) state.ControlDay {
	const undefined = "undefined"
	return state.ControlDay{
		ID: c.ID, Day: e.day(), Title: c.Title, Category: c.Category, Target: c.Target, Minimum: c.Minimum, Weight: c.Weight,
		Indicator: c.Indicator, BusinessUnit: cmp.Or(part.BusinessUnit, undefined), Team: cmp.Or(part.Team, undefined),
		Location: cmp.Or(part.Location, undefined), OK: part.OK, Total: part.Total, State: string(s),
	}
}

// describeError returns an error with the file and the line of the query.
func describeError(c Control, err error) string {
	var failed *query.MeasureError
	if !errors.As(err, &failed) || failed.Query >= len(c.Queries) || errors.Is(err, query.ErrMemory) || errors.Is(err, query.ErrNotRun) {
		return c.Files[0] + ": " + err.Error()
	}
	q := c.Queries[failed.Query]
	if failed.Line == 0 {
		return fmt.Sprintf("%s:%d: %v", q.File, q.Line, failed)
	}
	return fmt.Sprintf("%s:%d: %v", q.File, q.Line+failed.Line-1, failed)
}

// explainMissing returns a text about a stream that has no data, and whether there is such
// a stream.
func (e *evaluation) explainMissing(stream string) (text string, exists bool) {
	if e.settings.Missing == nil {
		return "there is no data of " + stream, true
	}
	return e.settings.Missing(stream)
}

// namesUnknown reports whether one of the streams without data does not exist.
func (e *evaluation) namesUnknown(skipped map[int][]string) bool {
	for _, streams := range skipped {
		for _, stream := range streams {
			if _, exists := e.explainMissing(stream); !exists {
				return true
			}
		}
	}
	return false
}

// describeMissing returns why streams have no data.
func (e *evaluation) describeMissing(streams []string) string {
	var texts []string
	for _, stream := range streams {
		text, _ := e.explainMissing(stream)
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// describeNoData returns the error of a control whose queries have no data.
func (e *evaluation) describeNoData(c Control, skipped map[int][]string) string {
	var texts []string
	for _, i := range slices.Sorted(maps.Keys(skipped)) {
		texts = append(texts, fmt.Sprintf("%s:%d: %s", c.Queries[i].File, c.Queries[i].Line, e.describeMissing(skipped[i])))
	}
	return strings.Join(texts, "; ")
}

// describeSkipped returns which queries were left out, and why.
func (e *evaluation) describeSkipped(skipped map[int][]string) string {
	var texts []string
	for _, i := range slices.Sorted(maps.Keys(skipped)) {
		texts = append(texts, fmt.Sprintf("query %d is left out: %s", i+1, e.describeMissing(skipped[i])))
	}
	return strings.Join(texts, "; ")
}

// hashOf returns the hash of what a control's result depends on besides the data: its files,
// the register, and why streams have none, which its note says.
func (e *evaluation) hashOf(c Control) string {
	text := c.Hash
	if e.registerErr != nil {
		text += " " + hashOf([]byte(e.registerErr.Error()))
	} else if e.register != nil {
		text += " " + e.register.hash
	}
	var missing strings.Builder
	for _, q := range c.Queries {
		for _, stream := range q.Streams {
			if e.taken[stream].IsZero() {
				text, _ := e.explainMissing(stream)
				missing.WriteString(text)
			}
		}
	}
	if missing.Len() > 0 {
		text += " " + hashOf([]byte(missing.String()))
	}
	return text
}

// newestData returns the time of the newest data that a control reads.
func (e *evaluation) newestData(c Control) (newest time.Time) {
	for stream, taken := range e.taken {
		if taken.After(newest) && c.reads(stream) {
			newest = taken
		}
	}
	return newest
}

// reads reports whether a query of the control names a stream.
func (c Control) reads(stream string) bool {
	return slices.ContainsFunc(c.Queries, func(q Query) bool {
		return strings.Contains(strings.ToLower(q.Text), strings.ToLower(stream))
	})
}

// isDue reports whether a control is to be measured: it has not been today, its data
// or its file changed since, or it failed a while ago.
func (e *evaluation) isDue(c Control, last state.ControlAttempt) bool {
	switch {
	case last.Tried.IsZero(), last.Hash != e.hashOf(c), e.newestData(c).After(last.Data):
		return true
	case last.Tried.UTC().Format(time.DateOnly) != e.day():
		return true
	}
	return last.Err != "" && e.now.Sub(last.Tried) >= retryAfter
}

// retryAfter is how long after a failure a control is measured again although nothing
// it depends on changed.
const retryAfter = 6 * time.Hour

// logOutcomes logs the outcome of each control.
func (e *evaluation) logOutcomes() {
	for _, c := range e.chosen {
		o := e.outcomes[c.ID]
		log := e.Log.With(zap.String("control", c.ID))
		switch {
		case c.Problem != "": // logProblems logs it
		case o.Result == nil:
			log.Error("control failed; its last score stays", zap.String("error", o.Attempt.Err))
		case o.Result.Total == 0:
			log.Warn("control is empty: no row has a compliance", zap.String("note", o.Result.Note))
		default:
			score, _ := Score(o.Result.OK, o.Result.Total)
			log.Info("control measured", zap.Float64("score", score), zap.Int64("total", o.Result.Total), zap.String("note", o.Result.Note))
		}
	}
}
