package vendorsim_test

import (
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
)

func TestAppendUnix(t *testing.T) {
	for sec := int64(-3_000_000_000); sec < 6_000_000_000; sec += 7_654_321 {
		want := time.Unix(sec, 0).UTC().Format(vendorsim.LayoutSeconds)
		if got := string(vendorsim.AppendUnix(nil, sec, "Z")); got != want {
			t.Fatalf("%d: %s, want %s", sec, got, want)
		}
	}
}

func TestAppendUUID(t *testing.T) {
	if got := string(vendorsim.AppendUUID(nil, 0x0123456789abcdef)); len(got) != 36 || got[14] != '4' || got[:13] != "01234567-89ab" {
		t.Errorf("%s is not a version 4 UUID", got)
	}
}
