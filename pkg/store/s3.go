package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/collectord/collectord/pkg/snapshot"
)

// S3Options are the settings of an S3 destination. Credentials, region,
// endpoint, proxy and certificates come from where all AWS programs take
// them: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3,
// AWS_CA_BUNDLE, ~/.aws, the container's or the instance's role and so on.
type S3Options struct {
	Bucket string
	// Name is the destination's name; "" is "s3".
	Name string
	// Key names a snapshot's object. Its extension asks for the format, see
	// snapshot.FormatOf. It must give the same key for the same header.
	Key func(snapshot.Header) string
	// SSE is the encryption asked for: "", the bucket's own, "AES256",
	// "aws:kms" or "aws:kms:dsse".
	SSE string
	// KMSKeyID is the key for the latter two; empty means the account's own.
	KMSKeyID string
	// TempDir holds Parquet files until they are uploaded; empty means
	// os.TempDir().
	TempDir string
	// Sum adds the SHA-256 of the records to the object's metadata, which
	// costs one more reading of the snapshot.
	Sum bool
	// Memory bounds DuckDB's memory in bytes where a Parquet file is made; 0
	// is 768 MB.
	Memory int64
	// Note, when not nil, is told what is worth knowing and no failure, one
	// sentence each: what an object says differently from the snapshot, what
	// the server does not know. The latter is told once per process, by
	// whichever snapshot met it; nil stands for Check.
	Note func(s *snapshot.Snapshot, text string)
}

// S3 stores each snapshot as one object.
//
// The object appears when the whole snapshot has been read and found
// undamaged: S3 shows what PutObject and CompleteMultipartUpload have
// finished, and either is sent after the last byte. Writing again overwrites
// the same key with the same records, so a lost answer costs nothing.
//
// The object is a file of the kind that its name says: .json.gz is
// application/gzip, without a Content-Encoding. Athena, Snowflake, Spark and
// DuckDB go by the name; with a Content-Encoding some readers decompress on
// the way and then fail on the bytes that their name promised to be gzip.
type S3 struct {
	opts S3Options
	part int64 // least size of a part

	mu     sync.Mutex
	conn   *connection // nil until needed, and after credentials failed
	region string      // learned from S3, wins over the settings

	swept  sync.Map    // keys of single requests at which nothing unfinished is left
	noACL  atomic.Bool // the server knows no ACL
	noList atomic.Bool // unfinished uploads may not be listed
}

// The names of an object's metadata, after x-amz-meta-. Stream and tenancy
// are percent-encoded as in a URL's path.
const (
	metaStream    = "collectord-stream"
	metaTenancy   = "collectord-tenancy"
	metaUploadID  = "collectord-upload-id"
	metaTimestamp = "collectord-upload-timestamp" // RFC 3339, UTC
	metaRecords   = "collectord-records"
	// metaSum is the snapshot's sum, that of its sealed NDJSON under
	// Zstandard, not that of the object, which is streamed.
	metaSum = "collectord-snapshot-sha256"
	// metaRecordsSum is the SHA-256 of the records as NDJSON, whatever the
	// object's format.
	metaRecordsSum = "collectord-records-sha256"
)

// NewS3 checks the options. It does not connect.
func NewS3(opts S3Options) (*S3, error) {
	if opts.Bucket == "" || opts.Key == nil {
		return nil, errors.New("s3: want a bucket and a key")
	}
	switch types.ServerSideEncryption(opts.SSE) {
	case "", types.ServerSideEncryptionAes256:
		if opts.KMSKeyID != "" {
			return nil, fmt.Errorf("s3: a KMS key needs the encryption aws:kms or aws:kms:dsse, not %q", opts.SSE)
		}
	case types.ServerSideEncryptionAwsKms, types.ServerSideEncryptionAwsKmsDsse:
	default:
		return nil, fmt.Errorf("s3: encryption %q: want AES256, aws:kms or aws:kms:dsse", opts.SSE)
	}
	return &S3{opts: opts, part: leastPart}, nil
}

