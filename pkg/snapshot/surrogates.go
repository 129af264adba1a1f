package snapshot

import (
	"bytes"
	"strconv"
)

// EscapeSurrogates appends record, valid JSON, to dst in the form that DuckDB's type JSON
// accepts: byte for byte, except for lone surrogates. An escape such as \ud800
// without its other half is not a character. DuckDB rejects such a document, and
// every later query that reads one fails. EscapeSurrogates doubles its backslash, so that
// the string holds the six characters \ud800. fixed reports whether there was
// one.
func EscapeSurrogates(dst, record []byte) (_ []byte, fixed bool) {
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

// surrogate reports whether b starts with the escape of a surrogate, and whether it
// is the high half.
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
