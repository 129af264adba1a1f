package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// A ledgerTx is the transaction that stores one snapshot. It implements
// store.LedgerTx.
type ledgerTx struct {
	sink  *Sink
	tx    pgx.Tx
	table streamTable
	snap  *snapshot.Snapshot
	typed *store.TypedView // receives the records; nil when there is no typed view
	notes []string         // about records that were stored in another form
}

// ListStored implements store.LedgerTx. Rows that are not in the ledger, of
// another program or older than the ledger, are known by their timestamps
// only. They are listed only where a retention needs them.
func (l *ledgerTx) ListStored(ctx context.Context) ([]store.StoredSnapshot, error) {
	ledger, table := l.sink.qualify(store.LedgerTable), l.sink.qualify(l.snap.Stream)
	sql := `SELECT upload_timestamp, upload_id, stored_at FROM ` + ledger + ` WHERE stream = $1 AND tenancy = $2`
	if l.sink.opts.Retention != (store.Retention{}) {
		// An index finds one time after the other. Without one the table is read.
		times := `SELECT DISTINCT upload_timestamp FROM ` + table + ` WHERE tenancy = $2`
		if l.table.ordered {
			times = `WITH RECURSIVE times AS (
				(SELECT upload_timestamp FROM ` + table + ` WHERE tenancy = $2 AND upload_timestamp < 'infinity' ORDER BY upload_timestamp DESC LIMIT 1)
				UNION ALL
				SELECT (SELECT d.upload_timestamp FROM ` + table + ` AS d WHERE d.tenancy = $2 AND d.upload_timestamp < t.upload_timestamp ORDER BY d.upload_timestamp DESC LIMIT 1)
				FROM times AS t WHERE t.upload_timestamp IS NOT NULL
			) SELECT upload_timestamp FROM times WHERE upload_timestamp IS NOT NULL`
		}
		sql += ` UNION ALL
			SELECT upload_timestamp, '', 'epoch'::timestamptz FROM (` + times + `) AS held
			WHERE isfinite(upload_timestamp) AND upload_timestamp NOT IN (SELECT upload_timestamp FROM ` + ledger + ` WHERE stream = $1 AND tenancy = $2)`
	}
	rows, err := l.tx.Query(ctx, sql, l.snap.Stream, l.snap.Tenancy)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s store.StoredSnapshot, err error) {
		err = row.Scan(&s.Taken, &s.UploadID, &s.StoredAt)
		s.Taken, s.StoredAt = s.Taken.UTC(), s.StoredAt.UTC()
		return s, err
	})
}

// RemoveRows implements store.LedgerTx.
func (l *ledgerTx) RemoveRows(ctx context.Context, r store.Removal) error {
	table := l.sink.qualify(l.snap.Stream)
	if !r.Before.IsZero() {
		_, err := l.tx.Exec(ctx, `DELETE FROM `+table+` WHERE tenancy = $1 AND upload_timestamp < $2`, l.snap.Tenancy, r.Before)
		if err != nil {
			return err
		}
	}
	for _, taken := range r.FromFuture {
		if err := l.removeFromFuture(ctx, taken); err != nil {
			return err
		}
	}
	if r.At.IsZero() {
		return nil
	}
	sql := `DELETE FROM ` + table + ` WHERE tenancy = $1 AND upload_timestamp = $2`
	args := []any{l.snap.Tenancy, r.At}
	for _, id := range r.KeepIDs {
		args = append(args, id)
		sql += ` AND (` + l.table.hasUploadID("json_data", fmt.Sprintf("$%d::text", len(args))) + `) IS NOT TRUE`
	}
	_, err := l.tx.Exec(ctx, sql, args...)
	return err
}

// removeFromFuture deletes the rows and entries of the snapshots that were taken at
// taken.
func (l *ledgerTx) removeFromFuture(ctx context.Context, taken time.Time) error {
	_, err := l.tx.Exec(ctx, `DELETE FROM `+l.sink.qualify(l.snap.Stream)+` WHERE tenancy = $1 AND upload_timestamp = $2`, l.snap.Tenancy, taken)
	if err != nil {
		return err
	}
	_, err = l.tx.Exec(ctx, `DELETE FROM `+l.sink.qualify(store.LedgerTable)+` WHERE stream = $1 AND tenancy = $2 AND upload_timestamp = $3`,
		l.snap.Stream, l.snap.Tenancy, taken)
	return err
}

// InsertRecords implements store.LedgerTx.
func (l *ledgerTx) InsertRecords(ctx context.Context) error {
	note, err := l.sink.copySnapshot(ctx, l.tx, l.table, l.snap, l.typed)
	if note != "" {
		l.notes = append(l.notes, note)
	}
	return err
}

// InsertEntry implements store.LedgerTx.
func (l *ledgerTx) InsertEntry(ctx context.Context, entry store.StoredSnapshot) error {
	_, err := l.tx.Exec(ctx, `INSERT INTO `+l.sink.qualify(store.LedgerTable)+`
		(stream, tenancy, upload_id, upload_timestamp, records, stored_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		l.snap.Stream, l.snap.Tenancy, l.snap.UploadID, entry.Taken, l.snap.Records, entry.StoredAt)
	return err
}
