package redact

import (
	"html"
	"strings"
	"unicode/utf16"
)

// maxLayers is how often a text may have been escaped: a URL in a JSON string in a log line
// that is JSON is escaped three times.
const maxLayers = 3

// A unit is what a part of a text may stand for: itself, or what it is an escape of.
type unit struct {
	text string
	end  int // of the part
}

// beginsEscape reports whether a byte may stand for another than itself.
func beginsEscape(c byte) bool { return c == '%' || c == '&' || c == '\\' || c == '+' }

// unitsAt returns what the text may stand for at a position: %2F, %2f and + of URLs, &amp; and
// &#38; of HTML, \n, \/ and \u002f of JSON and of programs, and escapes whose first character
// is escaped itself, such as %252F. It appends to units, which is empty.
func unitsAt(units []unit, text string, at int) []unit {
	units = append(units, unit{text[at : at+1], at + 1})
	for layer, from := 0, 0; layer < maxLayers && from < len(units); layer++ {
		last := units[from:]
		from = len(units)
		for _, first := range last {
			switch first.text[0] {
			case '%':
				units = appendPercent(units, text, first.end)
			case '+':
				units = append(units, unit{" ", first.end}) // in the query of a URL
			case '&':
				units = appendEntity(units, text, first.end)
			case '\\':
				units = appendBackslash(units, text, at, first.end)
			}
		}
	}
	return units
}

// appendPercent adds what two hexadecimal digits after % stand for.
func appendPercent(units []unit, text string, at int) []unit {
	if code, ok := hexAt(text, at, 2); ok {
		return append(units, unit{string([]byte{byte(code)}), at + 2})
	}
	return units
}

// hexAt returns the number that so many hexadecimal digits are.
func hexAt(text string, at, digits int) (number rune, ok bool) {
	if at+digits > len(text) {
		return 0, false
	}
	for _, c := range []byte(text[at : at+digits]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		number = number<<4 | rune(c)
	}
	return number, true
}

// appendEntity adds what the name or the number after & stands for.
func appendEntity(units []unit, text string, at int) []unit {
	const longest = 10 // as &#x0000022;
	end := strings.IndexByte(text[at:min(len(text), at+longest)], ';')
	if end <= 0 {
		return units
	}
	entity := "&" + text[at:at+end+1]
	if plain := html.UnescapeString(entity); plain != entity && !strings.HasSuffix(plain, ";") {
		return append(units, unit{plain, at + end + 1})
	}
	return units
}

// controls are the control characters that have a letter after a backslash.
var controls = map[byte]string{'0': "\x00", 'a': "\a", 'b': "\b", 'e': "\x1b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}

// appendBackslash adds what the characters after a backslash stand for. The backslash is
// written as text[from:at].
func appendBackslash(units []unit, text string, from, at int) []unit {
	backslash, rest := text[from:at], text[at:]
	if strings.HasPrefix(rest, backslash) {
		return append(units, unit{`\`, at + len(backslash)})
	}
	if rest == "" {
		return units
	}
	switch c := rest[0]; {
	case c == 'x':
		if code, ok := hexAt(text, at+1, 2); ok {
			// Go means a byte, Python a character.
			units = append(units, unit{string([]byte{byte(code)}), at + 3}, unit{string(code), at + 3})
		}
		return units
	case c == 'u':
		return appendUTF16(units, text, backslash, at+1)
	case c == 'U':
		if code, ok := hexAt(text, at+1, 8); ok {
			units = append(units, unit{string(code), at + 9})
		}
		return units
	case controls[c] != "":
		return append(units, unit{controls[c], at + 1})
	}
	// A quote that is escaped twice has three backslashes, of which two are the first one.
	for n := 0; n < min(len(rest), len(backslash)); n++ {
		if c := rest[n]; c != '\\' {
			if isMark(c) {
				units = append(units, unit{rest[n : n+1], at + n + 1})
			}
			break
		}
	}
	return units
}

// isMark reports whether c is an ASCII character that is no letter, digit or control
// character.
func isMark(c byte) bool {
	return c >= ' ' && c < 0x7f && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
}

// appendUTF16 adds what the digits after \u stand for: a character, or the first half of one
// whose second half follows.
func appendUTF16(units []unit, text, backslash string, at int) []unit {
	code, ok := hexAt(text, at, 4)
	if !ok {
		return units
	}
	end := at + 4
	if next := backslash + "u"; utf16.IsSurrogate(code) && strings.HasPrefix(text[end:], next) {
		if second, ok := hexAt(text, end+len(next), 4); ok {
			end += len(next) + 4
			code = utf16.DecodeRune(code, second)
		}
	}
	return append(units, unit{string(code), end})
}
