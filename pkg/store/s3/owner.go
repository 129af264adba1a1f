package s3

import (
	"errors"
	"fmt"
	"net/http"
	"sync"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

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
