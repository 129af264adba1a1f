package store

import (
	"bytes"
	"context"
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
	// leastPart and uploaders bound an upload's memory, to one part for each
	// of them and one that is being filled.
	leastPart = 12 << 20
	uploaders = 3
	// mostParts is S3's limit.
	mostParts = 10000
	// sumBlock is how many bytes are summed at once.
	sumBlock = 64 << 10
	// abortLimit is how long dropping an unfinished upload may take.
	abortLimit = 15 * time.Second
)

// castagnoli makes CRC-32C, the checksum that processors compute fastest.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A content is what becomes an object.
type content struct {
	least, most int64 // bounds of its bytes
	write       func(io.Writer) error
}

// upload stores a content as one object: in one request when it fits a part,
// else in parts. The request that makes the object appear is sent after the
// content has been written without an error.
func (s *S3) upload(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput, in content) error {
	size := max(s.part, in.most/mostParts+1)
	p := &parts{ctx: ctx, sink: s, client: c, snap: snap, object: object,
		buf:  make([]byte, 0, max(1, min(size, in.most))),
		sums: c.Options().RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired,
		many: in.least > size}
	p.start = sync.OnceValue(p.begin)
	if p.many { // the server answers while the first part is gathered
		go func() {
			// Its error and its panic come again where it is called next.
			defer func() { _ = recover() }()
			_ = p.start()
		}()
	}
	err := in.write(p)
	if !p.many {
		if err != nil {
			return err
		}
		return p.putWhole()
	}
	if failed := p.start(); failed != nil {
		return failed
	}
	if err = p.finish(err); err != nil {
		p.abort()
		return err
	}
	s.sweep(ctx, c, snap, object)
	return nil
}

// withoutACL tells whether the server knows no ACL, and remembers it.
func (s *S3) withoutACL(snap *snapshot.Snapshot, err error) bool {
	if !isACLUnknown(err) || s.noACL.Swap(true) {
		return false
	}
	s.note(snap, "s3: the server takes no ACL; objects are stored in "+s.opts.Bucket+" without")
	return true
}

// begin starts an upload in parts.
func (s *S3) begin(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, o *s3.PutObjectInput, sum types.ChecksumAlgorithm) (*s3.CreateMultipartUploadOutput, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: o.Bucket, Key: o.Key, ContentType: o.ContentType, ACL: o.ACL, Metadata: o.Metadata,
		ServerSideEncryption: o.ServerSideEncryption, SSEKMSKeyId: o.SSEKMSKeyId, ChecksumAlgorithm: sum,
	}
	out, err := c.CreateMultipartUpload(ctx, in)
	if s.withoutACL(snap, err) {
		in.ACL = ""
		out, err = c.CreateMultipartUpload(ctx, in)
	}
	return out, err
}

// parts gathers what is written to it and uploads it, each full part while
// the next is being filled.
type parts struct {
	ctx    context.Context
	sink   *S3
	client *s3.Client
	snap   *snapshot.Snapshot
	object *s3.PutObjectInput
	buf    []byte // the part that is being filled
	sums   bool   // checksums are sent
	crc    uint32 // CRC-32C of the first summed bytes of buf
	summed int

	many  bool         // the object is larger than a part
	start func() error // begins an upload in parts, once

	// Of an upload in parts that has begun.
	id      *string
	number  int32
	free    chan []byte
	group   *errgroup.Group
	sending context.Context // ends with the first part that fails

	mu   sync.Mutex
	sent []types.CompletedPart
}

// Write never sends the last part: what it is, only the end of all tells.
func (p *parts) Write(b []byte) (int, error) {
	n := len(b)
	for {
		room := min(cap(p.buf)-len(p.buf), len(b))
		p.gather(b[:room])
		if b = b[room:]; len(b) == 0 {
			return n, nil
		}
		p.many = true
		if err := p.start(); err != nil {
			return 0, err
		}
		p.send()
		select {
		case p.buf = <-p.free:
		default:
			p.buf = make([]byte, 0, cap(p.buf))
		}
		if p.sending.Err() != nil {
			return 0, context.Cause(p.sending)
		}
	}
}

// putWhole stores an object in one request. Earlier ones of its key may have
// been larger, and one of those been cut off: that is looked for once.
func (p *parts) putWhole() error {
	if err := p.put(); err != nil {
		return err
	}
	if _, known := p.sink.swept.Load(*p.object.Key); !known && p.sink.sweep(p.ctx, p.client, p.snap, p.object) {
		p.sink.swept.Store(*p.object.Key, true)
	}
	return nil
}

