package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// ErrReplaced means that another snapshot became the last-known one during a run that
// found the vendor's data unchanged.
var ErrReplaced = errors.New("the last-known snapshot was replaced during the run")

// ConfirmUnchanged ends a run that started at checked and found the vendor's data to be
// still that of last, the last-known snapshot, which stays and is not delivered again. A
// held snapshot that is older than the run no longer waits for Accept. The caller holds
// the stream's lock. The error wraps ErrReplaced when last is not the last-known
// snapshot any more; nothing has then changed, and the caller calls Fail.
func (r *Runs) ConfirmUnchanged(ctx context.Context, id RunID, last snapshot.Info, checked time.Time, stats RunStats) error {
	stats.Records, stats.Bytes = last.Records, last.Bytes
	err := r.inReservedTransaction(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx,
			`UPDATE last_known SET checked = ? WHERE stream = ? AND tenancy = ?
			 AND snapshot = (SELECT id FROM snapshots WHERE stream = last_known.stream AND tenancy = last_known.tenancy AND upload_id = ?)`,
			toMillis(checked), last.Stream, last.Tenancy, last.UploadID)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrReplaced
		}
		crashPoint("confirming")
		return r.endRun(ctx, tx, id, Unchanged, "", stats)
	})
	if err != nil {
		return fmt.Errorf("record that the data is unchanged: %w", err)
	}
	crashPoint("confirmed")
	r.snapshots.sweepStream(ctx, last.Stream, last.Tenancy)
	return nil
}
