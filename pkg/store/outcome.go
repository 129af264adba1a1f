package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Report receives what a Write did that is not an error. It may be used by
// several goroutines.
type Report struct {
	mu      sync.Mutex
	keptOut bool
}

// KeptOut reports whether the destination kept the snapshot out: it has one
// that must stay. Repeating the Write would change nothing.
func (r *Report) KeptOut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keptOut
}

type reportKey struct{}

// WithReport returns a context for a Write that fills the report r.
func WithReport(ctx context.Context, r *Report) context.Context {
	return context.WithValue(ctx, reportKey{}, r)
}

// A Placement is where a snapshot stands among those that a destination has.
type Placement int

// The placements.
const (
	// Current: it is stored, or the destination has it already.
	Current Placement = iota
	// StoredFromFuture: it is stored and dated in the future, so that it is
	// not shown as the newest.
	StoredFromFuture
	// Late: it is older than what the destination keeps, and not stored.
	Late
	// Older: the destination holds a newer one in its place, and it is not
	// stored.
	Older
	// FromFuture: it is dated in the future and would replace a snapshot of
	// the present, so it is not stored.
	FromFuture
)

// isStored reports whether the snapshot is stored.
func (p Placement) isStored() bool { return p == Current || p == StoredFromFuture }

// PlaceIncoming returns the placement of a snapshot that was taken at incoming
// where a destination holds one snapshot, taken at stored.
func PlaceIncoming(stored, incoming, now time.Time) Placement {
	switch {
	case !snapshot.IsNewer(stored, incoming, now):
		return Current
	case snapshot.IsFromFuture(incoming, now):
		return FromFuture
	}
	return Older
}

// ReportPlacement notes where the snapshot s stands in place, such as
// "postgres: table okta_users" or "the backup". If it is not stored, the report of ctx says so.
// note may be nil.
func ReportPlacement(ctx context.Context, note NoteFunc, s *snapshot.Snapshot, place string, p Placement) {
	dated := fmt.Sprintf("dated %s, in the future", s.UploadTimestamp.UTC().Format(time.RFC3339))
	const advice = "check the clock of the machine that collected it"
	var text string
	switch p {
	case StoredFromFuture:
		text = fmt.Sprintf("%s: %s: stored, and not shown as the newest while there are others: %s", place, dated, advice)
	case Late:
		text = fmt.Sprintf("%s: older than what it keeps: not stored", place)
	case Older:
		text = place + " is newer than the snapshot and is not replaced"
	case FromFuture:
		text = fmt.Sprintf("%s: %s: not stored, since it would replace a snapshot of the present: %s", place, dated, advice)
	default:
		return
	}
	if note != nil {
		note(s, text)
	}
	if r, ok := ctx.Value(reportKey{}).(*Report); ok && p != StoredFromFuture {
		r.mu.Lock()
		r.keptOut = true
		r.mu.Unlock()
	}
}
