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
	// historyRuns is how many runs go along.
	historyRuns = 50
	// historyMax bounds the object that is read.
	historyMax = 1 << 20
)

func (s *Sink) writeHistory(ctx context.Context, h snapshot.Header) error {
	if s.state == nil {
		return nil
	}
	known, err := s.state.History(ctx, h.Stream, h.Tenancy, historyRuns)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(history{Format: historyFormat, Stream: h.Stream, Tenancy: h.Tenancy, History: known}, "", "  ")
	if err != nil {
		return fmt.Errorf("history of %s: %w", h.Stream, err)
	}
	return s.Put(ctx, s.historyKey(h), append(text, '\n'))
}

// restoreHistory takes in the history that lies beside the backup, where this
// machine has none of its own.
func (s *Sink) restoreHistory(ctx context.Context, h snapshot.Header) (err error) {
	key := s.historyKey(h)
	body, _, err := s.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another program's backup
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(body, historyMax))
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	var past history
	if err := json.Unmarshal(text, &past); err != nil {
		return fmt.Errorf("%s is no history: %w", key, err)
	}
	if past.Format != historyFormat || past.Stream != h.Stream || past.Tenancy != h.Tenancy {
		return fmt.Errorf("%s is no history of %s, tenancy %q, in format %d", key, h.Stream, h.Tenancy, historyFormat)
	}
	return s.state.ImportHistory(ctx, h, past.History)
}
