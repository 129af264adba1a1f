package s3

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Check reports whether the bucket exists and accepts objects. It begins an
// upload, sends a part and aborts it, which readers do not see. HeadBucket alone
// needs the permission to list, which a writer may not have, and does not show
// whether objects can be written.
func (s *Sink) Check(ctx context.Context) error {
	key := s.opts.Key(snapshot.Header{Collector: "collectord", Stream: "collectord_check", Tenancy: "check",
		UploadID: "00000000-0000-0000-0000-000000000000", UploadTimestamp: time.Unix(0, 0).UTC()})
	if _, err := snapshot.FormatOf(key); err != nil {
		return fmt.Errorf("s3: key: %w: %w", store.ErrRefused, err)
	}
	return s.withClient(ctx, "check bucket "+s.opts.Bucket, func(conn *connection) error {
		if _, err := conn.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.opts.Bucket}, s.dialectOf(conn).applyTo); err != nil && !isForbidden(err) {
			return err
		}
		object := s.describeObject(key, snapshot.Format{Kind: snapshot.JSON}, snapshot.Info{})
		w := &partWriter{ctx: ctx, sink: s, conn: conn, object: object}
		if err := w.createUpload(); err != nil {
			return err
		}
		defer w.abortUpload()
		_, err := w.uploadPart(1, part{bytes: []byte("[]\n")})
		return err
	})
}

// Description names the server of the last Check and what it accepts, such as
// "MinIO: path style, ACL bucket-owner-full-control, no checksums". It is "" when
// no server has responded.
func (s *Sink) Description() string {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return ""
	}
	name := cmp.Or(providerOf(conn.client.Options()).name, conn.server.name(), "an unknown server")
	return name + ": " + s.dialectOf(conn).describe()
}
