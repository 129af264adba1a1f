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

// Destinations have files of such records, too, and queries read them.
func TestLargeRecordsInFiles(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]string{
		"text": `{"a":"` + strings.Repeat("x", 63<<20) + `","n":1}`,
		"list": `{"l":[{"x":1.5}` + strings.Repeat(`,{"x":1,"y":"abcdefgh"}`, 12<<20/23) + `],"n":1}`,
	} {
		records := []string{large}
		for n := range 60 {
			records = append(records, fmt.Sprintf(`{"a":"b","n":%d,"l":[]}`, n))
		}
		e := newEngine(t, map[string][]string{"large_records": records})
		e.ShareFiles(&FileOptions{})
		path, notes := storeFile(t, e, "large_records")
		t.Logf("%s: %s, notes %q", name, describeColumns(t, path), notes)
		if got := queryCSV(t, e, "SELECT count(*) AS records, max(n) AS n FROM large_records"); got != "records,n\n61,59\n" {
			t.Errorf("%s: result %q", name, got)
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
