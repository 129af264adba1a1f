package storetest

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// DocumentedSQL returns the blocks of that kind in docs/guide/destinations.md.
func DocumentedSQL(t *testing.T, kind string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "guide", "destinations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```sql "+kind+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("no block of kind %s", kind)
	}
	return blocks
}
