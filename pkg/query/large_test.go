// The race detector needs more memory than a query may use.

//go:build !race

package query

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Records of up to the largest size can be queried beside small ones, and do not
// change the types of the table.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20, 33, 63} {
		records := []string{`{"a":"` + strings.Repeat("x", size<<20) + `","n":1,"t":"2026-01-02T03:04:05Z"}`}
		for n := range 60 {
			records = append(records, fmt.Sprintf(`{"a":"b","n":%d,"t":"2026-01-02T03:04:05Z"}`, n))
		}
		e := newEngine(t, map[string][]string{"large_records": records})
		var out bytes.Buffer
		_, err := e.Query(t.Context(), "SELECT max(length(a)) AS length, count(*) AS records, max(n) AS n, max(typeof(t)) AS t, max(typeof(_upload_id)) AS id FROM large_records", CSVFormat, Limits{Wait: true}, &out)
		if err != nil {
			t.Errorf("%d MiB: %v", size, err)
		}
		if got, want := out.String(), fmt.Sprintf("length,records,n,t,id\n%d,61,59,TIMESTAMP,UUID\n", size<<20); got != want {
			t.Errorf("%d MiB: got %q, want %q", size, got, want)
		}
	}
}

// A query that needs more memory than it may use ends with an error that says so.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	e := newEngine(t, nil)
	var b bytes.Buffer
	small := New(Options{State: e.o.State, Tenancy: "default", Dir: e.o.Dir, Memory: 512 << 20, Disk: "1MiB"})
	_, err := small.Query(t.Context(), "SELECT count(*) FROM (SELECT DISTINCT md5(range::VARCHAR) FROM range(20000000))", CSVFormat, Limits{}, &b)
	if !errors.Is(err, ErrMemory) {
		t.Errorf("query that needs too much memory: error %v", err)
	}
}
