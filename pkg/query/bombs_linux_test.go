package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// bombs are SELECTs that need more memory or time than any limit allows. DuckDB's own
// limit of memory does not bound the first ones, and some of its steps cannot be
// interrupted.
var bombs = map[string]string{
	"list":                  "SELECT len(range(600000000))",
	"lists":                 "SELECT max(len(range(a, a + 300000000))) FROM range(40) t(a)",
	"text":                  "SELECT length(repeat('x', 4000000000))",
	"texts":                 "SELECT max(length(repeat('x', (a + 1000000000)::BIGINT))) FROM range(40) t(a)",
	"text that is returned": "SELECT repeat('x', 3000000000)",
	"padded text":           "SELECT length(lpad('x', 2000000000, 'y'))",
	"joined text":           "SELECT length(string_agg(repeat('x', 1000000), ',')) FROM range(100000)",
	"aggregated list":       "SELECT len(list(range)) FROM range(3000000000)",
	"nested lists":          "SELECT list_transform(range(10000), x -> range(1000000))",
	"folded constant":       "SELECT len(range(600000000)) = len(range(600000001))",
	"reduction":             "SELECT list_reduce(range(1, 100), (a, b) -> a + len(range(100000000)))",
	"recursion":             "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
	"growing recursion":     "WITH RECURSIVE r AS (SELECT 'x' AS t UNION ALL SELECT t || t FROM r) SELECT max(length(t)) FROM r",
	"cross join":            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1",
	"sorted cross join":     "SELECT * FROM range(100000) a, range(100000) b ORDER BY a.range * b.range % 7",
	"window":                "SELECT max(n) FROM (SELECT list(range) OVER (ORDER BY range) AS n FROM range(100000))",
	"distinct texts":        "SELECT count(DISTINCT md5(range::VARCHAR) || repeat('x', 10000)) FROM range(10000000)",
	"regular expression":    "SELECT regexp_replace(repeat('a', 100000000), 'a', repeat('b', 100), 'g')",
	"generated JSON":        "SELECT to_json(range(300000000))",
	"generated columns":     "SELECT " + strings.Repeat("repeat('x', 100000000), ", 40) + "1",
	"pivot of many columns": "PIVOT (SELECT range AS a FROM range(100000)) ON a USING count(*)",
	"deep expression":       "SELECT " + strings.Repeat("(", 20000) + "1" + strings.Repeat(")", 20000),
	"deep list":             "SELECT " + strings.Repeat("[", 5000) + "1" + strings.Repeat("]", 5000),
	"series of timestamps":  "SELECT len(generate_series(TIMESTAMP '1900-01-01', TIMESTAMP '2100-01-01', INTERVAL 1 SECOND))",
	"bits":                  "SELECT bit_count(repeat('1', 1000000000)::BIT)",
	"maps":                  "SELECT cardinality(map(range(100000000), range(100000000)))",
}

// Whatever a query does, this process neither grows nor waits beyond the limit, and
// the next query succeeds.
func TestBombs(t *testing.T) {
	e := newEngine(t, map[string][]string{"okta_users": {`{"a":1}`}})
	e = New(Options{State: e.o.State, Tenancy: "default", Dir: e.o.Dir, Memory: 512 << 20, Disk: "16MiB", Parallel: 2})
	queryCSV(t, e, "SELECT 1")
	before := residentBytes(t)
	for name, text := range bombs {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, err := e.Query(t.Context(), text, CSVFormat, Limits{Time: 2 * time.Second, Bytes: 1 << 20, Rows: 10, Wait: true}, &bytes.Buffer{})
			t.Logf("%v: %.200v", time.Since(began).Round(time.Millisecond), err)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v: want one that says what the limit is", err)
			}
			if after := residentBytes(t); after > before+10<<20 {
				t.Errorf("%d MB resident, %d before", after>>20, before>>20)
			}
			if got := queryCSV(t, e, "SELECT count(*) AS n FROM okta_users"); got != "n\n1\n" {
				t.Errorf("the next query returned %q", got)
			}
		})
	}
	if left, err := os.ReadDir(e.o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}

// residentBytes returns the resident memory of this process.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
