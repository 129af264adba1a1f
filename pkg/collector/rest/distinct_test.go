package rest

import (
	"errors"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/collector"
)

func TestDistinctKeepsTheFirst(t *testing.T) {
	var out Gathered
	d := NewDistinct(&out, func(record []byte) (string, error) {
		key, _, _ := strings.Cut(string(record), " ")
		if key == "" {
			return "", errors.New("no key")
		}
		return key, nil
	})
	fill := func(records ...string) collector.Page {
		t.Helper()
		page := d.Page()
		for _, r := range records {
			if err := page.Append([]byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		return page
	}
	fill("a lost", "b lost").Discard() // a page that was cut and is asked for again
	for _, page := range [][]string{{"a 1", "b 1", "a 2"}, {"b 2", "c 1"}} {
		if err := fill(page...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if got := gathered(&out); got != "a 1,b 1,c 1" || d.Dropped() != 2 {
		t.Errorf("kept %q and dropped %d, want a 1,b 1,c 1 and 2", got, d.Dropped())
	}
	if err := d.Page().Append(nil); err == nil {
		t.Error("a record without a key was taken")
	}
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := fill("a 3").Commit(); err != nil || gathered(&out) != "a 3" || d.Dropped() != 0 {
		t.Errorf("after Reset: %q, %d dropped, %v", gathered(&out), d.Dropped(), err)
	}
}

func gathered(g *Gathered) string {
	var all []string
	for _, r := range g.Records() {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}
