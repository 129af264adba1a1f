package vendorsim

import (
	"bytes"
	"encoding/json"
	"iter"
)

// mustJSON returns v as JSON without escaping for HTML. Raw messages keep their
// bytes. It panics if v cannot be encoded.
func mustJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only values that cannot be JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// indexRange yields the numbers from, from+1, … to-1.
func indexRange(from, to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := from; i < to; i++ {
			if !yield(i) {
				return
			}
		}
	}
}
