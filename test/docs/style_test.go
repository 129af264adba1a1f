package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// forbiddenWords are the words that docs/style.md replaces.
var forbiddenWords = regexp.MustCompile(`(?i)\b(?:folders?|anew|patience|nobody|mend(?:ed|s|ing)?|blanks|` +
	`tells\s+whether|(?:is|are)\s+told|has\s+come|bec(?:ame|omes?)\s+of|(?:un)?answer\w*)\b`)

// styleExempt are the files that quote the forbidden words.
var styleExempt = []string{"docs/style.md", "test/docs/style_test.go"}

// styleNames are string literals that programs read, and that therefore keep a
// forbidden word: the name of a check in the output of doctor --json.
var styleNames = []string{"folder"}

// styleTextFiles matches the files, other than Go code, whose whole text is
// checked.
var styleTextFiles = regexp.MustCompile(`\.(?:md|html|sql|yml|yaml|sh|service|timer|conf|env)$|(?:^|/)(?:Makefile|Containerfile)$|^\.ci/run$`)

// TestStyleWords checks comments, string literals and documents for words that
// docs/style.md replaces.
func TestStyleWords(t *testing.T) {
	root := styleRoot(t)
	goFiles, textFiles := 0, 0
	for _, path := range styleFiles(t, root) {
		if slices.Contains(styleExempt, path) {
			continue
		}
		switch {
		case strings.HasSuffix(path, ".go"):
			goFiles++
			checkGoWords(t, root, path)
		case styleTextFiles.MatchString(path):
			textFiles++
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				t.Fatal(err)
			}
			checkWords(t, path, 1, styleProse(path, string(text)))
		}
	}
	if goFiles < 200 || textFiles < 40 {
		t.Errorf("checked %d Go files and %d text files, want at least 200 and 40", goFiles, textFiles)
	}
}

// styleProse returns the text of a file that is checked. The changelog quotes
// the former texts of messages in backticks.
func styleProse(path, text string) string {
	if path == "CHANGELOG.md" {
		return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "")
	}
	return text
}

func checkGoWords(t *testing.T, root, path string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filepath.Join(root, path), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Comments {
		checkWords(t, path, files.Position(group.Pos()).Line, group.Text())
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(styleNames, text) {
			checkWords(t, path, files.Position(literal.Pos()).Line, text)
		}
		return true
	})
}

// checkWords reports the forbidden words of a text that begins at a line.
func checkWords(t *testing.T, path string, line int, text string) {
	t.Helper()
	for _, at := range forbiddenWords.FindAllStringIndex(text, -1) {
		t.Errorf("%s:%d: %q is not used, see docs/style.md", path, line+strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]])
	}
}

func TestForbiddenWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{text: "the server answers late", want: "answers"},
		{text: "the request is\ntold of it", want: "is\ntold"},
		{text: "Nobody reads it", want: "Nobody"},
		{text: "an unanswered request", want: "unanswered"},
		{text: "what becomes of odd records", want: "becomes of"},
		{text: "we recommend amending the settings", want: ""},
		{text: "a blank line in the folded text", want: ""},
	} {
		if got := forbiddenWords.FindString(c.text); got != c.want {
			t.Errorf("found %q in %q, want %q", got, c.text, c.want)
		}
	}
}

// receiverAbbreviations are usual names of receivers that do not start with the
// first letter of the type, by the last word of the type's name.
var receiverAbbreviations = map[string]string{
	"Batch": "b", "Client": "c", "Error": "e", "Handler": "h", "Job": "j", "Output": "o", "Parser": "p", "Reader": "r",
	"Server": "s", "Settings": "s", "Transport": "t", "Writer": "w",
}

// isReceiverOf reports whether a receiver's name fits its type.
func isReceiverOf(receiver, typeName string) bool {
	if strings.HasPrefix(receiver, string(unicode.ToLower([]rune(typeName)[0]))) {
		return true
	}
	for end, abbreviation := range receiverAbbreviations {
		if strings.HasSuffix(typeName, end) && receiver == abbreviation {
			return true
		}
	}
	return false
}

// TestStyleReceivers checks that the receivers of a type have one name, which
// starts with the first letter of the type or is a usual abbreviation.
func TestStyleReceivers(t *testing.T) {
	receivers := map[string]map[string]string{} // of a type, where each is used
	for _, f := range styleFuncs(t, true) {
		if f.typeName == "" || f.receiver == "" || f.receiver == "_" {
			continue
		}
		if !isReceiverOf(f.receiver, f.typeName) {
			t.Errorf("%s: the receiver %s of %s does not start with the type's first letter", f.position, f.receiver, f.typeName)
		}
		key := f.pkg + "." + f.typeName
		if receivers[key] == nil {
			receivers[key] = map[string]string{}
		}
		receivers[key][f.receiver] = f.position
	}
	for _, key := range slices.Sorted(maps.Keys(receivers)) {
		if len(receivers[key]) > 1 {
			t.Errorf("the receivers of %s have several names: %v", key, receivers[key])
		}
	}
	if len(receivers) < 100 {
		t.Errorf("checked %d types, want at least 100", len(receivers))
	}
}

