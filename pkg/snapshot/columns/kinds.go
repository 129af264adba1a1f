package columns

import (
	"bytes"
	"strconv"
	"time"
)

// kinds is a set of kinds of JSON values.
type kinds uint16

const (
	boolKind       kinds = 1 << iota
	intKind              // an integer that BIGINT can hold
	wideKind             // with intKind: DOUBLE would round it
	floatKind            // another number that DOUBLE can hold, of at most maxNumber bytes
	hugeKind             // a number that neither can hold
	timeKind             // a string with a time and its offset from UTC
	localTimeKind        // a string with a time without an offset
	spacedTimeKind       // the same with a space between date and time
	dateKind             // a string with a date
	stringKind           // another string
	objectKind           // an object
	listKind             // a list
	jsonKind             // set when the values are stored as JSON for good
	textKind             // set when the values are stored as VARCHAR for good
)

// rememberedKinds are the kinds in the remembered types, and their names there. The
// others are not remembered: by FileRules and ViewRules their values are VARCHAR for
// good.
var rememberedKinds = []struct {
	kind kinds
	name string
}{
	{boolKind, "boolean"}, {intKind, "integer"}, {wideKind, "wide"}, {floatKind, "fraction"}, {hugeKind, "huge"},
	{timeKind, "time"}, {localTimeKind, "localtime"}, {stringKind, "string"}, {objectKind, "object"}, {listKind, "list"},
	{jsonKind, "json"}, {textKind, "text"},
}

// maxNumber is the length in bytes up to which databases convert each number that
// has a fraction or an exponent.
const maxNumber = 1000

// scalarKind returns the kind of a scalar that is not a string, 0 for null.
func scalarKind(value []byte) kinds {
	switch value[0] {
	case 'n':
		return 0
	case 't', 'f':
		return boolKind
	}
	if len(value) <= 15 && isDigits(bytes.TrimPrefix(value, []byte("-"))) && string(value) != "-0" {
		return intKind // it is exact in DOUBLE, and needs no parsing
	}
	if bytes.ContainsAny(value, ".eE") || string(value) == "-0" {
		if _, err := strconv.ParseFloat(string(value), 64); err != nil || len(value) > maxNumber {
			return hugeKind
		}
		return floatKind
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	switch {
	case err != nil:
		return hugeKind
	case n > 1<<53 || n < -1<<53:
		return intKind | wideKind
	}
	return intKind
}

// isDigits reports whether text consists of decimal digits.
func isDigits(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}

// kindOfString returns the kind of a string, which has its quotes. A time has the
// form of RFC 3339 or ISO 8601: 2026-02-03T04:05:06, a fraction of up to nine
// digits, and Z, +01:00, +0100, +01 or nothing. With a space in place of the T it
// has nothing after that. A date is 2026-02-03.
func kindOfString(raw []byte) kinds {
	const (
		date  = len("2026-02-03")
		local = len("2026-02-03T04:05:06")
	)
	text := raw[1 : len(raw)-1]
	if len(text) < date || text[4] != '-' {
		return stringKind
	}
	if len(text) == date {
		if isDate(text) {
			return dateKind
		}
		return stringKind
	}
	if len(text) < local || !isTime(text[:local]) {
		return stringKind
	}
	rest := text[local:]
	if len(rest) > 0 && rest[0] == '.' {
		n := 1
		for n < len(rest) && isDigits(rest[n:n+1]) {
			n++
		}
		if n == 1 || n > 10 {
			return stringKind
		}
		rest = rest[n:]
	}
	switch {
	case len(rest) == 0 && text[date] == ' ':
		return spacedTimeKind
	case len(rest) == 0:
		return localTimeKind
	case text[date] == ' ':
		return stringKind
	case string(rest) == "Z" || isOffset(rest):
		return timeKind
	}
	return stringKind
}

// isTime reports whether text, of the right length, is a time of the calendar
// between the years 1 and 9999.
func isTime(text []byte) bool {
	var field [6]int // year, month, day, hour, minute, second
	n := 0
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			field[n] = field[n]*10 + int(c-'0')
		case c == "0000-00-00T00:00:00"[i] || c == "0000-00-00 00:00:00"[i]:
			n++
		default:
			return false
		}
		if isDigit := "0000-00-00T00:00:00"[i] == '0'; isDigit != ('0' <= c && c <= '9') {
			return false
		}
	}
	year, month, day := field[0], time.Month(field[1]), field[2]
	return year > 0 && month >= 1 && month <= 12 && day >= 1 && day <= time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day() &&
		field[3] < 24 && field[4] < 60 && field[5] < 60
}

// isDate reports whether text, of ten bytes, is a date of the calendar.
func isDate(text []byte) bool {
	full := [19]byte([]byte("0000-00-00T00:00:00"))
	copy(full[:], text)
	return isTime(full[:])
}

// isOffset reports whether text is an offset from UTC.
func isOffset(text []byte) bool {
	if len(text) < 3 || text[0] != '+' && text[0] != '-' {
		return false
	}
	digits := bytes.Replace(text[1:], []byte(":"), nil, 1)
	if !isDigits(digits) || len(text) == 6 && text[3] != ':' || len(text) == 5 && len(digits) != 4 {
		return false
	}
	switch len(text) {
	case 3:
		return string(digits) < "16"
	case 5, 6:
		return len(digits) == 4 && string(digits[:2]) < "16" && string(digits[2:]) < "60"
	}
	return false
}
