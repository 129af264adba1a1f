package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// checkout is the repository's folder, seen from this package's.
var checkout = filepath.Join("..", "..")

// A markdown is a document of the repository.
type markdown struct {
	path   string   // from the checkout, with slashes
	prose  []string // lines outside of fenced blocks; empty ones stand for those inside
	blocks []fenced
}

// A fenced is a block of code in a document.
type fenced struct {
	kind string // what follows the fence
	line int    // of the fence
	text string
}

// markdowns reads every document of the repository.
func markdowns(t *testing.T) []*markdown {
	t.Helper()
	var all []*markdown
	err := filepath.WalkDir(checkout, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && (name == "bin" || name == "data" || name == "dist" || name == "testdata" || name == ".git") {
			return fs.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(name, ".md") {
			all = append(all, readMarkdown(t, path))
		}
		return nil
	})
	if err != nil || len(all) < 15 {
		t.Fatalf("%d documents: %v", len(all), err)
	}
	return all
}

// documentOf reads one document, by its path from the checkout.
func documentOf(t *testing.T, path string) *markdown {
	t.Helper()
	return readMarkdown(t, filepath.Join(checkout, filepath.FromSlash(path)))
}

func readMarkdown(t *testing.T, path string) *markdown {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(checkout, path)
	if err != nil {
		t.Fatal(err)
	}
	m := &markdown{path: filepath.ToSlash(rel)}
	inside := false
	for n, line := range strings.Split(string(text), "\n") {
		kind, fence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case fence && !inside:
			m.blocks = append(m.blocks, fenced{kind: kind, line: n + 1})
		case !fence && inside:
			m.blocks[len(m.blocks)-1].text += line + "\n"
		}
		if fence {
			inside = !inside
		}
		if fence || inside {
			line = ""
		}
		m.prose = append(m.prose, line)
	}
	if inside {
		t.Errorf("%s: the block that begins in line %d has no end", m.path, m.blocks[len(m.blocks)-1].line)
	}
	return m
}

// ofKind returns the blocks of a kind.
func (m *markdown) ofKind(kind string) (blocks []fenced) {
	for _, b := range m.blocks {
		if b.kind == kind {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

var (
	headingLine = regexp.MustCompile(`^(#{1,6}) (.+)$`)
	codeSpan    = regexp.MustCompile("``.+?``|`[^`]+`")
	linkTarget  = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)`)
	linkText    = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
)

// headings returns the document's headings below one of that text, or all for
// "".
func (m *markdown) headings(below string) (texts []string) {
	level := 0
	for _, line := range m.prose {
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

// anchors are the names that GitHub gives the document's headings.
func (m *markdown) anchors() map[string]bool {
	all := map[string]bool{}
	for _, heading := range m.headings("") {
		name := anchorOf(heading)
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

// anchorOf makes a heading's anchor: lower case, blanks as hyphens, and of the
// other signs only hyphens and underscores.
func anchorOf(heading string) string {
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

// spans returns what stands in backticks in the prose, by line.
func (m *markdown) spans(each func(line int, text string)) {
	for n, line := range m.prose {
		for _, span := range codeSpan.FindAllString(line, -1) {
			each(n+1, strings.TrimSpace(strings.Trim(span, "`")))
		}
	}
}

// rows returns the cells of the tables below a heading, heads excluded.
func (m *markdown) rows(below string) (rows [][]string) {
	level := 0
	for n, line := range m.prose {
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
		if next := m.prose[n+1]; strings.HasPrefix(next, "| ---") || strings.HasPrefix(next, "|--") {
			continue // the head
		}
		var cells []string
		for _, cell := range strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|") {
			cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
		}
		rows = append(rows, cells)
	}
	return rows
}

func TestAnchors(t *testing.T) {
	for heading, want := range map[string]string{
		"What `.env` is": "what-env-is", "A, b & c": "a-b--c", "[Link](x.md) – more": "link--more", "snake_case 2": "snake_case-2", "Über": "über",
	} {
		if got := anchorOf(heading); got != want {
			t.Errorf("the anchor of %q is %q, want %q", heading, got, want)
		}
	}
	m := &markdown{prose: []string{"# A", "## B", "text", "### C", "## B", "### D"}}
	if got := m.anchors(); len(got) != 5 || !got["b-1"] {
		t.Errorf("anchors %v", got)
	}
	if got := m.headings("B"); !slices.Equal(got, []string{"C", "D"}) {
		t.Errorf("below B: %q", got)
	}
}
