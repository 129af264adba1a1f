package main

import (
	"io"
	"strings"
	"sync"
)

// A terminal writes log lines above a block of lines that changes in place.
type terminal struct {
	out   io.Writer
	width func() int // columns; 0 when unknown

	mu    sync.Mutex
	lines []string // of the block
	drawn int      // how many lines of the block are on the screen
}

func newTerminal(out io.Writer, width func() int) *terminal {
	return &terminal{out: out, width: width}
}

// Write writes whole lines above the block.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.eraseBlock() + string(p) + t.renderBlock()
	if _, err := io.WriteString(t.out, text); err != nil {
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
	text := t.eraseBlock()
	t.lines = lines
	_, _ = io.WriteString(t.out, text+t.renderBlock()) // progress is not worth an error
}

// eraseBlock returns the control sequences that erase the block from the screen.
func (t *terminal) eraseBlock() string {
	text := strings.Repeat("\x1b[1A\x1b[2K", t.drawn)
	t.drawn = 0
	return text
}

// renderBlock returns the text of the block. Lines longer than the terminal is wide
// are cut, because a wrapped line could not be erased.
func (t *terminal) renderBlock() string {
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
