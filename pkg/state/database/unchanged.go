package database

import (
	"context"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// ConfirmUnchanged implements [state.Runs].
func (r *Runs) ConfirmUnchanged(ctx context.Context, id state.RunID, last snapshot.Info, checked time.Time, stats state.RunStats) error {
	stats.Records, stats.Bytes = last.Records, last.Bytes
	err := r.inUrgentTransaction(ctx, func(tx DB) error {
		if err := r.fence(ctx, tx, last.Header); err != nil {
			return err
		}
		if err := r.requireBegun(ctx, tx, id); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx,
			`UPDATE last_known SET checked = $1 WHERE stream = $2 AND tenancy = $3
			 AND snapshot = (SELECT id FROM snapshots WHERE stream = last_known.stream AND tenancy = last_known.tenancy AND upload_id = $4)`,
			toMillis(checked), last.Stream, last.Tenancy, last.UploadID)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return state.ErrReplaced
		}
		Reached("confirming")
		return r.endRun(ctx, tx, id, state.Unchanged, "", stats)
	})
	if err != nil {
		return fmt.Errorf("record that the data is unchanged: %w", err)
	}
	r.forgetBegun(id)
	Reached("confirmed")
	r.snapshots.sweepStream(ctx, last.Stream, last.Tenancy)
	return nil
}
