package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// placeObject returns the placement of snap by the rule of time: store.Current if it
// may replace the object of its key. It returns an error if that object is of
// another stream or tenancy. An object that cannot be looked up is replaced with a
// note: a role may be allowed to write and nothing else.
func (s *Sink) placeObject(ctx context.Context, conn *connection, key string, snap *snapshot.Snapshot) (store.Placement, error) {
	if s.opts.SkipLookup {
		return store.Current, nil
	}
	existing, err := s.headObject(ctx, conn, key)
	switch {
	case err == nil:
		if err := s.CheckOwner(existing, snap.Header); err != nil || !existing.IsSnapshot() {
			return store.Current, err
		}
		return store.PlaceIncoming(existing.UploadTimestamp, snap.UploadTimestamp, time.Now()), nil
	case statusOf(err) == http.StatusNotFound:
		return store.Current, nil
	case IsUnavailable(err), regionOf(err) != "", ctx.Err() != nil:
		return store.Current, err
	}
	s.noteOnce(snap, fmt.Sprintf("s3: objects in %s cannot be looked up before they are replaced (status %d), so a newer one, or one of another tenancy, would not be noticed; grant s3:GetObject and s3:ListBucket",
		s.opts.Bucket, statusOf(err)))
	return store.Current, nil
}

// CheckOwner returns an error that wraps store.ErrRefused if an object is of
// another stream or tenancy than h.
func (s *Sink) CheckOwner(existing Object, h snapshot.Header) error {
	if existing.IsOf(h) {
		return nil
	}
	of := fmt.Sprintf("stream %q", existing.Stream)
	if existing.Tenancy != "" && existing.Tenancy != h.Tenancy { // those who see h may not know it
		of = "another tenancy"
	}
	return fmt.Errorf("%w: the object is of %s, and is not replaced by stream %q of %q: put %%TAG and %%TENANCY into %s, or remove the object",
		store.ErrRefused, of, h.Stream, h.Tenancy, s.opts.Setting)
}

// IsUnavailable reports whether S3 did not respond, or not now, so that a request
// says nothing about its object.
func IsUnavailable(err error) bool {
	var unsent *smithyhttp.RequestSendError
	status := statusOf(err)
	return errors.As(err, &unsent) || status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// maxKeys bounds a keySet. A destination with fixed keys has fewer.
const maxKeys = 1000

// A keySet is a set of keys that forgets all of them when it is full.
type keySet struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (k *keySet) has(key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[key]
}

func (k *keySet) addKey(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) >= maxKeys || k.keys == nil {
		k.keys = map[string]bool{}
	}
	k.keys[key] = true
}
