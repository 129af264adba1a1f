package statetest

import (
	"context"
	"errors"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// testEachRecord reads the last-known snapshot to the end, until visit has enough, until
// visit fails, after the context ended, while a newer one replaces it, and damaged.
func testEachRecord(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	seen := 0
	count := func([]byte) error { seen++; return nil }
	requireSeen := func(what string, want int) {
		t.Helper()
		AssertEqual(t, "records "+what, seen, want)
		seen = 0
	}
	if _, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("no snapshot: error %v, want ErrNoSnapshot", err)
	}
	requireSeen("without a snapshot", 0)
	f.CollectUsers(1, 5, state.Policy{})
	sealed, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count)
	f.RequireNoError(err)
	AssertEqual(t, "snapshot", sealed.UploadID, "id-001")
	requireSeen("to the end", 5)
	_, err = f.Snapshots.EachRecord(ctx, "okta_users", "acme", func(b []byte) error {
		if seen++; seen == 2 {
			return state.ErrEnough
		}
		return nil
	})
	f.RequireNoError(err)
	requireSeen("until enough", 2)
	failed := errors.New("failed")
	if _, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", func([]byte) error { seen++; return failed }); !errors.Is(err, failed) {
		t.Errorf("error %v, want that of visit", err)
	}
	requireSeen("until visit fails", 1)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Snapshots.EachRecord(ended, "okta_users", "acme", count); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	requireSeen("after the context ended", 0)
	_, err = f.Snapshots.EachRecord(ctx, "okta_users", "acme", func([]byte) error {
		if seen++; seen == 1 {
			f.CollectUsers(2, 7, state.Policy{})
		}
		return nil
	})
	f.RequireNoError(err)
	requireSeen("while a newer snapshot replaces it", 5)
	sealed, err = f.Snapshots.EachRecord(ctx, "okta_users", "acme", count)
	f.RequireNoError(err)
	requireSeen("of the newer snapshot", 7)
	f.Alter(sealed.Header, Records, FlipBit)
	if _, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}
