package local

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// TestEachRecord reads the last-known snapshot to the end, until visit has enough, until
// visit fails, after the context ended, while a newer one replaces it, and damaged.
func TestEachRecord(t *testing.T) {
	t.Parallel()
	f := openState(t)
	seen := 0
	count := func([]byte) error { seen++; return nil }
	requireSeen := func(what string, want int) {
		t.Helper()
		assertEqual(t, "records "+what, seen, want)
		seen = 0
	}
	if _, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("no snapshot: error %v, want ErrNoSnapshot", err)
	}
	requireSeen("without a snapshot", 0)
	f.collectUsers(1, 5, state.Policy{})
	sealed, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count)
	f.requireNoError(err)
	assertEqual(t, "snapshot", sealed.UploadID, "id-001")
	requireSeen("to the end", 5)
	_, err = f.Snapshots.EachRecord(ctx, "okta_users", "acme", func(b []byte) error {
		if seen++; seen == 2 {
			return state.ErrEnough
		}
		return nil
	})
	f.requireNoError(err)
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
			f.collectUsers(2, 7, state.Policy{})
		}
		return nil
	})
	f.requireNoError(err)
	requireSeen("while a newer snapshot replaces it", 5)
	sealed, err = f.Snapshots.EachRecord(ctx, "okta_users", "acme", count)
	f.requireNoError(err)
	requireSeen("of the newer snapshot", 7)
	content, err := os.ReadFile(sealed.Path())
	f.requireNoError(err)
	content[len(content)/2] ^= 0xff
	f.requireNoError(os.WriteFile(sealed.Path(), content, 0o600))
	if _, err := f.Snapshots.EachRecord(ctx, "okta_users", "acme", count); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}
