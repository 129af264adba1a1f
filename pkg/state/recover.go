package state

import "go.uber.org/zap"

// RecoverResult describes what Recover found.
type RecoverResult struct {
	// Spools is the number of unfinished snapshots that were removed.
	Spools int
	// Completed are runs whose snapshot was sealed and is now recorded.
	Completed []CommitResult
	// Reclaimed are snapshots that were missing in the database.
	Reclaimed []CommitResult
	// Interrupted is the number of runs that had no snapshot yet.
	Interrupted int64
	// Lost are snapshots that cannot be used: their directory is missing,
	// damaged or unreadable.
	Lost []error
}

// Log reports what Recover found, if anything.
func (r RecoverResult) Log(log *zap.Logger) {
	if r.Interrupted > 0 || r.Spools > 0 {
		log.Warn("an earlier run was cut off; its extraction starts again, except for the kept chunks of an export job",
			zap.Int64("streams", r.Interrupted), zap.Int("half_snapshots_removed", r.Spools))
	}
	for _, c := range r.Completed {
		log.Info("completed a run that was cut off after its snapshot was sealed",
			zap.String("stream", c.Info.Stream), zap.String("upload_id", c.Info.UploadID), zap.String("outcome", string(c.Outcome)))
	}
	for _, c := range r.Reclaimed {
		log.Warn("added a snapshot that was missing in the database",
			zap.String("stream", c.Info.Stream), zap.String("upload_id", c.Info.UploadID), zap.String("outcome", string(c.Outcome)))
	}
	for _, err := range r.Lost {
		log.Error("a snapshot in the state directory cannot be used", zap.Error(err))
	}
}
