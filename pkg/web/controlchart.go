package web

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/control"
)

// formatScore returns a score in percent with one decimal. It rounds down, so that 100 %
// means that every resource is compliant.
func formatScore(score float64) string {
	tenths := int64(score*1000 + 1e-9)
	return fmt.Sprintf("%d.%d\u202f%%", tenths/10, tenths%10)
}

// formatLimit returns a target or a minimum in percent.
func formatLimit(limit float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", limit*100), ".0") + "\u202f%"
}

const scoreWidth, scoreHeight = 120, 14

// drawScore draws a score as a bar, and its minimum and target as lines across it.
func drawScore(score, target, minimum float64, colour control.Colour) template.HTML {
	x := func(share float64) float64 { return min(max(share, 0), 1) * scoreWidth }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="score" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s, minimum %s, target %s">`,
		scoreWidth, scoreHeight, scoreWidth, scoreHeight, formatScore(score), formatLimit(minimum), formatLimit(target))
	fmt.Fprintf(&b, `<rect class="track" x="0" y="3" width="%d" height="8"/>`, scoreWidth)
	fmt.Fprintf(&b, `<rect class="%s" x="0" y="3" width="%.1f" height="8"/>`, colour, x(score))
	fmt.Fprintf(&b, `<path class="minimum" d="M%.1f 1V13"/><path class="target" d="M%.1f 0V14"/></svg>`, clampLine(x(minimum)), clampLine(x(target)))
	return template.HTML(b.String()) // it consists of numbers and constants
}

// clampLine keeps a vertical line within the figure of a score.
func clampLine(x float64) float64 { return min(max(x, 1), scoreWidth-1) }

const trendWidth, trendHeight = 108, 24

// drawTrend draws the scores of the last 90 days before now as a line, with the target as
// a dashed one. A day without a result leaves a gap.
func drawTrend(days []control.DayScore, now time.Time) template.HTML {
	first, last, lowest, highest := describeTrend(days)
	if first == nil {
		return `<span class="dim">–</span>`
	}
	y := func(score float64) float64 { return 2 + (highest-score)/(highest-lowest)*(trendHeight-4) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="trend" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s on %s, %s on %s">`,
		trendWidth, trendHeight, trendWidth, trendHeight,
		formatScore(first.Score), template.HTMLEscapeString(first.Day), formatScore(last.Score), template.HTMLEscapeString(last.Day))
	fmt.Fprintf(&b, `<path class="target" d="M0 %.1fH%d"/>`, y(last.Target), trendWidth)
	path, previous := "", -2
	for _, d := range days {
		index := dayIndex(d.Day, now)
		if !d.Known || d.State == control.Failed || index < 0 {
			continue
		}
		command := "L"
		if index != previous+1 {
			command = "M"
		}
		x := 2 + float64(index)/(trendDays-1)*(trendWidth-4)
		path += fmt.Sprintf("%s%.1f %.1f", command, x, y(d.Score))
		if command == "M" {
			path += "h.1" // a single day is a point
		}
		previous = index
	}
	fmt.Fprintf(&b, `<path class="line" d="%s"/></svg>`, path)
	return template.HTML(b.String()) // it consists of numbers, constants and escaped texts
}

// describeTrend returns the first and the last measured day, nil for none, and the
// range of the scores and the last target, which is never empty.
func describeTrend(days []control.DayScore) (first, last *control.DayScore, lowest, highest float64) {
	lowest, highest = 1, 0
	for i, d := range days {
		if !d.Known || d.State == control.Failed {
			continue
		}
		if first == nil {
			first = &days[i]
		}
		last = &days[i]
		lowest, highest = min(lowest, d.Score), max(highest, d.Score)
	}
	if last == nil {
		return nil, nil, 0, 0
	}
	lowest, highest = min(lowest, last.Target), max(highest, last.Target)
	if highest-lowest < 0.05 { // a small change looks small
		middle := (highest + lowest) / 2
		lowest, highest = middle-0.025, middle+0.025
	}
	return first, last, lowest, highest
}

// dayIndex returns the index of a day in the last 90 days before now, 89 for today; -1
// for others.
func dayIndex(day string, now time.Time) int {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return -1
	}
	index := trendDays - 1 - int(now.UTC().Truncate(24*time.Hour).Sub(at).Hours())/24
	if index < 0 || index >= trendDays {
		return -1
	}
	return index
}

// drawDays draws one bar for each of the last 90 days before now, with lines at the last
// target and minimum; nil without a score. Days on which the control failed have the
// last score in grey.
func drawDays(days []control.DayScore, now time.Time) *chart {
	var last *control.DayScore
	for i, d := range days {
		if d.Known {
			last = &days[i]
		}
	}
	if last == nil {
		return nil
	}
	c := &chart{Title: "Score", Last: formatScore(last.Score)}
	y := func(score float64) float64 { return 4 + (1-min(max(score, 0), 1))*(chartHeight-5) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="The score of each day, last %s of %s">`,
		chartWidth, chartHeight, formatScore(last.Score), template.HTMLEscapeString(last.Day))
	const step = float64(chartWidth) / trendDays
	for _, d := range days {
		index := dayIndex(d.Day, now)
		if !d.Known || index < 0 {
			continue
		}
		class := string(d.Colour)
		if d.State == control.Failed {
			class = "skipped"
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>`,
			class, float64(index)*step, y(d.Score), step*0.8, max(chartHeight-y(d.Score), 2))
	}
	fmt.Fprintf(&b, `<path class="minimum" d="M0 %.1fH%d"/><path class="target" d="M0 %.1fH%d"/></svg>`,
		y(last.Minimum), chartWidth, y(last.Target), chartWidth)
	c.Figure = template.HTML(b.String()) // it consists of numbers, constants and escaped texts
	return c
}
