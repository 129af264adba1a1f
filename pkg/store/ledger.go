package store

import (
	"context"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	// LedgerTable is the table in which a database destination lists the
	// snapshots that it has stored. Its columns are stream, tenancy,
	// upload_id, upload_timestamp, records and stored_at; stream, tenancy and
	// upload_id are unique.
	LedgerTable = "_collectord_snapshots"
	// LatestSuffix ends the name of the view of each tenancy's newest
	// snapshot: okta_users_latest.
	LatestSuffix = "_latest"
	// TypedSuffix ends the name of the view that has the members of those
	// snapshots as columns: okta_users_latest_typed.
	TypedSuffix = LatestSuffix + "_typed"
	// TypesTable is the table in which a database destination remembers the
	// types of the columns of typed views.
	TypesTable = "_collectord_types"
)

// A LedgerTx is a transaction in a database destination that stores one
// snapshot: the rows of its stream and tenancy, and their entries in the
// ledger.
type LedgerTx interface {
	// ListStored returns the snapshots of the stream and tenancy: those in
	// the ledger, and rows of other programs under the UploadID "".
	ListStored(ctx context.Context) ([]StoredSnapshot, error)
	// RemoveRows deletes rows of the tenancy, and the entries of snapshots
	// from the future.
	RemoveRows(ctx context.Context, r Removal) error
	// InsertRecords inserts the records of the snapshot and verifies them
	// against its sum and count.
	InsertRecords(ctx context.Context) error
	// InsertEntry adds the snapshot to the ledger.
	InsertEntry(ctx context.Context, entry StoredSnapshot) error
}

// AddSnapshot stores s in the transaction tx, unless the ledger lists it
// already. A listed snapshot is only stored again, in place of its rows, in a
// context from WithRefill. Rows that r does not keep are deleted. now is the time
// by the destination's clock: that of a machine that was suspended may be behind.
//
// tx has locked out other writers of the stream since before AddSnapshot is called,
// and sees what they have stored. Then a writer that was suspended for long does not
// replace a newer snapshot, which another one has stored meanwhile.
//
// AddSnapshot returns where s stands:
//
//   - a late snapshot is listed in the ledger, and its records are not stored;
//   - one from the future that is not stored is not listed either: when its
//     date arrives, an entry without rows would count as the newest snapshot.
func AddSnapshot(ctx context.Context, tx LedgerTx, s *snapshot.Snapshot, r Retention, now time.Time) (Placement, error) {
	existing, err := tx.ListStored(ctx)
	if err != nil {
		return Current, err
	}
	if i := slices.IndexFunc(existing, func(e StoredSnapshot) bool { return e.UploadID == s.UploadID }); i >= 0 {
		if !isRefill(ctx) {
			return Current, nil
		}
		listed := existing[i]
		return replaceRows(ctx, tx, slices.Delete(existing, i, i+1), listed, r, now)
	}
	fresh := newStored(existing, s.Header, now)
	plan := r.plan(existing, fresh, now)
	if err := tx.RemoveRows(ctx, plan.remove); err != nil {
		return Current, err
	}
	if plan.place.isStored() {
		err = tx.InsertRecords(ctx)
	} else {
		err = s.Verify(ctx)
	}
	if err != nil || plan.place == FromFuture {
		return plan.place, err
	}
	return plan.place, tx.InsertEntry(ctx, fresh)
}

// replaceRows replaces the rows of a snapshot that the ledger lists, of which some
// may be missing, by the records of the snapshot. Its entry stays. When r does not
// keep the snapshot, nothing is changed. replaceRows returns where it stands.
func replaceRows(ctx context.Context, tx LedgerTx, others []StoredSnapshot, listed StoredSnapshot, r Retention, now time.Time) (Placement, error) {
	place := r.plan(others, listed, now).place
	if !place.isStored() {
		return place, nil
	}
	remove := Removal{At: listed.Taken}
	for _, e := range others {
		if e.Taken.Equal(listed.Taken) && e.UploadID != "" {
			remove.KeepIDs = append(remove.KeepIDs, e.UploadID)
		}
	}
	if err := tx.RemoveRows(ctx, remove); err != nil {
		return Current, err
	}
	return place, tx.InsertRecords(ctx)
}
