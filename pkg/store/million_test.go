package store

import (
	"fmt"
	"testing"

	"github.com/collectord/collectord/internal/testserver"
)

// TestAMillionRecords: the memory of a process that stores a million records
// is bounded, whatever the destination.
func TestAMillionRecords(t *testing.T) {
	const n = million
	snap := sealEach(t, header(1), n, func(i int) string {
		return fmt.Sprintf(`{"id":%d,"n":%d,"at":"2026-01-01T00:00:00Z","o":{"a":[1,2,%d],"b":null},"text":"some text of record %x"}`, i, i, i%7, i*2654435761)
	})
	pg, bucket := newPgTest(t), newS3Test(t)
	t.Setenv(postgresVariable, pg.server.URL(testserver.Owner, testserver.Password))
	for _, tc := range []struct {
		sink, dir string
		limit     int64
	}{
		{"file.json", t.TempDir(), 192 << 20},
		{"file.parquet", t.TempDir(), 640 << 20},
		{"duckdb", t.TempDir(), 640 << 20},
		{"postgres", pg.schema, 192 << 20},
		{"s3", bucket.bucket, 256 << 20},
	} {
		problem, _, peak := job{Sink: tc.sink, Dir: tc.dir, Snapshots: []string{snap.Dir()}}.run(t)
		t.Logf("%s: %d MB of records with %d MB", tc.sink, snap.Bytes>>20, peak>>20)
		if problem != "" || peak > tc.limit {
			t.Errorf("%s: peak %d MB, limit %d MB: %s", tc.sink, peak>>20, tc.limit>>20, problem)
		}
	}
	if got := pg.texts(`SELECT count(*)::text FROM $S.okta_users`); got[0] != fmt.Sprint(n) {
		t.Errorf("postgres has %s records", got[0])
	}
	if o, err := bucket.stat(bucket.look(), "million.json"); err != nil || o.Records != n || o.Size < snap.Bytes {
		t.Errorf("%+v, %v", o, err)
	}
}
