// Package s3 is the destination that stores each snapshot as an object in
// Amazon S3 or a server with the same API.
package s3

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/collectord/collectord/internal/backoff"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Options are the options of a Sink. Credentials, region, endpoint, proxy and
// certificates come from the usual sources of AWS programs: AWS_ACCESS_KEY_ID,
// AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE, ~/.aws, the role
// of the container or the instance and so on.
type Options struct {
	Bucket string
	// Profile is the profile of the AWS SDK's files that has the region and the credentials;
	// "" means those of the process.
	Profile string
	// Name is the destination's name; "" means "s3".
	Name string
	// Key returns the key of a snapshot's object. Its extension names the
	// format, see snapshot.FormatOf. The same header must have the same key.
	Key func(snapshot.Header) string
	// KeyTemplate is the text that Key renders, for Target.
	KeyTemplate string
	// OneObject reports that all snapshots of a stream and tenancy have the same
	// key, so that each replaces the one before. Unfinished uploads of other keys
	// than these are not looked for.
	OneObject bool
	// SSE is the encryption on the server: "AES256", "aws:kms" or
	// "aws:kms:dsse"; "" means the default of the bucket.
	SSE string
	// KMSKeyID is the key for aws:kms and aws:kms:dsse; "" means the key of
	// the account.
	KMSKeyID string
	// ACL is the ACL of objects: a canned one, None, or Auto, the default, which
	// is bucket-owner-full-control unless the server refuses it.
	ACL string
	// Checksum is what is sent with a body: ChecksumCRC32C, ChecksumMD5, None,
	// or Auto, the default: what the server requires.
	Checksum string
	// PathStyle says where the bucket's name stands: PathStyle, VirtualHosts, or
	// Auto, the default.
	PathStyle string
	// RequestPayer is "requester" for buckets whose readers and writers pay.
	RequestPayer string
	// Setting names the setting of Key in messages; "" means STORE_AWS_S3_KEY.
	Setting string
	// SkipLookup says that Write does not look up what it replaces, because keys
	// are unique. Otherwise an object of another stream or tenancy is not replaced.
	SkipLookup bool
	// Repair replaces escapes that many programs refuse, see
	// snapshot.RepairEscapes.
	Repair bool
	// Exact stores the records' own bytes, whatever Repair says, and without a
	// note about them: for objects that only collectord reads.
	Exact bool
	// Parquet returns a snapshot as a Parquet file. Only keys of such objects
	// need it.
	Parquet store.ParquetFunc
	// DatesForeign says that an object which another program stored was taken when it
	// was stored. Otherwise a snapshot of any age replaces it.
	DatesForeign bool
	// Place names the object in notes about its age; "" means its URL.
	Place string
	// Sum adds the SHA-256 of the records to the object's metadata. The
	// snapshot is then read once more.
	Sum bool
	// Note, when not nil, receives how an object differs from the snapshot,
	// and what the server does not support. The latter is noted once per
	// Sink, with the snapshot that was being written, or nil during Check.
	Note store.NoteFunc
}

// A Sink stores each snapshot as one object.
//
// The object appears after the whole snapshot was read and verified: S3 shows
// an object when PutObject or CompleteMultipartUpload has finished, and both
// are sent after the last byte. Writing again overwrites the same key with the
// same records, so a lost response does no harm. An object of a newer snapshot is
// not overwritten, see store.PlaceIncoming: also not if it is stored while this one
// is being written.
//
// The content type of the object follows its extension: .json.gz is
// application/gzip, without a Content-Encoding. Athena, Snowflake, Spark and
// DuckDB rely on the extension. With a Content-Encoding some readers decompress
// the body in transit, and then fail because it is not gzip.
type Sink struct {
	opts        Options
	part        int64         // minimum size of a part in bytes
	idle        time.Duration // limit of a transfer without data
	resumeWaits backoff.Policy

	mu     sync.Mutex
	conn   *connection // nil until needed, and after credentials failed
	region string      // from a response of S3; overrides the settings

	lessons lessons     // about the server
	swept   keySet      // keys written in one request that have no unfinished uploads
	noList  atomic.Bool // the role may not list unfinished uploads
}

// The names of an object's metadata, after x-amz-meta-. Stream and tenancy
// are percent-encoded as in a URL's path.
const (
	metaStream    = "collectord-stream"
	metaTenancy   = "collectord-tenancy"
	metaUploadID  = "collectord-upload-id"
	metaTimestamp = "collectord-upload-timestamp" // RFC 3339, UTC
	metaRecords   = "collectord-records"
	// metaSum is the SHA-256 in the snapshot's manifest: that of its sealed
	// NDJSON compressed by Zstandard, not that of the object.
	metaSum = "collectord-snapshot-sha256"
	// metaRecordsSum is the SHA-256 of the records as NDJSON, for all formats
	// of the object.
	metaRecordsSum = "collectord-records-sha256"
)

// New checks the options and returns a Sink. It does not connect.
func New(opts Options) (*Sink, error) {
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
	opts.Setting = cmp.Or(opts.Setting, keySetting)
	return &Sink{opts: opts, part: minPart, idle: idleTimeout, resumeWaits: resumeWaits}, nil
}

