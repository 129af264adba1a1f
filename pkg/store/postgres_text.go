package store

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// respell appends record to dst with the escapes that jsonb refuses spelt out
// as text: \u0000 and surrogates without their other half. When there are
// none it appends nothing and returns false.
func respell(dst, record []byte) ([]byte, bool) {
	if !bytes.Contains(record, []byte(`\u0000`)) && !bytes.Contains(record, []byte(`\ud`)) && !bytes.Contains(record, []byte(`\uD`)) {
		return dst, false
	}
	copied, changed := 0, false
	for i := 0; i < len(record); {
		next := bytes.IndexByte(record[i:], '\\')
		if next < 0 {
			break
		}
		i += next
		unit, ok := unicodeEscape(record[i:])
		if !ok { // an escape of two bytes
			i += 2
			continue
		}
		if second, ok := unicodeEscape(record[min(i+6, len(record)):]); ok && utf16.DecodeRune(unit, second) != utf8.RuneError {
			i += 12
			continue
		}
		if unit == 0 || utf16.IsSurrogate(unit) {
			dst = append(dst, record[copied:i]...)
			dst = append(dst, '\\')
			copied, changed = i, true
		}
		i += 6
	}
	if !changed {
		return dst, false
	}
	return append(dst, record[copied:]...), true
}

// unicodeEscape reads the \uXXXX at b's start.
func unicodeEscape(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(unit), err == nil
}

// appendASCII appends text as a JSON string of ASCII that holds no \u escape
// of its own: what is not printable ASCII is first written as a JSON escape,
// then its backslash escaped. Every database takes it, whatever its encoding
// and type, and reading the string as JSON gives the text back.
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
