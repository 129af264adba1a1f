package s3

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/collectord/collectord/pkg/snapshot"
)

// ObjectURL returns the URL of an object, or of the objects whose keys begin with key.
func (s *Sink) ObjectURL(key string) string { return s.objectURL(key) }

// PutFile stores the bytes of a file as an object, which appears whole or not at all. The
// file must not change meanwhile.
func (s *Sink) PutFile(ctx context.Context, key, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("s3: upload to %s: %w", s.objectURL(key), err)
	}
	return s.withClient(ctx, "upload to "+s.objectURL(key), func(conn *connection) error {
		object := s.describeObject(key, snapshot.Format{}, snapshot.Info{})
		object.Metadata, object.ContentType = nil, aws.String("application/octet-stream")
		return s.upload(ctx, conn, nil, object, content{minSize: info.Size(), maxSize: info.Size(), write: func(w io.Writer) error {
			return copyFile(w, path)
		}})
	})
}

// copyFile writes the bytes of a file to w.
func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Remove removes an object. A missing one is no error.
func (s *Sink) Remove(ctx context.Context, key string) error {
	return s.withClient(ctx, "remove "+s.objectURL(key), func(conn *connection) error {
		_, err := conn.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.opts.Bucket, Key: &key}, s.dialectOf(conn).withoutBody().applyTo)
		return err
	})
}

// List calls visit with the key, the size and the time of each object whose key begins with
// prefix, in the order of the keys, until visit returns an error. Header and sums are empty.
func (s *Sink) List(ctx context.Context, prefix string, visit func(Object) error) error {
	return s.withClient(ctx, "list "+s.objectURL(prefix), func(conn *connection) error {
		pages := s3.NewListObjectsV2Paginator(conn.client, &s3.ListObjectsV2Input{Bucket: &s.opts.Bucket, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx, s.dialectOf(conn).applyTo)
			if err != nil {
				return err
			}
			if err := visitAll(page.Contents, visit); err != nil {
				return err
			}
		}
		return nil
	})
}

// visitAll calls visit with each object of a page of a list.
func visitAll(page []types.Object, visit func(Object) error) error {
	for _, o := range page {
		err := visit(Object{Key: aws.ToString(o.Key), Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified), Records: -1})
		if err != nil {
			return err
		}
	}
	return nil
}
