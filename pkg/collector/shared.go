package collector

import (
	"slices"
	"strings"
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

	of   *Shared  // what has the values of a view; nil for others
	keys []string // those that were used through this view
}

// View returns a Shared with the values of s, whose Keys are those that were used through it.
func (s *Shared) View() *Shared { return &Shared{of: s} }

// Keys returns the keys of a kind, with which they begin, of the values that were used through a
// view. Views that share a value have its key in common.
func (s *Shared) Keys(kind string) (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys {
		if strings.HasPrefix(key, kind+" ") {
			keys = append(keys, key)
		}
	}
	return keys
}

// root returns what has the values, and notes the key if s is a view.
func (s *Shared) root(key string) *Shared {
	if s == nil || s.of == nil {
		return s
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.keys, key) {
		s.keys = append(s.keys, key)
	}
	return s.of
}

// sharedValue returns the value, or nil if it was released.
type sharedValue func() any

// Share returns the value that another collector has shared under key, and otherwise
// shares own and returns it.
func Share[T any](s *Shared, key string, own *T) *T {
	if s = s.root(key); s == nil {
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
