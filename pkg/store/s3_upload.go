package store

import (
	"bytes"
	"context"
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
	leastPart = 5 << 20
	uploaders = 5
	// mostParts is S3's limit.
	mostParts = 10000
	// abortLimit is how long dropping an unfinished upload may take.
	abortLimit = 15 * time.Second
)

// upload stores body, of at most that many bytes, as one object: in one
// request when it fits a part, else in parts. The request that makes the
// object appear is sent after body's io.EOF.
func (s *S3) upload(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput, body io.Reader, most int64) error {
	size := max(s.part, most/mostParts+1)
	buf := make([]byte, min(size, most+1))
	n, end, err := fill(body, buf)
	if err != nil {
		return err
	}
	if !end {
		return s.uploadParts(ctx, c, snap, object, body, buf)
	}
	put := func() error {
		object.Body = bytes.NewReader(buf[:n])
		_, err := c.PutObject(ctx, object)
		return err
	}
	if err = put(); s.withoutACL(snap, err) {
		object.ACL = ""
		err = put()
	}
	return err
}

// withoutACL tells whether the server knows no ACL, and remembers it.
func (s *S3) withoutACL(snap *snapshot.Snapshot, err error) bool {
	if !isACLUnknown(err) || s.noACL.Swap(true) {
		return false
	}
	s.note(snap, "s3: the server takes no ACL; objects are stored in "+s.opts.Bucket+" without")
	return true
}

// fill reads until buf is full or r ends.
func fill(r io.Reader, buf []byte) (n int, end bool, err error) {
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
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

// uploadParts sends body in parts, of which first is the first, filled.
func (s *S3) uploadParts(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput, body io.Reader, first []byte) error {
	p := &parts{client: c, object: object}
	if c.Options().RequestChecksumCalculation != aws.RequestChecksumCalculationWhenRequired {
		p.sum = types.ChecksumAlgorithmCrc32
	}
	out, err := s.begin(ctx, c, snap, object, p.sum)
	if err != nil {
		return err
	}
	p.id = out.UploadId
	err = p.send(ctx, body, first)
	if err == nil {
		err = p.complete(ctx)
	}
	if err != nil {
		p.abort(ctx)
		return err
	}
	s.sweep(ctx, c, snap, object)
	return nil
}

// parts is an upload in parts.
type parts struct {
	client *s3.Client
	object *s3.PutObjectInput
	id     *string
	sum    types.ChecksumAlgorithm

	mu   sync.Mutex
	sent []types.CompletedPart
}

// send uploads first and the rest of body.
func (p *parts) send(ctx context.Context, body io.Reader, buf []byte) error {
	free := make(chan []byte, uploaders+1)
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(uploaders)
	n, end := len(buf), false
	var reading error
	for number := int32(1); n > 0 && reading == nil && sending.Err() == nil; number++ {
		full, part := buf, buf[:n]
		group.Go(func() error {
			// One part's failure does not cut off another on its way: a server
			// that still works on it would keep what abort has dropped.
			err := p.one(ctx, number, part)
			free <- full
			return err
		})
		if end {
			break
		}
		select {
		case buf = <-free:
		default:
			buf = make([]byte, len(full))
		}
		n, end, reading = fill(body, buf)
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return reading
}

func (p *parts) one(ctx context.Context, number int32, part []byte) error {
	out, err := p.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id, PartNumber: &number,
		Body: bytes.NewReader(part), ChecksumAlgorithm: p.sum,
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, types.CompletedPart{ETag: out.ETag, PartNumber: &number, ChecksumCRC32: out.ChecksumCRC32})
	return nil
}

// complete makes the object appear.
func (p *parts) complete(ctx context.Context) error {
	slices.SortFunc(p.sent, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	_, err := p.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: p.sent},
	})
	return err
}

// abort drops the upload, also when ctx has ended. What it cannot drop the
// next whole upload of the key sweeps away.
func (p *parts) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	_, _ = p.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: p.object.Bucket, Key: p.object.Key, UploadId: p.id,
	})
}

// sweep drops unfinished uploads of the object's key: those that a killed
// process left, and those that S3 began though its answer was lost. The
// object is stored, so a failure is only told, and only once.
func (s *S3) sweep(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput) {
	if s.noList.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, abortLimit)
	defer cancel()
	if err := sweep(ctx, c, object.Bucket, object.Key); err != nil && !s.noList.Swap(true) {
		s.note(snap, "s3: unfinished uploads in "+s.opts.Bucket+" cannot be swept; let a lifecycle rule abort them (AbortIncompleteMultipartUpload), or grant s3:ListBucketMultipartUploads: "+
			s3Error(ctx, "list uploads", err).Error())
	}
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
