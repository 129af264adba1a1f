package redact

import (
	"slices"
	"strings"
)

// A matcher finds spellings of secrets in texts, in which any of their characters may be
// escaped.
type matcher struct {
	byFirst [256][]string   // the spellings by their first byte
	pairs   [1 << 10]uint64 // a bit for each two bytes that begin a spelling
}

func newMatcher(spellings []string) *matcher {
	m := &matcher{}
	for _, spelling := range spellings {
		first := spelling[0]
		m.byFirst[first] = append(m.byFirst[first], spelling)
		if len(spelling) > 1 {
			m.addPair(first, spelling[1])
			continue
		}
		for second := range 256 { // anything may follow it
			m.addPair(first, byte(second))
		}
	}
	return m
}

// addPair notes two bytes that begin a spelling.
func (m *matcher) addPair(first, second byte) {
	pair := pairOf(first, second)
	m.pairs[pair>>6] |= 1 << (pair & 63)
}

func pairOf(first, second byte) uint16 { return uint16(first)<<8 | uint16(second) }

// A span is a part of a text: from its first byte to the one after its last.
type span struct{ from, to int }

// find returns where the spellings occur in a text, in the order of the text. Spans that
// overlap are joined.
func (m *matcher) find(text string) []span {
	var found []span
	for at := range len(text) {
		if !m.mayBegin(text, at) {
			continue
		}
		end := m.endAt(text, at, false)
		switch n := len(found); {
		case end < 0:
		case n > 0 && at < found[n-1].to:
			found[n-1].to = max(found[n-1].to, end)
		default:
			found = append(found, span{withEscape(text, at), end})
		}
	}
	return found
}

// findCut returns the first position at which a start of a spelling, of least bytes or more,
// begins that the end of the text cuts.
func (m *matcher) findCut(text string, least int) (from int, found bool) {
	for at := 0; at+least <= len(text); at++ {
		if m.mayBegin(text, at) && m.endAt(text, at, true) == len(text) {
			return withEscape(text, at), true
		}
	}
	return 0, false
}

// withEscape returns where a span begins that does not leave a half escape before it, such as
// the backslash of \n for a secret that begins with n, which would make JSON invalid.
func withEscape(text string, from int) int {
	before := text[:from]
	if (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1 {
		return from - 1
	}
	return from
}

// mayBegin reports whether a spelling may begin at a position of a text. It rules out nearly
// all positions of a text without secrets.
func (m *matcher) mayBegin(text string, at int) bool {
	if !beginsEscape(text[at]) {
		return m.mayContinue(text, text[at:at+1], at+1)
	}
	var buffer [8]unit
	for _, u := range unitsAt(buffer[:0], text, at) {
		if m.mayContinue(text, u.text, u.end) {
			return true
		}
	}
	return false
}

// mayContinue reports whether a spelling may begin with a start and go on at a position of a
// text.
func (m *matcher) mayContinue(text, start string, at int) bool {
	first := start[0]
	switch {
	case len(m.byFirst[first]) == 0:
		return false
	case len(start) > 1:
		return m.hasPair(first, start[1])
	case at == len(text):
		return true
	case !beginsEscape(text[at]):
		return m.hasPair(first, text[at])
	}
	var buffer [8]unit
	for _, u := range unitsAt(buffer[:0], text, at) {
		if m.hasPair(first, u.text[0]) {
			return true
		}
	}
	return false
}

// hasPair reports whether two bytes begin a spelling.
func (m *matcher) hasPair(first, second byte) bool {
	pair := pairOf(first, second)
	return m.pairs[pair>>6]>>(pair&63)&1 == 1
}

// endAt returns the end of the longest spelling that begins at a position of a text; -1 for
// none. The end of the text may cut the spelling when cut is true.
func (m *matcher) endAt(text string, at int, cut bool) int {
	if !beginsEscape(text[at]) {
		return endOfAny(m.byFirst[text[at]], text, at, cut)
	}
	var buffer [8]unit
	end := -1
	for _, u := range unitsAt(buffer[:0], text, at) {
		end = max(end, endOfAny(m.byFirst[u.text[0]], text, at, cut))
	}
	return end
}

func endOfAny(spellings []string, text string, at int, cut bool) int {
	end := -1
	for _, spelling := range spellings {
		end = max(end, endOf(spelling, text, at, cut))
	}
	return end
}

// A head is how far a spelling was found: up to a position of the text, so many of its bytes.
type head struct{ at, done int }

// endOf returns the end of a spelling that begins at a position of a text; -1 if none does.
// The longest of several ways to read its escapes counts.
func endOf(spelling, text string, at int, cut bool) int {
	end := -1
	var headBuffer [8]head
	var unitBuffer [8]unit
	heads := append(headBuffer[:0], skipPlain(head{at, 0}, spelling, text))
	for len(heads) > 0 {
		var h head
		h, heads = takeLast(heads)
		switch {
		case h.done == len(spelling):
			end = max(end, h.at)
			continue
		case h.at == len(text):
			if cut {
				return h.at
			}
			continue
		case !beginsEscape(text[h.at]):
			continue
		case cut && h.done > 0 && isCutEscape(text[h.at:]):
			return len(text)
		}
		for _, u := range unitsAt(unitBuffer[:0], text, h.at) {
			if !strings.HasPrefix(spelling[h.done:], u.text) {
				continue
			}
			next := skipPlain(head{u.end, h.done + len(u.text)}, spelling, text)
			if !slices.Contains(heads, next) {
				heads = append(heads, next)
			}
		}
	}
	return end
}

// takeLast takes the head out of the list that is furthest behind, so that ways which meet
// again are followed once: else their number would double each time.
func takeLast(heads []head) (last head, others []head) {
	at := 0
	for i, h := range heads {
		if h.done < heads[at].done {
			at = i
		}
	}
	last, end := heads[at], len(heads)-1
	heads[at] = heads[end]
	return last, heads[:end]
}

// skipPlain returns how far a spelling goes on without escapes.
func skipPlain(h head, spelling, text string) head {
	for h.done < len(spelling) && h.at < len(text) && text[h.at] == spelling[h.done] && !beginsEscape(text[h.at]) {
		h.at++
		h.done++
	}
	return h
}

// isCutEscape reports whether a text, which begins as an escape does, may be the start of one
// that was cut.
func isCutEscape(text string) bool {
	const longest = 12 // as \ud83d\ude0
	return len(text) < longest && text[0] != '+' && !strings.ContainsFunc(text[1:], func(c rune) bool {
		return isMark(byte(c)) && !strings.ContainsRune(`%&\#`, c) || c < ' ' || c > '~'
	})
}
