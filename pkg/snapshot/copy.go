package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// CommitTo is Commit that also stores the batch, durably, as a sealed snapshot in
// the new directory dir, for CopyTo. dir must be on the file system of the spool.
// A batch without records creates no directory.
func (b *Batch) CommitTo(dir string) error {
	if b.buffer == nil {
		return errBatchClosed
	}
	defer b.Discard()
	if b.records == 0 {
		return nil
	}
	if err := b.finishFrames(); err != nil {
		return err
	}
	// In the spool's directory it is removed with the spool if the process dies.
	kept, err := createSpool(filepath.Join(b.w.dir, "kept-"+filepath.Base(dir)), b.w.header, nil)
	if err != nil {
		return err
	}
	err = kept.appendBatch(b)
	if err == nil {
		_, err = kept.Seal(dir)
	}
	if err != nil {
		return errors.Join(err, kept.Abort())
	}
	return b.w.appendBatch(b)
}

// CopyTo appends the records to w as one batch, with the reserved members of w in
// place of theirs. It returns the number of records and their size as NDJSON. The
// error wraps ErrDamaged or ErrForeign when the snapshot cannot be used; w is then
// unchanged.
func (s *Snapshot) CopyTo(ctx context.Context, w *Writer) (records, size int64, err error) {
	if s.Collector != w.header.Collector || s.Stream != w.header.Stream || s.Tenancy != w.header.Tenancy {
		return 0, 0, fmt.Errorf("copy %s: %w", s.Path(), ErrForeign)
	}
	b := w.NewBatch()
	defer b.Discard()
	if err := s.EachRecord(ctx, b.Append); err != nil {
		return 0, 0, err
	}
	b.renamed += s.RenamedMembers
	b.repaired += s.RepairedUTF8
	records, size = b.Size()
	return records, size, b.Commit()
}

// EachRecord passes each record to read, in order and without the reserved members, so
// that it has the bytes that were appended; members that had been renamed keep their
// new names. The record is valid until read returns. Unless EachRecord returns nil, the
// records were not verified.
func (s *Snapshot) EachRecord(ctx context.Context, read func(record []byte) error) (err error) {
	r, err := s.Reader(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	tail := NewSplicer(s.Header).tail
	tail = tail[:len(tail)-1]
	var plain []byte
	for {
		line, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		record, ok := bytes.CutSuffix(line, tail)
		if !ok {
			// An empty object has no comma before the reserved members.
			record, ok = bytes.CutSuffix(line, tail[1:])
			ok = ok && string(record) == "{"
		}
		if !ok {
			return fmt.Errorf("read %s: %w", s.Path(), ErrForeign)
		}
		plain = append(append(plain[:0], record...), '}')
		if err := read(plain); err != nil {
			return err
		}
	}
}
