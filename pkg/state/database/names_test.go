package database

import (
	"strings"
	"testing"
	"time"
)

func TestFileName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	long := strings.Repeat("ü", 300)
	for _, text := range []string{"", ".", "..", "a/b", "a%2Fb", "a b", "a+b", "A", "a", "~", "a~restored", "a.b", long, long + "x", "\x00", "ü"} {
		name := FileName(text)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %q", text, other, name)
		}
		seen[name] = text
		if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' || len(name) > 110 || strings.HasSuffix(name, RestoredSuffix) {
			t.Errorf("%q: %q", text, name)
		}
	}
}

func TestInstants(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	if none := toMillis(time.Time{}); none != 0 || !fromMillis(none).IsZero() {
		t.Errorf("the zero time is %d, and %s", none, fromMillis(none))
	}
	if got := fromMillis(toMillis(day)); got != day {
		t.Errorf("%s becomes %s", day, got)
	}
}

func TestTruncateText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"unchanged": "unchanged", "a\x00b": "ab", "a\xffb": "a\ufffdb"} {
		if got := TruncateText(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := TruncateText(strings.Repeat("ü", 8<<10)); len(got) > 8<<10+6 || !strings.HasSuffix(got, "ü (cut)") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-10:])
	}
}
