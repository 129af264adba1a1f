package query

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/pkg/state"
)

// StreamData describes the last-known snapshot of a stream.
type StreamData struct {
	Stream string
	// UploadID is that of the snapshot; those of several tenancies are joined.
	UploadID string
	// Taken is that of UsedStream.
	Taken time.Time
	// Records is the number of the records of all tenancies.
	Records int64
}

// SetState replaces the state, such as by one that has newer snapshots. No query may be
// running.
func (e *Engine) SetState(s *state.State) { e.o.State = s }

// StreamData returns the streams that have data. It reads no records.
func (e *Engine) StreamData(ctx context.Context) (list []StreamData, err error) {
	sources, err := e.streamSources(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, one := range byStream(sources) {
		data, ids := StreamData{Stream: one[0].Stream, Taken: usedStream(one).Taken}, []string(nil)
		for _, s := range one {
			data.Records += s.Records
			ids = append(ids, s.UploadID)
		}
		data.UploadID = strings.Join(ids, " ")
		list = append(list, data)
	}
	return list, nil
}

// Columns returns the columns of a stream.
func (e *Engine) Columns(ctx context.Context, stream string, l Limits) ([]Column, error) {
	var b bytes.Buffer
	if _, err := e.Query(ctx, "DESCRIBE "+duckdb.Quote(stream), RowsFormat, l, &b); err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(&b)
	var header []Column
	if err := decoder.Decode(&header); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var list []Column
	for decoder.More() {
		var row []*string // the name, the type, and what views do not have
		if err := decoder.Decode(&row); err != nil {
			return nil, fmt.Errorf("query: %w", err)
		}
		list = append(list, Column{Name: *row[0], Type: *row[1]})
	}
	return list, nil
}