// Name returns the name of the options, "s3" by default.
func (s *S3) Name() string { return cmp.Or(s.opts.Name, "s3") }

// Close drops idle connections.
func (s *S3) Close() error {
	s.forget()
	return nil
}

// Write uploads the snapshot.
func (s *S3) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	key := s.opts.Key(snap.Header)
	format, err := snapshot.FormatOf(key)
	if err != nil {
		return fmt.Errorf("s3: key of %s: %w: %w", snap.Stream, ErrRefused, err)
	}
	object := s.object(key, format, snap.Info)
	if s.opts.Sum {
		if object.Metadata[metaRecordsSum], err = recordsSum(ctx, snap); err != nil {
			return err
		}
	}
	return s.do(ctx, "upload to "+s.label(key), func(c *s3.Client) error {
		if format.Kind == snapshot.Parquet {
			return s.uploadParquet(ctx, c, snap, object)
		}
		// Of each record's newline JSON makes a comma and a newline; what cannot
		// be compressed grows by less than a thousandth.
		in := content{most: snap.Bytes + snap.Records + snap.Bytes/1000 + 4096}
		if format.Compression == "" {
			in.least = snap.Bytes
		}
		in.write = func(w io.Writer) error { return snap.Encode(ctx, w, format) }
		return s.upload(ctx, c, snap, object, in)
	})
}

// recordsSum is the hexadecimal SHA-256 of the snapshot's records as NDJSON.
func recordsSum(ctx context.Context, snap *snapshot.Snapshot) (string, error) {
	sum := sha256.New()
	if err := snap.Encode(ctx, sum, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// note tells what is worth knowing.
func (s *S3) note(snap *snapshot.Snapshot, text string) {
	if s.opts.Note != nil {
		s.opts.Note(snap, text)
	}
}

// label names an object in messages.
func (s *S3) label(key string) string { return "s3://" + s.opts.Bucket + "/" + key }

// uploadParquet makes a Parquet file, which cannot be streamed, in a temporary
// folder and uploads it.
func (s *S3) uploadParquet(ctx context.Context, c *s3.Client, snap *snapshot.Snapshot, object *s3.PutObjectInput) (err error) {
	dir, err := os.MkdirTemp(s.opts.TempDir, "collectord-s3-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "snapshot.parquet")
	result, err := snap.EncodeParquet(ctx, path, snapshot.ParquetOptions{Memory: s.opts.Memory})
	if err != nil {
		return err
	}
	for _, note := range result.Notes {
		s.note(snap, note)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return s.upload(ctx, c, snap, object, content{fi.Size(), fi.Size(), func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	}})
}

// object describes a snapshot's object.
func (s *S3) object(key string, format snapshot.Format, info snapshot.Info) *s3.PutObjectInput {
	contentType := format.ContentType()
	switch format.Compression {
	case "gzip":
		contentType = "application/gzip"
	case "zstd":
		contentType = "application/zstd"
	}
	in := &s3.PutObjectInput{
		Bucket:      &s.opts.Bucket,
		Key:         &key,
		ContentType: &contentType,
		// A bucket of another account's shows its owner what is put there;
		// buckets without ACLs take exactly this one.
		ACL:                  types.ObjectCannedACLBucketOwnerFullControl,
		ServerSideEncryption: types.ServerSideEncryption(s.opts.SSE),
		Metadata: map[string]string{
			metaStream:    url.PathEscape(info.Stream),
			metaTenancy:   url.PathEscape(info.Tenancy),
			metaUploadID:  url.PathEscape(info.UploadID),
			metaTimestamp: info.UploadTimestamp.UTC().Format(time.RFC3339),
			metaRecords:   strconv.FormatInt(info.Records, 10),
			metaSum:       info.SHA256,
		},
	}
	if s.opts.KMSKeyID != "" {
		in.SSEKMSKeyId = &s.opts.KMSKeyID
	}
	if s.noACL.Load() {
		in.ACL = ""
	}
	return in
}

// Check tells whether the bucket is there and takes objects. It begins an
// upload and aborts it, which no reader sees: HeadBucket alone needs the
// permission to list, which writers need not have, and says nothing about
// writing.
func (s *S3) Check(ctx context.Context) error {
	key := s.opts.Key(snapshot.Header{Collector: "collectord", Stream: "collectord_check", Tenancy: "check",
		UploadID: "00000000-0000-0000-0000-000000000000", UploadTimestamp: time.Unix(0, 0).UTC()})
	if _, err := snapshot.FormatOf(key); err != nil {
		return fmt.Errorf("s3: key: %w: %w", ErrRefused, err)
	}
	return s.do(ctx, "check bucket "+s.opts.Bucket, func(c *s3.Client) error {
		if _, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.opts.Bucket}); err != nil && !isForbidden(err) {
			return err
		}
		in := s.object(key, snapshot.Format{Kind: snapshot.JSON}, snapshot.Info{})
		out, err := s.begin(ctx, c, nil, in, "")
		if err != nil {
			return err
		}
		_, err = c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: in.Bucket, Key: in.Key, UploadId: out.UploadId})
		return err
	})
}

