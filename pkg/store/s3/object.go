package s3

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/collectord/collectord/pkg/snapshot"
)

// An Object describes an object in S3. If another program stored it, Header and
// the sums are empty and Records is -1.
type Object struct {
	Key      string
	Size     int64
	ETag     string
	Modified time.Time
	snapshot.Header
	Records int64
	// SnapshotSHA256 is the sum in the snapshot's manifest. It is not that of
	// the object's bytes.
	SnapshotSHA256 string
	// RecordsSHA256 is the sum of the records as NDJSON; "" if the object was
	// stored without Options.Sum.
	RecordsSHA256 string
	// seen is the time by the server's clock when it described the object.
	seen time.Time
}

// IsSnapshot reports whether collectord stored the object from a snapshot.
func (o Object) IsSnapshot() bool { return o.Records >= 0 && !o.UploadTimestamp.IsZero() }

// IsOf reports whether the object may be that of the stream and tenancy of h: it
// says so, or does not say whose it is.
func (o Object) IsOf(h snapshot.Header) bool {
	return (o.Stream == "" || o.Stream == h.Stream) && (o.Tenancy == "" || o.Tenancy == h.Tenancy)
}

// Stat describes an object without reading it, so that archived objects and those
// whose key is disabled can be described, too. The errors are those of Get.
func (s *Sink) Stat(ctx context.Context, key string) (o Object, err error) {
	err = s.withClient(ctx, "look up "+s.objectURL(key), func(conn *connection) error {
		o, err = s.headObject(ctx, conn, key)
		if statusOf(err) != http.StatusNotFound {
			return err
		}
		// The response has no body that says what is missing.
		_, missing := conn.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.opts.Bucket}, s.dialectOf(conn).applyTo)
		if statusOf(missing) == http.StatusNotFound {
			return missing
		}
		return &types.NoSuchKey{}
	})
	return o, err
}

// headObject describes an object by one HEAD request.
func (s *Sink) headObject(ctx context.Context, conn *connection, key string) (Object, error) {
	out, err := conn.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.opts.Bucket, Key: &key}, s.dialectOf(conn).applyTo)
	if err != nil {
		return Object{}, err
	}
	o := describeResponse(key, out.ContentLength, out.ETag, out.LastModified, out.Metadata)
	var dated bool
	if o.seen, dated = middleware.GetServerTime(out.ResultMetadata); !dated {
		o.seen = time.Now()
	}
	return o, nil
}

// PutBeside stores a small JSON text about a snapshot as another object, unless that has
// one about a newer snapshot, as Write does.
func (s *Sink) PutBeside(ctx context.Context, key string, snap *snapshot.Snapshot, text []byte) error {
	return s.withClient(ctx, "upload to "+s.objectURL(key), func(conn *connection) error {
		object := s.describeObject(key, snapshot.Format{Kind: snapshot.JSON}, snap.Info)
		delete(object.Metadata, metaSum)
		size := int64(len(text))
		_, err := s.replaceObject(ctx, conn, object, snap, false, func() error {
			return s.upload(ctx, conn, snap, object, content{minSize: size, maxSize: size, write: func(w io.Writer) error {
				_, err := w.Write(text)
				return err
			}})
		})
		return err
	})
}

// Get opens an object. The error wraps fs.ErrNotExist when there is none; if
// the role may not list the bucket, S3 responds AccessDenied instead. A transfer
// that ends early or stalls is continued; if that fails, Read returns an error.
// ctx must live until the body is closed.
func (s *Sink) Get(ctx context.Context, key string) (io.ReadCloser, Object, error) {
	t := &transfer{ctx: ctx, sink: s, key: key}
	if err := t.begin(); err != nil {
		return nil, Object{}, err
	}
	return t, t.object, nil
}

// describeResponse returns the description of an object from a response.
func describeResponse(key string, size *int64, etag *string, modified *time.Time, metadata map[string]string) Object {
	text := func(name string) string {
		value, err := url.PathUnescape(metadata[name])
		if err != nil {
			return metadata[name]
		}
		return value
	}
	o := Object{
		Key: key, Size: aws.ToInt64(size), ETag: aws.ToString(etag), Modified: aws.ToTime(modified),
		Header:         snapshot.Header{Stream: text(metaStream), Tenancy: text(metaTenancy), UploadID: text(metaUploadID)},
		Records:        -1,
		SnapshotSHA256: metadata[metaSum],
		RecordsSHA256:  metadata[metaRecordsSum],
	}
	if t, err := time.Parse(time.RFC3339, metadata[metaTimestamp]); err == nil {
		o.UploadTimestamp = t
	}
	if n, err := strconv.ParseInt(metadata[metaRecords], 10, 64); err == nil {
		o.Records = n
	}
	return o
}
