package web

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/collectord/collectord/pkg/state"
)

// good tells whether an outcome is one with the vendor's whole answer.
func good(o state.Outcome) bool { return o == state.Success || o == state.Empty }

const sparkWidth, sparkHeight = 96, 20

// sparkline draws the records of the last runs, one bar each, the newest at
// the right. A run without a new snapshot is a short bar of its own color.
func sparkline(points []state.Point) template.HTML {
	var most int64 = 1
	for _, p := range points {
		if good(p.Outcome) {
			most = max(most, p.Records)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="spark" width="%d" height="%d" viewBox="0 0 %d %d" aria-hidden="true" focusable="false">`, sparkWidth, sparkHeight, sparkWidth, sparkHeight)
	const step = float64(sparkWidth) / sparkRuns
	x := sparkWidth - step*float64(len(points))
	for _, p := range points {
		class, height := "bad", 5.0
		if good(p.Outcome) {
			class, height = "good", max(1, float64(p.Records)/float64(most)*sparkHeight)
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, class, x, sparkHeight-height, step-0.7, height)
		x += step
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // numbers and constants only
}

// A chart is one figure of the stream page.
type chart struct {
	Title, Most, Last string
	Figure            template.HTML
}

const chartWidth, chartHeight = 480, 96

// barChart draws one bar per value, evenly spaced, oldest first. bad marks the
// runs without a new snapshot, which have a mark at the base.
func barChart(title string, values []float64, bad []bool, format func(float64) string) chart {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	c := chart{Title: title, Most: format(most)}
	if n := len(values); n > 0 {
		c.Last = format(values[n-1])
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-label="%s, at most %s">`,
		chartWidth, chartHeight, template.HTMLEscapeString(title), template.HTMLEscapeString(c.Most))
	fmt.Fprintf(&b, `<line class="grid" x1="0" x2="%d" y1="%d" y2="%d"/>`, chartWidth, chartHeight/2, chartHeight/2)
	step := float64(chartWidth) / float64(max(len(values), 20))
	x := chartWidth - step*float64(len(values))
	for i, v := range values {
		class, height := "good", 0.0
		if most > 0 {
			height = v / most * (chartHeight - 6)
		}
		if bad[i] {
			class, height = "bad", max(height, 5)
		}
		if height > 0 {
			fmt.Fprintf(&b, `<rect class="%s" x="%.2f" y="%.2f" width="%.2f" height="%.2f"/>`, class, x, chartHeight-height, max(step*0.8, 0.6), height)
		}
		x += step
	}
	fmt.Fprintf(&b, `<line class="base" x1="0" x2="%d" y1="%.1f" y2="%.1f"/></svg>`, chartWidth, chartHeight-0.5, chartHeight-0.5)
	c.Figure = template.HTML(b.String()) // numbers, constants and what is escaped
	return c
}