// put stores an object that is no larger than a part.
func (p *parts) put() error {
	p.object.ChecksumCRC32C = p.checksum()
	put := func() error {
		p.object.Body = bytes.NewReader(p.buf)
		_, err := p.client.PutObject(p.ctx, p.object)
		return err
	}
	err := put()
	if p.sink.withoutACL(p.snap, err) {
		p.object.ACL = ""
		err = put()
	}
	return err
}

// gather adds to the part, and sums what is still in the processor's cache.
func (p *parts) gather(b []byte) {
	p.buf = append(p.buf, b...)
	if len(p.buf)-p.summed >= sumBlock {
		p.sum()
	}
}

func (p *parts) sum() {
	if p.sums {
		p.crc = crc32.Update(p.crc, castagnoli, p.buf[p.summed:])
	}
	p.summed = len(p.buf)
}

// checksum returns that of the gathered part in S3's form, nil where none is
// sent, and makes ready for the next part.
func (p *parts) checksum() *string {
	p.sum()
	crc := binary.BigEndian.AppendUint32(nil, p.crc)
	p.crc, p.summed = 0, 0
	if !p.sums {
		return nil
	}
	return aws.String(base64.StdEncoding.EncodeToString(crc))
}

// WriteByte tells Encode that small writes are gathered here.
func (p *parts) WriteByte(b byte) error {
	_, err := p.Write([]byte{b})
	return err
}

// begin starts the upload in parts.
func (p *parts) begin() error {
	var sum types.ChecksumAlgorithm
	if p.sums {
		sum = types.ChecksumAlgorithmCrc32c
	}
	out, err := p.sink.begin(p.ctx, p.client, p.snap, p.object, sum)
	if err != nil {
		return err
	}
	p.id = out.UploadId
	p.free = make(chan []byte, uploaders+1)
	p.group, p.sending = errgroup.WithContext(p.ctx)
	p.group.SetLimit(uploaders)
	return nil
}

// send uploads the gathered part as soon as an uploader is free.
func (p *parts) send() {
	p.number++
	number, part, sum := p.number, p.buf, p.checksum()
	p.group.Go(func() error {
		// One part's failure does not cut off another on its way: a server
		// that still works on it would keep what abort has dropped.
		err := p.one(number, part, sum)
		p.free <- part[:0]
		return err
	})
}

// finish sends the rest and makes the object appear, unless err says that the
// writing failed. A part's failure is why the writing did.
func (p *parts) finish(err error) error {
	if err == nil {
		p.send()
	}
	if err := p.group.Wait(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return p.complete()
}

func (p *parts) one(number int32, part []byte, sum *string) error {
	out, err := p.client.UploadPart(p.ctx, &s3.UploadPartInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id, PartNumber: &number,
		Body: bytes.NewReader(part), ChecksumCRC32C: sum,
	}, atOnce)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, types.CompletedPart{ETag: out.ETag, PartNumber: &number, ChecksumCRC32C: sum})
	return nil
}

// atOnce sends a part without first asking whether it is welcome, which costs
// the way to the server and back for each: that the upload has begun tells.
func atOnce(o *s3.Options) { o.ContinueHeaderThresholdBytes = -1 }

// complete makes the object appear.
func (p *parts) complete() error {
	slices.SortFunc(p.sent, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	_, err := p.client.CompleteMultipartUpload(p.ctx, &s3.CompleteMultipartUploadInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: p.sent},
	})
	return err
}

// abort drops the upload, also when its context has ended. What it cannot drop
// the next whole upload of the key sweeps away.
func (p *parts) abort() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), abortLimit)
	defer cancel()
	_, _ = p.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id,
	})
}

// sweep drops unfinished uploads of the object's key: those that a killed
// process left, and those that S3 began though its answer was lost. It tells
// whether there is nothing more to be done. The object is stored, so a refusal
// is only told, and only once; after any other failure the key's next upload
// tries again.
func (s *S3) sweep(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput) bool {
	if s.noList.Load() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, abortLimit)
	defer cancel()
	err := sweep(ctx, c, object.Bucket, object.Key)
	if err == nil || isPassing(err) {
		return err == nil
	}
	if !s.noList.Swap(true) {
		s.note(snap, "s3: unfinished uploads in "+s.opts.Bucket+" cannot be swept; let a lifecycle rule abort them (AbortIncompleteMultipartUpload), or grant s3:ListBucketMultipartUploads: "+
			s3Error(ctx, "list uploads", err).Error())
	}
	return true
}

func sweep(ctx context.Context, c *s3.Client, bucket, key *string) error {
	pages := s3.NewListMultipartUploadsPaginator(c, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) != *key {
				continue
			}
			if _, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId}); err != nil {
				return err
			}
		}
	}
	return nil
}
