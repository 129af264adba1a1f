package postgres

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// appendASCII appends text as a JSON string of printable ASCII without a \u escape
// of its own: other characters are written as a JSON escape whose backslash is
// escaped. Columns of every type accept it.
// Reading the string's value as JSON returns text.
func appendASCII(dst, text []byte) []byte {
	dst = append(dst, '"')
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			dst = append(dst, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\\u%04x\\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\\u%04x`, r)
		}
	}
	return append(dst, '"')
}

// bytesPerLevel is more than what the server's JSON functions use of its stack for
// a level of nesting, which is about 160 bytes. The difference is for the query
// around them.
const bytesPerLevel = 200

// nestingDepth returns the number of levels of objects and lists in record. It stops
// early, and returns 0, when there cannot be more than most.
func nestingDepth(record []byte, most int64) int64 {
	if int64(bytes.Count(record, []byte("["))+bytes.Count(record, []byte("{"))) <= most {
		return 0
	}
	var depth, deepest int64
	inString := false
	for i := 0; i < len(record); i++ {
		switch c := record[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}
	return deepest
}

// A depthError is the error of a record that is nested too deeply.
type depthError struct{ levels, most int64 }

func (d *depthError) Error() string {
	return fmt.Sprintf("stack depth limit: nested %d levels deep, the server reads %d with its max_stack_depth (SQLSTATE 54001)", d.levels, d.most)
}
