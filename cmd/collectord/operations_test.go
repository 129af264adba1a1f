package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRunbooks: every alert leads to its own section of docs/operations.md,
// and every such section has an alert.
func TestRunbooks(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(checkout, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	const page = "https://github.com/collectord/collectord/blob/main/docs/operations.md#"
	var alerts []string
	for _, rule := range strings.Split(string(rules), "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		alerts = append(alerts, name)
		if want := `runbook_url: "` + page + anchorOf(name) + `"`; !strings.Contains(rule, want) {
			t.Errorf("the alert %s has no %s", name, want)
		}
	}
	if sections := documentOf(t, "docs/operations.md").headings("Alerts"); !slices.Equal(sections, alerts) {
		t.Errorf("docs/operations.md has the sections\n%q for the alerts\n%q", sections, alerts)
	}
}

// TestDocumentedExitCodes holds the table of exit codes against exit.go.
func TestDocumentedExitCodes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := []int{0}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "exit") {
			code, err := strconv.Atoi(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Error(err)
			}
			codes = append(codes, code)
		}
		return true
	})
	var told []int
	help := rootCommand(&app{}).Long
	for _, row := range documentOf(t, "docs/operations.md").rows("Exit codes") {
		code, err := strconv.Atoi(row[0])
		if err != nil {
			t.Error(err)
		}
		told = append(told, code)
		if !regexp.MustCompile(`\b` + row[0] + `\b`).MatchString(help) {
			t.Errorf("collectord --help does not tell of the exit code %d", code)
		}
	}
	if !slices.Equal(told, codes) {
		t.Errorf("documented are the exit codes %v, there are %v", told, codes)
	}
}

// TestDocumentedMessages holds the messages that docs/operations.md quotes
// against the texts in the code. A "…" in one stands for what differs.
func TestDocumentedMessages(t *testing.T) {
	said := codeTexts(t, "cmd", "pkg", "internal/duckdb")
	quoted := 0
	for _, row := range documentOf(t, "docs/operations.md").rows("What an error means") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1) {
			quoted++
			if !slices.ContainsFunc(said, func(text string) bool { return says(text, m[1]) }) {
				t.Errorf("docs/operations.md quotes %q, which nothing in the code says", m[1])
			}
		}
	}
	if quoted < 40 {
		t.Errorf("only %d messages are quoted", quoted)
	}
}

// says tells whether the parts of a quotation are in a text of the code, in
// their order.
func says(text, quoted string) bool {
	for part := range strings.SplitSeq(quoted, "…") {
		if part = strings.TrimSpace(part); len(part) < 3 {
			continue
		}
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}

// codeTexts are the string constants of the code below some folders.
func codeTexts(t *testing.T, below ...string) (texts []string) {
	t.Helper()
	files := token.NewFileSet()
	for _, dir := range below {
		err := filepath.WalkDir(filepath.Join(checkout, filepath.FromSlash(dir)), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if text, ok := constantText(n); ok {
					texts = append(texts, text)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(texts) < 100 {
		t.Fatalf("only %d texts below %v", len(texts), below)
	}
	return texts
}

// constantText is the text of a string constant, or of several that are put
// together; what is put between them counts as nothing.
func constantText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			text, err := strconv.Unquote(n.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		if n.Op == token.ADD {
			x, isX := constantText(n.X)
			y, isY := constantText(n.Y)
			return x + y, isX || isY
		}
	}
	return "", false
}

func TestSays(t *testing.T) {
	const text = "%w for %v (RUN_IDLE_TIMEOUT); stuck at: %s"
	for quoted, want := range map[string]bool{
		"… (RUN_IDLE_TIMEOUT); stuck at: …": true, "no progress": false, "stuck at: … (RUN_IDLE_TIMEOUT)": false,
	} {
		if says(text, quoted) != want {
			t.Errorf("%q in %q", quoted, text)
		}
	}
}

// TestDocumentedAPI holds the requests that docs/operations.md lists against
// those that the program answers.
func TestDocumentedAPI(t *testing.T) {
	path := regexp.MustCompile(`^/(-|api|metrics|healthz|livez|readyz)(/[\w{}/]+)?$`)
	served := map[string]bool{}
	for _, text := range codeTexts(t, "pkg/web") {
		if path.MatchString(text) {
			served[text] = true
		}
	}
	told := map[string]bool{}
	for _, row := range documentOf(t, "docs/operations.md").rows("The API") {
		for _, m := range regexp.MustCompile("`(?:GET |POST )?(/[^`]+)`").FindAllStringSubmatch(row[0], -1) {
			told[m[1]] = true
		}
	}
	if len(told) < 10 || !maps.Equal(told, served) {
		t.Errorf("documented are %v, served are %v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(served)))
	}
}

// TestCommandBesideTheService runs the documented command under a real
// systemd, but for the user, which takes root: it sees the state that a
// service of the same name has.
func TestCommandBesideTheService(t *testing.T) {
	t.Parallel()
	var block string
	for _, b := range documentOf(t, "docs/operations.md").ofKind("sh") {
		if strings.HasPrefix(b.text, "systemd-run ") {
			block = b.text
		}
	}
	p := newPlace(t).with(startVendors(t, smallCounts, smallTenant()))
	delete(p.env, "STATE_DIR") // systemd's is to be used
	p.env[asProgram] = "1"
	m := newManager(p)
	var lines []string
	for name, value := range p.env {
		lines = append(lines, name+`="`+value+`"`)
	}
	if err := os.WriteFile(p.file("collectord.env"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ old, with string }{
		{"systemd-run ", "systemd-run --user "}, {"-p User=collectord -p DynamicUser=yes ", ""}, {"=/var/lib/collectord ", "=" + p.dir + " "},
		{"=/etc/collectord/collectord.env collectord status", "=" + p.file("collectord.env") + " " + binary + " status"},
	} {
		if strings.Count(block, r.old) != 1 {
			t.Fatalf("the command has no %q:\n%s", r.old, block)
		}
		block = strings.Replace(block, r.old, r.with, 1)
	}
	ask := func(line string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Env = m.environment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		p.noSecrets(string(out))
		return string(out)
	}
	if said := ask(block); !strings.Contains(said, "nothing has been collected yet") {
		t.Errorf("at first: %s", said)
	}
	ask(strings.Replace(block, binary+" status", binary+" --once tenable_assets", 1))
	if said := ask(block); !strings.Contains(said, "tenable_assets  default") {
		t.Errorf("after a run: %s", said)
	}
}
