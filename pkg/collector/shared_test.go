package collector

import (
	"runtime"
	"testing"
)

func TestShare(t *testing.T) {
	type token struct{ text string }
	type limiter struct{ name string }
	var shared Shared
	first, second := &token{"first"}, &token{"second"}
	if got := Share(&shared, "a", first); got != first {
		t.Errorf("the first value under a key: got %v, want it", got)
	}
	if got := Share(&shared, "a", second); got != first {
		t.Errorf("the second value under a key: got %v, want the first", got)
	}
	if got := Share(&shared, "b", second); got != second {
		t.Errorf("another key: got %v, want its own value", got)
	}
	if other := (&limiter{"x"}); Share(&shared, "limiter", other) != other {
		t.Error("a value of another type is not shared under its key")
	}
	if got := Share(nil, "a", second); got != second {
		t.Errorf("without Shared: got %v, want the own value", got)
	}
	runtime.KeepAlive(first)
}

// TestSharedValuesAreReleased: a value that no one uses is released, so that a key
// can have another.
func TestSharedValuesAreReleased(t *testing.T) {
	type token struct{ text string }
	var shared Shared
	Share(&shared, "old", &token{"old"})
	for shared.values["old"]() != nil {
		runtime.GC()
	}
	own := &token{"new"}
	if got := Share(&shared, "new", own); got != own {
		t.Errorf("got %v, want the own value", got)
	}
	if len(shared.values) != 1 {
		t.Errorf("%d keys, want 1: the released one is removed", len(shared.values))
	}
}
