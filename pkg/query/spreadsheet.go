package query

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// numberPattern matches a text that a spreadsheet reads as a number, not as a formula.
var numberPattern = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$`)

// formulaSigns begin formulas. Programs in Japanese, for example, also accept the signs of
// full width.
const formulaSigns = "=+-@\t\r\n\x00＝＋－＠"

// GuardText returns text with an apostrophe before it if a spreadsheet program could
// execute it as a formula. The vendor's text may be an attacker's, such as the name of a
// host. Spaces before a sign do not count, as some programs remove them. A number stays
// as it is.
func GuardText(text string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, " \u00a0"))
	if text == "" || !strings.ContainsRune(formulaSigns, first) || numberPattern.MatchString(strings.TrimLeft(text, " ")) {
		return text
	}
	return "'" + text
}

// isTextType reports whether values of a column's type can have any text: the others are
// numbers, times and the like, whose text DuckDB forms.
func isTextType(kind string) bool {
	word, _, _ := strings.Cut(kind, "(")
	switch word {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "BIGNUM",
		"FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN", "UUID", "DATE", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE",
		"TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "INTERVAL":
		return strings.HasSuffix(kind, "]")
	}
	return true
}
