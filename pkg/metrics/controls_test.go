package metrics

import (
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/state"
)

// TestMetricsOfControls checks the metrics of a control that is measured, of one that
// failed after a success, of one that was never measured, and of one that is off.
func TestMetricsOfControls(t *testing.T) {
	t.Parallel()
	f := newFixture(t, t.TempDir())
	controls := f.state.Controls("acme")
	definition := func(id, off string) state.ControlDefinition {
		return state.ControlDefinition{ID: id, Category: "c", Target: 0.9, Minimum: 0.5, Weight: 2, Off: off}
	}
	record := func(id, failure string, result *state.ControlResult) {
		t.Helper()
		err := controls.Record(t.Context(), []state.ControlOutcome{{ID: id, Attempt: state.ControlAttempt{Tried: noon, Err: failure}, Result: result}})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := controls.ReplaceDefinitions(t.Context(), []state.ControlDefinition{
		definition("good", ""), definition("failed", ""), definition("new", ""), definition("off", "enabled is false"),
	})
	if err != nil {
		t.Fatal(err)
	}
	record("good", "", &state.ControlResult{Measured: noon, Data: noon, OK: 3, Total: 4})
	record("failed", "", &state.ControlResult{Measured: noon, Data: noon, OK: 1, Total: 4})
	record("failed", "no such column", nil)
	text := f.scrape()
	f.assertLines(text,
		`collectord_control_score{category="c",control="good",tenancy="acme"} 0.75`,
		`collectord_control_score{category="c",control="failed",tenancy="acme"} 0.25`,
		`collectord_control_target{category="c",control="good",tenancy="acme"} 0.9`,
		`collectord_control_minimum{category="c",control="good",tenancy="acme"} 0.5`,
		`collectord_control_weight{category="c",control="good",tenancy="acme"} 2`,
		`collectord_control_ok{category="c",control="good",tenancy="acme"} 3`,
		`collectord_control_total{category="c",control="good",tenancy="acme"} 4`,
		`collectord_control_total{category="c",control="new",tenancy="acme"} 0`,
		`collectord_control_timestamp_seconds{category="c",control="failed",tenancy="acme"} 1.7723664e+09`,
		`collectord_control_timestamp_seconds{category="c",control="new",tenancy="acme"} 0`,
		`collectord_control_data_timestamp_seconds{category="c",control="good",tenancy="acme"} 1.7723664e+09`,
		`collectord_control_failed{category="c",control="good",tenancy="acme"} 0`,
		`collectord_control_failed{category="c",control="failed",tenancy="acme"} 1`,
		`collectord_category_score{category="c",tenancy="acme"} 0.5`,
		`collectord_controls_score{tenancy="acme"} 0.5`,
	)
	if strings.Contains(text, `collectord_control_score{category="c",control="new"`) || strings.Contains(text, `control="off"`) {
		t.Error("a control without a score or that is off has metrics")
	}
}
