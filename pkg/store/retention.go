package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Retention says which snapshots of a stream and tenancy stay in a destination
// that holds many. The newest one always stays. The zero value keeps all.
type Retention struct {
	// Newest is how many of the newest stay; 0 is all.
	Newest int
	// Age is how much older than the newest one a snapshot may be; 0 is any.
	Age time.Duration
}

// ModeReplace is the value of a MODE setting that keeps only the newest
// snapshot of each tenancy.
const ModeReplace = "replace"

// RetentionOf returns the retention that a MODE and a KEEP setting ask for:
// the mode "replace" keeps the newest snapshot only, every other mode follows
// keep.
func RetentionOf(mode string, keep Retention) Retention {
	if mode == ModeReplace {
		return Retention{Newest: 1}
	}
	return keep
}

// A StoredSnapshot is one snapshot that a destination's table holds or held.
type StoredSnapshot struct {
	// Taken is the upload timestamp in UTC.
	Taken time.Time
	// UploadID is "" for rows that were in the table before collectord.
	UploadID string
	// StoredAt is when it was stored, in UTC. It orders snapshots of the same
	// second.
	StoredAt time.Time
}

// isFromFuture reports whether s is from the future, see snapshot.IsFromFuture.
func (s StoredSnapshot) isFromFuture(now time.Time) bool { return snapshot.IsFromFuture(s.Taken, now) }

// sortByAge sorts snapshots, the oldest first, and returns how many of them are
// from the future. Those are the first, in the order in which they were stored,
// since their dates are wrong.
func sortByAge(list []StoredSnapshot, now time.Time) (fromFuture int) {
	slices.SortFunc(list, func(a, b StoredSnapshot) int {
		switch aFuture, bFuture := a.isFromFuture(now), b.isFromFuture(now); {
		case aFuture && bFuture:
			return cmp.Or(a.StoredAt.Compare(b.StoredAt), a.Taken.Compare(b.Taken), cmp.Compare(a.UploadID, b.UploadID))
		case aFuture:
			return -1
		case bFuture:
			return 1
		}
		return cmp.Or(a.Taken.Compare(b.Taken), a.StoredAt.Compare(b.StoredAt), cmp.Compare(a.UploadID, b.UploadID))
	})
	for fromFuture < len(list) && list[fromFuture].isFromFuture(now) {
		fromFuture++
	}
	return fromFuture
}

// newStored returns the entry of the new snapshot h, which is stored now. Its StoredAt is later than
// that of every entry in existing, even when the clock stands still or goes
// backwards.
func newStored(existing []StoredSnapshot, h snapshot.Header, now time.Time) StoredSnapshot {
	fresh := StoredSnapshot{Taken: h.UploadTimestamp.UTC(), UploadID: h.UploadID, StoredAt: now.UTC().Truncate(time.Microsecond)}
	for _, e := range existing {
		if !e.StoredAt.Before(fresh.StoredAt) {
			fresh.StoredAt = e.StoredAt.Add(time.Microsecond)
		}
	}
	return fresh
}

// A Removal says which rows of a tenancy are deleted before a new snapshot is
// added.
type Removal struct {
	// Before is the time before which all rows are deleted; zero deletes
	// none.
	Before time.Time
	// At and KeepIDs: of the rows that were taken at At, only those of the
	// snapshots in KeepIDs stay. A zero At deletes none.
	At      time.Time
	KeepIDs []string
	// FromFuture are the times of snapshots from the future whose rows are
	// deleted, together with their entries in the ledger: when such a date
	// arrives, an entry without rows would count as the newest snapshot.
	FromFuture []time.Time
}

// A retentionPlan says what to do with a new snapshot and the earlier ones.
type retentionPlan struct {
	// place says where the new snapshot stands. It is not added when it would
	// be deleted immediately.
	place  Placement
	remove Removal
}

// plan applies r at the time now to the existing snapshots and the new one,
// which is not among them.
func (r Retention) plan(existing []StoredSnapshot, fresh StoredSnapshot, now time.Time) retentionPlan {
	all := append(slices.Clone(existing), fresh)
	future := sortByAge(all, now)
	dropped := 0 // how many of the oldest do not stay
	if r.Newest > 0 {
		dropped = max(0, len(all)-r.Newest)
	}
	// By their age, snapshots from the future are never deleted.
	first := max(future, dropped)
	if r.Age > 0 {
		first = max(first, future+r.expired(all[future:]))
	}
	kept := slices.Concat(all[min(dropped, future):future], all[first:])
	p := retentionPlan{place: placeFresh(fresh, slices.Contains(kept, fresh), now)}
	p.remove.FromFuture = timesOf(all[:min(dropped, future)], append(kept, fresh))
	if first == future {
		return p
	}
	p.remove.Before = all[first].Taken
	if all[first-1].Taken.Equal(p.remove.Before) {
		p.remove.At = p.remove.Before
		for _, s := range all[first:] {
			if s.Taken.Equal(p.remove.At) && s != fresh {
				p.remove.KeepIDs = append(p.remove.KeepIDs, s.UploadID)
			}
		}
	}
	return p
}

// expired returns how many of the snapshots, the oldest first, are older than
// r.Age. The newest one never is. The first gap that is longer than r.Age is not
// counted: it is a time without runs, or a clock that was set forward, and must
// not delete the whole history at once.
func (r Retention) expired(list []StoredSnapshot) int {
	var age time.Duration
	skipped := false
	for i := len(list) - 1; i > 0; i-- {
		gap := list[i].Taken.Sub(list[i-1].Taken)
		if gap > r.Age && !skipped {
			skipped = true
			continue
		}
		if age += gap; age > r.Age {
			return i
		}
	}
	return 0
}

// placeFresh returns the placement of a new snapshot.
func placeFresh(fresh StoredSnapshot, kept bool, now time.Time) Placement {
	switch fromFuture := fresh.isFromFuture(now); {
	case fromFuture && kept:
		return StoredFromFuture
	case fromFuture:
		return FromFuture
	case kept:
		return Current
	}
	return Late
}

// timesOf returns the times at which the removed snapshots were taken, without
// those that a kept one shares.
func timesOf(removed, kept []StoredSnapshot) (times []time.Time) {
	for _, s := range removed {
		if !slices.ContainsFunc(kept, func(k StoredSnapshot) bool { return k.Taken.Equal(s.Taken) }) {
			times = append(times, s.Taken)
		}
	}
	return times
}
