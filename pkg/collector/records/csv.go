package records

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
)

// A CSV describes a file of comma-separated values whose first row has the names
// of the columns. Each further row becomes a JSON object with the columns as
// members, in their order. All values are strings with the text of the file:
// numbers stay text, and an empty value is an empty string. A line break within
// a quoted value is stored as "\n". Empty lines are ignored.
type CSV struct {
	// Comma separates the values; ',' when zero.
	Comma rune
	// Columns must be in the file, in any order and beside others.
	Columns []string
	// Comment is called with each line that begins with '#' before the names of
	// the columns. If it is nil, such a line is an error.
	Comment func(line string) error
}

// Each calls each with a JSON object for each row, and returns their number. A row
// with more or fewer values than there are columns is an error.
func (c CSV) Each(r io.Reader, each Func) (rows int64, err error) {
	bound := &recordBound{r: r}
	text, err := newTextReader(bound)
	if err != nil {
		return 0, err
	}
	skipped, err := c.readComments(text)
	if err != nil {
		return 0, err
	}
	d := csv.NewReader(text)
	d.ReuseRecord = true
	if c.Comma != 0 {
		d.Comma = c.Comma
	}
	keys, err := c.readHeader(d)
	if err != nil {
		return 0, err
	}
	var record []byte
	for {
		bound.beginRecord()
		values, err := d.Read()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, explainCSV(err, rows+1, skipped, len(keys), len(values))
		}
		record = record[:0]
		for i, value := range values {
			record = append(record, keys[i]...)
			record = AppendString(record, value)
		}
		record = append(record, '}')
		if err := each(record); err != nil {
			return rows, err
		}
		rows++
	}
}

// readComments reads the comment lines before the header and returns their
// number.
func (c CSV) readComments(text *bufio.Reader) (lines int, err error) {
	for ; ; lines++ {
		start, err := text.Peek(1)
		if err == io.EOF || err == nil && start[0] != '#' {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		line, err := text.ReadSlice('\n')
		switch {
		case c.Comment == nil:
			return lines, formatErrorf("line %d is a comment, want the names of the columns: %s", lines+1, excerpt(string(line)))
		case err == bufio.ErrBufferFull:
			return lines, formatErrorf("line %d is a comment of more than %d KiB", lines+1, text.Size()>>10)
		case err != nil && err != io.EOF:
			return lines, err
		}
		if err := c.Comment(strings.TrimRight(string(line), "\r\n")); err != nil {
			return lines, formatErrorf("line %d: %w", lines+1, err)
		}
	}
}

// readHeader reads the names of the columns. It returns for each what precedes
// its value in a record, such as `,"name":`.
func (c CSV) readHeader(d *csv.Reader) (keys []string, err error) {
	names, err := d.Read()
	if err == io.EOF {
		return nil, formatErrorf("the file has no row with the names of the columns")
	}
	if err != nil {
		return nil, explainCSV(err, 0, 0, 0, 0)
	}
	for _, want := range c.Columns {
		if !slices.Contains(names, want) {
			return nil, formatErrorf("the column %q is missing: the first row is %s", want, excerpt(strings.Join(names, string(d.Comma))))
		}
	}
	for i, name := range names {
		if name == "" {
			return nil, formatErrorf("column %d has no name", i+1)
		}
		if slices.Index(names, name) < i {
			return nil, formatErrorf("two columns have the name %q", name)
		}
		separator := ","
		if i == 0 {
			separator = "{"
		}
		keys = append(keys, separator+string(AppendString(nil, name))+":")
	}
	return keys, nil
}

// explainCSV returns a decoder's error as a FormatError that names the row, 0
// being that of the names, and its line. Any other error, which is that of the
// reader, is returned unchanged.
func explainCSV(err error, row int64, skipped, want, got int) error {
	var p *csv.ParseError
	switch {
	case errors.Is(err, ErrTooLong):
		return formatErrorf("row %d: %w", row, err)
	case !errors.As(err, &p):
		return err
	case errors.Is(err, csv.ErrFieldCount):
		return formatErrorf("row %d (line %d) has %d values, want %d", row, skipped+p.StartLine, got, want)
	case row == 0:
		return formatErrorf("the row with the names of the columns: %w", p.Err)
	}
	return formatErrorf("row %d (line %d): %w", row, skipped+p.StartLine, p.Err)
}
