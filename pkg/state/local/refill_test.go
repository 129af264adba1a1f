package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// The destinations that an earlier collectord delivered to are not new.
func TestEarlierDestinationsAreKnown(t *testing.T) {
	t.Parallel()
	s := openEarlier(t)
	statuses, err := s.Queue.SinkStatuses(ctx)
	if err != nil || len(statuses) == 0 {
		t.Fatalf("no statuses, error %v", err)
	}
	sinks := map[string]string{}
	for _, st := range statuses {
		sinks[st.Sink] = "target"
	}
	before, err := s.Queue.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for sink := range sinks {
		names = append(names, sink)
	}
	for range 2 {
		changes, err := s.Queue.RegisterSinks(ctx, statuses[0].Tenancy, sinks, state.Policy{Sinks: names})
		if err != nil || len(changes) > 0 {
			t.Errorf("changes %+v, error %v, want none", changes, err)
		}
	}
	if after, err := s.Queue.List(ctx); err != nil || len(after) != len(before) {
		t.Errorf("%d deliveries are queued, want %d; error %v", len(after), len(before), err)
	}
}

// The database gives space back after a long history was removed.
func TestDatabaseShrinks(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.CollectUsers(1, 5, statetest.TwoSinks)
	_, err := f.db.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
		INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome)
		SELECT 'okta', 'okta_' || (i % 20), 'acme', hex(randomblob(16)), 'schedule', i, i, 'success' FROM n`)
	f.RequireNoError(err)
	size := func() int64 {
		_, err := f.db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		f.RequireNoError(err)
		info, err := os.Stat(filepath.Join(f.dir, databaseName))
		f.RequireNoError(err)
		return info.Size()
	}
	before := size()
	f.RequireNoError(f.Sweep(ctx, statetest.KeepHistory))
	if after := size(); before < 4<<20 || after > 1<<20 {
		t.Errorf("%d bytes before and %d after the sweep, want more than 4 MiB and less than 1 MiB", before, after)
	}
	statetest.AssertEqual(t, "last", f.LastKnown(), "id-001/5/collected")
	statetest.AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
}
