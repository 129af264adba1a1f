package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// sizes are what growth is measured at.
var sizes = []int{10_000, 100_000, 500_000, 2_000_000}

// A grown is the extractions of one size.
type grown struct {
	runs     []measured
	snapshot *snapshot.Snapshot
}

// perRecord is the median time in seconds.
func (g grown) perRecord() float64 { return walls(g.runs) / float64(g.snapshot.Records) }

// resident is the median of the most memory in bytes.
func (g grown) resident() int64 {
	var list []float64
	for _, r := range g.runs {
		list = append(list, float64(r.rss))
	}
	return int64(median(list))
}

// grow extracts each size, for all cases that look at growth.
func (l *lab) grow() ([]grown, error) {
	return once(l, "growth", func() ([]grown, error) {
		var all []grown
		for _, n := range sizes {
			v, err := l.simulate(n)
			if err != nil {
				return nil, err
			}
			g, err := l.extractions(v)
			v.stop()
			if err != nil {
				return nil, err
			}
			all = append(all, g)
		}
		return all, nil
	})
}

// extractions extracts all that v has as often as there are pairs.
func (l *lab) extractions(v vendor) (g grown, err error) {
	for range l.pairs {
		m, s, dir, err := l.fresh(v)
		if err != nil {
			return grown{}, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return grown{}, err
		}
		g.runs, g.snapshot = append(g.runs, m), s
	}
	return g, nil
}

func benchMemory(l *lab) (result, error) {
	all, err := l.grow()
	if err != nil {
		return result{}, err
	}
	small, large := all[1], all[3]
	ratio := float64(large.resident()) / float64(small.resident())
	return result{
		figure: fmt.Sprintf("%s at %d, %s at %d", mb(small.resident()), small.snapshot.Records, mb(large.resident()), large.snapshot.Records),
		ratio:  fmt.Sprintf("%.2f times the memory for %.0f times the records", ratio, float64(large.snapshot.Records)/float64(small.snapshot.Records)),
		notes:  []string{fmt.Sprintf("Medians of the most that each run had; the most in any run is %s.", mb(max(mostRSS(small.runs), mostRSS(large.runs))))},
		met:    mostRSS(small.runs) < 96e6 && mostRSS(large.runs) < 96e6 && ratio <= 1.1,
	}, nil
}

func benchGrowth(l *lab) (result, error) {
	all, err := l.grow()
	if err != nil {
		return result{}, err
	}
	var figures []string
	for _, g := range all {
		figures = append(figures, fmt.Sprintf("%d: %s", g.snapshot.Records, seconds(time.Duration(walls(g.runs)*1e9))))
	}
	middle, last := all[1], all[3]
	ratio := last.perRecord() / middle.perRecord()
	return result{
		figure: strings.Join(figures, ", "),
		ratio:  fmt.Sprintf("%.2f times the time per record at 2,000,000 as at 100,000", ratio),
		met:    ratio <= 1.1,
		notes:  []string{"The queue has one entry per snapshot and destination, whatever the number of records: its work does not grow with them. Below 100,000 records the start of the program is part of the time."},
	}, nil
}
