package state

import (
	"context"
	"errors"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// ExportChunks are the chunks of a stream's export job. They are kept outside of the spool, so
// that the next run can use them when this one fails or is interrupted. The caller holds the
// stream's lock.
type ExportChunks interface {
	// Find returns the job that was started with the same request and is not too
	// old; "" when there is none.
	Find(request string) (job string, err error)
	// Others returns the jobs that were started with another request.
	Others(request string) (jobs []string, err error)
	// Begin selects the job whose chunks are kept from now on, drops those of other
	// jobs, and returns how many chunks of this one there are.
	Begin(request, job string) (int, error)
	// ChunkDir returns the directory of a chunk.
	ChunkDir(chunk string) string
	// CopyTo adds a chunk to w. When the chunk cannot be used it is dropped, and
	// IsUnusableChunk reports true for the error.
	CopyTo(ctx context.Context, w *snapshot.Writer, chunk string) (records, bytes int64, err error)
	// Drop removes all kept chunks of the stream.
	Drop() error
}

// Snapshots has the last-known snapshot of each stream, and adds new ones from runs and
// backups.
type Snapshots interface {
	// ExportChunks returns the chunks that are kept for the run h of a stream.
	ExportChunks(h snapshot.Header) ExportChunks
	// SpoolRestore starts a snapshot of records from a backup, which have
	// collectord's members already. The caller holds the lock from LockRestore,
	// fills the writer, and passes it to Restore or aborts it.
	SpoolRestore(h snapshot.Header) (*snapshot.Writer, error)
	// Restore seals w, a writer from SpoolRestore, and makes the snapshot the
	// last-known one of its stream with the source Restored. It holds the snapshot
	// when p holds it, as it does for one that was collected. The last-known one
	// stays when PrefersBackup says so; one that is missing or damaged is always
	// replaced. Deliveries to the destinations of p are queued, and no run is added
	// to the history. After an error the caller aborts w.
	Restore(ctx context.Context, w *snapshot.Writer, p Policy) (outcome RestoreOutcome, err error)
	// HasHeldBackup reports whether a snapshot that was restored from a backup is
	// held.
	HasHeldBackup(ctx context.Context, h snapshot.Header) (held bool, err error)
	// Spool starts a snapshot. The caller holds the stream's lock.
	Spool(h snapshot.Header) (*snapshot.Writer, error)
	// LastKnown opens the last-known snapshot of a stream. The error wraps ErrNone
	// when there is none, and snapshot.ErrDamaged when it cannot be used. A newer
	// snapshot may replace it, and its directory be removed, while the caller
	// reads.
	LastKnown(ctx context.Context, stream, tenancy string) (*snapshot.Snapshot, LastKnownInfo, error)
	// EachRecord calls visit with each record of the last-known snapshot of a stream, in
	// order, and returns the snapshot. A record is valid until visit returns. The error is that
	// of visit, or of reading; it wraps ErrNoSnapshot when there is no snapshot.
	EachRecord(ctx context.Context, stream, tenancy string, visit func(record []byte) error) (*snapshot.Snapshot, error)
	// Accept releases the newest held snapshot of a stream: it becomes the
	// last-known one and its deliveries are queued. The error wraps ErrNone when
	// none is held or the last-known one is newer, and snapshot.ErrDamaged when it
	// cannot be used.
	Accept(ctx context.Context, stream, tenancy string, p Policy) (snapshot.Info, error)
}

// IsUnusableChunk reports whether err means that a chunk is missing or damaged.
func IsUnusableChunk(err error) bool {
	return snapshot.IsUnusable(err) || errors.Is(err, snapshot.ErrForeign)
}

// A Policy decides what happens to a sealed snapshot.
type Policy struct {
	// Sinks are the names of the destinations that receive it.
	Sinks []string
	// NewestOnly are those of them in which a newer snapshot replaces the older
	// one: only the newest waits.
	NewestOnly []string
	// SpoolMax is the size in bytes of what is queued for one destination,
	// beyond which a snapshot that is not the newest is not delivered to it; 0
	// means no bound.
	SpoolMax int64
	// StoreEmpty lets a snapshot without records replace one that has records.
	StoreEmpty bool
	// GuardDropPercent holds a snapshot that has fewer than this percentage of
	// the last-known one's records; 0 holds none.
	GuardDropPercent int
}

// A CommitResult is the outcome of Commit.
type CommitResult struct {
	Outcome Outcome
	// Info describes the snapshot.
	Info snapshot.Info
	// LastRecords is the number of records of the last-known snapshot before.
	LastRecords int64
	// Queued is the number of deliveries that were queued.
	Queued int
	// Skipped are the destinations whose queue was too large, so that the
	// snapshot before this one is not delivered to them.
	Skipped []string
}

// A RestoreOutcome is the outcome of Restore.
type RestoreOutcome int

// The outcomes of Restore.
const (
	// RestoreUnneeded: the last-known snapshot stays, and nothing was changed.
	RestoreUnneeded RestoreOutcome = iota
	// RestoreDone: the backup is the last-known snapshot.
	RestoreDone
	// RestoreHeld: the backup waits for Accept.
	RestoreHeld
)

// PrefersBackup reports whether a backup with records, -1 for an unknown
// number, is to replace the last-known snapshot by its age: whether it is newer
// by the rule of time, see snapshot.IsFromFuture, and is not empty where the
// last-known one has records.
func PrefersBackup(taken time.Time, records int64, last snapshot.Info, now time.Time) bool {
	return snapshot.IsNewer(taken, last.UploadTimestamp, now) && (records != 0 || last.Records == 0)
}

// ErrNoSnapshot means that there is no such snapshot.
var ErrNoSnapshot = errors.New("no snapshot")

// A Source is where a last-known snapshot came from.
type Source string

// The sources.
const (
	Collected Source = "collected"
	Restored  Source = "restored"
)

// LastKnownInfo describes how a snapshot became the last-known one.
type LastKnownInfo struct {
	Source Source
	Since  time.Time
	// Checked is the start of the last run that found the vendor's data unchanged;
	// zero when there was none.
	Checked time.Time
	// Fallback means that a newer snapshot was last-known before, and is lost.
	Fallback bool
}

// DataTime returns the time of the data of the last-known snapshot, which was taken at
// taken: when the vendor last said that it has not changed, if that is later.
func (l LastKnownInfo) DataTime(taken time.Time) time.Time { return laterOf(taken, l.Checked) }

// laterOf returns the later of two times.
func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// ErrEnough ends the calls of visit by EachRecord, which then returns no error.
var ErrEnough = errors.New("enough")
