package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/collectord/collectord/pkg/snapshot"
)

const (
	// minPart is the minimum size of a part. Together with maxUploaders it
	// bounds the memory of an upload: one part for each uploader, and one that
	// is being filled.
	minPart      = 12 << 20
	maxUploaders = 3
	// maxParts is S3's limit.
	maxParts = 10000
	// checksumBlock is how many bytes are added to a checksum at once.
	checksumBlock = 64 << 10
	// abortTimeout bounds the time for aborting unfinished uploads.
	abortTimeout = 15 * time.Second
)

// castagnoli is the table of CRC-32C, which processors compute fastest.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A content is the content of an object.
type content struct {
	minSize, maxSize int64 // bounds of its size in bytes
	write            func(io.Writer) error
}

// upload stores a content as one object: in one request if it fits in a part,
// otherwise in parts. The request that makes the object appear is sent after
// write has returned nil.
func (s *Sink) upload(ctx context.Context, conn *connection, snap *snapshot.Snapshot, object *s3.PutObjectInput, in content) error {
	size := max(s.part, in.maxSize/maxParts+1)
	w := &partWriter{ctx: ctx, sink: s, conn: conn, snap: snap, object: object,
		buf:  make([]byte, 0, max(1, min(size, in.maxSize))),
		sums: s.dialectOf(conn).checksum == ChecksumCRC32C,
		many: in.minSize > size}
	w.start = sync.OnceValue(w.beginParts)
	if w.many { // the server responds while the first part is being filled
		go func() {
			// The next call of start returns the same error or panics again.
			defer func() { _ = recover() }()
			_ = w.start()
		}()
	}
	err := in.write(w)
	if !w.many {
		if err != nil {
			return err
		}
		return w.putWhole()
	}
	if failed := w.start(); failed != nil {
		return failed
	}
	if err = w.finishUpload(err); err != nil {
		w.abortUpload()
		return err
	}
	s.abortLeftovers(ctx, conn, snap, object)
	return nil
}

// A part is a part of an object, or a whole one.
type part struct {
	bytes []byte
	crc   *uint32 // CRC-32C; nil until it is needed
}

// crc32c returns the CRC-32C in S3's encoding.
func (p *part) crc32c() *string {
	if p.crc == nil {
		p.crc = aws.Uint32(crc32.Checksum(p.bytes, castagnoli))
	}
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, *p.crc)))
}

