package rest

import (
	"errors"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

func TestDistinctKeepsTheFirst(t *testing.T) {
	var out MemoryOutput
	d := NewDistinct(&out, func(record []byte) (string, error) {
		key, _, _ := strings.Cut(string(record), " ")
		if key == "" {
			return "", errors.New("no key")
		}
		return key, nil
	})
	fill := func(records ...string) collector.Batch {
		t.Helper()
		batch := d.NewBatch()
		for _, r := range records {
			if err := batch.Append([]byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		return batch
	}
	fill("a lost", "b lost").Discard() // a page that was incomplete and is requested again
	for _, page := range [][]string{{"a 1", "b 1", "a 2"}, {"b 2", "c 1"}} {
		if err := fill(page...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got := recordTexts(&out); got != "a 1,b 1,c 1" || d.Dropped() != 2 {
		t.Errorf("kept %q and dropped %d, want a 1,b 1,c 1 and 2", got, d.Dropped())
	}
	if err := d.NewBatch().Append(nil); err == nil {
		t.Error("a record without a key was accepted")
	}
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := fill("a 3").Commit(); err != nil || recordTexts(&out) != "a 3" || d.Dropped() != 0 {
		t.Errorf("after Reset: %q, %d dropped, %v", recordTexts(&out), d.Dropped(), err)
	}
}
