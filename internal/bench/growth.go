package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/collectord/collectord/pkg/snapshot"
)

// sizes are what growth is measured at.
var sizes = []int{10_000, 100_000, 500_000, 2_000_000}

// A grown is one extraction of some size.
type grown struct {
	measured
	snapshot *snapshot.Snapshot
}

// grow extracts each size once, for all cases that look at growth.
func (l *lab) grow() ([]grown, error) {
	return once(l, "growth", func() ([]grown, error) {
		var all []grown
		for _, n := range sizes {
			v, err := l.simulate(n)
			if err != nil {
				return nil, err
			}
			m, s, dir, err := l.fresh(v)
			v.stop()
			if err != nil {
				return nil, err
			}
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			all = append(all, grown{m, s})
		}
		return all, nil
	})
}

func benchMemory(l *lab) (result, error) {
	all, err := l.grow()
	if err != nil {
		return result{}, err
	}
	small, large := all[1], all[3]
	ratio := float64(large.rss) / float64(small.rss)
	return result{
		figure: fmt.Sprintf("%s at %d, %s at %d", mb(small.rss), small.snapshot.Records, mb(large.rss), large.snapshot.Records),
		ratio:  fmt.Sprintf("%.2f times the memory for %.0f times the records", ratio, float64(large.snapshot.Records)/float64(small.snapshot.Records)),
		met:    small.rss < 96e6 && large.rss < 96e6 && ratio <= 1.1,
	}, nil
}

func benchGrowth(l *lab) (result, error) {
	all, err := l.grow()
	if err != nil {
		return result{}, err
	}
	var figures []string
	for _, g := range all {
		figures = append(figures, fmt.Sprintf("%d: %s", g.snapshot.Records, seconds(g.wall)))
	}
	middle, last := all[1], all[3]
	per := func(g grown) float64 { return g.wall.Seconds() / float64(g.snapshot.Records) }
	ratio := per(last) / per(middle)
	return result{
		figure: strings.Join(figures, ", "),
		ratio:  fmt.Sprintf("%.2f times the time per record at 2,000,000 as at 100,000", ratio),
		met:    ratio <= 1.1,
		notes:  []string{"The queue has one entry per snapshot and destination, whatever the number of records: its work does not grow with them. Below 100,000 records the start of the program is part of the time."},
	}, nil
}
