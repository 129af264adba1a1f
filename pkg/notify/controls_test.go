package notify_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/notify"
)

// defineControls makes controls with these ids those of the simulation. Their target is
// 90 %, their minimum 50 %. Those that were there keep their results.
func (s *simulation) defineControls(ids ...string) {
	before := s.controls
	s.controls = map[string]*notify.Control{}
	for _, id := range ids {
		s.controls[id] = before[id]
		if s.controls[id] == nil {
			s.controls[id] = &notify.Control{ID: id, Title: "Title of " + id, Target: 0.9, Minimum: 0.5}
		}
	}
}

// empty and broken are scores of controls without one.
const (
	empty  = -1 // no row has a compliance
	broken = -2 // the control failed
)

// evaluateControls records the results of one evaluation: how many of 100 rows are
// compliant, by the ids of the controls.
func (s *simulation) evaluateControls(scores map[string]int) {
	for id, score := range scores {
		c := s.controls[id]
		if score == broken {
			if c.Err == "" {
				c.Err, c.FailedSince = id+".yml:3: no column vendor-secret", s.now
			}
			continue
		}
		c.Err, c.FailedSince, c.Measured = "", time.Time{}, s.now
		c.Score, c.Rows, c.NotCompliant = scoreOf(score), 100, int64(100-score)
		if score == empty {
			c.Rows, c.NotCompliant = 0, 0
		}
	}
}

// scoreOf returns the score of a control with a number of compliant rows of 100.
func scoreOf(rows int) notify.ControlScore {
	s := notify.ControlScore{Score: float64(rows) / 100}
	switch {
	case rows == empty:
		s.Score = 0
	case rows >= 90:
		s.Colour = "green"
	case rows >= 50:
		s.Colour = "amber"
	default:
		s.Colour = "red"
	}
	return s
}

// readControls returns the controls that were measured or failed. The score of all of
// them together is said to be 75 %.
func (s *simulation) readControls(context.Context) (all notify.Controls, err error) {
	for _, id := range slices.Sorted(maps.Keys(s.controls)) {
		if c := s.controls[id]; !c.Measured.IsZero() || c.Err != "" {
			all.All = append(all.All, *c)
			all.Overall = notify.ControlScore{Colour: "amber", Score: 0.75}
		}
	}
	return all, nil
}

// crash ends the service without a last check, and starts another one on its state.
func (s *simulation) crash() {
	s.Helper()
	if err := s.state.Close(); err != nil {
		s.Error(err)
	}
	s.state = nil
	s.restart()
}

// TestFirstScoresAreOneSummary, across restarts: not a change of each control.
func TestFirstScoresAreOneSummary(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	var ids []string
	scores := map[string]int{}
	for i := range 30 {
		ids = append(ids, fmt.Sprintf("control_%02d", i))
		scores[ids[i]] = []int{20, 70, 95}[i%3]
	}
	s.defineControls(append(ids, "unmeasured")...)
	s.passTime(time.Hour)
	scores["control_29"] = empty
	s.evaluateControls(scores)
	s.crash()
	s.passTime(time.Hour)
	s.restart()
	s.evaluateControls(scores)
	s.passTime(48 * time.Hour)
	s.assertReports([]string{
		"29 controls with a first score: 10 red, 10 amber, 9 green; all controls together are amber, 75 %.",
		"Red: control_00, control_03, control_06, ", "control_27.", "Status page: https://collectord.example.com/",
	})
	if strings.Contains(s.reports[0], "was") {
		t.Errorf("the summary has changes: %s", s.reports[0])
	}
	// A control that is added later, and one that had no row yet.
	s.defineControls(append(ids, "added")...)
	s.evaluateControls(map[string]int{"added": 10, "control_29": 99})
	s.passTime(48 * time.Hour)
	s.assertReports(nil, []string{"2 controls with a first score: 1 red, 1 green; ", "Red: added."})
}

