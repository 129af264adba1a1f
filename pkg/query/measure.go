package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A Measure is one or more SELECTs that return a row for each resource that is
// measured: resource, resource_type, compliance and detail, and possibly
// business_unit, team and location. Their rows are those of one result.
type Measure struct {
	Queries []MeasureQuery
}

// A MeasureQuery is one SELECT of a Measure.
type MeasureQuery struct {
	Text string
	// Streams are those that it needs. Without data of all of them it is skipped.
	Streams []string
}

// A MeasureRow is a row of a result, as members of a JSON object. It is written once, by
// the process that measures, and valid until ReceiveRow returns.
type MeasureRow struct {
	// Resource has resource, resource_type, compliance and detail.
	Resource []byte
	// Unit has business_unit, team and location.
	Unit []byte
}

// A MeasurePart is the sum of the rows of one unit of an organisation.
type MeasurePart struct {
	BusinessUnit, Team, Location string
	// OK is the sum of the compliance of the rows that have one, and Total their number.
	OK    float64
	Total int64
}

// A MeasureResult is the result of a Measure.
type MeasureResult struct {
	// Rows is the number of rows, NotFull that of the rows whose compliance is below 1.
	Rows, NotFull int64
	Parts         []MeasurePart
	// Skipped has the streams without data of each query that was skipped, by its index.
	Skipped map[int][]string `json:",omitempty"`
	// Streams are those that were read.
	Streams []UsedStream
}

// A MeasureError is the error of one query of a Measure.
type MeasureError struct {
	// Query is the index of the query, and Line the line of its text, which begins with
	// 1; 0 when it is not known.
	Query, Line int
	Err         error
}

func (e *MeasureError) Error() string { return e.Err.Error() }
func (e *MeasureError) Unwrap() error { return e.Err }

// ErrNoData means that no query of a Measure has data of all its streams.
var ErrNoData = errors.New("there is no data yet")

// MeasureOptions are the options of Engine.Measure.
type MeasureOptions struct {
	// Time bounds each measure, without the preparation of the columns.
	Time time.Duration
	// Memory bounds the memory of the process in bytes; 0 is Options.Memory.
	Memory int64
	// MemorySetting is the name of the setting that Memory comes from, for errors.
	MemorySetting string
	// Register is CSV with the columns resource, resource_type, business_unit, team and
	// location, in which each resource is there once; nil for none.
	Register []byte
	// Detail makes the rows be received.
	Detail bool
}

// A MeasureReceiver receives the results. Its methods are called by one goroutine at a
// time. Their errors end the measurement.
type MeasureReceiver interface {
	// ReceiveRow receives a row of the measure with an index.
	ReceiveRow(index int, row MeasureRow) error
	// ReceiveEnd receives the end of a measure, after its rows. After an error its rows
	// are void. It is called once for each measure.
	ReceiveEnd(index int, result MeasureResult, err error) error
}

// maxMeasureRounds bounds how often measures start again because snapshots were
// replaced while they were read.
const maxMeasureRounds = 5

// Measure runs measures in a worker process, one after the other. One that fails, or
// that ends the process, does not keep the others from their results. The error is of
// the receiver or of ctx.
func (e *Engine) Measure(ctx context.Context, all []Measure, o MeasureOptions, r MeasureReceiver) error {
	if o.Memory == 0 {
		o.Memory = e.o.Memory
	}
	dir, remove, err := e.createTaskDir()
	if err != nil {
		return withKind(ErrNotRun, err)
	}
	defer remove()
	m := &measuring{engine: e, all: all, o: o, dir: dir, receiver: r, current: -1}
	if o.Register != nil {
		if err := os.WriteFile(filepath.Join(dir, registerName), o.Register, 0o600); err != nil {
			return withKind(ErrNotRun, err)
		}
	}
	pending := make([]int, len(all))
	for i := range all {
		pending[i] = i
	}
	for round := 0; len(pending) > 0; round++ {
		m.keepGone = round+1 < maxMeasureRounds
		if pending, err = m.runRound(ctx, pending); err != nil {
			return err
		}
	}
	return nil
}

