package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The Controls are what is known about controls at one moment.
type Controls struct {
	// All are those that were measured or failed.
	All []Control
	// Overall is the score of all of them together.
	Overall ControlScore
}

// A Control is what is known about one control.
type Control struct {
	ID, Title string
	// Score is the last one, also when the last attempt failed. Measured is when.
	Score    ControlScore
	Measured time.Time
	// Target is the score from which the control is green, Minimum that from which it is
	// amber.
	Target, Minimum float64
	// Rows is the number of rows, and NotCompliant of those that are not fully compliant.
	Rows, NotCompliant int64
	// Err is why the last attempt failed, and FailedSince since when all have; "" and zero
	// when it did not.
	Err         string
	FailedSince time.Time
}

// A ControlScore is a score and its colour.
type ControlScore struct {
	// Colour is "green", "amber" or "red"; "" when there is no score.
	Colour string  `json:"colour,omitempty"`
	Score  float64 `json:"score,omitempty"`
}

// String returns the colour and the score, such as "red, 71.2 %".
func (c ControlScore) String() string {
	if c.Colour == "" {
		return "no score"
	}
	return fmt.Sprintf("%s, %s", c.Colour, formatPercent(c.Score))
}

// A colourRecord is what the state keeps of the colour of a control that has had a score.
type colourRecord struct {
	ControlScore
	// Told is what the last message said; nil when no message had the control.
	Told *ControlScore `json:"told,omitempty"`
	// Changed is when the colour last changed.
	Changed time.Time `json:"changed"`
	mentions
}

// formatPercent returns a share in percent, rounded down, so that 100 % means all.
func formatPercent(share float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(int64(share*1000+1e-9))/10), ".0") + " %"
}

// applyColours records the colours of the controls. Those of controls that are not
// measured any more are removed.
func (b *book) applyColours(now time.Time, all []Control) {
	known := map[string]bool{}
	for _, one := range all {
		c := b.Colours[one.ID]
		if c == nil && one.Score.Colour == "" {
			continue
		}
		known[one.ID] = true
		if c == nil {
			c = &colourRecord{Changed: now}
			if b.Colours == nil {
				b.Colours = map[string]*colourRecord{}
			}
			b.Colours[one.ID] = c
		}
		if c.Colour != one.Score.Colour {
			c.Changed = now
		}
		c.ControlScore = one.Score
	}
	maps.DeleteFunc(b.Colours, func(id string, _ *colourRecord) bool { return !known[id] })
}

// hasNews reports whether a message about the colour is due.
func (c *colourRecord) hasNews(now time.Time) bool {
	if c.Told == nil {
		return true
	}
	return c.Colour != c.Told.Colour && !c.isPaused(now)
}

// A colourNews is a control whose colour changed since the last message.
type colourNews struct {
	Control
	// before is nil for the first score.
	before *ControlScore
	paused bool
}

// isWorse reports whether the colour is worse than that before.
func (c colourNews) isWorse() bool { return colourRank(c.Score.Colour) < colourRank(c.before.Colour) }

// colourRank orders colours from the worst to the best.
func colourRank(colour string) int {
	return slices.Index([]string{"", "red", "amber", "green"}, colour)
}

// takeColours returns the controls whose colour is to be reported, the worst first, and
// records that it is.
func (b *book) takeColours(now time.Time, all []Control) (changes []colourNews) {
	for _, one := range all {
		c := b.Colours[one.ID]
		if c == nil || !c.hasNews(now) {
			continue
		}
		change := colourNews{Control: one, before: c.Told}
		told := c.ControlScore
		c.Told = &told
		if change.before != nil {
			c.mention(now)
			change.paused = c.isFlapping(now)
		}
		changes = append(changes, change)
	}
	slices.SortStableFunc(changes, func(x, y colourNews) int {
		return cmp.Or(cmp.Compare(colourRank(x.Score.Colour), colourRank(y.Score.Colour)), cmp.Compare(x.ID, y.ID))
	})
	return changes
}

// maxListedControls bounds the controls that a message lists.
const maxListedControls = 20

