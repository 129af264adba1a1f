package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// maxLooks bounds how often an upload looks at the object that it replaces.
const maxLooks = 4

// errReplaced means that the object of the key is not the one that was looked up.
var errReplaced = errors.New("the object was replaced while a snapshot was written")

// replaceObject stores object, whose key may have one already, by calling upload. It
// returns the placement of snap by the rule of time; only if that is store.Current, the
// object is stored. It returns an error if the existing one is of another stream or
// tenancy. With datesForeign an object that another program stored was taken when it was
// stored; otherwise a snapshot of any age replaces it.
//
// The existing object is compared once, before the upload, and the request that makes
// the new one appear has the condition that it is still that one. So a process that was
// suspended for long in between, while another one has stored a newer snapshot, does not
// replace that. If the condition does not hold, replaceObject looks again.
func (s *Sink) replaceObject(ctx context.Context, conn *connection, object *s3.PutObjectInput, snap *snapshot.Snapshot, datesForeign bool, upload func() error) (store.Placement, error) {
	if s.opts.SkipLookup {
		return store.Current, upload()
	}
	var failed error
	for look := range maxLooks {
		existing, err := s.lookUp(ctx, conn, *object.Key, snap)
		if err != nil {
			return store.Current, err
		}
		if look > 0 {
			if existing != nil && existing.UploadID == snap.UploadID {
				return store.Current, nil // an attempt stored it whose response was lost
			}
			s.noteFalseRefusal(object, existing, failed, snap)
		}
		if place := placeOver(existing, snap, datesForeign); place != store.Current {
			return place, nil
		}
		requireUnchanged(object, existing)
		if failed = upload(); !isReplaced(object, failed) {
			return store.Current, failed
		}
	}
	return store.Current, failed
}

// lookUp describes the object that snap would replace; nil if there is none, and an
// object without a key if that cannot be found out. Such a one is replaced, which is
// noted: a role may be allowed to write and nothing else, and an object that cannot be
// read any more must not prevent new ones. It returns an error if the object is of
// another stream or tenancy.
func (s *Sink) lookUp(ctx context.Context, conn *connection, key string, snap *snapshot.Snapshot) (*Object, error) {
	existing, err := s.headObject(ctx, conn, key)
	switch {
	case err == nil:
		return &existing, s.CheckOwner(existing, snap.Header)
	case statusOf(err) == http.StatusNotFound:
		return nil, nil
	case IsUnavailable(err), regionOf(err) != "", ctx.Err() != nil:
		return nil, err
	}
	s.noteOnce(snap, fmt.Sprintf("s3: objects in %s cannot be looked up before they are replaced (status %d), so a newer one, or one of another tenancy, would not be noticed; grant s3:GetObject and s3:ListBucket",
		s.opts.Bucket, statusOf(err)))
	return &Object{}, nil
}

// placeOver returns the placement of snap where existing is, by the rule of time and the
// server's clock: that of a machine that was suspended may be behind.
func placeOver(existing *Object, snap *snapshot.Snapshot, datesForeign bool) store.Placement {
	if existing == nil || existing.Key == "" {
		return store.Current
	}
	switch {
	case existing.IsSnapshot():
		return store.PlaceIncoming(existing.UploadTimestamp, snap.UploadTimestamp, existing.seen)
	case datesForeign:
		return store.PlaceIncoming(existing.Modified, snap.UploadTimestamp, existing.seen)
	}
	return store.Current
}

// requireUnchanged sets the conditions of the request that stores object: existing is
// still there, or nothing is. Where that is not known there are none.
func requireUnchanged(object *s3.PutObjectInput, existing *Object) {
	object.IfMatch, object.IfNoneMatch = nil, nil
	switch {
	case existing == nil:
		object.IfNoneMatch = aws.String("*")
	case existing.ETag != "":
		object.IfMatch = &existing.ETag
	}
}

// isReplaced reports whether err means that the conditions of object did not hold.
func isReplaced(object *s3.PutObjectInput, err error) bool {
	if err == nil || object.IfMatch == nil && object.IfNoneMatch == nil {
		return false
	}
	switch codeOf(err) {
	case "ConditionalRequestConflict": // another write was in progress
		return true
	case "NoSuchUpload": // another writer has aborted it, or the response to its end was lost
		return true
	case "NoSuchKey": // it was removed
		return object.IfMatch != nil
	}
	return isPreconditionFailed(err) || errors.Is(err, errReplaced)
}

// isPreconditionFailed reports whether the conditions of a request did not hold. The
// response to CompleteMultipartUpload may have begun with the status 200.
func isPreconditionFailed(err error) bool {
	return statusOf(err) == http.StatusPreconditionFailed || codeOf(err) == "PreconditionFailed"
}

// noteFalseRefusal gives up the conditions if a request was refused because of them and
// they hold: the server compares otherwise, such as by a tag that it encodes differently.
func (s *Sink) noteFalseRefusal(object *s3.PutObjectInput, existing *Object, err error, snap *snapshot.Snapshot) {
	again := *object
	requireUnchanged(&again, existing)
	same := aws.ToString(again.IfMatch) == aws.ToString(object.IfMatch) && aws.ToString(again.IfNoneMatch) == aws.ToString(object.IfNoneMatch)
	if isPreconditionFailed(err) && same {
		s.lessons.forgoConditions()
		s.noteOnce(snap, expandNote(blindNote, s.opts.Bucket))
	}
}

// checkUnchanged compares the object of the key with the conditions of object. It is for
// servers without conditional writes.
func (s *Sink) checkUnchanged(ctx context.Context, conn *connection, object *s3.PutObjectInput) error {
	existing, err := s.headObject(ctx, conn, *object.Key)
	switch {
	case err == nil && object.IfMatch != nil && existing.ETag == *object.IfMatch:
		return nil
	case statusOf(err) == http.StatusNotFound && object.IfNoneMatch != nil:
		return nil
	case err == nil, statusOf(err) == http.StatusNotFound:
		return errReplaced
	}
	return err
}
