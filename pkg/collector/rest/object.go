package rest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/collectord/collectord/pkg/collector"
)

// FetchObject makes one request whose response is one record, and writes it to out. The
// record must have the member with the given name, such as "id": a document without it is
// something else, such as an error with a status of success.
func (c *Client) FetchObject(ctx context.Context, r Request, member string, out collector.Output) error {
	var record jsontext.Value
	err := c.Do(ctx, r, func(resp *Response) (err error) {
		record, err = readObject(resp.Body)
		if err == nil && Member(record, member) == nil {
			err = fmt.Errorf("the member %s is missing: %s", member, excerpt(string(record), 80))
		}
		if err != nil {
			return &BodyError{Err: err}
		}
		return nil
	})
	if err != nil {
		return err
	}
	batch := out.NewBatch()
	defer batch.Discard()
	if err := batch.Append(record); err != nil {
		return err
	}
	return batch.Commit()
}

// readObject reads a document that is an object.
func readObject(r io.Reader) (jsontext.Value, error) {
	d := jsontext.NewDecoder(io.LimitReader(r, maxRecord+1), lenient...)
	switch kind := d.PeekKind(); kind {
	case '{':
	case 0: // an error
		_, err := d.ReadToken()
		return nil, err
	default:
		return nil, fmt.Errorf("want an object, got the kind %v", kind)
	}
	v, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	v = v.Clone()
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, errors.New("there is more data after the JSON document")
	}
	return v, nil
}
