package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/control"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/state"
)

// controlFlags are the flags of controls.
type controlFlags struct {
	ids            []string
	format         string
	detail, dryRun bool
}

func controlsCommand(p *program) *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "controls [ID ...]",
		Short: "Measure controls over the last-known data and print their scores",
		Long: `controls measures the controls in the directory CONTROLS, all or those with the ids,
and prints their scores. It records them as the service does, and queues their results
for the destinations; the service, or the next --once, delivers them. With --dry-run it
records nothing and may run beside the service. Of the log it prints only errors, unless
LOG_LEVEL is debug.

Exit codes: 0 all were measured; 3 some failed; 65 a file cannot be used; 75 another
process measures; 78 bad settings.`,
		Example: `  collectord controls
  collectord controls mfa_enrolled --dry-run --detail --format csv`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.ids = args
			switch f.format {
			case "table", "csv", "json":
			default:
				return usageError(fmt.Errorf("--format is %q: it may be table, csv or json", f.format))
			}
			if f.detail && !f.dryRun {
				return usageError(errors.New("--detail needs --dry-run: otherwise the rows are in the stream control_detail"))
			}
			if f.dryRun {
				return p.withInspectedState(cmd.Context(), p.load, func(a *assembly) error { return a.previewControls(cmd.Context(), f) })
			}
			return p.withState(cmd.Context(), func(a *assembly) error { return a.runControls(cmd.Context(), f) })
		},
	}
	cmd.Flags().StringVar(&f.format, "format", "table", "table, csv or json")
	cmd.Flags().BoolVar(&f.detail, "detail", false, "with --dry-run, print the rows of the controls instead of their scores")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "record nothing")
	_ = cmd.RegisterFlagCompletionFunc("format", completeWords("table", "csv", "json")) // the flag exists
	return cmd
}

// requireControls returns an error when there are no controls, or no such ones.
func (a *assembly) requireControls(ids []string) error {
	if a.settings.Controls.Dir == "" {
		return &exitError{exitSettings, errors.New("CONTROLS is not set: want the directory of the files of controls")}
	}
	if err := errors.Join(a.checkControls(), a.checkRegister()); err != nil {
		return err
	}
	controls, _, err := control.LoadSettings(a.controlSettings(nil))
	if err != nil {
		return err
	}
	if err := control.CheckIDs(controls, ids); err != nil {
		return usageError(err)
	}
	return nil
}

// previewControls measures controls and records nothing.
func (a *assembly) previewControls(ctx context.Context, f controlFlags) error {
	if err := a.requireControls(f.ids); err != nil {
		return err
	}
	a.quietLog()
	engine := a.newQueryEngine(int64(a.settings.Controls.Memory))
	defer engine.Close()
	p := &control.Previewer{State: a.state, Tenancy: a.settings.Tenancy, Engine: engine, Settings: a.controlSettings(nil)}
	var all []control.Status
	var rows []controlRow
	problems, err := p.Preview(ctx, f.ids, f.detail, func(one control.Preview) error {
		all = append(all, one.Status)
		for _, row := range one.Rows {
			rows = append(rows, controlRow{one.ID, row})
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b control.Status) int {
		return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID))
	})
	if f.detail {
		err = errors.Join(printRows(a, f.format, rowColumns, rows, controlRow.cells), a.explainMissingRows(all))
	} else {
		err = printStatuses(a, f.format, all)
	}
	return errors.Join(a.controlsFailure(failedIDs(all), problems), err)
}

