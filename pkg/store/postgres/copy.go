package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A record that Postgres could not read in every query is stored in another
// form, which is noted:
//
//   - \u0000 and halves of surrogate pairs become U+FFFD, in values and names.
//     jsonb refuses them, and with json every -> and ->> on such a record fails,
//     and with it each query that meets the record.
//   - A record that is refused for another reason, such as one that is nested
//     deeper than the server's stack allows, in COPY or in a later query, or, in
//     jsonb, a number beyond numeric, becomes an object with the members _collectord_error, the
//     server's message, _collectord_record, the record as text in which
//     characters beyond ASCII are escaped, and the three members that every
//     record has. If there are more than maxAsText of them, the snapshot does
//     not fit the table, and is refused: a table in which most records lack
//     their members looks complete and is not.
const maxAsText = 10

// copyColumns are the columns of a stream's table that are filled.
var copyColumns = []string{"upload_timestamp", "tenancy", "json_data"}

// copySnapshot copies the records in one COPY or, when the server refuses one of
// them, in small batches that show which. note says which were stored in another
// form; it is "" when none was. typed, unless nil, receives the records.
func (s *Sink) copySnapshot(ctx context.Context, tx pgx.Tx, table streamTable, snap *snapshot.Snapshot, typed *store.TypedView) (note string, err error) {
	l := &loader{tx: tx, typed: typed, table: pgx.Identifier{s.opts.Schema, snap.Stream}, header: snap.Header, jsonType: table.jsonType, mostLevels: table.mostLevels}
	n, err := l.copyAll(ctx, snap)
	if isUnstorable(err) {
		l.repaired = 0
		n, err = l.copyInBatches(ctx, snap)
	}
	if err != nil {
		return "", err
	}
	if n != snap.Records {
		return "", fmt.Errorf("the server counts %d records, the snapshot has %d", n, snap.Records)
	}
	return l.describeChanges(s.qualify(snap.Stream), snap.Records), nil
}

// A loader copies one snapshot's records in a transaction.
type loader struct {
	tx       pgx.Tx
	table    pgx.Identifier
	header   snapshot.Header
	jsonType string
	typed    *store.TypedView
	// mostLevels is how deeply records may be nested.
	mostLevels int64

	buf      []byte // the last repaired record
	repaired int64  // records with U+FFFD in place of an escape
	wrapped  int64  // records stored as text
	reason   string // why the first of those was refused
}

// describeChanges returns the note about the records that were stored in another
// form.
func (l *loader) describeChanges(table string, records int64) string {
	var parts []string
	if l.repaired > 0 {
		parts = append(parts, fmt.Sprintf("%d have \\u0000 or half a surrogate pair, which are stored as U+FFFD", l.repaired))
	}
	if l.wrapped > 0 {
		parts = append(parts, fmt.Sprintf("%d are kept as text in _collectord_record: %s", l.wrapped, l.reason))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("postgres: table %s: of %d records, %s", table, records, strings.Join(parts, ", and "))
}

// copyAll copies the whole snapshot in one COPY.
func (l *loader) copyAll(ctx context.Context, snap *snapshot.Snapshot) (n int64, err error) {
	r, err := snap.Reader(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return l.copyFrom(ctx, func() ([]byte, error) { return l.nextRecord(r) })
}

// nextRecord returns the next record in the form that the column accepts.
func (l *loader) nextRecord(r *snapshot.Reader) ([]byte, error) {
	record, err := r.Next()
	if err != nil {
		return nil, err
	}
	var changed bool
	if l.buf, changed = snapshot.RepairEscapes(l.buf[:0], record); changed {
		l.repaired++
		record = l.buf
	}
	l.typed.AddRecord(record)
	return record, nil
}

// copyFrom executes one COPY with a savepoint before it, to which it rolls back
// after an error. next returns io.EOF at the end; its other errors are returned
// unchanged.
func (l *loader) copyFrom(ctx context.Context, next func() ([]byte, error)) (int64, error) {
	from := &copySource{next: next, mostLevels: l.mostLevels, row: []any{l.header.UploadTimestamp.UTC(), l.header.Tenancy, nil}}
	var n int64
	err := inSavepoint(ctx, l.tx, func(tx pgx.Tx) (err error) {
		n, err = tx.CopyFrom(ctx, l.table, copyColumns, from)
		if from.err != nil {
			return from.err
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// A copySource is a pgx.CopyFromSource of records.
type copySource struct {
	next       func() ([]byte, error)
	mostLevels int64
	row        []any
	err        error
}

func (c *copySource) Next() bool {
	record, err := c.next()
	if err != nil {
		if err != io.EOF {
			c.err = err
		}
		return false
	}
	if levels := nestingDepth(record, c.mostLevels); levels > c.mostLevels {
		c.err = &depthError{levels: levels, most: c.mostLevels}
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

// copyInBatches copies the snapshot in batches, and a batch that is refused record
// by record.
func (l *loader) copyInBatches(ctx context.Context, snap *snapshot.Snapshot) (n int64, err error) {
	r, err := snap.Reader(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var batch [][]byte
	size := 0
	for {
		record, err := l.nextRecord(r)
		if err != nil && err != io.EOF {
			return n, err
		}
		if last := err == io.EOF; last || len(batch) == batchRecords || size+len(record) > batchBytes {
			if err := l.copyBatch(ctx, batch); err != nil {
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

// copyBatch copies a batch, and the records of a refused one one at a time.
func (l *loader) copyBatch(ctx context.Context, batch [][]byte) error {
	err := l.copyRecords(ctx, batch)
	if !isUnstorable(err) {
		return err
	}
	for _, record := range batch {
		err := l.copyRecords(ctx, [][]byte{record})
		if isUnstorable(err) {
			err = l.insertAsText(ctx, record, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyRecords copies records that are in memory.
func (l *loader) copyRecords(ctx context.Context, records [][]byte) error {
	_, err := l.copyFrom(ctx, func() ([]byte, error) {
		if len(records) == 0 {
			return nil, io.EOF
		}
		record := records[0]
		records = records[1:]
		return record, nil
	})
	return err
}

// insertAsText stores a refused record as text.
func (l *loader) insertAsText(ctx context.Context, record []byte, refusal error) error {
	reason := refusal.Error()
	if l.wrapped == maxAsText {
		return l.tooManyRefused()
	}
	object := append([]byte(nil), `{"_collectord_error":`...)
	object = appendASCII(object, []byte(reason))
	object = append(object, `,"_collectord_record":`...)
	object = append(appendASCII(object, record), '}')
	object, _, err := snapshot.NewSplicer(l.header).Append(nil, object)
	if err != nil {
		return err
	}
	if err := l.copyRecords(ctx, [][]byte{object}); err != nil {
		return err
	}
	l.typed.AddRecord(object)
	if l.wrapped++; l.wrapped == 1 {
		l.reason = reason
	}
	return nil
}

// tooManyRefused returns the error of a snapshot with more than maxAsText records
// that the server refuses.
func (l *loader) tooManyRefused() error {
	advice := "change the type of json_data to text, or rename the table, and a new one is created"
	if l.jsonType == "jsonb" {
		advice = "json_data of type json accepts more than jsonb: change the type of the column"
	}
	return fmt.Errorf("%w: the server refuses more than %d of the records, the first because of %s; nothing is stored: %s",
		store.ErrRefused, maxAsText, l.reason, advice)
}
