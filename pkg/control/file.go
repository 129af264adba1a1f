package control

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Problem is something wrong with a file of controls.
type Problem struct {
	File string
	// Line begins with 1; 0 means the whole file.
	Line int
	Text string
	// Harmless means that the control is measured all the same.
	Harmless bool
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// maxFileBytes bounds the size of a file.
const maxFileBytes = 1 << 20

// Load reads the files of a directory whose names end in .yml or .yaml. It returns the
// controls, ordered by id, and all problems, ordered by file and line. A control of which
// a file has a problem that is not harmless has that as its Problem. Files with the same
// id are one control: the first with a query describes it, and it has the queries of all.
// The error is that of the directory.
func Load(dir string) (controls []Control, problems []Problem, err error) {
	return loadKnown(dir, nil)
}

// loadKnown is Load with the ids that files had when they could be read, for those whose
// id cannot be read. Without one, the id is from the name of the file.
func loadKnown(dir string, ids map[string]string) (controls []Control, problems []Problem, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	byID := map[string]*Control{}
	for _, entry := range entries {
		name := entry.Name()
		if !isControlFile(name) || entry.IsDir() {
			continue
		}
		c, found := loadFile(dir, name)
		problems = append(problems, found...)
		c.ID = cmp.Or(c.ID, ids[name], idFromName(name))
		known := byID[c.ID]
		if known == nil {
			byID[c.ID] = c
			continue
		}
		problems = append(problems, Problem{
			File: name, Harmless: true,
			Text: fmt.Sprintf("metric_id %s is also that of %s: they are one control, with the queries of both", c.ID, known.Files[0]),
		})
		byID[c.ID] = mergeControls(known, c)
	}
	for _, c := range byID {
		controls = append(controls, *c)
	}
	slices.SortFunc(controls, func(a, b Control) int { return strings.Compare(a.ID, b.ID) })
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return controls, problems, nil
}

// isControlFile reports whether a file of that name describes a control. Hidden files
// are those of editors and of volumes of containers.
func isControlFile(name string) bool {
	extension := strings.ToLower(filepath.Ext(name))
	return !strings.HasPrefix(name, ".") && (extension == ".yml" || extension == ".yaml")
}

// mergeControls returns the control that two files with the same id are.
func mergeControls(first, second *Control) *Control {
	if describesLess(first, second) {
		first, second = second, first
	}
	merged := *first
	merged.Files = slices.Concat(first.Files, second.Files)
	merged.Problem = cmp.Or(first.Problem, second.Problem)
	switch {
	case merged.Problem != "": // some of its queries alone would have another score
		merged.Queries = nil
	case second.Off == "":
		merged.Queries = slices.Concat(first.Queries, second.Queries)
	}
	merged.Hash = hashOf([]byte(first.Hash + second.Hash))
	return &merged
}

// describesLess reports whether a control is described by another one with the same id
// although that is in a later file.
func describesLess(c, later *Control) bool {
	if c.Problem != "" || later.Problem != "" {
		return c.Problem != "" && later.Problem == ""
	}
	return c.Off != "" && later.Off == ""
}

func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// loadFile reads one file. The control has no id when that cannot be read.
func loadFile(dir, name string) (*Control, []Problem) {
	text, err := readControlFile(filepath.Join(dir, name))
	if err != nil {
		p := Problem{File: name, Text: err.Error()}
		return &Control{Files: []string{name}, Problem: p.Error(), Hash: hashOf([]byte(p.Error()))}, []Problem{p}
	}
	r := newFileReader(name, text)
	c := r.readControl()
	at := slices.IndexFunc(r.problems, func(p Problem) bool { return !p.Harmless })
	if at >= 0 {
		c.Problem, c.Off, c.Queries = r.problems[at].Error(), "", nil
	}
	return c, r.problems
}

func readControlFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // a link is followed, as in the volumes of containers
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a file")
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("it has %d bytes: a file may have %d", info.Size(), maxFileBytes)
	}
	text, err := os.ReadFile(path)
	return text, withoutPath(err)
}

// withoutPath removes the path from an error, which the caller names.
func withoutPath(err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

// idFromName returns the id of a control whose file cannot be read.
func idFromName(name string) string {
	id := strings.TrimPrefix(strings.TrimSuffix(name, filepath.Ext(name)), "metric_")
	if idPattern.MatchString(id) {
		return id
	}
	return "file_" + hashOf([]byte(name))
}
