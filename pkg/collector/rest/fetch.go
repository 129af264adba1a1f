package rest

import (
	"context"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// A RecordFunc handles one record of a response; usually it appends the record
// to batch. The Envelope has the members that came before the record. raw is
// valid until the function returns. A nil RecordFunc appends every record
// unchanged.
type RecordFunc func(batch collector.Batch, e *Envelope, raw []byte) error

// Fetch makes one request and writes the records of its response to out, in
// one batch.
func (c *Client) Fetch(ctx context.Context, r Request, shape Shape, out collector.Output, onRecord RecordFunc) (*Envelope, error) {
	return c.FetchThen(ctx, r, shape, out, onRecord, nil)
}

// FetchThen is like Fetch, and calls atEnd with the whole envelope before the
// batch is committed. atEnd may append records to the batch. If it returns an
// error, the batch is discarded.
func (c *Client) FetchThen(ctx context.Context, r Request, shape Shape, out collector.Output, onRecord RecordFunc, atEnd func(collector.Batch, *Envelope) error) (*Envelope, error) {
	batch, envelope, err := c.fetchBatch(ctx, r, shape, out, onRecord)
	if err != nil {
		return nil, err
	}
	defer batch.Discard()
	if atEnd != nil {
		if err := atEnd(batch, envelope); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Step(), err)
		}
	}
	return envelope, batch.Commit()
}

// fetchBatch makes one request and returns its records in an open batch. The
// batch of a failed attempt is discarded.
func (c *Client) fetchBatch(ctx context.Context, r Request, shape Shape, out collector.Output, onRecord RecordFunc) (collector.Batch, *Envelope, error) {
	var batch collector.Batch
	var envelope *Envelope
	discard := func() {
		if batch != nil {
			batch.Discard()
		}
	}
	err := c.Do(ctx, r, func(resp *Response) (err error) {
		received := time.Now()
		discard()
		batch = out.NewBatch()
		envelope, err = Split(resp.Body, shape, func(e *Envelope, raw []byte) error {
			if onRecord != nil {
				return onRecord(batch, e, raw)
			}
			return batch.Append(raw)
		})
		if err == nil {
			envelope.Header, envelope.received = resp.Header, received
		}
		return err
	})
	if err != nil {
		discard()
		return nil, nil, err
	}
	return batch, envelope, nil
}

// Get makes one request whose response is a small JSON object without records,
// such as a job's state.
func (c *Client) Get(ctx context.Context, r Request) (*Envelope, error) {
	var envelope *Envelope
	err := c.Do(ctx, r, func(resp *Response) (err error) {
		envelope, err = Split(resp.Body, Shape{Records: noRecords, Optional: true}, nil)
		if err == nil {
			envelope.Header = resp.Header
		}
		return err
	})
	return envelope, err
}

// noRecords is a member name that no document has.
const noRecords = "\x00"
