package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// register registers sinks, each with the target "<sink> 1" unless targets has another,
// and returns the changes as text.
func (f *fixture) register(targets map[string]string, sinks ...string) string {
	f.t.Helper()
	all := map[string]string{}
	for _, sink := range sinks {
		all[sink] = sink + " 1"
		if target, ok := targets[sink]; ok {
			all[sink] = target
		}
	}
	changes, err := f.Queue.RegisterSinks(ctx, "acme", all, state.Policy{Sinks: sinks})
	f.requireNoError(err)
	return fmt.Sprint(changes)
}

// A destination that is new, or has another target, receives the last-known snapshots
// of its tenancy.
func TestNewDestinationIsFilled(t *testing.T) {
	t.Parallel()
	f := openState(t)
	assertEqual(t, "first start", f.register(nil, "file"), "[{file  0}]")
	f.collectUsers(1, 5, state.Policy{Sinks: []string{"file"}})
	f.collectUsers(2, 6, state.Policy{Sinks: []string{"file"}})
	_, err := collectSnapshot(f.State, newHeader("okta_groups", "acme", 3), 0, state.Policy{Sinks: []string{"file"}})
	f.requireNoError(err)
	_, err = collectSnapshot(f.State, newHeader("okta_users", "globex", 4), 9, state.Policy{})
	f.requireNoError(err)
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "the same destinations", f.register(nil, "file"), "[]")
	assertEqual(t, "another one", f.register(nil, "file", "postgres"), "[{postgres  1}]")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>postgres")
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "another target", f.register(map[string]string{"postgres": "elsewhere"}, "file", "postgres"), "[{postgres postgres 1 1}]")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-002>postgres")
	f.requireNoError(deliverAll(f.State))
	assertEqual(t, "removed", f.register(nil, "file"), "[]")
	assertEqual(t, "added again", f.register(nil, "file", "postgres"), "[{postgres  1}]")
}

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

func TestRefill(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 5, twoSinks)
	f.collectUsers(2, 6, twoSinks)
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	f.requireNoError(f.Queue.ScheduleRetry(ctx, queue[0].ID, errors.New("denied"), state.Refused, f.now().Add(time.Hour)))
	f.markDeliveredTo("s3")
	id, err := f.Queue.Refill(ctx, "okta_users", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "upload", id, "id-002")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-002>file id-002>s3")
	queue, err = f.Queue.List(ctx)
	f.requireNoError(err)
	for i, want := range []string{`false "" true`, `true "" true`, `true "" true`} {
		assertEqual(t, queue[i].UploadID+">"+queue[i].Sink, fmt.Sprintf("%v %q %v", queue[i].Refill, queue[i].Class, queue[i].NextTry.IsZero()), want)
	}
	if _, err := f.Queue.Refill(ctx, "okta_none", "acme", twoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("error %v, want ErrNoSnapshot", err)
	}
	_, err = collectSnapshot(f.State, newHeader("okta_groups", "acme", 3), 0, twoSinks)
	f.requireNoError(err)
	id, err = f.Queue.Refill(ctx, "okta_groups", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "upload of an empty stream", id, "")
}

// The database gives space back after a long history was removed.
func TestDatabaseShrinks(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 5, twoSinks)
	_, err := f.db.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
		INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome)
		SELECT 'okta', 'okta_' || (i % 20), 'acme', hex(randomblob(16)), 'schedule', i, i, 'success' FROM n`)
	f.requireNoError(err)
	size := func() int64 {
		_, err := f.db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		f.requireNoError(err)
		info, err := os.Stat(filepath.Join(f.dir, databaseName))
		f.requireNoError(err)
		return info.Size()
	}
	before := size()
	f.requireNoError(f.Sweep(ctx, keepHistory))
	if after := size(); before < 4<<20 || after > 1<<20 {
		t.Errorf("%d bytes before and %d after the sweep, want more than 4 MiB and less than 1 MiB", before, after)
	}
	assertEqual(t, "last", f.lastKnown(), "id-001/5/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3")
}

// A destination that has lost the last-known snapshot gets it again, unless it is queued
// for it, or a person has dropped it.
func TestLostCopiesAreRefilled(t *testing.T) {
	t.Parallel()
	f := openState(t)
	lost := func(want string) {
		t.Helper()
		refilled, err := f.Queue.RefillLost(ctx, "okta_users", "acme", []string{"file", "s3"})
		f.requireNoError(err)
		assertEqual(t, "refilled", fmt.Sprint(refilled), want)
	}
	lost("[]") // nothing is known
	f.collectUsers(1, 5, twoSinks)
	lost("[]")
	f.requireNoError(deliverAll(f.State))
	lost("[file s3]")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-001>file id-001>s3")
	queue, err := f.Queue.List(ctx)
	f.requireNoError(err)
	for _, d := range queue {
		if !d.Refill {
			t.Errorf("%s: the delivery is not marked as a refill", d.Sink)
		}
	}
	f.requireNoError(deliverAll(f.State))
	f.collectUsers(2, 5, twoSinks)
	_, err = f.Queue.DropSink(ctx, "s3", "acme")
	f.requireNoError(err)
	lost("[]")
	f.requireNoError(deliverAll(f.State))
	lost("[file]")
}