// md5 returns the Content-MD5.
func (p *part) md5() *string {
	sum := md5.Sum(p.bytes)
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// A partWriter uploads what is written to it. It uploads each full part while
// the next one is being filled.
type partWriter struct {
	ctx    context.Context
	sink   *Sink
	conn   *connection
	snap   *snapshot.Snapshot
	object *s3.PutObjectInput
	buf    []byte // the part that is being filled
	sums   bool   // whether the CRC-32C is computed while buf is filled
	crc    uint32 // CRC-32C of the first summed bytes of buf
	summed int

	many  bool         // whether the object is larger than a part
	start func() error // begins the upload in parts, once

	// The following are set when the upload in parts has begun.
	id        *string
	algorithm types.ChecksumAlgorithm // "" for none
	number    int32
	free      chan []byte
	group     *errgroup.Group
	sending   context.Context // ends when the first part fails

	mu   sync.Mutex
	sent []types.CompletedPart
}

// Write adds b to the content. It never sends the last part, since more may
// follow.
func (w *partWriter) Write(b []byte) (int, error) {
	n := len(b)
	for {
		room := min(cap(w.buf)-len(w.buf), len(b))
		w.appendBytes(b[:room])
		if b = b[room:]; len(b) == 0 {
			return n, nil
		}
		w.many = true
		if err := w.start(); err != nil {
			return 0, err
		}
		w.sendPart()
		select {
		case w.buf = <-w.free:
		default:
			w.buf = make([]byte, 0, cap(w.buf))
		}
		if w.sending.Err() != nil {
			return 0, context.Cause(w.sending)
		}
	}
}

// putWhole stores the object in one request. Earlier objects of its key may have
// been larger and an upload of one may be unfinished, which putWhole checks once
// per key. Where each snapshot has a key of its own, there are no earlier ones.
func (w *partWriter) putWhole() error {
	if err := w.putObject(); err != nil {
		return err
	}
	key := *w.object.Key
	if w.sink.opts.OneObject && !w.sink.swept.has(key) && w.sink.abortLeftovers(w.ctx, w.conn, w.snap, w.object) {
		w.sink.swept.addKey(key)
	}
	return nil
}

// putObject stores an object that is not larger than a part.
func (w *partWriter) putObject() error {
	whole := w.takePart()
	return w.sendFinal(w.sink.dialectOf(w.conn), func(d dialect, object s3.PutObjectInput) error {
		in := object
		in.ACL, in.Body = d.acl, bytes.NewReader(whole.bytes)
		switch d.checksum {
		case ChecksumCRC32C:
			in.ChecksumCRC32C = whole.crc32c()
		case ChecksumMD5:
			in.ContentMD5 = whole.md5()
		}
		_, err := w.conn.client.PutObject(w.ctx, &in, d.applyTo)
		return err
	})
}

// sendFinal sends the request that makes the object appear. send receives the object with
// the conditions of that request. Where the server has no conditional writes, there are
// none, and they are compared immediately before.
func (w *partWriter) sendFinal(first dialect, send func(d dialect, object s3.PutObjectInput) error) error {
	bound := w.object.IfMatch != nil || w.object.IfNoneMatch != nil
	if !bound {
		first = first.withoutConditions()
	}
	return w.sink.adapt(first, w.snap, func(d dialect) error {
		object := *w.object
		if bound && !d.conditions {
			if err := w.sink.checkUnchanged(w.ctx, w.conn, w.object); err != nil {
				return err
			}
			object.IfMatch, object.IfNoneMatch = nil, nil
		}
		return send(d, object)
	})
}

// appendBytes adds b to the part, and to its checksum while b is in the
// processor's cache.
func (w *partWriter) appendBytes(b []byte) {
	w.buf = append(w.buf, b...)
	if len(w.buf)-w.summed >= checksumBlock {
		w.updateChecksum()
	}
}

// updateChecksum adds the new bytes of the part to its checksum.
func (w *partWriter) updateChecksum() {
	if w.sums {
		w.crc = crc32.Update(w.crc, castagnoli, w.buf[w.summed:])
	}
	w.summed = len(w.buf)
}

// takePart returns the filled part, and resets the checksum for the next one.
func (w *partWriter) takePart() part {
	w.updateChecksum()
	p := part{bytes: w.buf}
	if w.sums {
		p.crc = aws.Uint32(w.crc)
	}
	w.crc, w.summed = 0, 0
	return p
}

// WriteByte implements io.ByteWriter, so that Encode adds no buffer of its own.
func (w *partWriter) WriteByte(b byte) error {
	_, err := w.Write([]byte{b})
	return err
}

// beginParts begins the upload in parts.
func (w *partWriter) beginParts() error {
	if err := w.createUpload(); err != nil {
		return err
	}
	w.free = make(chan []byte, maxUploaders+1)
	w.group, w.sending = errgroup.WithContext(w.ctx)
	w.group.SetLimit(maxUploaders)
	return nil
}

// createUpload begins an upload in parts on the server.
func (w *partWriter) createUpload() error {
	o := w.object
	return w.sink.adapt(w.sink.dialectOf(w.conn).withoutConditions(), w.snap, func(d dialect) error {
		in := &s3.CreateMultipartUploadInput{
			Bucket: o.Bucket, Key: o.Key, ContentType: o.ContentType, ACL: d.acl, Metadata: o.Metadata,
			ServerSideEncryption: o.ServerSideEncryption, SSEKMSKeyId: o.SSEKMSKeyId,
		}
		if d.checksum == ChecksumCRC32C {
			in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
		}
		out, err := w.conn.client.CreateMultipartUpload(w.ctx, in, d.applyTo)
		if err == nil {
			w.id, w.algorithm = out.UploadId, in.ChecksumAlgorithm
		}
		return err
	})
}

// sendPart uploads the filled part when an uploader is free.
func (w *partWriter) sendPart() {
	w.number++
	number, part := w.number, w.takePart()
	w.group.Go(func() error {
		// The failure of one part does not cancel the others: a server that
		// still processes a part would keep it after the abort.
		sent, err := w.uploadPart(number, part)
		w.free <- part.bytes[:0]
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sent = append(w.sent, sent)
		return nil
	})
}

// finishUpload sends the last part and makes the object appear, unless err says
// that writing failed. If a part failed, that is the error it returns.
func (w *partWriter) finishUpload(err error) error {
	if err == nil {
		w.sendPart()
	}
	if err := w.group.Wait(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return w.completeUpload()
}

// uploadPart uploads one part. An upload that began with an algorithm needs its
// sum of each part.
func (w *partWriter) uploadPart(number int32, p part) (sent types.CompletedPart, err error) {
	err = w.sink.adapt(w.sink.dialectOf(w.conn).withoutACL().withoutConditions(), w.snap, func(d dialect) error {
		in := &s3.UploadPartInput{
			Bucket: w.object.Bucket, Key: w.object.Key, UploadId: w.id, PartNumber: &number, Body: bytes.NewReader(p.bytes),
		}
		if w.algorithm != "" && d.checksum != None {
			in.ChecksumCRC32C = p.crc32c()
		} else if d.checksum == ChecksumCRC32C {
			d.checksum = None // the upload began without it
		}
		if d.checksum == ChecksumMD5 {
			in.ContentMD5 = p.md5()
		}
		out, err := w.conn.client.UploadPart(w.ctx, in, d.applyTo, withoutContinue)
		if err == nil {
			sent = types.CompletedPart{ETag: out.ETag, PartNumber: &number, ChecksumCRC32C: in.ChecksumCRC32C}
		}
		return err
	})
	return sent, err
}

// withoutContinue sends a part without "Expect: 100-continue", which would cost
// a round trip for each part: the server has accepted the upload already.
func withoutContinue(o *s3.Options) { o.ContinueHeaderThresholdBytes = -1 }

// completeUpload makes the object appear.
func (w *partWriter) completeUpload() error {
	slices.SortFunc(w.sent, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return w.sendFinal(w.sink.dialectOf(w.conn).withoutACL(), func(d dialect, object s3.PutObjectInput) error {
		_, err := w.conn.client.CompleteMultipartUpload(w.ctx, &s3.CompleteMultipartUploadInput{
			Bucket: object.Bucket, Key: object.Key, UploadId: w.id, IfMatch: object.IfMatch, IfNoneMatch: object.IfNoneMatch,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: w.sent},
		}, d.applyTo)
		return err
	})
}

// abortUpload aborts the upload, also when its context has ended. If that fails,
// the next complete upload of the key aborts it.
func (w *partWriter) abortUpload() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortTimeout)
	defer cancel()
	_, _ = w.conn.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: w.object.Bucket, Key: w.object.Key, UploadId: w.id,
	}, w.sink.dialectOf(w.conn).applyTo)
}