// An S3Object is what S3 says of an object. What the object's metadata leave
// out, since another program made it, is empty and Records is -1.
type S3Object struct {
	Key      string
	Size     int64
	ETag     string
	Modified time.Time
	snapshot.Header
	Records int64
	// SnapshotSHA256 is the sum in the snapshot's manifest; the object's own
	// bytes differ.
	SnapshotSHA256 string
	// RecordsSHA256 is the sum of the records as NDJSON; "" when it was not
	// asked for.
	RecordsSHA256 string
}

// OwnKind tells that collectord has made the object.
func (o S3Object) OwnKind() bool { return o.Records >= 0 && !o.UploadTimestamp.IsZero() }

// Stat returns what S3 says of an object. Errors are those of Get, which it
// asks: an answer to HEAD cannot tell a missing object from a missing bucket.
func (s *S3) Stat(ctx context.Context, key string) (S3Object, error) {
	body, o, err := s.Get(ctx, key)
	if err != nil {
		return S3Object{}, err
	}
	_ = body.Close() // nothing of it is used
	return o, nil
}

// Put stores a small JSON text as an object.
func (s *S3) Put(ctx context.Context, key string, text []byte) error {
	return s.do(ctx, "upload to "+s.label(key), func(c *s3.Client) error {
		object := s.object(key, snapshot.Format{Kind: snapshot.JSON}, snapshot.Info{})
		object.Metadata = nil
		size := int64(len(text))
		return s.upload(ctx, c, nil, object, content{size, size, func(w io.Writer) error {
			_, err := w.Write(text)
			return err
		}})
	})
}

// Get opens an object. The error wraps fs.ErrNotExist when there is none;
// where the role may not list the bucket, S3 says AccessDenied instead.
// Reading fails with an error when the body is cut.
func (s *S3) Get(ctx context.Context, key string) (io.ReadCloser, S3Object, error) {
	var out *s3.GetObjectOutput
	err := s.do(ctx, "read "+s.label(key), func(c *s3.Client) (err error) {
		out, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.opts.Bucket, Key: &key})
		return err
	})
	if err != nil {
		return nil, S3Object{}, err
	}
	return out.Body, objectOf(key, out), nil
}

func objectOf(key string, out *s3.GetObjectOutput) S3Object {
	text := func(name string) string {
		value, err := url.PathUnescape(out.Metadata[name])
		if err != nil {
			return out.Metadata[name]
		}
		return value
	}
	o := S3Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
		Header:         snapshot.Header{Stream: text(metaStream), Tenancy: text(metaTenancy), UploadID: text(metaUploadID)},
		Records:        -1,
		SnapshotSHA256: out.Metadata[metaSum],
		RecordsSHA256:  out.Metadata[metaRecordsSum],
	}
	if t, err := time.Parse(time.RFC3339, out.Metadata[metaTimestamp]); err == nil {
		o.UploadTimestamp = t
	}
	if n, err := strconv.ParseInt(out.Metadata[metaRecords], 10, 64); err == nil {
		o.Records = n
	}
	return o
}
