package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// A streamRun is the part of an execution that reads one stream.
type streamRun struct {
	*execution
	stream collector.Stream
	header snapshot.Header
	began  time.Time
	stats  *collector.Stats
	log    *zap.Logger
}

// runStream runs one stream and returns its result. It records the outcome in the
// run history even when ctx is cancelled.
func (e *execution) runStream(ctx context.Context, stream collector.Stream, log *zap.Logger) (result Result) {
	s := &streamRun{
		execution: e, stream: stream, began: e.timeNow(), stats: &collector.Stats{}, log: log,
		header: snapshot.Header{
			Collector: e.collector, Stream: stream.Name, Tenancy: e.Tenancy,
			UploadID: e.uploadID, UploadTimestamp: e.started,
		},
	}
	result = Result{Collector: e.collector, Stream: stream.Name, UploadID: e.uploadID}
	ctx, span := e.startStreamSpan(ctx, stream.Name)
	defer func() { endStreamSpan(span, result) }()
	defer e.Active.addRun(&ActiveRun{Collector: e.collector, Stream: stream.Name, Started: s.began, Stats: s.stats})()
	id, err := e.State.Runs.Begin(ctx, state.RunStart{Header: s.header, Trigger: e.trigger, Started: s.began})
	if err != nil {
		result.Outcome, result.Err = state.Failed, err
		s.reportResult(&result)
		return result
	}
	committed, err := s.extractSnapshot(ctx, id)
	result.Outcome, result.Err = committed.Outcome, err
	if err != nil {
		result.Outcome = outcomeOf(ctx, err)
		// The history must record the outcome even when ctx was cancelled.
		if err := e.State.Runs.Fail(context.WithoutCancel(ctx), id, result.Outcome, result.Err, runStats(s.stats)); err != nil {
			result.Err = errors.Join(result.Err, err)
		}
	}
	result.Records, result.Bytes = committed.Info.Records, committed.Info.Bytes
	if result.Outcome != state.Unchanged {
		result.RenamedMembers, result.RepairedUTF8 = committed.Info.RenamedMembers, committed.Info.RepairedUTF8
	}
	result.LastRecords, result.DeliveryCount, result.Skipped = committed.LastRecords, committed.Queued, committed.Skipped
	s.reportResult(&result)
	return result
}

// extractSnapshot spools the records of the stream and seals a snapshot of them. On an error
// it removes the spooled records.
func (s *streamRun) extractSnapshot(ctx context.Context, id state.RunID) (_ state.CommitResult, err error) {
	w, err := s.State.Snapshots.Spool(s.header)
	if err != nil {
		return state.CommitResult{}, s.explainFullDisk(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Abort())
		}
	}()
	watched, stop := watchIdle(s.extractionContext(ctx, w), s.stats, s.IdleTimeout)
	chunks := s.State.Snapshots.ExportChunks(s.header)
	last := &lastKnown{snapshots: s.State.Snapshots, header: s.header, log: s.log}
	err = extractSafely(watched, s.stream, &output{w: w, stats: s.stats, chunks: chunks, last: last, log: s.log})
	stop()
	var previous *snapshot.Snapshot
	if errors.Is(err, collector.ErrUnchanged) {
		previous, err = last.usedSnapshot()
	}
	// A run that fails leaves its export job to the next run, unless the chunks occupy
	// the space that is missing. After a success they are removed before the snapshot
	// exists: the next run would treat chunks that outlive the snapshot as the
	// beginning of its own export.
	if err == nil || IsDiskFull(err) {
		err = errors.Join(err, chunks.Drop())
	}
	if err != nil {
		return state.CommitResult{}, s.explainFullDisk(err)
	}
	if err := watched.Err(); err != nil && context.Cause(watched) != errDone {
		return state.CommitResult{}, context.Cause(watched)
	}
	if previous != nil {
		return s.confirmUnchanged(ctx, id, w, previous.Info)
	}
	committed, err := s.State.Runs.Commit(context.WithoutCancel(ctx), id, w, runStats(s.stats), s.Policy)
	if err != nil {
		return state.CommitResult{}, s.explainFullDisk(err)
	}
	if s.OnSealed != nil {
		s.OnSealed()
	}
	return committed, nil
}

// confirmUnchanged records that the vendor's data is still that of the last-known
// snapshot, after the spool is removed.
func (s *streamRun) confirmUnchanged(ctx context.Context, id state.RunID, w *snapshot.Writer, last snapshot.Info) (state.CommitResult, error) {
	if err := w.Abort(); err != nil {
		return state.CommitResult{}, err
	}
	if err := s.State.Runs.ConfirmUnchanged(context.WithoutCancel(ctx), id, last, s.started, runStats(s.stats)); err != nil {
		return state.CommitResult{}, s.explainFullDisk(err)
	}
	queued := s.restoreLost(context.WithoutCancel(ctx), last)
	return state.CommitResult{Outcome: state.Unchanged, Info: last, LastRecords: last.Records, Queued: queued}, nil
}

