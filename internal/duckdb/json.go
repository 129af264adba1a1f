package duckdb

import (
	"bytes"
	"strconv"
)

// AppendJSON appends to dst record, valid JSON, as DuckDB's type JSON takes
// it: byte for byte, but for lone surrogates. An escape such as \ud800 without
// its partner is no character, and DuckDB rejects the document and fails every
// later query that meets it. Its backslash is doubled, so that the string
// holds the six characters \ud800: visible, and nothing is lost. fixed tells
// whether there was one.
func AppendJSON(dst, record []byte) (_ []byte, fixed bool) {
	copied := 0
	for i := 0; ; {
		n := bytes.IndexByte(record[i:], '\\')
		if n < 0 {
			break
		}
		i += n
		if i+1 >= len(record) {
			break
		}
		high, ok := surrogate(record[i:])
		switch {
		case !ok:
			i += 2
			continue
		case high:
			if high, ok := surrogate(record[i+6:]); ok && !high {
				i += 12
				continue
			}
		}
		dst = append(append(dst, record[copied:i]...), '\\')
		copied, fixed = i, true
		i += 6
	}
	return append(dst, record[copied:]...), fixed
}

// surrogate tells whether b starts with the escape of a surrogate, and of
// which half.
func surrogate(b []byte) (high, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' || b[2]|0x20 != 'd' {
		return false, false
	}
	code, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil || code < 0xD800 || code > 0xDFFF {
		return false, false
	}
	return code < 0xDC00, true
}
