package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A lastKnown is the last-known snapshot of a stream while an extraction uses it. The
// extraction sees one snapshot, also when another becomes the last-known one meanwhile.
type lastKnown struct {
	snapshots state.Snapshots
	header    snapshot.Header
	log       *zap.Logger

	mu     sync.Mutex
	opened bool
	sealed *snapshot.Snapshot // nil when there is none whose note may be used
	// used reports whether the extraction has received the note.
	used bool
}

// findNote returns the note of the snapshot if it was made with the selection; "" if
// there is none, or the snapshot cannot be used.
func (l *lastKnown) findNote(ctx context.Context, selection string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opened {
		l.opened = true
		l.sealed = l.open(ctx)
	}
	if l.sealed == nil || l.sealed.Note.Selection != hashSelection(selection) {
		return ""
	}
	l.used = l.sealed.Note.Text != ""
	return l.sealed.Note.Text
}

// open opens and verifies the last-known snapshot. It returns nil when there is none, or
// when its note must not be used: with a note of a damaged snapshot, the vendor would
// not send the data that is lost.
func (l *lastKnown) open(ctx context.Context) *snapshot.Snapshot {
	sealed, info, err := l.snapshots.LastKnown(ctx, l.header.Stream, l.header.Tenancy)
	switch {
	case errors.Is(err, state.ErrNoSnapshot):
		return nil
	case err == nil && info.Fallback:
		// The destinations have the newer snapshot that is lost. Only a new one
		// replaces it there.
		return nil
	case err == nil && (sealed.Collector != l.header.Collector || sealed.Note.Text == ""):
		return nil
	case err == nil:
		err = sealed.Verify(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.log.Warn("the last-known snapshot cannot be used; all data is requested again", zap.Error(err))
		}
		return nil
	}
	return sealed
}

// usedSnapshot returns the snapshot whose note the extraction has received.
func (l *lastKnown) usedSnapshot() (*snapshot.Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.used {
		return nil, errors.New("the extraction has no note of a last-known snapshot")
	}
	return l.sealed, nil
}

// hashSelection returns the form of a selection that a snapshot keeps.
func hashSelection(selection string) string {
	sum := sha256.Sum256([]byte(selection))
	return hex.EncodeToString(sum[:8])
}

func (o *output) PreviousNote(ctx context.Context, selection string) string {
	return o.last.findNote(ctx, selection)
}

func (o *output) SetNote(selection, text string) {
	switch {
	case len(text) > collector.MaxNote:
		o.log.Warn("the note for the next run is too long and is not kept; the next run requests all data", zap.Int("bytes", len(text)))
		text = ""
		fallthrough
	case text == "":
		o.w.SetNote(snapshot.Note{})
	default:
		o.w.SetNote(snapshot.Note{Selection: hashSelection(selection), Text: text})
	}
}

func (o *output) EachPrevious(ctx context.Context, read func(record []byte) error) error {
	sealed, err := o.last.usedSnapshot()
	if err == nil {
		err = sealed.EachRecord(ctx, read)
	}
	if err != nil {
		return fmt.Errorf("last-known snapshot: %w", err)
	}
	return nil
}
