package vendorsim

import "strings"

// EdgeText is the text of awkward records, escaped for a JSON string. It holds
// what naive splitters, re-encoders and databases get wrong.
const EdgeText = `ends \"]}\" and \"},{\" inside; C:\\Temp\\; a \\\" b; <\/script>; \u00e9\u0000\u2028; ` +
	"raw \u2028 and \u2029; Zürich, 東京, Ελλάδα, עברית; emoji 🔐👩‍💻 and \\ud83d\\ude00; tab\\t, line\\r\\n"

// EdgeMembers are additional members of awkward records: numbers that float64
// cannot represent, nulls, empty and nested values, and names with hyphens,
// dots, spaces and non-ASCII letters.
const EdgeMembers = `,"sim_edge":{"int_over_2_53":9007199254740993,"int_19_digits":1575675954480784435,"int_negative":-9223372036854775808,` +
	`"exponent":1e-7,"exponent_upper":1.27E-07,"float_one":1.0,"float_trailing":0.10,"zero":0,"null":null,"true":true,"false":false,` +
	`"empty_array":[],"empty_object":{},"empty_text":"","vulnerability-management":{"applied-on":null},"dotted.key":"v","key with blank":1,"schlüssel":"é",` +
	`"json_in_text":"[{\"a\":\"]}\"}]","slash":"https:\/\/example.test\/a","backslash_last":"\\","nested":{"a":[{"b":[[{"c":{"d":[[[{"e":{"f":[1,[2,[3,{"g":{"h":[{"i":[]}]}}]]]}}]]]}}]]}]},` +
	`"spaced" : [ 1 , 2 ,	3 ]}`

// vocabulary holds the words of filler text.
var vocabulary = strings.Fields("access account active address agent alert allow application archive audit authentication available " +
	"backup baseline block browser certificate change channel cipher client cluster command compliance configuration connection " +
	"container control credential critical daemon database default denied deployment detected device directory disabled domain " +
	"enabled encryption endpoint error event expired exposure failed file filter firewall directory gateway group header host image " +
	"installed instance interface kernel key library license local log login memory mitigation module monitor network object " +
	"outdated package password patch path permission platform policy port privilege process protocol provider proxy query queue " +
	"recommended registry release remediation remote report request required resource result risk role route rule runtime scan " +
	"scope secret sensor server service session severity setting signature software source state status storage system target " +
	"token traffic update upgrade user value vendor version virtual volume vulnerability warning web workload zone")

// fillerText returns up to n bytes of text, escaped for a JSON string.
func fillerText(seed uint64, n int) string {
	var b strings.Builder
	for k := uint64(0); b.Len() < n; k++ {
		seed = mixBits(seed + k)
		b.WriteString(vocabulary[seed%uint64(len(vocabulary))])
		switch seed >> 32 % 12 {
		case 0:
			b.WriteString(`.\n`)
		case 1:
			b.WriteString(" 1." + string('0'+rune(seed>>40%10)) + " ")
		default:
			b.WriteByte(' ')
		}
	}
	// The text is ASCII, so it can be cut at any byte. A trailing backslash
	// would escape the closing quote.
	return strings.TrimRight(b.String()[:max(n, 0)], `\`)
}
