package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

// A Previewer measures controls and records nothing. The state may be read-only.
type Previewer struct {
	State    *state.State
	Tenancy  string
	Engine   *query.Engine
	Settings Settings
}

// A Preview is the result of a control that was not recorded.
type Preview struct {
	Status
	// Rows are those of the result, if they are wanted.
	Rows []query.MeasureRow
}

// ErrUnknown means that there is no control with an id.
var ErrUnknown = errors.New("no such control")

// Preview measures the controls with the ids, all without ids, and calls visit with
// each. It returns the problems of the files.
func (p *Previewer) Preview(ctx context.Context, ids []string, wantRows bool, visit func(Preview) error) ([]Problem, error) {
	controls, problems, err := LoadSettings(p.Settings)
	if err != nil {
		return problems, err
	}
	if err := CheckIDs(controls, ids); err != nil {
		return problems, err
	}
	v := &previewing{evaluation{
		Evaluator: &Evaluator{State: p.State, Tenancy: p.Tenancy, Engine: p.Engine}, settings: p.Settings, now: time.Now().UTC(),
		known: map[string]bool{}, outcomes: map[string]state.ControlOutcome{},
	}, nil, visit}
	if v.register, err = p.Settings.readRegister(); err != nil {
		return problems, err
	}
	for _, c := range controls {
		if len(c.Queries) > 0 && (len(ids) == 0 || slices.Contains(ids, c.ID)) {
			v.chosen = append(v.chosen, c)
		}
	}
	o := v.options()
	o.Detail = wantRows
	return problems, p.Engine.Measure(ctx, v.measures(), o, v)
}

// CheckIDs returns an error that wraps ErrUnknown for an id that no control has.
func CheckIDs(controls []Control, ids []string) error {
	for _, id := range ids {
		if !slices.ContainsFunc(controls, func(c Control) bool { return c.ID == id }) {
			return fmt.Errorf("%w: %q", ErrUnknown, id)
		}
	}
	return nil
}

// previewing is a call of Preview.
type previewing struct {
	evaluation
	rows  []query.MeasureRow
	visit func(Preview) error
}

// ReceiveRow implements query.MeasureReceiver.
func (p *previewing) ReceiveRow(_ int, row query.MeasureRow) error {
	p.rows = append(p.rows, row)
	return nil
}

// ReceiveEnd implements query.MeasureReceiver.
func (p *previewing) ReceiveEnd(index int, result query.MeasureResult, err error) error {
	if errors.Is(err, query.ErrNoData) {
		err = nil
	}
	c := p.chosen[index]
	o := p.newOutcome(c, result, err)
	s := state.ControlStatus{ControlDefinition: newDefinition(c), Attempt: o.Attempt}
	if o.Result != nil {
		s.ControlResult = *o.Result
	}
	one := Preview{Status: StatusOf(s)}
	if err == nil {
		one.Rows = p.rows
	}
	p.rows = nil
	return p.visit(one)
}