// explainMissingRows prints why controls have no rows, or not all, which no row says.
func (a *assembly) explainMissingRows(all []control.Status) error {
	for _, s := range all {
		if text := cmp.Or(s.Err, s.Note, s.Off); text != "" {
			if _, err := fmt.Fprintf(a.stderr, "%s: %s: %s\n", s.ID, s.State, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// runControls measures controls and records their results.
func (a *assembly) runControls(ctx context.Context, f controlFlags) error {
	if err := a.requireControls(f.ids); err != nil {
		return err
	}
	a.quietLog()
	parts, err := a.openReceivers()
	if err != nil {
		return err
	}
	defer a.closeDestinations(parts.sinks)
	evaluator := a.newEvaluator(a.engine, a.newRunner(parts.sinks, a.newDeliverer(parts.sinks)), parts.sinks)
	if a.level.Level() > zap.DebugLevel {
		evaluator.Log = zap.NewNop() // the output has the outcomes, also the errors
	}
	done, err := evaluator.EvaluateNow(ctx, "manual", f.ids)
	if errors.Is(err, state.ErrLocked) {
		return &exitError{exitLocked, err}
	}
	if err != nil {
		return err
	}
	list, err := a.state.Controls(a.settings.Tenancy).ListControls(ctx)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(control.StatusesOf(list), func(s control.Status) bool {
		return len(f.ids) > 0 && !slices.Contains(f.ids, s.ID)
	})
	err = printStatuses(a, f.format, all)
	return errors.Join(a.controlsFailure(done.Failed, done.Problems), err)
}

// controlsFailure prints the problems of files and returns the error that gives the exit
// code.
func (a *assembly) controlsFailure(failed []string, problems []control.Problem) error {
	bad := 0
	for _, p := range problems {
		if _, err := fmt.Fprintln(a.stderr, p.Error()); err != nil {
			return err
		}
		if !p.Harmless {
			bad++
		}
	}
	if bad > 0 {
		return &exitError{exitData, errors.New("a file of controls cannot be used: see the lines above")}
	}
	return failedControls(failed)
}

// failedIDs returns the ids of the controls that failed.
func failedIDs(all []control.Status) (ids []string) {
	for _, s := range all {
		if s.State == control.Failed {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// A controlRow is a row of a control.
type controlRow struct {
	id string
	control.Row
}

// rowColumns are the columns of --detail.
var rowColumns = []string{"control", "resource", "resource_type", "compliance", "detail", "business_unit", "team", "location"}

// cells returns the row in the order of rowColumns.
func (c controlRow) cells() []any {
	return []any{c.id, c.Resource, c.ResourceType, floatOrNull(c.Compliance), c.Detail, c.BusinessUnit, c.Team, c.Location}
}

func floatOrNull(value *float64) any {
	if value == nil {
		return nil
	}
	return *value
}

// statusColumns are the columns of the scores.
var statusColumns = []string{
	"control", "category", "state", "score", "colour", "target", "minimum", "ok", "total", "measured", "data", "error", "note",
}

// statusCells returns the status of a control in the order of statusColumns.
func statusCells(s control.Status) []any {
	var score, colour any
	if s.Known {
		score, colour = s.Score, string(s.Colour)
	}
	return []any{
		s.ID, s.Category, string(s.State), score, colour, s.Target, s.Minimum, s.OK, s.Total,
		timeCell(s.ControlResult.Measured), timeCell(s.Data), textCell(s.Err), textCell(cmp.Or(s.Note, s.Off)),
	}
}

// printStatuses prints the status of controls in a format. A table has one column for the
// error and the note.
func printStatuses(a *assembly, format string, all []control.Status) error {
	if format != "table" {
		return printRows(a, format, statusColumns, all, statusCells)
	}
	last := len(statusColumns) - 1
	return printRows(a, format, append(slices.Clone(statusColumns[:last-1]), "note"), all, func(s control.Status) []any {
		cells := statusCells(s)
		return append(cells[:last-1], textCell(cmp.Or(s.Err, s.Note, s.Off)))
	})
}

func timeCell(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

func textCell(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// printRows prints rows in a format. A cell is a text, a number or nil.
func printRows[T any](a *assembly, format string, columns []string, rows []T, cells func(T) []any) error {
	switch format {
	case "json":
		objects := make([]map[string]any, 0, len(rows))
		for _, row := range rows {
			object := map[string]any{}
			for i, cell := range cells(row) {
				object[columns[i]] = cell
			}
			objects = append(objects, object)
		}
		return writeJSON(a.stdout, objects)
	case "csv":
		w := csv.NewWriter(a.stdout)
		_ = w.Write(columns) // Error returns its error
		for _, row := range rows {
			var fields []string
			for _, cell := range cells(row) {
				text := formatCell(cell)
				if _, isText := cell.(string); isText {
					text = query.GuardText(text)
				}
				fields = append(fields, text)
			}
			_ = w.Write(fields)
		}
		w.Flush()
		return w.Error()
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(columns, "\t")))
	shortened := false
	for _, row := range rows {
		var fields []string
		for _, cell := range cells(row) {
			text := query.ReplaceControl(formatCell(roundCell(cell)))
			fields = append(fields, runewidth.Truncate(text, maxCellWidth, "…"))
			shortened = shortened || runewidth.StringWidth(text) > maxCellWidth
		}
		fmt.Fprintln(w, strings.Join(fields, "\t"))
	}
	err := w.Flush()
	if err == nil && shortened {
		_, err = fmt.Fprintln(a.stderr, "texts that end with … are whole with --format json or csv")
	}
	return err
}

// maxCellWidth is the width to which texts in a table are shortened.
const maxCellWidth = 80

// roundCell rounds a number to four decimals, which is enough for people.
func roundCell(cell any) any {
	if v, isFloat := cell.(float64); isFloat {
		return math.Round(v*1e4) / 1e4
	}
	return cell
}

// formatCell returns a cell as text.
func formatCell(cell any) string {
	switch v := cell.(type) {
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(cell)
}
