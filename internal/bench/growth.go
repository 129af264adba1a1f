package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// growthSizes are the numbers of records at which growth is measured.
var growthSizes = []int{10_000, 100_000, 500_000, 2_000_000}

// A growthPoint holds the extractions of one size.
type growthPoint struct {
	runs     []measured
	snapshot *snapshot.Snapshot
}

// timePerRecord returns the median time per record in seconds.
func (g growthPoint) timePerRecord() float64 { return medianWall(g.runs) / float64(g.snapshot.Records) }

// medianRSS returns the median of the peak memory in bytes.
func (g growthPoint) medianRSS() int64 {
	var list []float64
	for _, r := range g.runs {
		list = append(list, float64(r.rss))
	}
	return int64(median(list))
}

// measureGrowth extracts each size once for all cases that examine growth.
func (l *lab) measureGrowth() ([]growthPoint, error) {
	return memoize(l, "growth", func() ([]growthPoint, error) {
		var all []growthPoint
		for _, n := range growthSizes {
			v, err := l.startSimulator(n)
			if err != nil {
				return nil, err
			}
			g, err := l.repeatExtraction(v)
			v.stop()
			if err != nil {
				return nil, err
			}
			all = append(all, g)
		}
		return all, nil
	})
}

// repeatExtraction extracts all records of v once for each pair.
func (l *lab) repeatExtraction(v vendor) (g growthPoint, err error) {
	for range l.pairs {
		m, s, dir, err := l.extractIntoNewDir(v)
		if err != nil {
			return growthPoint{}, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return growthPoint{}, err
		}
		g.runs, g.snapshot = append(g.runs, m), s
	}
	return g, nil
}

func benchMemory(l *lab) (result, error) {
	all, err := l.measureGrowth()
	if err != nil {
		return result{}, err
	}
	small, large := all[1], all[3]
	ratio := float64(large.medianRSS()) / float64(small.medianRSS())
	return result{
		figure: fmt.Sprintf("%s at %d, %s at %d", formatMB(small.medianRSS()), small.snapshot.Records,
			formatMB(large.medianRSS()), large.snapshot.Records),
		ratio: fmt.Sprintf("%.2f times the memory for %.0f times the records", ratio,
			float64(large.snapshot.Records)/float64(small.snapshot.Records)),
		notes: []string{fmt.Sprintf("Medians of the peak of each run. The largest peak is %s.",
			formatMB(max(peakRSS(small.runs), peakRSS(large.runs))))},
		met: peakRSS(small.runs) < 96e6 && peakRSS(large.runs) < 96e6 && ratio <= 1.1,
	}, nil
}

func benchGrowth(l *lab) (result, error) {
	all, err := l.measureGrowth()
	if err != nil {
		return result{}, err
	}
	var figures []string
	for _, g := range all {
		figures = append(figures, fmt.Sprintf("%d: %s", g.snapshot.Records, formatSeconds(time.Duration(medianWall(g.runs)*1e9))))
	}
	middle, last := all[1], all[3]
	ratio := last.timePerRecord() / middle.timePerRecord()
	return result{
		figure: strings.Join(figures, ", "),
		ratio:  fmt.Sprintf("%.2f times the time per record at 2,000,000 as at 100,000", ratio),
		met:    ratio <= 1.1,
		notes:  []string{growthNote},
	}, nil
}

const growthNote = "The queue has one entry per snapshot and destination, so its work does not grow with the number " +
	"of records. Below 100,000 records, the start of the program is a visible part of the time."
