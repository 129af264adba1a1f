package main

import (
	"fmt"
	"slices"
	"time"
)

// A side is one of two ways to do the same.
type side func() (measured, error)

// compare runs a and b in turns, A B A B, and returns the runs of each.
func (l *lab) compare(a, b side) (as, bs []measured, err error) {
	runs, err := l.turns(l.pairs, a, b)
	if err != nil {
		return nil, nil, err
	}
	return runs[0], runs[1], nil
}

// turns runs the sides in turns, so many rounds, and returns the runs of each.
func (l *lab) turns(rounds int, sides ...side) ([][]measured, error) {
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

// ratios returns the median over the pairs of a's time to b's.
func ratios(as, bs []measured) float64 {
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

func walls(runs []measured) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, r.wall.Seconds())
	}
	return median(list)
}

func cpus(runs []measured) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, r.cpu.Seconds())
	}
	return median(list)
}

func mostRSS(runs []measured) (most int64) {
	for _, r := range runs {
		most = max(most, r.rss)
	}
	return most
}

// rate writes a speed and the processor time it takes.
func rate(bytes int64, seconds float64) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/seconds)
}

func perGB(bytes int64, cpuSeconds float64) string {
	return fmt.Sprintf("%.1f s CPU per GB", cpuSeconds/(float64(bytes)/1e9))
}

func mb(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
