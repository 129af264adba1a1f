package snapshot

import (
	"bytes"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dustin/go-humanize/english"
)

// RepairEscapes appends record, valid JSON, to dst with U+FFFD, the replacement
// character, for each escape that many programs cannot read: \u0000, and a
// surrogate without its other half, which is not a character. Everything else
// stays byte for byte. When there is nothing to replace it appends nothing and
// returns false.
func RepairEscapes(dst, record []byte) ([]byte, bool) {
	at, _ := findBadEscape(record, true)
	if at < 0 {
		return dst, false
	}
	for at >= 0 {
		dst = append(append(dst, record[:at]...), replacement...)
		record = record[at+escapeSize:]
		at, _ = findBadEscape(record, true)
	}
	return append(dst, record...), true
}

const (
	replacement = "\ufffd"
	escapeSize  = len(`\u0000`)
)

// DescribeEscapes returns the note about a number of records with escapes that many
// programs refuse, in a file or object that has them repaired or not; "" for 0.
func DescribeEscapes(records int64, repaired bool) string {
	switch {
	case records == 0:
		return ""
	case repaired:
		return english.Plural(int(records), "record has", "records have") + " \\u0000 or half a surrogate pair, which are stored as U+FFFD"
	}
	return english.Plural(int(records), "record has", "records have") + " \\u0000 or half a surrogate pair, which DuckDB, Postgres and other programs refuse: STORE_FILE_REPAIR=true stores U+FFFD instead"
}

// findBadEscape returns the index of the first escape in text that RepairEscapes
// replaces, or -1. Unless text is the last of its kind, its end may be a part of an
// escape: the bytes before decided do not belong to such a part.
func findBadEscape(text []byte, last bool) (at, decided int) {
	for i := 0; ; {
		next := bytes.IndexByte(text[i:], '\\')
		if next < 0 {
			return -1, len(text)
		}
		i += next
		rest := text[i:]
		switch unit, complete := escapedUnit(rest); {
		case !complete && last:
			return -1, len(text)
		case !complete:
			return -1, i
		case unit < 0:
			i += 2
		case unit == 0:
			return i, i
		case !utf16.IsSurrogate(unit):
			i += 6
		default:
			second, complete := escapedUnit(rest[6:])
			if !complete && !last {
				return -1, i
			}
			if second < 0 || utf16.DecodeRune(unit, second) == utf8.RuneError {
				return i, i
			}
			i += 12
		}
	}
}

// escapedUnit returns the code unit of the escape \uXXXX at the start of text, -1
// if there is another escape or none. complete is false if more bytes could
// change that.
func escapedUnit(text []byte) (unit rune, complete bool) {
	switch {
	case len(text) == 0:
		return -1, false
	case text[0] != '\\':
		return -1, true
	case len(text) == 1:
		return -1, false
	case text[1] != 'u':
		return -1, true
	case len(text) < 6:
		return -1, false
	}
	code, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil { // it is not JSON
		return -1, true
	}
	return rune(code), true
}

// An escapeFilter passes JSON text with one record per line on to out, counts the
// records with escapes that RepairEscapes replaces, and replaces them if repair is
// set.
type escapeFilter struct {
	out     io.Writer
	repair  bool
	records int64
	counted bool   // the present record is in records
	pending []byte // the start of an escape, at the end of the last Write
}

func (e *escapeFilter) Write(text []byte) (int, error) {
	size := len(text)
	if len(e.pending) > 0 {
		text = append(e.pending, text...)
		e.pending = nil
	}
	if err := e.pass(text, false); err != nil {
		return 0, err
	}
	return size, nil
}

// finish passes on what is left at the end.
func (e *escapeFilter) finish() error {
	text := e.pending
	e.pending = nil
	return e.pass(text, true)
}

// pass passes text on, except for the start of an escape at its end unless it is
// the last.
func (e *escapeFilter) pass(text []byte, last bool) error {
	for {
		at, decided := findBadEscape(text, last)
		if at < 0 {
			e.endRecords(text[:decided])
			e.pending = append(e.pending, text[decided:]...)
			return writeAll(e.out, text[:decided])
		}
		e.endRecords(text[:at])
		if !e.counted {
			e.records, e.counted = e.records+1, true
		}
		end := at + escapeSize
		if err := writeAll(e.out, text[:at]); err != nil {
			return err
		}
		escape := text[at:end]
		if e.repair {
			escape = []byte(replacement)
		}
		if err := writeAll(e.out, escape); err != nil {
			return err
		}
		text = text[end:]
	}
}

// endRecords notes whether a record ends in text.
func (e *escapeFilter) endRecords(text []byte) {
	if e.counted && bytes.IndexByte(text, '\n') >= 0 {
		e.counted = false
	}
}
