package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/collectord/collectord/pkg/schedule"
)

// showProgress redraws a line for each running stream until ctx ends, for a
// person at a terminal.
func showProgress(ctx context.Context, w *terminal, running func() []*schedule.Live) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.draw(nil)
			return
		case now := <-tick.C:
			var lines []string
			for _, l := range running() {
				lines = append(lines, progressLine(l, now))
			}
			w.draw(lines)
		}
	}
}

func progressLine(l *schedule.Live, now time.Time) string {
	n := l.Stats.Read()
	took := now.Sub(l.Started)
	rate := float64(n.Records) / max(took.Seconds(), 0.001)
	line := fmt.Sprintf("%-34s %10s records  %8.0f/s  %7s  %4d pages  %s",
		l.Stream, humanize.Comma(n.Records), rate, humanize.Bytes(uint64(n.Bytes)), n.Pages, took.Round(time.Second))
	if n.WaitUntil.After(now) {
		line += fmt.Sprintf("  waiting %s for %s", n.WaitUntil.Sub(now).Round(time.Second), n.WaitFor)
	}
	return line
}

// terminal writes log lines above a block of lines that is redrawn.
type terminal struct {
	to    io.Writer
	width func() int
	mu    sync.Mutex
	drawn int
	lines []string
}

func newTerminal(to io.Writer, width func() int) *terminal {
	return &terminal{to: to, width: width}
}

// Write puts whole lines above the block.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.erase() + string(p) + t.block()
	if _, err := io.WriteString(t.to, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// draw replaces the block.
func (t *terminal) draw(lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(lines) == 0 && t.drawn == 0 {
		return
	}
	text := t.erase()
	t.lines = lines
	_, _ = io.WriteString(t.to, text+t.block()) // a terminal that is gone needs no progress
}

// erase is what takes the drawn block away.
func (t *terminal) erase() string {
	text := strings.Repeat("\x1b[1A\x1b[2K", t.drawn)
	t.drawn = 0
	return text
}

// block is the block's text; lines too long for the terminal are cut, because
// a wrapped line could not be taken away again.
func (t *terminal) block() string {
	var b strings.Builder
	width := t.width()
	for _, line := range t.lines {
		if r := []rune(line); width > 0 && len(r) >= width {
			line = string(r[:width-1])
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	t.drawn = len(t.lines)
	return b.String()
}
