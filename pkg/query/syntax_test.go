package query

import (
	"strings"
	"testing"
)

func TestCheckSyntax(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"-- a title\nSELECT a.b FROM missing a;":     "",
		"FROM missing":                               "",
		"WITH a AS (SELECT 1) FROM a":                "",
		"SHOW TABLES":                                "",
		"DESCRIBE missing":                           "",
		"PIVOT missing ON s IN ('a') USING count(*)": "",
		"SELECT 'it''s', '\u00e4'":                   "",
		"SELEC 1":                                    `syntax error at or near "SELEC"`,
		"SELECT FROM x WHERE":                        "syntax error at end of input",
		"":                                           "the query is empty",
		"-- only a title":                            "the query is empty",
		"SELECT 1; SELECT 2":                         "there are several statements",
		"CREATE TABLE x AS SELECT 1":                 "only one SELECT is allowed",
		"COPY (SELECT 1) TO 'x'":                     "only one SELECT is allowed",
		"SELECT '); DROP TABLE x; --', json_serialize_sql('a')": "",
	} {
		err := CheckSyntax(t.Context(), text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want %q", text, err, want)
		}
	}
}