// measuring is a call of Engine.Measure. As an io.Writer it receives the output of the
// worker process.
type measuring struct {
	engine   *Engine
	all      []Measure
	o        MeasureOptions
	dir      string
	receiver MeasureReceiver
	// keepGone makes measures whose snapshot was replaced start again.
	keepGone bool

	// The following are those of one process.
	begun   func() // restarts the time of a measure
	rest    []byte // an incomplete line
	first   int    // the index of the measure that runs first
	current int    // the index of the measure that is running; -1 for none
	rows    int    // those of the measure that is running
	skipped map[int]map[int][]string
	ended   map[int]bool
	gone    []int
	err     error // of the receiver
}

// runRound runs the pending measures, in as many processes as they end. It returns
// those whose snapshots were replaced while they were read.
func (m *measuring) runRound(ctx context.Context, pending []int) (gone []int, err error) {
	m.gone = nil
	pending, sources, err := m.prepare(ctx, pending)
	for len(pending) > 0 && err == nil {
		pending, err = m.runProcess(ctx, pending, sources)
	}
	return m.gone, err
}

// prepare returns the sources of the measures, and the measures that have all the
// data that they need. It ends the others.
func (m *measuring) prepare(ctx context.Context, pending []int) (ready []int, sources []streamSource, err error) {
	var text strings.Builder
	for _, i := range pending {
		for _, q := range m.all[i].Queries {
			text.WriteString(q.Text + "\n")
		}
	}
	known, failed, err := m.engine.measureSources(ctx, namesIn(text.String()))
	if err != nil {
		return nil, nil, err
	}
	m.skipped = map[int]map[int][]string{}
	for _, i := range pending {
		err := m.checkData(i, known, failed)
		switch {
		case err == nil:
			ready = append(ready, i)
		case errors.Is(err, errGone) && m.keepGone:
			m.gone = append(m.gone, i)
		default:
			if err := m.receiver.ReceiveEnd(i, MeasureResult{Skipped: m.skipped[i]}, err); err != nil {
				return nil, nil, err
			}
		}
	}
	for stream, source := range known {
		if failed[stream] == nil {
			sources = append(sources, source)
		}
	}
	return ready, sources, nil
}

// checkData finds the queries of a measure to skip because streams have no data. It
// returns an error when there is no other query, or when data cannot be read.
func (m *measuring) checkData(index int, known map[string]streamSource, failed map[string]error) error {
	queries := m.all[index].Queries
	skipped := map[int][]string{}
	var missing []string
	for i, q := range queries {
		for _, stream := range q.Streams {
			if _, ok := known[stream]; !ok {
				skipped[i] = append(skipped[i], stream)
				missing = append(missing, stream)
			}
		}
		if skipped[i] != nil {
			continue
		}
		words := namesIn(q.Text)
		for stream, err := range failed {
			if words.has(stream) {
				return &MeasureError{Query: i, Err: err}
			}
		}
	}
	if len(skipped) > 0 {
		m.skipped[index] = skipped
	}
	if len(skipped) == len(queries) {
		return fmt.Errorf("%w of %s", ErrNoData, strings.Join(missing, ", "))
	}
	return nil
}

