package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/collectord/collectord/internal/backoff"
)

const (
	// idleTimeout is how long a transfer may bring no byte before it is
	// continued by another request.
	idleTimeout = time.Minute
	// maxResumes is how many times in succession a transfer is continued without
	// receiving a byte.
	maxResumes = 4
)

// resumeWaits are the waits before a transfer is continued that has received
// nothing since the last time.
var resumeWaits = backoff.Policy{First: time.Second, Longest: 15 * time.Second}

// errStalled is the cause of a request that brought no byte for the idle timeout.
var errStalled = errors.New("no data arrived")

// A transfer is the body of an object. If the connection breaks or stalls, it
// continues where it stopped, provided that the object is still the same.
type transfer struct {
	ctx    context.Context
	sink   *Sink
	key    string
	object Object
	offset int64 // bytes received

	body    io.ReadCloser
	request context.Context // of body
	cancel  context.CancelCauseFunc
	timer   *time.Timer // cancels request
	idleFor int         // requests in succession without a byte
	err     error       // the error that ended the transfer
}

// begin requests the object.
func (t *transfer) begin() error {
	return t.sink.withClient(t.ctx, "read "+t.sink.objectURL(t.key), func(conn *connection) error {
		out, err := t.get(conn, &s3.GetObjectInput{Bucket: &t.sink.opts.Bucket, Key: &t.key})
		if err != nil {
			return err
		}
		t.object = describeResponse(t.key, out.ContentLength, out.ETag, out.LastModified, out.Metadata)
		return nil
	})
}

// get sends a request and makes its body that of the transfer.
func (t *transfer) get(conn *connection, in *s3.GetObjectInput) (out *s3.GetObjectOutput, err error) {
	err = t.sink.adapt(t.sink.dialectOf(conn).withoutBody(), nil, func(d dialect) error {
		t.request, t.cancel = context.WithCancelCause(t.ctx)
		cancel := t.cancel
		t.timer = time.AfterFunc(t.sink.idle, func() { cancel(fmt.Errorf("%w for %v", errStalled, t.sink.idle)) })
		if out, err = conn.client.GetObject(t.request, in, d.applyTo); err != nil {
			err = t.explain(err)
			t.timer.Stop()
			t.cancel(nil)
			return err
		}
		t.timer.Stop()
		t.body = out.Body
		return nil
	})
	return out, err
}

// explain returns the error of a request, with its cause if the transfer ended it.
func (t *transfer) explain(err error) error {
	if cause := context.Cause(t.request); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// Read implements io.Reader.
func (t *transfer) Read(p []byte) (int, error) {
	for t.err == nil {
		t.timer.Reset(t.sink.idle)
		n, err := t.body.Read(p)
		t.timer.Stop()
		t.offset += int64(n)
		if n > 0 {
			t.idleFor = 0
		}
		switch {
		case err == nil:
			return n, nil
		case err == io.EOF && t.offset >= t.object.Size:
			t.err = io.EOF
			return n, t.err
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		t.err = t.resume(t.explain(err))
		if n > 0 {
			return n, nil // the next call returns t.err
		}
	}
	return 0, t.err
}

// resume continues the transfer after the error of a body. It returns an error
// that has err when that is impossible.
func (t *transfer) resume(err error) error {
	for {
		t.closeBody()
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		if t.object.ETag == "" || t.offset >= t.object.Size || t.idleFor >= maxResumes {
			return err
		}
		if t.idleFor > 0 {
			select {
			case <-t.ctx.Done():
				return context.Cause(t.ctx)
			case <-time.After(t.sink.resumeWaits.Wait(t.idleFor)):
			}
		}
		t.idleFor++
		failed := t.requestRest()
		if failed == nil {
			return nil
		}
		if statusOf(failed) == http.StatusPreconditionFailed {
			return fmt.Errorf("the object was replaced while it was read, after %w", err)
		}
		if status := statusOf(failed); status >= 400 && !isTransient(failed) {
			return failed
		}
		err = failed
	}
}

// requestRest requests the bytes from the offset on of the same object.
func (t *transfer) requestRest() error {
	return t.sink.withClient(t.ctx, "continue to read "+t.sink.objectURL(t.key), func(conn *connection) error {
		out, err := t.get(conn, &s3.GetObjectInput{
			Bucket: &t.sink.opts.Bucket, Key: &t.key, IfMatch: &t.object.ETag, Range: aws.String(fmt.Sprintf("bytes=%d-", t.offset)),
		})
		if err != nil {
			return err
		}
		switch {
		case aws.ToString(out.ETag) != t.object.ETag:
			err = fmt.Errorf("the object was replaced while it was read")
		case strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", t.offset)):
		default:
			// The server ignores ranges.
			_, err = io.CopyN(io.Discard, t.body, t.offset)
		}
		if err != nil {
			t.closeBody()
		}
		return err
	})
}

// closeBody ends the request.
func (t *transfer) closeBody() {
	if t.body == nil {
		return
	}
	t.timer.Stop()
	t.cancel(nil)
	_ = t.body.Close() // what it has not received is requested again
	t.body = nil
}

// Close implements io.Closer.
func (t *transfer) Close() error {
	t.closeBody()
	t.err = errors.Join(t.err, errClosed)
	return nil
}

var errClosed = errors.New("the body is closed")