// formatColours returns the paragraphs about the colours of controls: one for those that
// changed, one for those with their first score.
func formatColours(changes []colourNews, overall ControlScore) (paragraphs []string) {
	var changed, first []colourNews
	for _, one := range changes {
		if one.before == nil {
			first = append(first, one)
		} else {
			changed = append(changed, one)
		}
	}
	if len(changed) > 0 {
		isBetter := func(one colourNews) bool { return !one.isWorse() }
		better := slices.DeleteFunc(slices.Clone(changed), colourNews.isWorse)
		changed = append(slices.DeleteFunc(changed, isBetter), better...)
		lines := []string{countControls(len(changed)) + " changed colour" + describeOverall(overall) + ":"}
		paragraphs = append(paragraphs, strings.Join(append(lines, listChanges(changed)...), "\n"))
	}
	if len(first) > 0 {
		paragraphs = append(paragraphs, formatFirstScores(first, overall))
	}
	return paragraphs
}

// listChanges returns a line for each control that changed.
func listChanges(changed []colourNews) (lines []string) {
	for i, one := range changed {
		if i == maxListedControls {
			return append(lines, fmt.Sprintf("and %d more", len(changed)-i))
		}
		line := fmt.Sprintf("%s: %s, was %s%s", describeControl(one.Control), one.Score, *one.before, describeLimits(one.Control))
		if one.paused {
			line += ". It changes again and again: the next message about it follows in a day"
		}
		lines = append(lines, line)
	}
	return lines
}

// describeControl returns the id and the title of a control.
func describeControl(c Control) string {
	if c.Title == "" || c.Title == c.ID {
		return c.ID
	}
	return fmt.Sprintf("%s (%s)", c.ID, c.Title)
}

// describeLimits returns what the colour of a control follows from.
func describeLimits(c Control) string {
	if c.Score.Colour == "" {
		return "; no row has a compliance"
	}
	text := fmt.Sprintf("; target %s, minimum %s", formatPercent(c.Target), formatPercent(c.Minimum))
	if c.NotCompliant > 0 {
		text += fmt.Sprintf("; %s of %s rows are not compliant", humanize.Comma(c.NotCompliant), humanize.Comma(c.Rows))
	}
	return text
}

// describeOverall returns the score of all controls; "" without one.
func describeOverall(overall ControlScore) string {
	if overall.Colour == "" {
		return ""
	}
	return "; all controls together are " + overall.String()
}

// formatFirstScores returns a summary of the controls with their first score. It names
// those that are red.
func formatFirstScores(first []colourNews, overall ControlScore) string {
	counts := map[string]int{}
	var red []string
	for _, one := range first {
		counts[one.Score.Colour]++
		if one.Score.Colour == "red" {
			red = append(red, one.ID)
		}
	}
	var parts []string
	for _, c := range []string{"red", "amber", "green"} {
		if counts[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c], c))
		}
	}
	if counts[""] > 0 {
		parts = append(parts, fmt.Sprintf("%d without a score", counts[""]))
	}
	text := fmt.Sprintf("%s with a first score: %s%s.", countControls(len(first)), strings.Join(parts, ", "), describeOverall(overall))
	if more := len(red) - maxListedControls; more > 0 {
		red = append(red[:maxListedControls], fmt.Sprintf("and %d more", more))
	}
	if len(red) > 0 {
		text += " Red: " + strings.Join(red, ", ") + "."
	}
	return text + "\nFrom now on, each change of colour is reported."
}

// countControls returns "1 control", "2 controls" and so on.
func countControls(n int) string {
	if n == 1 {
		return "1 control"
	}
	return humanize.Comma(int64(n)) + " controls"
}

// controlVerdict returns the verdict about a control: whether it fails.
func (n *Notifier) controlVerdict(c Control) verdict {
	if c.Err == "" {
		return verdict{state: ended, end: c.Score.String()}
	}
	p := problem{
		Text:   fmt.Sprintf("The control %s failed: %s", c.ID, truncate(c.Err)),
		Since:  c.FailedSince.UTC(),
		Advice: "It has no score yet. ",
	}
	if c.Score.Colour != "" {
		p.Advice = fmt.Sprintf("Its last score stays: %s, of %s. ", c.Score, n.formatAge(c.Measured))
	}
	p.Advice += "Fix its file or its data. It is measured again after six hours, and at once with: collectord controls " + c.ID
	return verdict{problem: p}
}
