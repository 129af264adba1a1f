package query

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
)

// tableOutput writes aligned columns. NULL is empty; line breaks and other control
// characters become spaces.
type tableOutput struct {
	w io.Writer
	// width is the number of columns of the terminal; 0 is no bound.
	width int
	lines [][]string
}

func (*tableOutput) wantsJSON() bool { return false }

func (o *tableOutput) columns(list []Column) error {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = ReplaceControl(c.Name)
	}
	o.lines = append(o.lines, names)
	return nil
}

func (o *tableOutput) row(values []sql.NullString) error {
	fields := make([]string, len(values))
	for i, v := range values {
		fields[i] = ReplaceControl(v.String)
	}
	o.lines = append(o.lines, fields)
	return nil
}

func (o *tableOutput) end() error {
	widths := make([]int, len(o.lines[0]))
	for _, line := range o.lines {
		for i, field := range line {
			widths[i] = max(widths[i], displayWidth(field))
		}
	}
	hidden := 0
	if o.width > 0 {
		widths, hidden = fitWidths(widths, o.width)
	}
	out := bufio.NewWriter(o.w)
	for n, line := range o.lines {
		line = line[:len(widths)]
		if n == 0 && hidden > 0 {
			line = append(slices.Clone(line), hiddenColumns(hidden))
		}
		for i, field := range line {
			padding := 0
			if i < len(widths) {
				field = shortenField(field, widths[i])
				padding = widths[i] - displayWidth(field) + columnGap
			}
			if i+1 == len(line) {
				padding = 0
			}
			_, _ = out.WriteString(field + strings.Repeat(" ", padding))
		}
		_ = out.WriteByte('\n') // Flush returns the first error
	}
	return out.Flush()
}

const (
	// columnGap is the number of spaces between two columns.
	columnGap = 2
	// leastWidth is the width to which columns are shortened before some are left out.
	leastWidth = 12
)

// hiddenColumns is the end of the header of a table without its last n columns.
func hiddenColumns(n int) string {
	if n == 1 {
		return "(+1 column)"
	}
	return fmt.Sprintf("(+%d columns)", n)
}

// fitWidths returns the widths with which columns fit into a line: the widest ones are
// shortened, and if that is not enough the last ones, whose number is hidden, are left out.
func fitWidths(widths []int, line int) (fit []int, hidden int) {
	limit := 0
	for _, width := range widths {
		limit = max(limit, width)
	}
	for ; limit > leastWidth && sumWidths(widths, limit) > line; limit-- {
	}
	shown := len(widths)
	for shown > 1 {
		needed := sumWidths(widths[:shown], limit)
		if shown < len(widths) {
			needed += columnGap + len(hiddenColumns(len(widths)-shown))
		}
		if needed <= line {
			break
		}
		shown--
	}
	for _, width := range widths[:shown] {
		fit = append(fit, min(width, limit))
	}
	return fit, len(widths) - shown
}

// sumWidths returns the length of a line whose columns are at most limit wide.
func sumWidths(widths []int, limit int) int {
	sum := columnGap * (len(widths) - 1)
	for _, width := range widths {
		sum += min(width, limit)
	}
	return sum
}

// displayWidth returns the number of columns of a terminal that a text takes.
func displayWidth(s string) int { return runewidth.StringWidth(s) }

// shortenField returns a text that is at most width wide.
func shortenField(s string, width int) string {
	if displayWidth(s) <= width {
		return s
	}
	return runewidth.Truncate(s, width, "…")
}

// ReplaceControl replaces characters that would break a line or control a terminal.
func ReplaceControl(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