// TestColourChangesOfAnEvaluationAreOneMessage, also when the service died after it: those
// that are worse, those that are better and those that failed.
func TestColourChangesOfAnEvaluationAreOneMessage(t *testing.T) {
	t.Parallel()
	for _, restart := range []func(*simulation){(*simulation).crash, func(*simulation) {}} {
		s := newSimulation(t)
		s.defineControls("a_better", "b_same", "c_worse", "d_worse", "e_fails", "f_empty")
		s.evaluateControls(map[string]int{"a_better": 40, "b_same": 60, "c_worse": 95, "d_worse": 90, "e_fails": 99, "f_empty": 91})
		s.passTime(time.Hour)
		s.evaluateControls(map[string]int{"a_better": 100, "b_same": 61, "c_worse": 30, "d_worse": 89, "e_fails": broken, "f_empty": empty})
		restart(s)
		s.passTime(20 * time.Hour)
		s.assertReports([]string{"6 controls with a first score"}, []string{
			"The control e_fails failed: e_fails.yml:3: no column [redacted]\nIts last score stays: green, 99 %, of 2026-03-01 00:00 UTC",
			"4 controls changed colour; all controls together are amber, 75 %:\n" +
				"f_empty (Title of f_empty): no score, was green, 91 %; no row has a compliance\n" +
				"c_worse (Title of c_worse): red, 30 %, was green, 95 %; target 90 %, minimum 50 %; 70 of 100 rows are not compliant\n" +
				"d_worse (Title of d_worse): amber, 89 %, was green, 90 %; target 90 %, minimum 50 %; 11 of 100 rows are not compliant\n" +
				"a_better (Title of a_better): green, 100 %, was red, 40 %; target 90 %, minimum 50 %\n",
		})
	}
}

// TestControlFailsForTwoDays: one message at the begin, one a day and one at the end, with
// restarts between.
func TestControlFailsForTwoDays(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.defineControls("mfa", "new")
	s.evaluateControls(map[string]int{"mfa": 95})
	s.passTime(time.Hour)
	for range 8 {
		s.evaluateControls(map[string]int{"mfa": broken, "new": broken})
		s.passTime(6 * time.Hour)
		s.restart()
	}
	s.evaluateControls(map[string]int{"mfa": 70, "new": 95})
	s.passTime(24 * time.Hour)
	s.assertReports(
		[]string{"1 control with a first score"},
		[]string{"The control mfa failed: ", "The control new failed: ", "It has no score yet.", "collectord controls new"},
		[]string{"day 2, 01:", "Still, since 2026-03-01 01:00 UTC, 1 day ago: The control mfa failed: ", "Still, since 2026-03-01 01:00 UTC, 1 day ago: The control new failed: "},
		[]string{
			"The control mfa is measured again: amber, 70 %. It had failed since 2026-03-01 01:00 UTC, 2 days ago.",
			"The control new is measured again: green, 95 %.", "1 control changed colour", "mfa (Title of mfa): amber, 70 %, was green, 95 %",
			"1 control with a first score: 1 green",
		},
	)
}

// TestColourThatChangesAgainAndAgain has a message for each of the first changes, and then
// one a day.
func TestColourThatChangesAgainAndAgain(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.defineControls("mfa")
	for hour := range 96 {
		s.evaluateControls(map[string]int{"mfa": []int{95, 89}[hour%2]})
		s.passTime(time.Hour)
		if hour%10 == 3 {
			s.restart()
		}
	}
	if len(s.reports) < 6 || len(s.reports) > 9 || !strings.Contains(s.reports[4], "It changes again and again: the next message about it follows in a day") {
		t.Errorf("%d messages about 95 changes of four days:\n%s", len(s.reports), strings.Join(s.reports, "\n\n"))
	}
}

// TestShortChangeOfColourIsNotReported, as one that lasts less than messages wait.
func TestShortChangeOfColourIsNotReported(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.defineControls("mfa")
	s.evaluateControls(map[string]int{"mfa": 95})
	s.passTime(time.Hour)
	for _, score := range []int{20, 95} {
		s.evaluateControls(map[string]int{"mfa": score})
		s.now = s.now.Add(5 * time.Second)
		s.n.Check(t.Context())
	}
	s.passTime(time.Hour)
	s.assertReports([]string{"1 control with a first score"})
}

// TestControlsThatAreNotReported: with other kinds selected, removed, and switched off.
func TestControlsThatAreNotReported(t *testing.T) {
	t.Parallel()
	s := newSimulation(t)
	s.events = []string{"failure"}
	s.restart()
	s.defineControls("mfa", "other")
	s.evaluateControls(map[string]int{"mfa": 95, "other": broken})
	s.passTime(time.Hour)
	s.evaluateControls(map[string]int{"mfa": 10})
	s.passTime(30 * time.Hour)
	s.assertReports()
	s.events = nil
	s.restart()
	s.passTime(time.Hour)
	s.assertReports([]string{"1 control with a first score: 1 red", "The control other failed"})
	s.defineControls("mfa")
	s.passTime(48 * time.Hour)
	s.defineControls()
	s.passTime(48 * time.Hour)
	s.assertReports(nil)
	if slices.ContainsFunc(s.reports, func(r string) bool { return strings.Contains(r, "Still") }) {
		t.Error("a removed control is reported as a problem that lasts")
	}
}
