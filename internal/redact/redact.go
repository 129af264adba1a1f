// Package redact hides secrets in texts by their values. It is the last line of
// defence: no part of the program prints a secret, but a vendor's response or a
// library's error may contain one.
package redact

import (
	"cmp"
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
	spellings []string          // of all known secrets, the longest first
	any       *strings.Replacer // finds whether a text contains one of them
}

// NewSet returns a set of secrets. It ignores secrets of fewer than least bytes,
// which occur in any text by chance.
func NewSet(least int, secrets ...string) *Set {
	s := &Set{least: max(least, 1), known: map[string]bool{}, any: strings.NewReplacer()}
	s.Learn(secrets...)
	return s
}

// Learn adds secrets to the set. Those that it knows stay hidden.
func (s *Set) Learn(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.spellings) // Redact reads the slice without the lock
	for _, secret := range secrets {
		if len(secret) < s.least || s.known[secret] {
			continue
		}
		s.known[secret] = true
		all = append(all, spellingsOf(secret)...)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
	all = slices.Compact(all)
	var pairs []string
	for _, spelling := range all {
		pairs = append(pairs, spelling, "")
	}
	s.spellings, s.any = all, strings.NewReplacer(pairs...)
}

// Redact returns the text with Hidden in the place of each secret, in whichever
// spelling it occurs, and of the start of a secret before CutMark. Secrets that
// overlap are hidden together.
func (s *Set) Redact(text string) string {
	s.mu.RLock()
	spellings, quick, least := s.spellings, s.any, s.least
	s.mu.RUnlock()
	if quick.Replace(text) != text {
		text = hideSpans(text, findSpans(text, spellings))
	}
	if strings.Contains(text, CutMark) {
		text = hideCut(text, spellings, least)
	}
	return text
}

// A span is a part of a text: from its first byte to the one after its last.
type span struct{ from, to int }

// findSpans returns where the spellings occur in a text, in the order of the
// text. Spans that overlap are joined.
func findSpans(text string, spellings []string) []span {
	var found []span
	for _, spelling := range spellings {
		for from := 0; ; {
			i := strings.Index(text[from:], spelling)
			if i < 0 {
				break
			}
			from += i
			found = append(found, span{from, from + len(spelling)})
			from++
		}
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	var joined []span
	for _, next := range found {
		if n := len(joined); n > 0 && next.from < joined[n-1].to {
			joined[n-1].to = max(joined[n-1].to, next.to)
			continue
		}
		joined = append(joined, next)
	}
	return joined
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
func hideCut(text string, spellings []string, least int) string {
	var clean strings.Builder
	for {
		before, after, found := strings.Cut(text, CutMark)
		if !found {
			clean.WriteString(text)
			return clean.String()
		}
		longest := 0
		for _, spelling := range spellings {
			longest = max(longest, cutLength(before, spelling, max(least, longest+1)))
		}
		if longest > 0 {
			before = before[:len(before)-longest] + Hidden
		}
		clean.WriteString(before)
		clean.WriteString(CutMark)
		text = after
	}
}

// cutLength returns the length of the longest start of the spelling, of least
// bytes or more, at the end of the text; 0 if there is none.
func cutLength(text, spelling string, least int) int {
	for n := min(len(spelling), len(text)); n >= least; n-- {
		if strings.HasSuffix(text, spelling[:n]) {
			return n
		}
	}
	return 0
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
