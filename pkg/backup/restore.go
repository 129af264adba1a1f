package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// ErrBad means that an object cannot be the backup of its stream: it is cut,
// corrupted, of another stream or tenancy, or no backup at all.
var ErrBad = errors.New("not a sound backup")

// fetch reads the backup of the stream that h names into a snapshot. skip is
// asked with the header before the records are read; open makes the writer.
// The caller seals or aborts the writer, which is nil when skip said so.
func (s *Sink) fetch(ctx context.Context, h snapshot.Header, skip func(snapshot.Header, int64) bool, open func(snapshot.Header) (*snapshot.Writer, error)) (w *snapshot.Writer, err error) {
	key := s.path.Render(h)
	body, object, err := s.Get(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errNoBackup, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }() // a cut body has told so when it was read
	f := &fetching{h: h, object: object, open: open, skip: skip, sum: sha256.New()}
	err = f.read(ctx, body, key)
	if errors.Is(err, errSkip) {
		return nil, nil
	}
	if err != nil {
		if f.w != nil {
			f.page.Discard()
			err = errors.Join(err, f.w.Abort())
		}
		return nil, fmt.Errorf("s3://%s/%s: %w", s.bucket, key, err)
	}
	return f.w, nil
}

var (
	errSkip     = errors.New("what is here is as good")
	errNoBackup = errors.New("no backup")
)

// pageSize is how many bytes of records are gathered before they go to the
// spool.
const pageSize = 16 << 20

// fetching is the work of one fetch.
type fetching struct {
	h       snapshot.Header
	object  store.S3Object
	open    func(snapshot.Header) (*snapshot.Writer, error)
	skip    func(snapshot.Header, int64) bool
	w       *snapshot.Writer
	page    *snapshot.Page
	records int64
	sum     hash.Hash
}

func (f *fetching) read(ctx context.Context, body io.Reader, key string) error {
	format, err := snapshot.FormatOf(key)
	if err != nil {
		return err
	}
	if f.object.OwnKind() {
		if err := f.begin(f.object.Header); err != nil {
			return err
		}
	}
	counted := &counter{r: body}
	if err := snapshot.Decode(ctx, counted, format, f.take); err != nil {
		return f.explain(ctx, counted, err)
	}
	// A decompressor may have stopped before the end.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return err
	}
	if err := f.whole(counted.n); err != nil {
		return err
	}
	return f.page.Commit()
}

// begin checks whose the backup is and makes the writer.
func (f *fetching) begin(h snapshot.Header) error {
	switch {
	case h.Tenancy != f.h.Tenancy:
		return fmt.Errorf("%w: it is of tenancy %q, want %q", ErrBad, h.Tenancy, f.h.Tenancy)
	case h.Stream != "" && h.Stream != f.h.Stream:
		return fmt.Errorf("%w: it is of stream %q, want %q", ErrBad, h.Stream, f.h.Stream)
	case h.UploadID == "":
		return fmt.Errorf("%w: it has no upload id", ErrBad)
	}
	h.Collector, h.Stream = f.h.Collector, f.h.Stream
	if f.skip(h, f.object.Records) {
		return errSkip
	}
	var err error
	if f.w, err = f.open(h); err != nil {
		return err
	}
	f.page = f.w.Page()
	return nil
}

// take takes a record. The first tells whose it is where the object does not.
func (f *fetching) take(record []byte) error {
	if f.w == nil {
		h, err := snapshot.Origin(record)
		if err != nil {
			return err
		}
		if err := f.begin(h); err != nil {
			return err
		}
	}
	f.records++
	f.sum.Write(record) // a hash takes everything
	f.sum.Write([]byte{'\n'})
	if err := f.page.Append(record); err != nil {
		return err
	}
	if _, n := f.page.Size(); n < pageSize {
		return nil
	}
	if err := f.page.Commit(); err != nil {
		return err
	}
	f.page = f.w.Page()
	return nil
}

// whole holds what was read against what the object's metadata say.
func (f *fetching) whole(length int64) error {
	switch {
	case length != f.object.Size:
		return fmt.Errorf("%w: %d bytes were read of %d", ErrBad, length, f.object.Size)
	case f.w == nil:
		return fmt.Errorf("%w: it is empty and does not say whose it is", ErrBad)
	case f.object.Records >= 0 && f.records != f.object.Records:
		return fmt.Errorf("%w: it has %d records, written with %d", ErrBad, f.records, f.object.Records)
	}
	if sum := hex.EncodeToString(f.sum.Sum(nil)); f.object.RecordsSHA256 != "" && sum != f.object.RecordsSHA256 {
		return fmt.Errorf("%w: the SHA-256 of its records is %s, written with %s", ErrBad, sum, f.object.RecordsSHA256)
	}
	return nil
}

// explain tells trouble on the way from trouble with the object, which trying
// again does not help.
func (f *fetching) explain(ctx context.Context, c *counter, err error) error {
	switch {
	case errors.Is(err, errSkip), errors.Is(err, ErrBad):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.err != nil && c.err != io.EOF, c.n < f.object.Size && errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the transfer was cut at %d of %d bytes: %w", c.n, f.object.Size, err)
	case isLocal(err):
		return err
	}
	return fmt.Errorf("%w: %w", ErrBad, err)
}

// isLocal tells errors of this machine's disk.
func isLocal(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path)
}

// A counter counts what is read and keeps the error that ended it.
type counter struct {
	r   io.Reader
	n   int64
	err error
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// restore makes the stream's backup the last-known snapshot, unless what is
// here is as good. What it reports is what is the last-known one then.
func (s *Sink) restore(ctx context.Context, h snapshot.Header) (taken bool, err error) {
	lock, err := s.state.LockRestore(h.Stream, h.Tenancy)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	w, err := s.fetch(ctx, h, func(backup snapshot.Header, records int64) bool {
		here, _, err := s.state.LastKnown(ctx, h.Stream, h.Tenancy)
		if err != nil {
			return false // there is none that can be used
		}
		return !backup.UploadTimestamp.After(here.UploadTimestamp) || records == 0 && here.Records > 0
	}, s.state.SpoolRestore)
	if err != nil || w == nil {
		return false, err
	}
	if taken, err = s.state.Restore(context.WithoutCancel(ctx), w); err != nil {
		return false, errors.Join(err, w.Abort())
	}
	if !taken {
		return false, nil
	}
	// The data is back; without its history it is still good.
	if err := s.restoreHistory(ctx, h); err != nil {
		s.log.Warn("the history beside the backup was not restored", zap.String("stream", h.Stream), zap.Error(err))
	}
	return true, nil
}

// putFile makes the file of the last-known snapshot where it is missing, or
// where it is certainly older than a snapshot just restored.
func putFile(ctx context.Context, st *state.State, file *store.File, h snapshot.Header, restored bool) (put bool, err error) {
	// Whoever delivers the same stream would else be overtaken by older data.
	lock, err := st.LockDelivery(file.Name(), h.Stream)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	last, how, err := st.LastKnown(ctx, h.Stream, h.Tenancy)
	if errors.Is(err, state.ErrNone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !restored && how.Source == state.Collected && !file.Current() {
		// A file a snapshot is likely to be taken away by its reader.
		return false, nil
	}
	there, err := file.Stat(last.Header)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case err == nil && !(restored && there.ModTime().Before(last.UploadTimestamp.Truncate(time.Second))):
		return false, nil
	}
	return true, file.Write(ctx, last)
}