// abortLeftovers aborts unfinished uploads of the object's key: those of a killed
// process, and those that S3 began although its response was lost. It reports
// whether nothing is left to do. The object is stored already, so a refusal is
// noted, once per Sink, and is not an error; after any other failure the next
// upload of the key tries again.
func (s *Sink) abortLeftovers(ctx context.Context, conn *connection, snap *snapshot.Snapshot, object *s3.PutObjectInput) bool {
	if s.noList.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	err := abortUploads(ctx, conn.client, object.Bucket, object.Key, s.dialectOf(conn).applyTo)
	if err == nil || isTransient(err) {
		return err == nil
	}
	if !s.noList.Swap(true) {
		s.passNote(snap, "s3: unfinished uploads in "+s.opts.Bucket+" cannot be swept; let a lifecycle rule abort them (AbortIncompleteMultipartUpload), or grant s3:ListBucketMultipartUploads: "+
			explainError(ctx, "list uploads", err).Error())
	}
	return true
}

// abortUploads aborts the unfinished uploads of a key.
func abortUploads(ctx context.Context, c *s3.Client, bucket, key *string, how func(*s3.Options)) error {
	pages := s3.NewListMultipartUploadsPaginator(c, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, how)
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) != *key {
				continue
			}
			if _, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId}, how); err != nil {
				return err
			}
		}
	}
	return nil
}
