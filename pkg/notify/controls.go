package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/control"
)

// A colourRecord is what the state keeps of the colour of a control that has had a score.
type colourRecord struct {
	colourNow
	// Told is what the last message said; nil when no message had the control.
	Told *colourNow `json:"told,omitempty"`
	// Changed is when the colour last changed.
	Changed time.Time `json:"changed"`
	mentions
}

// A colourNow is the colour of a control at one time.
type colourNow struct {
	// Colour is "" when the control has no score any more.
	Colour control.Colour `json:"colour,omitempty"`
	Score  float64        `json:"score,omitempty"`
}

// String returns the colour and the score, such as "red, 71.2 %".
func (c colourNow) String() string {
	if c.Colour == control.None {
		return "no score"
	}
	return fmt.Sprintf("%s, %s", c.Colour, formatPercent(c.Score))
}

// formatPercent returns a share in percent, rounded down, so that 100 % means all.
func formatPercent(share float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(int64(share*1000+1e-9))/10), ".0") + " %"
}

// applyColours records the colours of the controls. Those of controls that are not
// measured any more are removed.
func (b *book) applyColours(now time.Time, all []control.Status) {
	known := map[string]bool{}
	for _, s := range all {
		r := b.Colours[s.ID]
		if s.State == control.Off || s.State == control.Pending || r == nil && !s.Known {
			continue
		}
		known[s.ID] = true
		if r == nil {
			r = &colourRecord{Changed: now}
			if b.Colours == nil {
				b.Colours = map[string]*colourRecord{}
			}
			b.Colours[s.ID] = r
		}
		if r.Colour != s.Colour {
			r.Changed = now
		}
		r.colourNow = colourNow{s.Colour, s.Score}
	}
	for id := range b.Colours {
		if !known[id] {
			delete(b.Colours, id)
		}
	}
}

// hasNews reports whether a message about the colour is due.
func (r *colourRecord) hasNews(now time.Time) bool {
	if r.Told == nil {
		return true
	}
	return r.Colour != r.Told.Colour && !r.isPaused(now)
}

// A colourNews is a control whose colour changed since the last message.
type colourNews struct {
	control.Status
	// before is nil for the first score.
	before *colourNow
	paused bool
}

// isWorse reports whether the colour is worse than that before.
func (c colourNews) isWorse() bool { return colourRank(c.Colour) < colourRank(c.before.Colour) }

// colourRank orders colours from the worst to the best.
func colourRank(c control.Colour) int {
	return slices.Index([]control.Colour{control.None, control.Red, control.Amber, control.Green}, c)
}

// takeColours returns the controls whose colour is to be reported, the worst change first,
// and records that it is.
func (b *book) takeColours(now time.Time, all []control.Status) (news []colourNews) {
	for _, s := range all {
		r := b.Colours[s.ID]
		if r == nil || !r.hasNews(now) {
			continue
		}
		one := colourNews{Status: s, before: r.Told}
		told := r.colourNow
		r.Told = &told
		if one.before != nil {
			r.mention(now)
			one.paused = r.isFlapping(now)
		}
		news = append(news, one)
	}
	slices.SortStableFunc(news, func(x, y colourNews) int {
		return cmp.Or(cmp.Compare(colourRank(x.Colour), colourRank(y.Colour)), cmp.Compare(x.ID, y.ID))
	})
	return news
}

// maxListedControls bounds the controls that a message lists.
const maxListedControls = 20

// formatColours returns the paragraphs about the colours of controls: one for those that
// changed, one for those with their first score.
func formatColours(news []colourNews, all []control.Status) (paragraphs []string) {
	var changed, first []colourNews
	for _, one := range news {
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
		lines := []string{countControls(len(changed)) + " changed colour" + describeOverall(all) + ":"}
		paragraphs = append(paragraphs, strings.Join(append(lines, listChanges(changed)...), "\n"))
	}
	if len(first) > 0 {
		paragraphs = append(paragraphs, formatFirstScores(first, all))
	}
	return paragraphs
}

// listChanges returns a line for each control that changed.
func listChanges(changed []colourNews) (lines []string) {
	for i, one := range changed {
		if i == maxListedControls {
			return append(lines, fmt.Sprintf("and %d more", len(changed)-i))
		}
		now := colourNow{one.Colour, one.Score}
		line := fmt.Sprintf("%s: %s, was %s%s", describeControl(one.Status), now, *one.before, describeLimits(one.Status))
		if one.paused {
			line += ". It changes again and again: the next message about it follows in a day"
		}
		lines = append(lines, line)
	}
	return lines
}

// describeControl returns the id and the title of a control.
func describeControl(s control.Status) string {
	if s.Title == "" || s.Title == s.ID {
		return s.ID
	}
	return fmt.Sprintf("%s (%s)", s.ID, s.Title)
}

// describeLimits returns what the colour of a control follows from.
func describeLimits(s control.Status) string {
	if !s.Known {
		return "; no row has a compliance"
	}
	text := fmt.Sprintf("; target %s, minimum %s", formatPercent(s.Target), formatPercent(s.Minimum))
	if s.NotFull > 0 {
		text += fmt.Sprintf("; %s of %s rows are not compliant", humanize.Comma(s.NotFull), humanize.Comma(s.Rows))
	}
	return text
}

// describeOverall returns the score of all controls; "" without one.
func describeOverall(all []control.Status) string {
	overall, known := control.OverallScore(all)
	if !known {
		return ""
	}
	return fmt.Sprintf("; all controls together are %s, %s", overall.Colour, formatPercent(overall.Score))
}

// formatFirstScores returns a summary of the controls with their first score. It names
// those that are red.
func formatFirstScores(first []colourNews, all []control.Status) string {
	counts := map[control.Colour]int{}
	var red []string
	for _, one := range first {
		counts[one.Colour]++
		if one.Colour == control.Red {
			red = append(red, one.ID)
		}
	}
	var parts []string
	for _, c := range []control.Colour{control.Red, control.Amber, control.Green} {
		if counts[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[c], c))
		}
	}
	if counts[control.None] > 0 {
		parts = append(parts, fmt.Sprintf("%d without a score", counts[control.None]))
	}
	text := fmt.Sprintf("%s with a first score: %s%s.", countControls(len(first)), strings.Join(parts, ", "), describeOverall(all))
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
func (n *Notifier) controlVerdict(s control.Status) verdict {
	switch s.State {
	case control.Failed:
		p := problem{
			Text:   fmt.Sprintf("The control %s failed: %s", s.ID, truncate(s.Err)),
			Since:  s.Attempt.FailedSince.UTC(),
			Advice: "It has no score yet. Fix its file or its data; it is measured again by itself, and at once with: collectord controls " + s.ID,
		}
		if s.Known {
			p.Advice = fmt.Sprintf("Its last score stays: %s, of %s. Fix its file or its data; it is measured again by itself, and at once with: collectord controls %s",
				colourNow{s.Colour, s.Score}, n.formatAge(s.Measured), s.ID)
		}
		return verdict{problem: p}
	case control.Measured:
		return verdict{state: ended, end: colourNow{s.Colour, s.Score}.String()}
	case control.Empty:
		return verdict{state: ended, end: "it has no score, because no row has a compliance"}
	}
	return verdict{state: forgotten}
}