// restoreLost queues the last-known snapshot for the destinations that have lost it, and
// returns how many these are. No run fails because of a destination.
func (s *streamRun) restoreLost(ctx context.Context, last snapshot.Info) int {
	if s.FindLost == nil || last.Records == 0 && !s.Policy.StoreEmpty {
		return 0
	}
	lost := s.FindLost(last.Header)
	if len(lost) == 0 {
		return 0
	}
	queued, err := s.State.Queue.RefillLost(ctx, last.Stream, last.Tenancy, lost)
	if err != nil {
		s.log.Error("destinations that have lost the last snapshot do not get it back", zap.Strings("sinks", lost), zap.Error(err))
		return 0
	}
	if len(queued) > 0 {
		s.log.Warn("destinations have lost the last snapshot, which is delivered again", zap.Strings("sinks", queued))
		if s.OnSealed != nil {
			s.OnSealed()
		}
	}
	return len(queued)
}

// extractionContext returns the context of the extraction into w.
func (s *streamRun) extractionContext(ctx context.Context, w *snapshot.Writer) context.Context {
	if s.RetryTime > 0 {
		ctx = collector.WithRetryTime(ctx, s.RetryTime)
	}
	ctx = collector.WithTempFiles(ctx, w.CreateTemp)
	return collector.WithLog(collector.WithStats(ctx, s.stats), s.log)
}

// explainFullDisk adds to the error of a full disk which one it is and what to do.
func (s *streamRun) explainFullDisk(err error) error {
	if !IsDiskFull(err) {
		return err
	}
	return fmt.Errorf("%w: the disk of %s (STATE_DIR) is full: free space there: a run needs as much as the last-known data, and undelivered snapshots up to STORE_SPOOL_MAX for each destination",
		err, s.State.Dir())
}

// IsDiskFull reports whether err means that the disk or the user's share of it is
// full.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// extractSafely calls s.Extract and returns a panic as an error, so that a bug in the
// code of one vendor does not end the runs of the others.
func extractSafely(ctx context.Context, s collector.Stream, out collector.Output) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: panic: %v\n%s", s.Name, p, debug.Stack())
		}
	}()
	return s.Extract(ctx, out)
}

// outcomeOf returns the outcome of a run that ended with err.
func outcomeOf(ctx context.Context, err error) state.Outcome {
	switch {
	case errors.Is(err, errTimeout), errors.Is(err, collector.ErrIdle):
		return state.Timeout
	case ctx.Err() != nil:
		return state.Cancelled
	case errors.Is(err, context.DeadlineExceeded): // the vendor asks for a wait that is too long
		return state.Timeout
	}
	return state.Failed
}

// runStats returns the counters that the run history records.
func runStats(stats *collector.Stats) state.RunStats {
	p := stats.Progress()
	return state.RunStats{
		Records: p.Records, Bytes: p.Bytes, Pages: p.Pages,
		Requests: p.Requests, Retries: p.Retries, RateLimitWait: p.Waited, Doubts: doubtsOf(stats),
	}
}

// doubtsOf returns the doubts of an extraction.
func doubtsOf(stats *collector.Stats) (doubts snapshot.Doubts) {
	for _, d := range stats.Doubts() {
		doubts = append(doubts, snapshot.Doubt(d))
	}
	return doubts
}

// reportResult completes the result, calls OnEnded, and logs one line about the stream
// and one about each change and doubt.
func (s *streamRun) reportResult(result *Result) {
	p := s.stats.Progress()
	result.Duration, result.Requests, result.Retries, result.RateLimitWait = s.timeNow().Sub(s.began), p.Requests, p.Retries, p.Waited
	result.Doubts = doubtsOf(s.stats)
	s.ReportEnd(*result)
	fields := []zap.Field{
		zap.String("outcome", string(result.Outcome)), zap.String("upload_id", s.uploadID),
		zap.Int64("records", result.Records), zap.Int64("bytes", result.Bytes),
		zap.Duration("took", result.Duration.Round(time.Millisecond)), zap.Int64("requests", p.Requests),
		zap.Int64("retries", p.Retries), zap.Duration("rate_limit_wait", p.Waited.Round(time.Millisecond)),
	}
	if len(result.Doubts) > 0 {
		fields = append(fields, zap.Int64("doubts", result.Doubts.Total()))
	}
	switch {
	case result.Err != nil && result.Outcome == state.Cancelled:
		s.log.Warn("stream cancelled", append(fields, zap.Error(result.Err))...)
	case result.Err != nil:
		s.log.Error("stream failed; the last snapshot stays", append(fields, zap.Error(result.Err))...)
	case result.Outcome == state.Held:
		fields = append(fields, zap.Int64("last_records", result.LastRecords))
		s.log.Error("stream held: far fewer records than before; the last snapshot stays", fields...)
	case result.Outcome == state.Unchanged:
		s.log.Info("stream unchanged: the vendor's data is that of the last snapshot", fields...)
	case result.Outcome == state.Empty:
		s.log.Warn("stream is empty; the last snapshot with records stays", fields...)
	default:
		s.log.Info("stream done", fields...)
	}
	if result.RenamedMembers > 0 || result.RepairedUTF8 > 0 {
		s.log.Warn("records were changed", zap.Int64("members_renamed", result.RenamedMembers), zap.Int64("utf8_repaired", result.RepairedUTF8))
	}
	for _, d := range result.Doubts {
		s.log.Warn("a doubt about the data was accepted", zap.String("doubt", d.Text), zap.Int64("count", d.Count))
	}
}
