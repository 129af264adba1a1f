package prompt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/peterh/liner"
)

// A historyFile keeps the lines of former sessions. Sessions that run at once each add
// theirs.
type historyFile struct {
	path string // "" keeps nothing
	last string
}

// maxHistory is the number of lines that a file may have before it is shortened to the
// liner.HistoryLimit newest.
const maxHistory = 2 * liner.HistoryLimit

// readLines returns the newest lines of the file, the oldest first. A file that does not
// exist has none.
func (h *historyFile) readLines() ([]string, error) {
	if h.path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && utf8.ValidString(line) {
			lines = append(lines, line)
		}
	}
	if len(lines) <= liner.HistoryLimit {
		return lines, nil
	}
	all := len(lines)
	lines = lines[all-liner.HistoryLimit:]
	if all > maxHistory {
		err = h.rewriteFile(lines)
	}
	return lines, err
}

// rewriteFile replaces the file by one that has the lines.
func (h *historyFile) rewriteFile(lines []string) error {
	f, err := os.CreateTemp(filepath.Dir(h.path), ".query_history-*") // with the mode 0600
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), h.path)
	}
	if err != nil {
		return fmt.Errorf("history: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// appendLines adds lines to the file, which only its owner can read. A line that repeats the one
// before is left out.
func (h *historyFile) appendLines(lines []string) error {
	var b bytes.Buffer
	for _, line := range lines {
		if line != h.last {
			b.WriteString(line + "\n")
		}
		h.last = line
	}
	if h.path == "" || b.Len() == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	f, err := os.OpenFile(h.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// historyLines returns the lines of the history for a statement: one, or those in which it
// was written.
func historyLines(statement string) (lines []string) {
	if line, ok := joinLines(statement); ok {
		return []string{line}
	}
	for line := range strings.Lines(statement) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
