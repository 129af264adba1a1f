package main

import (
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// TestAlertsAreExplained checks which alerts are false: those that fired without a fault
// or a run that explains them.
func TestAlertsAreExplained(t *testing.T) {
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	run := func(outcome state.Outcome, from, to int) state.Run {
		return state.Run{Collector: "okta", Stream: "okta_users", Outcome: outcome, Started: at(from), Ended: at(to)}
	}
	okta := map[string]string{"collector": "okta", "stream": "okta_users"}
	for name, tc := range map[string]struct {
		alert   string
		labels  map[string]string
		pending bool // it did not fire
		events  []event
		runs    []state.Run
		isFalse bool
	}{
		"down while it was stopped":  {alert: "CollectordDown", events: []event{{downEvent, "", at(95), at(110)}}},
		"down without a stop":        {alert: "CollectordDown", events: []event{{downEvent, "", at(5), at(10)}}, isFalse: true},
		"only pending":               {alert: "CollectordDown", pending: true},
		"an alert that is not known": {alert: "CollectordNew", events: []event{{downEvent, "", at(95), at(110)}}, isFalse: true},
		"a fault of the destination": {
			alert: "CollectordSinkFailing", labels: map[string]string{"sink": "s3"}, events: []event{{"S3: stall", "s3", at(95), at(110)}},
		},
		"a fault of another destination": {
			alert: "CollectordSinkFailing", labels: map[string]string{"sink": "s3"},
			events: []event{{"Postgres: stall", "postgres", at(95), at(110)}}, isFalse: true,
		},
		"refused with a withdrawn key": {
			alert: "CollectordCredentialsRefused", labels: okta,
			events: []event{{withdrawnEvent, "okta", at(80), at(90)}}, runs: []state.Run{run(state.Failed, 89, 95)},
		},
		"refused with the key of another vendor": {
			alert: "CollectordCredentialsRefused", labels: okta,
			events: []event{{withdrawnEvent, "snyk", at(80), at(90)}}, runs: []state.Run{run(state.Failed, 89, 95)}, isFalse: true,
		},
		"late after failures": {
			alert: "CollectordDataLate", labels: okta,
			events: []event{{"vendor: 500", "okta", at(90), at(120)}}, runs: []state.Run{run(state.Failed, 98, 120)},
		},
		"late with new data": {
			alert: "CollectordDataLate", labels: okta,
			events:  []event{{"vendor: 500", "okta", at(90), at(99)}},
			runs:    []state.Run{run(state.Failed, 95, 98), run(state.Success, 118, 120)},
			isFalse: true,
		},
		"late after the stream was off": {
			alert: "CollectordDataLate", labels: okta, events: []event{{offEvent, "okta_users", at(60), at(95)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &soak{began: began, events: &events{list: tc.events}, daemon: &daemon{}, prometheus: &prometheus{interval: time.Second}}
			labels := map[string]string{"alertname": tc.alert}
			for label, value := range tc.labels {
				labels[label] = value
			}
			a := &alertEpisode{labels: labels, from: at(100), fired: at(110), to: at(140)}
			if tc.pending {
				a.fired = time.Time{}
			}
			f := &findings{}
			s.checkAlerts(&evidence{runs: tc.runs, alerts: []*alertEpisode{a}}, f)
			if got := strings.HasPrefix(strings.Join(f.entries(), "\n"), "false alert: "+tc.alert); got != tc.isFalse {
				t.Errorf("false alert: %v, want %v: %q; explained by %q", got, tc.isFalse, f.entries(), s.alerts[0].causes)
			}
		})
	}
}
