package snyk

import (
	"bytes"
	"context"
	"errors"

	"github.com/collectord/collectord/pkg/collector"
)

// readWhole reads one organisation and writes its records to out, or none if it
// fails: an organisation that is deleted while it is read must not be stored in
// part.
func readWhole(ctx context.Context, org organization, read organizationReader, out collector.Output) (records int64, err error) {
	batch := out.NewBatch()
	defer batch.Discard()
	if records, err = read(ctx, org, wholeOutput{batch}); err != nil {
		return records, err
	}
	return records, batch.Commit()
}

// wholeOutput is an Output whose batches become part of one batch. One goroutine
// uses it. A page is in memory until it is complete.
type wholeOutput struct{ whole collector.Batch }

func (w wholeOutput) NewBatch() collector.Batch { return &pageBatch{whole: w.whole} }

// Reset implements collector.Output. Nothing calls it: the listings have no cursor
// that expires.
func (w wholeOutput) Reset() error { return errors.New("a part of an organisation cannot be dropped") }

type pageBatch struct {
	whole   collector.Batch
	records [][]byte
}

func (p *pageBatch) Append(record []byte) error {
	p.records = append(p.records, bytes.Clone(record))
	return nil
}

func (p *pageBatch) Commit() error {
	for _, record := range p.records {
		if err := p.whole.Append(record); err != nil {
			return err
		}
	}
	p.records = nil
	return nil
}

func (p *pageBatch) Discard() { p.records = nil }
