package control

import (
	"context"
	"encoding/json"
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
	Rows []Row
}

// A Row is a row of the result of a control. Its compliance is nil for NULL.
type Row struct {
	Resource     string   `json:"resource"`
	ResourceType string   `json:"resource_type"`
	Compliance   *float64 `json:"compliance"`
	Detail       string   `json:"detail"`
	BusinessUnit string   `json:"business_unit"`
	Team         string   `json:"team"`
	Location     string   `json:"location"`
}

// ErrUnknown means that there is no control with an id.
var ErrUnknown = errors.New("no such control")

// Preview measures the controls with the ids, all without ids, and calls visit with
// each. It returns the problems of the files.
func (p *Previewer) Preview(ctx context.Context, ids []string, wantRows bool, visit func(Preview) error) ([]Problem, error) {
	before, err := p.State.Controls(p.Tenancy).ListControls(ctx)
	if err != nil {
		return nil, err
	}
	controls, problems, err := loadSettings(p.Settings, before)
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
		if c.isMeasured() && (len(ids) == 0 || slices.Contains(ids, c.ID)) {
			v.chosen = append(v.chosen, c)
		}
	}
	for _, c := range v.chooseUsable() {
		if err := v.visitOutcome(c, v.newFailure(c, v.obstacle(c))); err != nil {
			return problems, err
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
	rows  []Row
	visit func(Preview) error
}

// ReceiveRow implements query.MeasureReceiver.
func (p *previewing) ReceiveRow(_ int, members query.MeasureRow) error {
	var row Row
	if err := json.Unmarshal(fmt.Appendf(nil, "{%s,%s}", members.Resource, members.Unit), &row); err != nil {
		return err
	}
	p.rows = append(p.rows, row)
	return nil
}

// ReceiveEnd implements query.MeasureReceiver.
func (p *previewing) ReceiveEnd(index int, result query.MeasureResult, err error) error {
	c := p.usable[index]
	return p.visitOutcome(c, p.newOutcome(c, result, err))
}

// visitOutcome passes an outcome on, with the rows that were received before.
func (p *previewing) visitOutcome(c Control, o state.ControlOutcome) error {
	s := state.ControlStatus{ControlDefinition: newDefinition(c), Attempt: o.Attempt}
	if o.Result != nil {
		s.ControlResult = *o.Result
	}
	one := Preview{Status: StatusOf(s)}
	if o.Result != nil {
		one.Rows = p.rows
	}
	p.rows = nil
	return p.visit(one)
}
