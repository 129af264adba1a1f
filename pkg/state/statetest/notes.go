package statetest

import (
	"testing"
)

func testSwapNote(t *testing.T, harness Harness) {
	st := harness.NewState(t)
	notes, other := st.Notes("acme"), st.Notes("globex")
	for _, step := range []struct {
		old, text string
		swapped   bool
		there     string
	}{
		{old: "x", text: "y", swapped: false, there: ""},
		{old: "", text: "a", swapped: true, there: "a"},
		{old: "", text: "b", swapped: false, there: "a"},
		{old: "a", text: "b", swapped: true, there: "b"},
		{old: "b", text: "", swapped: true, there: ""},
	} {
		swapped, err := notes.SwapNote(t.Context(), "key", step.old, step.text)
		if err != nil || swapped != step.swapped {
			t.Errorf("%q to %q: swapped %t, want %t: %v", step.old, step.text, swapped, step.swapped, err)
		}
		if text, err := notes.Note(t.Context(), "key"); err != nil || text != step.there {
			t.Errorf("%q to %q: %q is there, want %q: %v", step.old, step.text, text, step.there, err)
		}
		if text, err := other.Note(t.Context(), "key"); err != nil || text != "" {
			t.Errorf("the other tenancy has %q: %v", text, err)
		}
	}
}
