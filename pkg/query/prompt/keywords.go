package prompt

import "strings"

// keywords are those that are completed: what a SELECT has, and the functions that are used
// most.
var keywords = strings.Fields(`
ALL AND ANTI ANY AS ASC ASOF BETWEEN BY CASE CAST COLLATE COLUMNS CROSS DATE DAY DESC DESCRIBE DISTINCT ELSE END
EXCEPT EXCLUDE EXISTS EXTRACT FALSE FILTER FIRST FROM FULL GROUP HAVING HOUR ILIKE IN INNER INTERSECT INTERVAL IS JOIN
LAST LATERAL LEFT LIKE LIMIT MINUTE MONTH NATURAL NOT NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION PIVOT POSITIONAL
QUALIFY RECURSIVE REPLACE RIGHT SAMPLE SELECT SEMI SHOW SIMILAR SUMMARIZE TABLES THEN TIMESTAMP TRUE UNION UNNEST
UNPIVOT USING VALUES WHEN WHERE WINDOW WITH YEAR
`)

var functions = strings.Fields(`
abs arg_max arg_min array_agg avg coalesce concat contains count date_diff date_part date_trunc first greatest
json_extract json_extract_string last least len length list list_contains lower max median min now nullif
quantile_cont regexp_extract regexp_matches regexp_replace replace round row_number split_part starts_with
strftime string_agg string_split struct_extract substring sum trim try_cast unnest upper
`)

// reserved are the keywords that a name must have quotes to be. DuckDB has more of them;
// quotes around the others do no harm.
var reserved = func() map[string]bool {
	set := map[string]bool{}
	for _, word := range keywords {
		set[word] = true
	}
	return set
}()

// streamKeywords are the keywords after which only the name of a stream is expected.
var streamKeywords = map[string]bool{"FROM": true, "JOIN": true, "DESCRIBE": true, "SUMMARIZE": true, "PIVOT": true, "UNPIVOT": true}
