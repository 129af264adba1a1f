package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
)

// Where Postgres cannot hold a record as it is, the rest of the snapshot is
// stored all the same, the record in another form, and both are logged:
//
//   - jsonb holds no \u0000 and no half of a surrogate pair. Those escapes
//     become the text that spells them, "a\u0000b" becomes "a\\u0000b", in
//     values and names. json, text and varchar keep the record as it is.
//   - A record that is refused otherwise, such as one nested deeper than the
//     server's stack allows or, in jsonb, a number beyond numeric, becomes an
//     object of the members _collectord_error, the server's words,
//     _collectord_record, the record as text in which what is not ASCII is
//     escaped, and the three members that every record has.

// copyColumns are those of a stream's table that are filled.
var copyColumns = []string{"upload_timestamp", "tenancy", "json_data"}

// copySnapshot copies the records, all in one COPY or, when the server
// refuses one of them, in small ones that find out which.
func (p *Postgres) copySnapshot(ctx context.Context, tx pgx.Tx, table postgresTable, s *snapshot.Snapshot) error {
	l := &loader{tx: tx, table: pgx.Identifier{p.opts.Schema, s.Stream}, header: s.Header, jsonb: table.jsonType == "jsonb"}
	n, err := l.all(ctx, s)
	if isUnstorable(err) {
		l.respelt = 0
		n, err = l.carefully(ctx, s)
	}
	if err != nil {
		return err
	}
	if n != s.Records {
		return fmt.Errorf("the server counts %d records, the snapshot has %d", n, s.Records)
	}
	if l.respelt+l.wrapped > 0 {
		p.note(s, fmt.Sprintf("postgres: table %s: of %d records, %d have escapes that jsonb refuses, which are spelt out, and %d are kept as text%s",
			p.label(s.Stream), s.Records, l.respelt, l.wrapped, prefixed(l.reason)))
	}
	return nil
}

// A loader copies one snapshot's records in a transaction.
type loader struct {
	tx     pgx.Tx
	table  pgx.Identifier
	header snapshot.Header
	jsonb  bool

	buf     []byte // holds a respelt record
	respelt int64  // records of which escapes became text
	wrapped int64  // records kept as text
	reason  string // why the first of those was refused
}

// all copies the whole snapshot at once.
func (l *loader) all(ctx context.Context, s *snapshot.Snapshot) (n int64, err error) {
	r, err := s.Reader(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return l.copy(ctx, func() ([]byte, error) { return l.next(r) })
}

// next returns the next record as the column takes it.
func (l *loader) next(r *snapshot.Reader) ([]byte, error) {
	record, err := r.Next()
	if err != nil || !l.jsonb {
		return record, err
	}
	var changed bool
	if l.buf, changed = respell(l.buf[:0], record); changed {
		l.respelt++
		return l.buf, nil
	}
	return record, nil
}

// copy is one COPY behind a savepoint, to which an error returns. next ends
// with io.EOF; its own errors come back as they are.
func (l *loader) copy(ctx context.Context, next func() ([]byte, error)) (int64, error) {
	save, err := l.tx.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer rollBack(save)
	from := &copySource{next: next, row: []any{l.header.UploadTimestamp.UTC(), l.header.Tenancy, nil}}
	n, err := save.CopyFrom(ctx, l.table, copyColumns, from)
	if from.err != nil {
		return 0, from.err
	}
	if err != nil {
		return 0, err
	}
	return n, save.Commit(ctx)
}

// A copySource is a pgx.CopyFromSource of records.
type copySource struct {
	next func() ([]byte, error)
	row  []any
	err  error
}

func (c *copySource) Next() bool {
	record, err := c.next()
	if err != nil {
		if err != io.EOF {
			c.err = err
		}
		return false
	}
	c.row[2] = record
	return true
}

func (c *copySource) Values() ([]any, error) { return c.row, nil }

func (c *copySource) Err() error { return c.err }

const (
	batchRecords = 256
	batchBytes   = 4 << 20
)

// carefully copies the snapshot in batches, and a batch that is refused
// record by record.
func (l *loader) carefully(ctx context.Context, s *snapshot.Snapshot) (n int64, err error) {
	r, err := s.Reader(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var batch [][]byte
	size := 0
	for {
		record, err := l.next(r)
		if err != nil && err != io.EOF {
			return n, err
		}
		if last := err == io.EOF; last || len(batch) == batchRecords || size+len(record) > batchBytes {
			if err := l.batch(ctx, batch); err != nil {
				return n, err
			}
			n += int64(len(batch))
			batch, size = batch[:0], 0
			if last {
				return n, nil
			}
		}
		batch = append(batch, append([]byte(nil), record...))
		size += len(record)
	}
}

func (l *loader) batch(ctx context.Context, batch [][]byte) error {
	err := l.few(ctx, batch)
	if !isUnstorable(err) {
		return err
	}
	for _, record := range batch {
		err := l.few(ctx, [][]byte{record})
		if isUnstorable(err) {
			err = l.wrap(ctx, record, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// few copies records that are in memory.
func (l *loader) few(ctx context.Context, records [][]byte) error {
	_, err := l.copy(ctx, func() ([]byte, error) {
		if len(records) == 0 {
			return nil, io.EOF
		}
		record := records[0]
		records = records[1:]
		return record, nil
	})
	return err
}

// wrap stores a refused record as text.
func (l *loader) wrap(ctx context.Context, record []byte, refusal error) error {
	reason := refusal.Error()
	object := append([]byte(nil), `{"_collectord_error":`...)
	object = appendASCII(object, []byte(reason))
	object = append(object, `,"_collectord_record":`...)
	object = append(appendASCII(object, record), '}')
	object, _, err := snapshot.NewSplicer(l.header).Append(nil, object)
	if err != nil {
		return err
	}
	if err := l.few(ctx, [][]byte{object}); err != nil {
		return err
	}
	if l.wrapped++; l.wrapped == 1 {
		l.reason = reason
	}
	return nil
}