// measureSources returns the streams that have data and that a word names, by their
// names, and the errors of those whose columns cannot be prepared.
func (e *Engine) measureSources(ctx context.Context, words names) (known map[string]streamSource, failed map[string]error, err error) {
	streams, err := e.o.State.TenancyStreams(ctx, e.o.Tenancy)
	if err != nil {
		return nil, nil, fmt.Errorf("query: %w", err)
	}
	known, failed = map[string]streamSource{}, map[string]error{}
	for _, stream := range streams {
		if stream.Taken.IsZero() || !words.has(stream.Stream) {
			continue
		}
		source := streamSource{Stream: stream.Stream}
		sealed, info, err := e.o.State.Snapshots.LastKnown(ctx, stream.Stream, stream.Tenancy)
		if err == nil {
			source = e.sourceOf(sealed, info)
			if source.Records > 0 {
				source, err = e.withColumns(ctx, source)
			}
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		known[stream.Stream] = source
		if err != nil {
			failed[stream.Stream] = notRun(err)
		}
	}
	return known, failed, nil
}

// runProcess runs measures in one process. When one of them ends the process, it
// returns those after it.
func (m *measuring) runProcess(ctx context.Context, pending []int, sources []streamSource) (left []int, err error) {
	e := m.engine
	t := task{
		Kind: measureTask, Dir: m.dir, Streams: sources, Detail: m.o.Detail, Register: m.o.Register != nil,
		Disk: e.o.Disk, Memory: m.o.Memory / 2, Threads: min(runtime.NumCPU(), maxThreads), lowPriority: e.o.LowPriority,
	}
	for _, i := range pending {
		one := workerMeasure{Index: i}
		for j, q := range m.all[i].Queries {
			if m.skipped[i][j] == nil {
				one.Queries = append(one.Queries, workerQuery{Index: j, Text: q.Text})
			}
		}
		t.Measures = append(t.Measures, one)
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if m.o.Time > 0 {
		timer := time.AfterFunc(m.o.Time, func() { cancel(fmt.Errorf("%w: the limit is %v", ErrTime, m.o.Time)) })
		defer timer.Stop()
		m.begun = func() { timer.Reset(m.o.Time) }
	} else {
		m.begun = func() {}
	}
	m.first, m.current, m.rest, m.ended = pending[0], -1, nil, map[int]bool{}
	_, workErr := runWorker(limited, t, m.o.Memory, m)
	switch {
	case m.err != nil:
		return nil, m.err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case workErr == nil && m.current < 0:
		return m.unfinished(pending), nil
	}
	if workErr == nil {
		workErr = withKind(ErrNotRun, io.ErrUnexpectedEOF)
	}
	workErr = explainMemory(workErr, m.o.Memory, m.o.MemorySetting)
	if m.current < 0 {
		return nil, m.endAll(m.unfinished(pending), workErr)
	}
	if err := m.end(m.current, MeasureResult{}, workErr); err != nil {
		return nil, err
	}
	return m.unfinished(pending), nil
}

// unfinished returns the measures that have not ended.
func (m *measuring) unfinished(pending []int) (left []int) {
	for _, i := range pending {
		if !m.ended[i] {
			left = append(left, i)
		}
	}
	return left
}

// endAll ends measures with the error of a process that ran none of them.
func (m *measuring) endAll(pending []int, cause error) error {
	for _, i := range pending {
		if err := m.endFinally(i, MeasureResult{}, cause); err != nil {
			return err
		}
	}
	return nil
}

// end passes the end of a measure on, unless it starts again. One that had too little
// memory after others in the same process starts again in a process of its own.
func (m *measuring) end(index int, result MeasureResult, err error) error {
	if errors.Is(err, ErrMemory) && index != m.first && m.rows == 0 {
		return nil
	}
	return m.endFinally(index, result, err)
}

// endFinally is end for a measure that has no further process.
func (m *measuring) endFinally(index int, result MeasureResult, err error) error {
	m.ended[index] = true
	if errors.Is(err, errGone) && m.keepGone {
		m.gone = append(m.gone, index)
		return nil
	}
	result.Skipped = m.skipped[index]
	return m.receiver.ReceiveEnd(index, result, err)
}

// A measureEvent is a line of the output of a worker process, as JSON. Lines that begin with
// rowMark are rows instead.
type measureEvent struct {
	// Begin is the index of a measure that begins.
	Begin *int        `json:"begin,omitempty"`
	End   *measureEnd `json:"end,omitempty"`
}

// A row is rowMark, MeasureRow.Resource, rowGap and MeasureRow.Unit. JSON has neither a
// tab nor a line break in its strings.
const (
	rowMark = '='
	rowGap  = '\t'
)

// A measureEnd is the end of a measure.
type measureEnd struct {
	Result MeasureResult
	report
	Query, Line int
}

// Write receives output of the worker process.
func (m *measuring) Write(b []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	m.rest = append(m.rest, b...)
	for {
		line, rest, found := bytes.Cut(m.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		if m.err = m.receiveLine(line); m.err != nil {
			return 0, m.err
		}
		m.rest = rest
	}
}

func (m *measuring) receiveLine(line []byte) error {
	if len(line) > 0 && line[0] == rowMark {
		m.rows++
		resource, unit, _ := bytes.Cut(line[1:], []byte{rowGap})
		return m.receiver.ReceiveRow(m.current, MeasureRow{resource, unit})
	}
	var event measureEvent
	if err := json.Unmarshal(line, &event); err != nil {
		return fmt.Errorf("query: read the result: %w", err)
	}
	switch {
	case event.Begin != nil:
		m.current, m.rows = *event.Begin, 0
		m.begun()
	case event.End != nil:
		index := m.current
		m.current = -1
		err := event.End.err()
		if err != nil {
			err = &MeasureError{Query: event.End.Query, Line: event.End.Line, Err: explainMemory(err, m.o.Memory, m.o.MemorySetting)}
		}
		return m.end(index, event.End.Result, err)
	}
	return nil
}
