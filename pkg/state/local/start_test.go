package local

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/collectord/collectord/pkg/state"
)

// TestStartWithoutChanges checks that a start of a service that changes nothing in the state
// does not wait for the transaction of another process.
func TestStartWithoutChanges(t *testing.T) {
	f := openState(t)
	targets := map[string]string{"file": "/data", "s3": "bucket"}
	start := func() {
		t.Helper()
		f.requireNoError(f.Notes("acme").SetNote(ctx, "reload", ""))
		changes, err := f.Queue.RegisterSinks(ctx, "acme", targets, twoSinks)
		f.requireNoError(err)
		if len(changes) > 0 && len(changes) != 2 {
			t.Errorf("changed destinations: %v", changes)
		}
		f.requireNoError(f.Queue.RetryRefusedNow(ctx, "acme"))
		found, err := f.Recover(ctx, "okta", "acme", twoSinks, "okta_users")
		f.requireNoError(err)
		if found.Interrupted > 0 || len(found.Lost) > 0 {
			t.Errorf("recovered: %+v", found)
		}
	}
	f.collectUsers(1, 10, twoSinks)
	start() // registers the destinations
	tx, err := f.db.BeginTx(ctx, nil)
	f.requireNoError(err)
	start()
	f.requireNoError(tx.Rollback())
}

// TestStreamsOfTenancy checks that the streams of a tenancy are those of all tenancies that it
// has, with all that is known of them.
func TestStreamsOfTenancy(t *testing.T) {
	f := openState(t)
	for _, tenancy := range []string{"acme", "globex"} {
		addTenancy(f, tenancy)
		_, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_groups", tenancy, 9), Trigger: "test", Started: f.now()})
		f.requireNoError(err)
	}
	all, err := f.Streams(ctx)
	f.requireNoError(err)
	for _, tenancy := range []string{"acme", "globex", "none"} {
		got, err := f.TenancyStreams(ctx, tenancy)
		f.requireNoError(err)
		want := slices.DeleteFunc(slices.Clone(all), func(s state.StreamStatus) bool { return s.Tenancy != tenancy })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("streams of %s (-want +got):\n%s", tenancy, diff)
		}
	}
	if len(all) != 4 || all[2].Queued == 0 || !all[2].Held {
		t.Errorf("all streams: %+v", all)
	}
}
