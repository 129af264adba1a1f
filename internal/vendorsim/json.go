package vendorsim

import (
	"bytes"
	"encoding/json"
	"iter"
)

// mustJSON renders a value of the package's own making. Raw messages keep
// their bytes, and nothing is escaped for HTML.
func mustJSON(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only values that cannot be JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// span yields the numbers from, from+1, … to-1.
func span(from, to int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := from; i < to; i++ {
			if !yield(i) {
				return
			}
		}
	}
}
