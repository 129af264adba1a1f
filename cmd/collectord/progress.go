package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/run"
)

// showProgress draws the lines about the running streams and updates them until ctx is
// cancelled.
func showProgress(ctx context.Context, t *terminal, lines func(now time.Time) []string) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.draw(nil)
			return
		case now := <-tick.C:
			t.draw(lines(now))
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
