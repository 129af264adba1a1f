package rest

// A TotalRange is the range between the first and the last total that a vendor
// declared while records were read. Records that were added or removed
// meanwhile may be included or not. The zero value is a range before any total.
type TotalRange struct {
	first, last int64
	known       bool
}

// AddTotal adds a total that the vendor has declared.
func (t *TotalRange) AddTotal(total int64) {
	if !t.known {
		t.first = total
	}
	t.last, t.known = total, true
}

// Known reports whether the vendor has declared a total.
func (t TotalRange) Known() bool { return t.known }

// Least returns the smaller one of the first and the last total; 0 if there is
// none.
func (t TotalRange) Least() int64 { return min(t.first, t.last) }

// Most returns the larger one of the first and the last total; 0 if there is
// none.
func (t TotalRange) Most() int64 { return max(t.first, t.last) }

// Difference returns how many records received is above the range, as a
// negative number if it is below.
func (t TotalRange) Difference(received int64) int64 {
	return received - min(max(received, t.Least()), t.Most())
}
