package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/run"
)

// showProgress draws a line for each running stream and updates them until ctx is
// cancelled.
func showProgress(ctx context.Context, t *terminal, running func() []*run.ActiveRun) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.draw(nil)
			return
		case now := <-tick.C:
			var lines []string
			for _, r := range running() {
				lines = append(lines, progressLine(r, now))
			}
			t.draw(lines)
		}
	}
}

func progressLine(r *run.ActiveRun, now time.Time) string {
	p := r.Stats.Progress()
	elapsed := now.Sub(r.Started)
	rate := float64(p.Records) / max(elapsed.Seconds(), 0.001)
	line := fmt.Sprintf("%-34s %10s records  %8.0f/s  %7s  %4d pages  %s",
		r.Stream, humanize.Comma(p.Records), rate, humanize.Bytes(uint64(p.Bytes)), p.Pages, elapsed.Round(time.Second))
	if wait := p.DescribeWait(now); wait != "" {
		line += "  " + wait
	}
	return line
}
