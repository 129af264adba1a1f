package snapshot

import (
	"fmt"
	"strings"
)

// A Doubt is something about the data that the extraction accepted, such as a
// difference between what the vendor declared and what it returned.
type Doubt struct {
	// Text says what differs, such as "received fewer hosts than declared".
	Text string `json:"text"`
	// Count is the number of records or other things that the text is about.
	Count int64 `json:"count"`
}

// Doubts are the doubts of one extraction, in the order in which they first
// occurred.
type Doubts []Doubt

// Total returns the sum of the counts.
func (d Doubts) Total() (n int64) {
	for _, one := range d {
		n += one.Count
	}
	return n
}

// String returns the doubts on one line, each with its count in parentheses: "received
// fewer hosts than declared (3)". It returns "" when there are none.
func (d Doubts) String() string {
	var texts []string
	for _, one := range d {
		texts = append(texts, fmt.Sprintf("%s (%d)", one.Text, one.Count))
	}
	return strings.Join(texts, "; ")
}
