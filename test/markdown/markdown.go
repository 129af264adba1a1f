// Package markdown reads the documents of the repository for tests.
package markdown

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/collectord/collectord/test/checkout"
)

// A Document is a Markdown file of the repository.
type Document struct {
	Path   string   // from the repository's directory, with slashes
	Prose  []string // the lines, empty where they belong to a block
	Blocks []Block
}

// A Block is a fenced block of code in a document.
type Block struct {
	Kind string // the text after the opening fence
	Line int    // the number of the opening fence's line
	Text string
}

// ReadAll reads all documents of the repository.
func ReadAll(t *testing.T) []*Document {
	t.Helper()
	var all []*Document
	err := filepath.WalkDir(checkout.Join(t), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "bin" || name == "data" || name == "dist" || name == "testdata" || name == ".git") {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, ".md") {
			all = append(all, readFile(t, path))
		}
		return nil
	})
	if err != nil || len(all) < 15 {
		t.Fatalf("%d documents: %v", len(all), err)
	}
	return all
}

// Read reads one document by its path from the repository's directory.
func Read(t *testing.T, path string) *Document {
	t.Helper()
	return readFile(t, checkout.Join(t, path))
}

func readFile(t *testing.T, path string) *Document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(checkout.Join(t), path)
	if err != nil {
		t.Fatal(err)
	}
	d := &Document{Path: filepath.ToSlash(rel)}
	inside := false
	for n, line := range strings.Split(string(text), "\n") {
		kind, fence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case fence && !inside:
			d.Blocks = append(d.Blocks, Block{Kind: kind, Line: n + 1})
		case !fence && inside:
			d.Blocks[len(d.Blocks)-1].Text += line + "\n"
		}
		if fence {
			inside = !inside
		}
		if fence || inside {
			line = ""
		}
		d.Prose = append(d.Prose, line)
	}
	if inside {
		t.Errorf("%s: the block that begins in line %d does not end", d.Path, d.Blocks[len(d.Blocks)-1].Line)
	}
	return d
}

// BlocksOfKind returns the blocks whose opening fence names the kind.
func (d *Document) BlocksOfKind(kind string) (blocks []Block) {
	for _, b := range d.Blocks {
		if b.Kind == kind {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// LinkTarget matches a link; its first group is the target. CodeSpan matches a
// span of code with its backticks.
var (
	headingLine = regexp.MustCompile(`^(#{1,6}) (.+)$`)
	CodeSpan    = regexp.MustCompile("``.+?``|`[^`]+`")
	LinkTarget  = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)`)
	linkText    = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// Headings returns the texts of the headings below the heading with the given
// text; all of them for "".
func (d *Document) Headings(below string) (texts []string) {
	level := 0
	for _, line := range d.Prose {
		h := headingLine.FindStringSubmatch(line)
		switch {
		case h == nil:
		case below == "" || level > 0 && len(h[1]) > level:
			texts = append(texts, h[2])
		case h[2] == below:
			level = len(h[1])
		case level > 0:
			return texts
		}
	}
	return texts
}

// Anchors returns the anchors that GitHub gives to the document's headings.
func (d *Document) Anchors() map[string]bool {
	all := map[string]bool{}
	for _, heading := range d.Headings("") {
		name := AnchorOf(heading)
		for n := 0; ; n++ {
			numbered := name
			if n > 0 {
				numbered = fmt.Sprintf("%s-%d", name, n)
			}
			if !all[numbered] {
				all[numbered] = true
				break
			}
		}
	}
	return all
}

// AnchorOf returns a heading's anchor: in lower case, with hyphens for spaces, and
// without other signs than hyphens and underscores.
func AnchorOf(heading string) string {
	text := strings.ReplaceAll(linkText.ReplaceAllString(heading, "$1"), "`", "")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, text)
}

// EachCodeSpan calls each with the text of every code span of the prose and the
// number of its line.
func (d *Document) EachCodeSpan(each func(line int, text string)) {
	for n, line := range d.Prose {
		for _, span := range CodeSpan.FindAllString(line, -1) {
			each(n+1, strings.TrimSpace(strings.Trim(span, "`")))
		}
	}
}

// Rows returns the cells of the tables below a heading, without header rows.
func (d *Document) Rows(below string) (rows [][]string) {
	level := 0
	for n, line := range d.Prose {
		h := headingLine.FindStringSubmatch(line)
		if h != nil && h[2] == below {
			level = len(h[1])
			continue
		}
		if h != nil && level > 0 && len(h[1]) <= level {
			break
		}
		if level == 0 || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "|--") {
			continue
		}
		if next := d.Prose[n+1]; strings.HasPrefix(next, "| ---") || strings.HasPrefix(next, "|--") {
			continue // the header row
		}
		var cells []string
		for _, cell := range strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|") {
			cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
		}
		rows = append(rows, cells)
	}
	return rows
}
