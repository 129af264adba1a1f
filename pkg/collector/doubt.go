package collector

import "slices"

// maxDoubts bounds how many different doubts one extraction keeps.
const maxDoubts = 50

// A Doubt is a difference between what a vendor declared and what it returned
// that an extraction accepts, because a second look gave the same result or
// because the vendor's number is known to be inexact. The snapshot is
// complete as far as can be known, and the difference is shown to the
// operator.
type Doubt struct {
	// Text says what differs, such as "received fewer hosts than declared".
	// It has no numbers and no names of records: equal texts are one doubt.
	Text string `json:"text"`
	// Count is the number of records or other things that the text is about,
	// such as the number of missing hosts.
	Count int64 `json:"count"`
}

// AddDoubt adds count to the doubt with the given text. Doubts beyond the
// first 50 different ones are counted under the text "other doubts".
func (s *Stats) AddDoubt(text string, count int64) {
	if s == nil || count == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.doubts, func(d Doubt) bool { return d.Text == text })
	if at < 0 && len(s.doubts) >= maxDoubts {
		text = "other doubts"
		at = slices.IndexFunc(s.doubts, func(d Doubt) bool { return d.Text == text })
	}
	if at < 0 {
		s.doubts = append(s.doubts, Doubt{Text: text})
		at = len(s.doubts) - 1
	}
	s.doubts[at].Count += count
}

// Doubts returns the doubts so far, in the order in which they first occurred.
func (s *Stats) Doubts() []Doubt {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.doubts)
}
