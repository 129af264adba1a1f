package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Keep says which snapshots of a stream and tenancy stay in a destination
// that holds many. The newest one always stays. The zero value keeps all.
type Keep struct {
	// Newest is how many of the newest stay; 0 is all.
	Newest int
	// Age is how much older than the newest one a snapshot may be; 0 is any.
	Age time.Duration
}

// A stored snapshot is one that a destination's table holds or held.
type stored struct {
	taken time.Time
	// id is the upload id, "" for rows that were there before collectord.
	id string
	// noted is when it was stored: it orders snapshots of the same second.
	noted time.Time
}

// olderFirst orders snapshots by age.
func olderFirst(a, b stored) int {
	return cmp.Or(a.taken.Compare(b.taken), a.noted.Compare(b.noted), cmp.Compare(a.id, b.id))
}

// next describes the new snapshot h beside those that are there. The order of
// storing must show though the clock stands still or goes back.
func next(there []stored, h snapshot.Header) stored {
	fresh := stored{taken: h.UploadTimestamp.UTC(), id: h.UploadID, noted: time.Now().UTC().Truncate(time.Microsecond)}
	for _, t := range there {
		if !t.noted.Before(fresh.noted) {
			fresh.noted = t.noted.Add(time.Microsecond)
		}
	}
	return fresh
}

// A retention says what to do with a new snapshot and those before it.
type retention struct {
	// load is false when the new one would be removed at once: it is late,
	// and enough newer ones are there.
	load bool
	// before is the time before which all rows go, when it is set.
	before time.Time
	// at and keepIDs: of the rows taken at that time, when it is set, only
	// those of these snapshots stay.
	at      time.Time
	keepIDs []string
}

// plan applies k to the snapshots that are there and the new one, whose id is
// not among them.
func (k Keep) plan(there []stored, fresh stored) retention {
	all := append(slices.Clone(there), fresh)
	slices.SortFunc(all, olderFirst)
	newest := all[len(all)-1]
	first := 0 // the first that stays
	if k.Newest > 0 {
		first = max(first, len(all)-k.Newest)
	}
	if k.Age > 0 {
		from := newest.taken.Add(-k.Age)
		for first < len(all)-1 && all[first].taken.Before(from) {
			first++
		}
	}
	r := retention{load: slices.Contains(all[first:], fresh)}
	if first == 0 {
		return r
	}
	r.before = all[first].taken
	if all[first-1].taken.Equal(r.before) {
		r.at = r.before
		for _, s := range all[first:] {
			if s.taken.Equal(r.at) && s != fresh {
				r.keepIDs = append(r.keepIDs, s.id)
			}
		}
	}
	return r
}
