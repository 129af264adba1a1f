// Package redact hides secrets in texts by their values. It is the last line of
// defence: no part of the program prints a secret, but a vendor's response or a
// library's error may contain one.
package redact

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
)

const (
	// Hidden is the text in the place of a secret.
	Hidden = "[redacted]"
	// CutMark is the end of a text that was cut. The start of a secret before it
	// is hidden as well.
	CutMark = "…"
)

// A Set hides the secrets that it knows. Its methods are safe for concurrent
// use. The zero value cannot be used; NewSet returns one that can.
type Set struct {
	least int

	mu        sync.RWMutex
	known     map[string]bool
	spellings []string // of all known secrets
	matcher   *matcher // finds them
}

// NewSet returns a set of secrets. It ignores secrets of fewer than least bytes,
// which occur in any text by chance.
func NewSet(least int, secrets ...string) *Set {
	s := &Set{least: max(least, 1), known: map[string]bool{}, matcher: newMatcher(nil)}
	s.Learn(secrets...)
	return s
}

// Learn adds secrets to the set. Those that it knows stay hidden.
func (s *Set) Learn(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.spellings) // the matcher reads the slice without the lock
	for _, secret := range secrets {
		if len(secret) < s.least || s.known[secret] {
			continue
		}
		s.known[secret] = true
		all = append(all, spellingsOf(secret)...)
	}
	slices.Sort(all)
	s.spellings = slices.Compact(all)
	s.matcher = newMatcher(s.spellings)
}

// Redact returns the text with Hidden in the place of each secret, in whichever
// spelling it occurs and however its characters are escaped, and of the start of a secret before CutMark. Secrets that
// overlap are hidden together.
func (s *Set) Redact(text string) string {
	s.mu.RLock()
	m, least := s.matcher, s.least
	s.mu.RUnlock()
	if spans := m.find(text); len(spans) > 0 {
		text = hideSpans(text, spans)
	}
	if strings.Contains(text, CutMark) {
		text = hideCut(text, m, least)
	}
	return text
}

// hideSpans returns the text with Hidden in the place of each span.
func hideSpans(text string, spans []span) string {
	var clean strings.Builder
	end := 0
	for _, s := range spans {
		clean.WriteString(text[end:s.from])
		clean.WriteString(Hidden)
		end = s.to
	}
	clean.WriteString(text[end:])
	return clean.String()
}

// hideCut hides the longest start of a spelling, of least bytes or more, before
// each CutMark.
func hideCut(text string, m *matcher, least int) string {
	var clean strings.Builder
	for {
		before, after, found := strings.Cut(text, CutMark)
		if !found {
			clean.WriteString(text)
			return clean.String()
		}
		if from, found := m.findCut(before, least); found {
			before = before[:from] + Hidden
		}
		clean.WriteString(before)
		clean.WriteString(CutMark)
		text = after
	}
}

// Error returns err with a text that contains no secret. [errors.Is] and
// [errors.As] find the same as in err. It returns err itself if its text
// contains no secret.
func (s *Set) Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := s.Redact(text); clean != text {
		return &cleanError{text: clean, err: err}
	}
	return err
}

// cleanError is an error with a clean text.
type cleanError struct {
	text string
	err  error
}

func (e *cleanError) Error() string { return e.text }

// Is and As look into the chain. There is no Unwrap, since a caller that follows
// the chain could print the texts that are hidden here.
func (e *cleanError) Is(target error) bool { return errors.Is(e.err, target) }
func (e *cleanError) As(target any) bool   { return errors.As(e.err, target) }

// Writer returns a writer that hides secrets in what is written to w. It hides
// them in each write separately: callers write whole lines.
func (s *Set) Writer(w io.Writer) io.Writer { return &writer{to: w, set: s} }

type writer struct {
	mu  sync.Mutex
	to  io.Writer
	set *Set
}

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := io.Copy(w.to, strings.NewReader(w.set.Redact(string(p)))); err != nil {
		return 0, err
	}
	return len(p), nil
}
