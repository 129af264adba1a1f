package collector

import (
	"sync"
	"weak"
)

// Shared holds what several collectors of a process use together, such as the token
// and the rate limits of one credential. It does not keep a value alive: one that no
// collector uses any more, such as the token of a credential that was replaced, is
// released. The methods of a nil *Shared share nothing.
type Shared struct {
	mu     sync.Mutex
	values map[string]sharedValue
}

// sharedValue returns the value, or nil if it was released.
type sharedValue func() any

// Share returns the value that another collector has shared under key, and otherwise
// shares own and returns it.
func Share[T any](s *Shared, key string, own *T) *T {
	if s == nil {
		return own
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if get, ok := s.values[key]; ok {
		if value, ok := get().(*T); ok {
			return value
		}
	}
	s.dropReleased()
	if s.values == nil {
		s.values = map[string]sharedValue{}
	}
	pointer := weak.Make(own)
	s.values[key] = func() any {
		if value := pointer.Value(); value != nil {
			return value
		}
		return nil
	}
	return own
}

// dropReleased removes the keys of values that were released.
func (s *Shared) dropReleased() {
	for key, get := range s.values {
		if get() == nil {
			delete(s.values, key)
		}
	}
}
