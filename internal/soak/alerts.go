package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// An explainedAlert is an alert with the faults that explain it; none if it is false.
type explainedAlert struct {
	*alertEpisode
	causes []string
}

// An explainer explains the alerts of a soak by its faults and by the history.
type explainer struct {
	s        *soak
	evidence *evidence
	// slack is the time between a change in the daemon and the alert about it: a scrape
	// and an evaluation, and more on a busy machine.
	slack time.Duration
}

// explainers are the functions that return what explains an alert, by the alert's name.
// Nothing explains an alert without one.
var explainers = map[string]func(*explainer, *alertEpisode) []string{
	"CollectordDown":               (*explainer).explainDown,
	"CollectordDataLate":           (*explainer).explainLateData,
	"CollectordRunFailing":         (*explainer).explainFailedRun,
	"CollectordCredentialsRefused": (*explainer).explainFailedRun,
	"CollectordRecordsFell":        (*explainer).explainHeld,
	"CollectordRestoreFailed":      (*explainer).explainRestore,
	"CollectordSinkFailing":        (*explainer).explainSink,
	"CollectordDeliveryRefused":    (*explainer).explainSink,
	"CollectordQueueGrowing":       (*explainer).explainSink,
	"CollectordTicksMissed":        (*explainer).explainMissedTicks,
	"CollectordReloadFailed":       (*explainer).explainReload,
	"CollectordStateUnreadable":    (*explainer).explainState,
	"CollectordNoLeader":           (*explainer).explainDown,
	"CollectordSettingsDiffer":     (*explainer).explainReload,
}

// checkAlerts checks that a fault explains each alert that fired.
func (s *soak) checkAlerts(e *evidence, f *findings) {
	s.alerts = nil
	explain := &explainer{s: s, evidence: e, slack: 3*s.prometheus.interval + 5*time.Second}
	for _, a := range e.alerts {
		var causes []string
		if of := explainers[a.labels["alertname"]]; of != nil {
			causes = of(explain, a)
		}
		s.alerts = append(s.alerts, explainedAlert{a, causes})
		if len(causes) == 0 && !a.fired.IsZero() {
			f.addf("false alert: %v fired %v after the start, and nothing explains it", a, a.fired.Sub(s.began).Round(time.Second))
		}
	}
}

func (e *explainer) explainDown(a *alertEpisode) []string {
	return e.s.events.during(a.from.Add(-e.slack), a.to, isKind(downEvent, slowEvent, scrapeEvent))
}

func (e *explainer) explainReload(a *alertEpisode) []string {
	return e.s.events.during(a.from.Add(-e.slack), a.to, isKind(badReload))
}

func (e *explainer) explainState(a *alertEpisode) []string {
	return e.s.events.during(a.from.Add(-e.slack), a.to, isKind(diskFault, clockFault))
}

// programKinds are the kinds of events that affect everything that the daemon does.
var programKinds = []string{downEvent, diskFault, clockFault}

// explainSink explains an alert about a destination.
func (e *explainer) explainSink(a *alertEpisode) []string {
	isSink := isAbout(a.labels["sink"])
	return e.s.events.during(a.from.Add(-e.slack), a.to, func(one event) bool { return isSink(one) || one.kind == diskFault || one.kind == clockFault })
}

// explainRestore explains an alert about a restore at the last start.
func (e *explainer) explainRestore(a *alertEpisode) []string {
	start := e.s.began
	for _, end := range e.s.daemon.ends {
		if end.at.Before(a.from) {
			start = end.at
		}
	}
	return e.s.events.during(start, a.from, func(one event) bool { return one.about == "backup" || one.kind == diskFault || one.kind == clockFault })
}

