package main

import (
	"strings"
	"testing"
)

// TestShortenRules checks that durations in alert rules are divided, and nothing else.
func TestShortenRules(t *testing.T) {
	const rules = `
      - alert: A
        expr: increase(a_total{outcome="5m"}[1d]) > 21600
        for: 15m
        keep_firing_for: 1h
        annotations:
          description: "It has failed for 5m."
`
	want := strings.NewReplacer("[1d]", "[24m]", "for: 15m", "for: 15s", "keep_firing_for: 1h", "keep_firing_for: 1m").Replace(rules)
	if got := shortenRules(rules, ruleFactor); got != want {
		t.Errorf("the rules are %s\nwant %s", got, want)
	}
}
