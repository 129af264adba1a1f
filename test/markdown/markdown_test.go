package markdown

import (
	"slices"
	"testing"
)

func TestAnchors(t *testing.T) {
	for heading, want := range map[string]string{
		"What `.env` is":      "what-env-is",
		"A, b & c":            "a-b--c",
		"[Link](x.md) – more": "link--more",
		"snake_case 2":        "snake_case-2",
		"Über":                "über",
	} {
		if got := AnchorOf(heading); got != want {
			t.Errorf("the anchor of %q is %q, want %q", heading, got, want)
		}
	}
	d := &Document{Prose: []string{"# A", "## B", "text", "### C", "## B", "### D"}}
	if got := d.Anchors(); len(got) != 5 || !got["b-1"] {
		t.Errorf("anchors %v", got)
	}
	if got := d.Headings("B"); !slices.Equal(got, []string{"C", "D"}) {
		t.Errorf("headings below B: %q", got)
	}
}
