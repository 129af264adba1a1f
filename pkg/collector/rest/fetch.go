package rest

import (
	"context"

	"github.com/collectord/collectord/pkg/collector"
)

// Each passes one record of an answer on to its page. The Envelope holds what
// came before the record; raw is valid until Each returns. A nil Each keeps
// every record as it is.
type Each func(page collector.Page, e *Envelope, raw []byte) error

// Fetch asks for one answer and keeps its records as one page of out.
func (c *Client) Fetch(ctx context.Context, r Request, shape Shape, out collector.Output, each Each) (*Envelope, error) {
	return c.FetchThen(ctx, r, shape, out, each, nil)
}

// FetchThen is Fetch with a last look at the whole answer before its page is
// kept; then may still add records to the page, and its error drops the page.
func (c *Client) FetchThen(ctx context.Context, r Request, shape Shape, out collector.Output, each Each, then func(collector.Page, *Envelope) error) (*Envelope, error) {
	page, envelope, err := c.fetch(ctx, r, shape, out, each)
	if err != nil {
		return nil, err
	}
	defer page.Discard()
	if then != nil {
		if err := then(page, envelope); err != nil {
			return nil, err
		}
	}
	return envelope, page.Commit()
}

// fetch asks for one answer and returns its records as an open page. A page
// of an attempt that failed is dropped with it.
func (c *Client) fetch(ctx context.Context, r Request, shape Shape, out collector.Output, each Each) (collector.Page, *Envelope, error) {
	var page collector.Page
	var envelope *Envelope
	discard := func() {
		if page != nil {
			page.Discard()
		}
	}
	err := c.Do(ctx, r, func(resp *Response) (err error) {
		discard()
		page = out.Page()
		envelope, err = Split(resp.Body, shape, func(e *Envelope, raw []byte) error {
			if each != nil {
				return each(page, e, raw)
			}
			return page.Append(raw)
		})
		if err == nil {
			envelope.Header = resp.Header
		}
		return err
	})
	if err != nil {
		discard()
		return nil, nil, err
	}
	return page, envelope, nil
}

// Get asks for one small answer without records, such as a job's state. It
// must be a JSON object.
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

// noRecords is a member that no document has.
const noRecords = "\x00"
