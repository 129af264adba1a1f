package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/s3"
)

// ErrBad means that an object is not a valid backup of its stream: it is
// truncated, corrupted, of another stream or tenancy, or not a backup.
var ErrBad = errors.New("not a valid backup")

// fetchBackup reads the backup of the stream that h names. It calls check with the
// header and the number of records, -1 if unknown, before it reads the records,
// and open for a writer that receives them. The caller seals or aborts the
// returned writer. It is nil when check returned errSkip.
func (s *Sink) fetchBackup(ctx context.Context, h snapshot.Header, check func(snapshot.Header, int64) error, open func(snapshot.Header) (*snapshot.Writer, error)) (w *snapshot.Writer, err error) {
	key := s.path.Render(h)
	body, object, err := s.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errNoBackup, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // reading a truncated body has returned an error
	d := &download{h: h, object: object, open: open, check: check, ctx: ctx}
	err = d.readBody(ctx, body, key)
	if errors.Is(err, errSkip) {
		return nil, nil
	}
	if err != nil {
		if d.w != nil {
			err = errors.Join(err, d.pipeline.abort())
		}
		return nil, fmt.Errorf("s3://%s/%s: %w", s.bucket, key, err)
	}
	return d.w, nil
}

var (
	errSkip     = errors.New("the last-known snapshot is as new")
	errHeld     = errors.New("held")
	errNoBackup = errors.New("no backup")
)

// A download is the state of one call of fetchBackup.
type download struct {
	h       snapshot.Header // the stream and tenancy that are wanted
	object  s3.Object
	open    func(snapshot.Header) (*snapshot.Writer, error)
	check   func(snapshot.Header, int64) error
	w       *snapshot.Writer // nil until the header is known
	records int64

	ctx      context.Context
	pipeline *pipeline // set with w
}

func (d *download) readBody(ctx context.Context, body io.Reader, key string) error {
	format, err := snapshot.FormatOf(key)
	if err != nil {
		return err
	}
	if d.object.IsSnapshot() {
		if err := d.openWriter(d.object.Header); err != nil {
			return err
		}
	}
	counted := &countingReader{r: body}
	if err := snapshot.Decode(ctx, counted, format, d.addRecord); err != nil {
		return d.explainReadError(ctx, counted, err)
	}
	// A decompressor may have stopped before the end.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return err
	}
	if err := d.checkComplete(counted.n); err != nil {
		return err
	}
	sum, err := d.pipeline.finish(true)
	if err != nil {
		return d.explainReadError(ctx, counted, err)
	}
	if d.object.RecordsSHA256 != "" && sum != d.object.RecordsSHA256 {
		return fmt.Errorf("%w: the SHA-256 of its records is %s, written with %s", ErrBad, sum, d.object.RecordsSHA256)
	}
	return nil
}

// openWriter checks that the backup belongs to the stream and opens the writer.
func (d *download) openWriter(h snapshot.Header) error {
	switch {
	case h.Tenancy != d.h.Tenancy:
		return fmt.Errorf("%w: it is of another tenancy, want %q", ErrBad, d.h.Tenancy)
	case h.Stream != "" && h.Stream != d.h.Stream:
		return fmt.Errorf("%w: it is of stream %q, want %q", ErrBad, h.Stream, d.h.Stream)
	case h.UploadID == "":
		return fmt.Errorf("%w: it has no upload id", ErrBad)
	}
	h.Collector, h.Stream = d.h.Collector, d.h.Stream
	err := d.check(h, d.object.Records)
	if err != nil {
		return err
	}
	if d.w, err = d.open(h); err != nil {
		return err
	}
	d.pipeline = newPipeline(d.ctx, d.w)
	return nil
}

// addRecord adds a record. If the object has no metadata, the first record says
// which snapshot the backup is of.
func (d *download) addRecord(record []byte) error {
	if d.w == nil {
		h, err := snapshot.Origin(record)
		if err != nil {
			return err
		}
		if err := d.openWriter(h); err != nil {
			return err
		}
	}
	d.records++
	return d.pipeline.addToChunk(record)
}

// checkComplete compares what was read with the object's metadata. length is the
// number of bytes that were read.
func (d *download) checkComplete(length int64) error {
	switch {
	case length != d.object.Size:
		return fmt.Errorf("%w: %d bytes were read of %d", ErrBad, length, d.object.Size)
	case d.w == nil:
		return fmt.Errorf("%w: it is empty and does not name its stream", ErrBad)
	case d.object.Records >= 0 && d.records != d.object.Records:
		return fmt.Errorf("%w: it has %d records, written with %d", ErrBad, d.records, d.object.Records)
	}
	return nil
}

