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
	state.History
}

const (
	historyFormat = 1
	// historyRuns is how many runs the history has at most.
	historyRuns = 50
	// historyMax bounds how much of an object is read, in bytes.
	historyMax = 1 << 20
)

// writeHistory uploads the history of the stream, if there is a state.
func (s *Sink) writeHistory(ctx context.Context, h snapshot.Header) error {
	if s.state == nil {
		return nil
	}
	known, err := s.state.Runs.History(ctx, h.Stream, h.Tenancy, historyRuns)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(history{Format: historyFormat, Stream: h.Stream, Tenancy: h.Tenancy, History: known}, "", "  ")
	if err != nil {
		return fmt.Errorf("history of %s: %w", h.Stream, err)
	}
	return s.Put(ctx, s.historyKey(h), append(text, '\n'))
}

// readHistory reads the history of the stream. It is empty when another program
// wrote the backup.
func (s *Sink) readHistory(ctx context.Context, h snapshot.Header) (_ state.History, err error) {
	key := s.historyKey(h)
	body, _, err := s.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return state.History{}, nil
	}
	if err != nil {
		return state.History{}, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(body, historyMax))
	if err != nil {
		return state.History{}, fmt.Errorf("%s: %w", key, err)
	}
	var past history
	if err := json.Unmarshal(text, &past); err != nil {
		return state.History{}, fmt.Errorf("%s is not a history: %w", key, err)
	}
	if past.Format != historyFormat || past.Stream != h.Stream || past.Tenancy != h.Tenancy {
		return state.History{}, fmt.Errorf("%s is not the history of %s, tenancy %q, in format %d", key, h.Stream, h.Tenancy, historyFormat)
	}
	return past.History, nil
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
