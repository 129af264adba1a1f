package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// CommitAs is Commit that first keeps the page by itself too, durably, as a
// sealed snapshot in the new folder dir, for CarryTo. dir must be on the
// spool's file system. A page without records leaves no folder.
func (p *Page) CommitAs(dir string) error {
	if p.press == nil {
		return errPageClosed
	}
	defer p.Discard()
	if p.records == 0 {
		return nil
	}
	if err := p.finish(); err != nil {
		return err
	}
	// Within the spool's folder it goes with the spool when the process dies.
	alone, err := begin(filepath.Join(p.w.dir, "kept-"+filepath.Base(dir)), p.w.header, nil)
	if err != nil {
		return err
	}
	err = alone.take(p)
	if err == nil {
		_, err = alone.Seal(dir)
	}
	if err != nil {
		return errors.Join(err, alone.Abort())
	}
	return p.w.take(p)
}

// CarryTo adds the records to w as one page, with w's own three members in
// place of theirs, and returns how many these are and their bytes. The error
// wraps ErrDamaged or ErrForeign when the snapshot cannot be used; w is as
// before then.
func (s *Snapshot) CarryTo(ctx context.Context, w *Writer) (records, size int64, err error) {
	if s.Collector != w.header.Collector || s.Stream != w.header.Stream || s.Tenancy != w.header.Tenancy {
		return 0, 0, fmt.Errorf("carry %s: %w", s.Path(), ErrForeign)
	}
	r, err := s.Reader(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p := w.Page()
	defer p.Discard()
	tail := NewSplicer(s.Header).tail
	tail = tail[:len(tail)-1]
	var plain []byte
	for {
		line, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		record, ok := bytes.CutSuffix(line, tail)
		if !ok {
			// An empty object has no comma before the members.
			record, ok = bytes.CutSuffix(line, tail[1:])
			ok = ok && string(record) == "{"
		}
		if !ok {
			return 0, 0, fmt.Errorf("carry %s: %w", s.Path(), ErrForeign)
		}
		plain = append(append(plain[:0], record...), '}')
		if err := p.Append(plain); err != nil {
			return 0, 0, err
		}
	}
	p.renamed += s.RenamedMembers
	p.repaired += s.RepairedUTF8
	records, size = p.Size()
	return records, size, p.Commit()
}
