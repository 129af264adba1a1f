package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// history is the content of a history object.
type history struct {
	Format  int    `json:"format"`
	Stream  string `json:"stream"`
	Tenancy string `json:"tenancy"`
	// Note is that of the snapshot in the backup.
	Note backupNote `json:"note,omitzero"`
	state.History
}

// A backupNote is the note of a snapshot. The upload id ties it to the snapshot: with
// that of another, the vendor would not send what has changed between them.
type backupNote struct {
	UploadID string `json:"upload_id"`
	snapshot.Note
}

// of returns the note if it is that of the snapshot with an upload id.
func (b backupNote) of(uploadID string) snapshot.Note {
	if b.UploadID != uploadID {
		return snapshot.Note{}
	}
	return b.Note
}

const (
	historyFormat = 1
	// historyRuns is how many runs the history has at most.
	historyRuns = 50
	// historyMax bounds how much of an object is read, in bytes.
	historyMax = 1 << 20
)

// writeHistory uploads the history of the snapshot's stream and the snapshot's note, if
// there is a state.
func (s *Sink) writeHistory(ctx context.Context, snap *snapshot.Snapshot) error {
	if s.state == nil {
		return nil
	}
	h := snap.Header
	known, err := s.state.Runs.History(ctx, h.Stream, h.Tenancy, historyRuns)
	if err != nil {
		return err
	}
	content := history{Format: historyFormat, Stream: h.Stream, Tenancy: h.Tenancy, History: known}
	if snap.Note != (snapshot.Note{}) {
		content.Note = backupNote{UploadID: h.UploadID, Note: snap.Note}
	}
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("history of %s: %w", h.Stream, err)
	}
	return s.PutBeside(ctx, s.historyKey(h), snap, append(text, '\n'))
}

// readHistory reads the history of the stream. It is empty when another program
// wrote the backup.
func (s *Sink) readHistory(ctx context.Context, h snapshot.Header) (past history, err error) {
	key := s.historyKey(h)
	body, _, err := s.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return history{}, nil
	}
	if err != nil {
		return history{}, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(body, historyMax))
	if err != nil {
		return history{}, fmt.Errorf("%s: %w", key, err)
	}
	if err := json.Unmarshal(text, &past); err != nil {
		return history{}, fmt.Errorf("%s is not a history: %w", key, err)
	}
	if past.Format != historyFormat || past.Stream != h.Stream || past.Tenancy != h.Tenancy {
		return history{}, fmt.Errorf("%s is not the history of %s, tenancy %q, in format %d", key, h.Stream, h.Tenancy, historyFormat)
	}
	return past, nil
}

// doubtsOf returns the doubts of the run with an upload id; nil when the history
// does not have it.
func doubtsOf(past state.History, uploadID string) snapshot.Doubts {
	for _, run := range past.Runs {
		if run.UploadID == uploadID {
			return run.Doubts
		}
	}
	return nil
}
