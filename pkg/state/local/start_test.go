package local

import (
	"testing"

	"github.com/collectord/collectord/pkg/state/statetest"
)

// TestStartWithoutChanges checks that a start of a service that changes nothing in the state
// does not wait for the transaction of another process.
func TestStartWithoutChanges(t *testing.T) {
	f := openState(t)
	targets := map[string]string{"file": "/data", "s3": "bucket"}
	start := func() {
		t.Helper()
		f.RequireNoError(f.Notes("acme").SetNote(ctx, "reload", ""))
		changes, err := f.Queue.RegisterSinks(ctx, "acme", targets, statetest.TwoSinks)
		f.RequireNoError(err)
		if len(changes) > 0 && len(changes) != 2 {
			t.Errorf("changed destinations: %v", changes)
		}
		f.RequireNoError(f.Queue.RetryRefusedNow(ctx, "acme"))
		found, err := f.Recover(ctx, "okta", "acme", statetest.TwoSinks, "okta_users")
		f.RequireNoError(err)
		if found.Interrupted > 0 || len(found.Lost) > 0 {
			t.Errorf("recovered: %+v", found)
		}
	}
	f.CollectUsers(1, 10, statetest.TwoSinks)
	start() // registers the destinations
	tx, err := f.db.BeginTx(ctx, nil)
	f.RequireNoError(err)
	start()
	f.RequireNoError(tx.Rollback())
}