// explainMissedTicks explains ticks without a run: the clock, or runs that took longer
// than the interval.
func (e *explainer) explainMissedTicks(a *alertEpisode) []string {
	causes := e.s.events.during(e.s.began, a.to, isKind(clockFault))
	for _, r := range e.evidence.runs {
		if r.Collector == a.labels["collector"] && r.Outcome == state.Skipped && r.Started.Before(a.to) {
			return append(causes, "runs took longer than the interval of seconds")
		}
	}
	return causes
}

// explainHeld explains an alert about a held snapshot.
func (e *explainer) explainHeld(a *alertEpisode) []string {
	for _, r := range slices.Backward(e.evidence.runs) {
		if r.Stream == a.labels["stream"] && r.Outcome == state.Held && r.Ended.Before(a.from.Add(e.slack)) {
			return []string{fmt.Sprintf("the vendor had only %d records", r.Records)}
		}
	}
	return nil
}

// explainFailedRun explains an alert about the last run of a stream.
func (e *explainer) explainFailedRun(a *alertEpisode) []string {
	for _, r := range slices.Backward(e.evidence.runs) {
		if r.Stream == a.labels["stream"] && isFailure(r.Outcome) && r.Ended.Before(a.from.Add(e.slack)) {
			return e.explainRun(r)
		}
	}
	return nil
}

func isFailure(o state.Outcome) bool {
	return !o.IsSuccess() && o != state.Skipped && o != ""
}

// explainRun returns what explains the failure of a run: events that affect the whole
// daemon, or its vendor, or its key.
func (e *explainer) explainRun(r state.Run) []string {
	if r.Outcome == state.Held {
		return []string{fmt.Sprintf("the vendor had only %d records", r.Records)}
	}
	isVendor := isAbout(r.Collector)
	// Faults of the vendor may have effects for a while, such as a limit that is used up.
	return e.s.events.during(r.Started.Add(-faultTime), r.Ended.Add(time.Second), func(one event) bool {
		return isVendor(one) || slices.Contains(programKinds, one.kind)
	})
}

// explainLateData explains an alert about the age of a stream's data.
func (e *explainer) explainLateData(a *alertEpisode) []string {
	stream, collector := a.labels["stream"], a.labels["collector"]
	age := 3 * time.Duration(scheduleSeconds[collector]+1) * time.Second // at which it is late at the latest
	from := a.from.Add(-age - e.slack)
	causes := e.s.events.during(from, a.to, func(one event) bool { return one.kind == clockFault || one.about == stream })
	wrongClock := slices.Contains(causes, clockFault)
	for _, r := range e.evidence.runs {
		if r.Stream != stream || r.Ended.Before(from) || r.Started.After(a.to) {
			continue
		}
		good := r.Outcome.IsSuccess()
		switch {
		case good && !wrongClock && r.Ended.After(a.from.Add(e.slack)) && r.Ended.Before(a.to.Add(-e.slack)):
			return nil // the data was new while the alert was active
		case isFailure(r.Outcome):
			causes = append(causes, e.explainRun(r)...)
		case r.Ended.Sub(r.Started) > age/2:
			causes = append(causes, "a run took long")
		}
	}
	causes = append(causes, e.s.events.during(from, a.to, isKind(downEvent))...)
	slices.Sort(causes)
	return slices.Compact(causes)
}

// maxCauses is the number of explanations that the report has for an alert.
const maxCauses = 6

// alertLines returns the alerts as lines of a table.
func (s *soak) alertLines() (lines []string) {
	for _, a := range s.alerts {
		became, causes := "pending", strings.Join(a.causes[:min(len(a.causes), maxCauses)], "; ")
		if !a.fired.IsZero() {
			became = "fired"
		}
		switch more := len(a.causes) - maxCauses; {
		case causes == "":
			causes = "nothing"
		case more > 0:
			causes += fmt.Sprintf("; and %d more", more)
		}
		lines = append(lines, fmt.Sprintf("%v\t%s\t%v\t%v\t%s", a, became, a.from.Sub(s.began).Round(time.Second),
			a.to.Sub(a.from).Round(time.Second), causes))
	}
	return lines
}