// explainReadError distinguishes a failed transfer from a bad object, for which
// repeating does not help.
func (d *download) explainReadError(ctx context.Context, c *countingReader, err error) error {
	switch {
	case errors.Is(err, errSkip), errors.Is(err, errHeld), errors.Is(err, ErrBad):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.err != nil && c.err != io.EOF, c.n < d.object.Size && errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the transfer ended after %d of %d bytes: %w", c.n, d.object.Size, err)
	case isLocalError(err):
		return err
	}
	return fmt.Errorf("%w: %w", ErrBad, err)
}

// isLocalError reports whether err is of a disk of this machine.
func isLocalError(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// A countingReader counts the bytes that are read from r and keeps its last error.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// restore makes the stream's backup the last-known snapshot, unless the present
// one is as new or the policy p holds the backup, which returns errHeld. It
// reports whether the backup is the last-known snapshot now.
func (s *Sink) restore(ctx context.Context, h snapshot.Header, p state.Policy) (taken bool, err error) {
	lock, err := s.state.Locks.LockRestore(h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	w, err := s.fetchBackup(ctx, h, func(backup snapshot.Header, records int64) error {
		return s.checkBackup(ctx, backup, records, p)
	}, s.state.Snapshots.SpoolRestore)
	if err != nil || w == nil {
		return false, err
	}
	// The data can be used without its history.
	past, historyErr := s.readHistory(ctx, h)
	w.SetDoubts(doubtsOf(past.History, w.Info().UploadID))
	w.SetNote(past.Note.of(w.Info().UploadID))
	outcome, err := s.state.Snapshots.Restore(context.WithoutCancel(ctx), w, p)
	switch {
	case err != nil:
		return false, errors.Join(err, w.Abort())
	case outcome == state.RestoreHeld:
		return false, errHeld
	case outcome == state.RestoreUnneeded:
		return false, nil
	}
	if historyErr == nil {
		historyErr = s.state.Runs.ImportHistory(ctx, h, past.History)
	}
	if historyErr != nil {
		s.log.Warn("the history of the backup was not restored", zap.String("stream", h.Stream), zap.Error(historyErr))
	}
	return true, nil
}

// checkBackup reports whether a backup with the header h replaces the last-known
// snapshot: nil if it does, and errSkip, errHeld or an error that wraps ErrBad if
// it does not. records is -1 if the number is unknown.
func (s *Sink) checkBackup(ctx context.Context, h snapshot.Header, records int64, p state.Policy) error {
	held, err := s.state.Snapshots.HasHeldBackup(ctx, h)
	if err != nil {
		return err
	}
	if held && p.GuardDropPercent > 0 {
		return errHeld // by an earlier restore
	}
	here, _, err := s.state.Snapshots.LastKnown(ctx, h.Stream, h.Tenancy)
	now := time.Now()
	switch {
	case err != nil:
		return nil // there is none, or it cannot be used
	case here.UploadID == h.UploadID:
		return errSkip
	case snapshot.IsFromFuture(h.UploadTimestamp, now):
		return fmt.Errorf("%w: it is dated %s, in the future, and replaces nothing: check the clock of the machine that collected it",
			ErrBad, h.UploadTimestamp.UTC().Format(time.RFC3339))
	case state.PrefersBackup(h.UploadTimestamp, records, here.Info, now):
		return nil
	}
	return errSkip
}

// putFile makes the delivery of a restored snapshot to the file, if it is queued
// and no older one waits before it. A file that its consumer has taken away is
// not written again: its delivery was made.
func putFile(ctx context.Context, st *state.State, files *file.Sink, h snapshot.Header) (put bool, err error) {
	// The lock prevents that this overwrites a newer file that is being
	// delivered.
	lock, err := st.Locks.LockDelivery(files.Name(), h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	last, how, err := st.Snapshots.LastKnown(ctx, h.Stream, h.Tenancy)
	if errors.Is(err, state.ErrNoSnapshot) || err == nil && how.Source != state.Restored {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	delivery, err := firstDelivery(ctx, st, files.Name(), last.Header)
	if err != nil || delivery.ID == 0 {
		return false, err
	}
	put, keptOut, err := files.PutBack(ctx, last)
	switch {
	case err != nil:
		return false, err
	case keptOut:
		return false, st.Queue.MarkKeptOut(ctx, delivery)
	}
	return put, st.Queue.MarkDelivered(ctx, delivery)
}

// firstDelivery returns the delivery of the snapshot h to a sink if it is the next
// one of its stream, otherwise one whose ID is 0.
func firstDelivery(ctx context.Context, st *state.State, sink string, h snapshot.Header) (state.Delivery, error) {
	next, err := st.Queue.Next(ctx, h.Tenancy)
	for _, d := range next {
		if d.Sink == sink && d.Stream == h.Stream && d.UploadID == h.UploadID {
			return d, err
		}
	}
	return state.Delivery{}, err
}