// Name returns the name of the options, "s3" by default.
func (s *Sink) Name() string { return cmp.Or(s.opts.Name, "s3") }

// ReplacesPrevious implements store.Replacer.
func (s *Sink) ReplacesPrevious() bool { return s.opts.OneObject }

// StoresParquet implements store.ParquetStorer.
func (s *Sink) StoresParquet() bool {
	format, err := snapshot.FormatOf(s.opts.KeyTemplate)
	return err == nil && format.Kind == snapshot.Parquet
}

// Target implements store.Targeter.
func (s *Sink) Target() string { return "s3://" + s.opts.Bucket + "/" + s.opts.KeyTemplate }

// Close closes idle connections.
func (s *Sink) Close() error {
	s.dropConnection()
	return nil
}

// Write uploads the snapshot.
func (s *Sink) Write(ctx context.Context, snap *snapshot.Snapshot) error {
	_, err := s.Store(ctx, snap)
	return err
}

// Store is Write, and returns the placement of the snapshot.
func (s *Sink) Store(ctx context.Context, snap *snapshot.Snapshot) (place store.Placement, err error) {
	key := s.opts.Key(snap.Header)
	format, err := snapshot.FormatOf(key)
	if err != nil {
		return place, fmt.Errorf("s3: key of %s: %w: %w", snap.Stream, store.ErrRefused, err)
	}
	object := s.describeObject(key, format, snap.Info)
	if s.opts.Sum {
		if object.Metadata[metaRecordsSum], err = recordsSum(ctx, snap); err != nil {
			return place, err
		}
	}
	err = s.withClient(ctx, "upload to "+s.objectURL(key), func(conn *connection) (err error) {
		place, err = s.replaceObject(ctx, conn, object, snap, s.opts.DatesForeign, func() error {
			if format.Kind == snapshot.Parquet {
				return s.uploadParquet(ctx, conn, snap, object)
			}
			return s.uploadRecords(ctx, conn, snap, object, format)
		})
		if err != nil || place == store.Current {
			return err
		}
		store.ReportPlacement(ctx, s.opts.Note, snap, cmp.Or(s.opts.Place, "s3: "+s.objectURL(key)), place)
		return snap.Verify(ctx)
	})
	return place, err
}

// uploadRecords uploads the records as JSON or NDJSON.
func (s *Sink) uploadRecords(ctx context.Context, conn *connection, snap *snapshot.Snapshot, object *s3.PutObjectInput, format snapshot.Format) error {
	// In JSON a comma and a newline replace the newline of each record.
	// Data that cannot be compressed grows by less than a thousandth.
	in := content{maxSize: snap.Bytes + snap.Records + snap.Bytes/1000 + 4096}
	if format.Compression == "" {
		in.minSize = snap.Bytes
		if s.opts.Repair && !s.opts.Exact {
			in.minSize /= 2 // U+FFFD is half as long as what it replaces
		}
	}
	if s.opts.Exact {
		in.write = func(w io.Writer) error { return snap.Encode(ctx, w, format) }
		return s.upload(ctx, conn, snap, object, in)
	}
	var escapes int64
	in.write = func(w io.Writer) (err error) {
		escapes, err = snap.EncodeForOthers(ctx, w, format, s.opts.Repair)
		return err
	}
	if err := s.upload(ctx, conn, snap, object, in); err != nil {
		return err
	}
	if text := snapshot.DescribeEscapes(escapes, s.opts.Repair); text != "" {
		s.passNote(snap, text)
	}
	return nil
}

// recordsSum returns the hexadecimal SHA-256 of the records as NDJSON.
func recordsSum(ctx context.Context, snap *snapshot.Snapshot) (string, error) {
	sum := sha256.New()
	if err := snap.Encode(ctx, sum, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// passNote passes a note on to Options.Note.
func (s *Sink) passNote(snap *snapshot.Snapshot, text string) {
	if s.opts.Note != nil {
		s.opts.Note(snap, text)
	}
}

// objectURL returns the name of an object for messages.
func (s *Sink) objectURL(key string) string { return "s3://" + s.opts.Bucket + "/" + key }

// uploadParquet uploads the snapshot's Parquet file.
func (s *Sink) uploadParquet(ctx context.Context, conn *connection, snap *snapshot.Snapshot, object *s3.PutObjectInput) (err error) {
	encoded, err := s.opts.Parquet(ctx, snap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, encoded.Close()) }()
	for _, note := range encoded.Notes() {
		s.passNote(snap, note)
	}
	return s.upload(ctx, conn, snap, object, content{minSize: encoded.Size(), maxSize: encoded.Size(), write: func(w io.Writer) error {
		_, err := encoded.WriteTo(w)
		return err
	}})
}

// describeObject returns the request that stores an object, without its body.
func (s *Sink) describeObject(key string, format snapshot.Format, info snapshot.Info) *s3.PutObjectInput {
	contentType := format.ContentType()
	switch format.Compression {
	case "gzip":
		contentType = "application/gzip"
	case "zstd":
		contentType = "application/zstd"
	}
	in := &s3.PutObjectInput{
		Bucket:               &s.opts.Bucket,
		Key:                  &key,
		ContentType:          &contentType,
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
	return in
}
