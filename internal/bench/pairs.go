package main

import (
	"fmt"
	"slices"
	"time"
)

// A runFunc runs one side of a comparison.
type runFunc func() (measured, error)

// comparePair runs a and b alternately, A B A B, and returns the runs of each.
func (l *lab) comparePair(a, b runFunc) (as, bs []measured, err error) {
	runs, err := l.runInterleaved(l.pairs, a, b)
	if err != nil {
		return nil, nil, err
	}
	return runs[0], runs[1], nil
}

// runInterleaved runs the sides one after the other, the given number of times,
// and returns the runs of each.
func (l *lab) runInterleaved(rounds int, sides ...runFunc) ([][]measured, error) {
	runs := make([][]measured, len(sides))
	for range rounds {
		for i, do := range sides {
			m, err := do()
			if err != nil {
				return nil, err
			}
			runs[i] = append(runs[i], m)
		}
	}
	return runs, nil
}

// medianRatio returns the median of the ratios of a's time to b's over all
// pairs.
func medianRatio(as, bs []measured) float64 {
	var list []float64
	for i := range as {
		list = append(list, as[i].wall.Seconds()/bs[i].wall.Seconds())
	}
	return median(list)
}

func median(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	if n == 0 {
		return 0
	}
	return (list[(n-1)/2] + list[n/2]) / 2
}

func medianWall(runs []measured) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, r.wall.Seconds())
	}
	return median(list)
}

func medianCPU(runs []measured) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, r.cpu.Seconds())
	}
	return median(list)
}

func peakRSS(runs []measured) (most int64) {
	for _, r := range runs {
		most = max(most, r.rss)
	}
	return most
}

// formatRate formats a speed.
func formatRate(bytes int64, seconds float64) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/seconds)
}

func formatCPUPerGB(bytes int64, cpuSeconds float64) string {
	return fmt.Sprintf("%.1f s CPU per GB", cpuSeconds/(float64(bytes)/1e9))
}

func formatMB(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

func formatSeconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