// maxDefinitions is how often a name of functions and methods may be defined.
const maxDefinitions = 3

// commonNames are the names that may be defined more often: those of Go's own
// conventions and of its standard library's interfaces.
var commonNames = []string{
	"init", "main", "run", "New", "Open", "Close", "Start", "Stop", "Run", "Wait", "Name", "String", "Err", "Error", "Is", "As", "Unwrap",
	"Accept", "Read", "Write", "Reset", "All", "Count", "Len", "Less", "Swap", "Next", "Check", "Load",
	"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "ServeHTTP", "WriteHeader", "RoundTrip",
	"openAccount", // one of the four parts of each vendor's package
}

// TestStyleNames checks that names of functions and methods can be searched
// for. Methods of interfaces that this module declares are not counted.
func TestStyleNames(t *testing.T) {
	implemented := styleInterfaceMethods(t)
	defined := map[string][]string{}
	for _, f := range styleFuncs(t, false) {
		if slices.Contains(commonNames, f.name) || f.typeName != "" && implemented[f.signature()] {
			continue
		}
		defined[f.name] = append(defined[f.name], f.position)
	}
	for _, name := range slices.Sorted(maps.Keys(defined)) {
		if at := defined[name]; len(at) > maxDefinitions {
			t.Errorf("%s is defined %d times: %s", name, len(at), strings.Join(at, ", "))
		}
	}
	if len(defined) < 1000 {
		t.Errorf("checked %d names, want at least 1000", len(defined))
	}
}

// funcInfo is a function or a method of the module.
type funcInfo struct {
	pkg, name          string
	typeName, receiver string // empty for a function
	position           string // the file and the line
	params, results    int
}

// signature is the name with the numbers of parameters and results: types are
// not compared.
func (f funcInfo) signature() string { return fmt.Sprintf("%s/%d/%d", f.name, f.params, f.results) }

// styleFuncs returns the functions and methods of the module, those of its
// tests if asked.
func styleFuncs(t *testing.T, tests bool) (all []funcInfo) {
	t.Helper()
	eachStyleFile(t, tests, func(path string, files *token.FileSet, file *ast.File) {
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			f := funcInfo{
				pkg: filepath.ToSlash(filepath.Dir(path)) + ":" + file.Name.Name, name: fn.Name.Name,
				position: fmt.Sprintf("%s:%d", path, files.Position(fn.Pos()).Line),
				params:   fn.Type.Params.NumFields(), results: fn.Type.Results.NumFields(),
			}
			if fn.Recv != nil {
				field := fn.Recv.List[0]
				f.typeName = receiverType(field.Type)
				if len(field.Names) > 0 {
					f.receiver = field.Names[0].Name
				}
			}
			all = append(all, f)
		}
	})
	return all
}

// receiverType returns the name of a receiver's type, without pointer and type
// parameters.
func receiverType(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return receiverType(expr.X)
	case *ast.IndexExpr:
		return receiverType(expr.X)
	case *ast.IndexListExpr:
		return receiverType(expr.X)
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

// styleInterfaceMethods returns the signatures of the methods of all interfaces
// in the module.
func styleInterfaceMethods(t *testing.T) map[string]bool {
	t.Helper()
	methods := map[string]bool{}
	eachStyleFile(t, false, func(_ string, _ *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			declared, ok := n.(*ast.InterfaceType)
			if !ok {
				return true
			}
			for _, method := range declared.Methods.List {
				if signature, ok := method.Type.(*ast.FuncType); ok {
					for _, name := range method.Names {
						f := funcInfo{name: name.Name, params: signature.Params.NumFields(), results: signature.Results.NumFields()}
						methods[f.signature()] = true
					}
				}
			}
			return true
		})
	})
	return methods
}

// eachStyleFile parses the Go files of the module, those of its tests if asked.
func eachStyleFile(t *testing.T, tests bool, visit func(path string, files *token.FileSet, file *ast.File)) {
	t.Helper()
	root := styleRoot(t)
	files := token.NewFileSet()
	for _, path := range styleFiles(t, root) {
		if !strings.HasSuffix(path, ".go") || !tests && strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, filepath.Join(root, path), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		visit(path, files, file)
	}
}

// styleRoot returns the directory of go.mod, above the working directory.
func styleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// styleFiles returns the paths of the files in the repository, with slashes,
// without what is built and without test data.
func styleFiles(t *testing.T, root string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "testdata"}, entry.Name()) || rel == "data" {
				return fs.SkipDir
			}
			return nil
		}
		paths = append(paths, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
