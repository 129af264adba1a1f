package web

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/collectord/collectord/pkg/state"
)

// barClass returns the class of a run's bar: good for complete data, skipped for a tick
// that was skipped, bad for other outcomes.
func barClass(o state.Outcome) string {
	switch {
	case o.IsSuccess():
		return "good"
	case o == state.Skipped:
		return "skipped"
	}
	return "bad"
}

const sparkWidth, sparkHeight = 96, 20

// sparkline draws the records of the last runs as one bar each, the newest at the right. A run
// without a new snapshot, and a skipped tick, is a short bar with its own color.
func sparkline(points []state.Point) template.HTML {
	var most int64 = 1
	for _, p := range points {
		if p.Outcome.IsSuccess() {
			most = max(most, p.Records)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true" focusable="false">`,
		sparkWidth, sparkHeight, sparkWidth, sparkHeight)
	const step = float64(sparkWidth) / sparkRuns
	x := sparkWidth - step*float64(len(points))
	for _, p := range points {
		class, height := barClass(p.Outcome), 5.0
		if p.Outcome.IsSuccess() {
			height = max(1, float64(p.Records)/float64(most)*sparkHeight)
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, class, x, sparkHeight-height, step-0.7, height)
		x += step
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // it consists of numbers and constants
}

// A chart is one figure on the status page of a stream.
type chart struct {
	Title, Most, Last string
	Figure            template.HTML
}

const chartWidth, chartHeight = 480, 96

// barChart draws one bar per value, evenly spaced, the oldest first. classes are the barClass of
// the runs; those without a new snapshot have a bar even when the value is 0.
func barChart(title string, values []float64, classes []string, format func(float64) string) chart {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	c := chart{Title: title, Most: format(most)}
	for i, v := range values {
		if classes[i] != "skipped" {
			c.Last = format(v)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s, highest %s">`,
		chartWidth, chartHeight, template.HTMLEscapeString(title), template.HTMLEscapeString(c.Most))
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="%d" y1="%d" y2="%d"/>`, chartWidth, chartHeight/2, chartHeight/2)
	step := float64(chartWidth) / float64(max(len(values), 20))
	x := chartWidth - step*float64(len(values))
	for i, v := range values {
		class, height := classes[i], 0.0
		if most > 0 {
			height = v / most * (chartHeight - 6)
		}
		if class != "good" {
			height = max(height, 5)
		}
		if height > 0 {
			fmt.Fprintf(&b, `<rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>`,
				class, x, chartHeight-height, max(step*0.8, 0.6), height)
		}
		x += step
	}
	fmt.Fprintf(&b, `<line class="base" x1="0" x2="%d" y1="%.1f" y2="%.1f"/></svg>`, chartWidth, chartHeight-0.5, chartHeight-0.5)
	c.Figure = template.HTML(b.String()) // it consists of numbers, constants and escaped texts
	return c
}
