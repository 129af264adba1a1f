package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"

	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	// chunkBytes is the size of the chunks of records that go from one step of
	// the pipeline to the next.
	chunkBytes = 512 << 10
	// chunks is the number of chunks. It bounds the memory of a restore.
	chunks = 6
	// batchBytes is the size of the batches of records that go to the spool.
	batchBytes = 16 << 20
)

// A pipeline hashes records and writes them to a snapshot, while the caller
// reads the next ones.
type pipeline struct {
	w       *snapshot.Writer
	group   *errgroup.Group
	running context.Context // ends when a step fails

	filling *recordChunk
	toHash  chan *recordChunk
	toStore chan *recordChunk
	free    chan *recordChunk
	sum     hash.Hash
	batch   *snapshot.Batch
	ended   bool
}

// A recordChunk is a number of records, each followed by a newline.
type recordChunk struct {
	bytes []byte
	ends  []int // of the records, without their newlines
}

// newPipeline returns a pipeline that writes to w.
func newPipeline(ctx context.Context, w *snapshot.Writer) *pipeline {
	p := &pipeline{
		w: w, sum: sha256.New(), batch: w.NewBatch(),
		toHash: make(chan *recordChunk, chunks), toStore: make(chan *recordChunk, chunks), free: make(chan *recordChunk, chunks),
	}
	for range chunks {
		p.free <- &recordChunk{}
	}
	p.group, p.running = errgroup.WithContext(ctx)
	p.group.Go(func() error { defer close(p.toStore); return p.hashChunks() })
	p.group.Go(p.storeChunks)
	return p
}

// addToChunk adds a record. It returns the error of an earlier step.
func (p *pipeline) addToChunk(record []byte) error {
	if p.filling == nil {
		select {
		case p.filling = <-p.free:
		case <-p.running.Done():
			return context.Cause(p.running)
		}
	}
	c := p.filling
	c.bytes = append(append(c.bytes, record...), '\n')
	c.ends = append(c.ends, len(c.bytes)-1)
	if len(c.bytes) >= chunkBytes {
		p.pass()
	}
	return nil
}

// pass passes the filled chunk on. The channel has room for all chunks.
func (p *pipeline) pass() {
	if p.filling != nil {
		p.toHash <- p.filling
		p.filling = nil
	}
}

// hashChunks hashes chunks in order.
func (p *pipeline) hashChunks() error {
	for c := range p.toHash {
		if p.running.Err() != nil {
			return nil // another step has failed
		}
		p.sum.Write(c.bytes) // it never fails
		p.toStore <- c
	}
	return nil
}

// storeChunks writes the records of chunks to the snapshot.
func (p *pipeline) storeChunks() error {
	for c := range p.toStore {
		if err := p.storeChunk(c); err != nil {
			return err
		}
		c.bytes, c.ends = c.bytes[:0], c.ends[:0]
		if cap(c.bytes) > 4*chunkBytes {
			c.bytes = nil // a huge record has grown it
		}
		p.free <- c
	}
	return nil
}

func (p *pipeline) storeChunk(c *recordChunk) error {
	from := 0
	for _, end := range c.ends {
		if err := p.batch.Append(c.bytes[from:end]); err != nil {
			return err
		}
		from = end + 1
	}
	if _, n := p.batch.Size(); n < batchBytes {
		return nil
	}
	if err := p.batch.Commit(); err != nil {
		return err
	}
	p.batch = p.w.NewBatch()
	return nil
}

// finish waits until all records are written, and returns their SHA-256. With
// complete unset it drops those of the last batch.
func (p *pipeline) finish(complete bool) (sum string, err error) {
	if p.ended {
		return "", nil
	}
	p.ended = true
	if complete {
		p.pass()
	}
	close(p.toHash)
	err = p.group.Wait()
	if !complete || err != nil {
		p.batch.Discard()
		return "", err
	}
	return hex.EncodeToString(p.sum.Sum(nil)), p.batch.Commit()
}

// abort ends the steps, drops what is not yet written, and removes the snapshot.
func (p *pipeline) abort() error {
	_, _ = p.finish(false) // addToChunk has returned the error of a step
	return p.w.Abort()
}
