package postgres

import (
	"strings"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// typeName returns the name of a column's type, where json_data has the type json.
func typeName(t columns.Type) string {
	switch t {
	case columns.Boolean:
		return "boolean"
	case columns.Double:
		return "double precision"
	case columns.Bigint:
		return "bigint"
	case columns.Timestamp:
		return "timestamp with time zone"
	case columns.LocalTimestamp:
		return "timestamp without time zone"
	case columns.JSON:
		return "json"
	}
	return "text"
}

// typedQuery returns the query of a typed view over the rows of latest, with json_data
// of type jsonType.
//
// One json_to_record returns the members as texts, so that a record is parsed once. It
// matches names exactly. Names that cannot be those of columns in SQL are read with
// ->>. No value makes the query fail: what does not fit the type of its column is
// NULL, which rows of other programs can have.
func typedQuery(latest, jsonType string, chosen columns.Result) string {
	function, nested := "json", "json"
	if jsonType == "jsonb" {
		function, nested = "jsonb", "jsonb"
	}
	record := readableRecord(jsonType)
	selected := "l.tenancy AS " + snapshot.MemberTenancy + ", l.upload_timestamp AT TIME ZONE 'UTC' AS " + snapshot.MemberUploadTimestamp +
		", m." + snapshot.MemberUploadID + " AS " + snapshot.MemberUploadID
	members := snapshot.MemberUploadID + " text"
	if chosen.Root == nil {
		selected += ", r.record AS json_data"
	} else {
		for _, m := range chosen.Root.Members {
			value, operator, as := "m."+quoteName(m.Vendor), "->>", "text"
			if m.Type == columns.JSON {
				operator, as = "->", nested
			}
			if m.Vendor == "" || len(m.Vendor) > maxName {
				value = "(r.record " + operator + " " + quoteText(m.Vendor) + ")"
			} else {
				members += ", " + quoteName(m.Vendor) + " " + as
			}
			selected += ", " + convertText(value, m.Type) + " AS " + quoteName(m.Column)
		}
	}
	return "SELECT " + selected + " FROM (" + latest + ") AS l CROSS JOIN LATERAL (SELECT " + record + " AS record) AS r LEFT JOIN LATERAL " +
		function + "_to_record(CASE WHEN " + function + "_typeof(r.record) = 'object' THEN r.record END) AS m(" + members + ") ON true"
}

// readableRecord returns the SQL expression of l.json_data as a value that Postgres'
// functions can read. A value of another type than jsonb may have an escape that they
// refuse, if another program stored it.
func readableRecord(jsonType string) string {
	if jsonType == "jsonb" {
		return "l.json_data"
	}
	return "CASE WHEN l.json_data::text LIKE '%\\\\u%' AND l.json_data::text ~ '\\\\u(0000|[dD][89a-fA-F])' THEN (" +
		repairExpression("l.json_data") + ")::json ELSE l.json_data::json END"
}

// The parts of the times that columns.Timestamp has, as regular expressions. They
// match days of the calendar only.
const (
	datePattern = `(?!0000)(` +
		`[0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)|` +
		`([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)`
	clockPattern  = `T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?`
	offsetPattern = `(Z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)`
)

// convertText returns the SQL expression that converts the text value to the type. It
// never fails, also when a condition is evaluated that others make needless: a cast
// is only in the result of a CASE.
func convertText(value string, t columns.Type) string {
	var format string
	switch t {
	case columns.Boolean:
		format = `CASE $V WHEN 'true' THEN true WHEN 'false' THEN false END`
	case columns.Bigint:
		format = `CASE WHEN $V ~ '^-?[0-9]{1,18}$' THEN $V::bigint WHEN $V ~ '^-?[0-9]{19}$' THEN` +
			` CASE WHEN $V::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN $V::bigint END END`
	case columns.Double:
		format = `CASE WHEN length($V) <= 40 AND $V ~ '^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,2})?$' THEN $V::double precision` +
			` WHEN length($V) <= 5000 AND $V ~ '^-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,3})?$' THEN` +
			` CASE WHEN abs($V::numeric) < 1e-307 THEN 0 WHEN abs($V::numeric) <= 1.7976931348623157e308 THEN $V::numeric::double precision END END`
	case columns.Timestamp:
		format = `CASE WHEN $V ~ '^` + datePattern + clockPattern + offsetPattern + `$' THEN $V::timestamptz END`
	case columns.LocalTimestamp:
		format = `CASE WHEN $V ~ '^` + datePattern + clockPattern + `$' THEN $V::timestamp END`
	case columns.JSON:
		format = `CASE WHEN $V::text <> 'null' THEN $V END`
	default:
		format = `$V`
	}
	return strings.ReplaceAll(format, "$V", value)
}
