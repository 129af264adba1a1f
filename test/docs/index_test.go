package docs_test

import (
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/markdown"
)

// TestIndexListsEveryDocument checks that docs/README.md links every document
// below docs.
func TestIndexListsEveryDocument(t *testing.T) {
	const index = "docs/README.md"
	linked := map[string]bool{}
	text := strings.Join(markdown.Read(t, index).Prose, "\n")
	for _, link := range regexp.MustCompile(`\]\(([^)#]+\.md)\)`).FindAllStringSubmatch(text, -1) {
		linked[path.Join("docs", link[1])] = true
	}
	for _, document := range markdown.ReadAll(t) {
		if strings.HasPrefix(document.Path, "docs/") && document.Path != index && !linked[document.Path] {
			t.Errorf("%s does not link %s", index, document.Path)
		}
	}
}
