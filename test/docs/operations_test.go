package docs_test

import (
	"cmp"
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

	"go.yaml.in/yaml/v3"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/markdown"
)

const runbookURL = "https://github.com/collectord/collectord/blob/main/docs/runbook/alerts.md#"

// TestRunbooks checks that every alert has its own section in docs/runbook/alerts.md,
// and every section an alert, and that alerts name the tenancy, and the instance if they are about
// one.
func TestRunbooks(t *testing.T) {
	var alerts []string
	for _, name := range []string{"alerts.yml", "alerts-timer.yml"} {
		rules, err := os.ReadFile(checkout.Join(t, "deploy", "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range strings.Split(string(rules), "- alert: ")[1:] {
			alert, _, _ := strings.Cut(rule, "\n")
			if !slices.Contains(alerts, alert) {
				alerts = append(alerts, alert)
			}
			if want := `runbook_url: "` + runbookURL + markdown.AnchorOf(alert) + `"`; !strings.Contains(rule, want) {
				t.Errorf("%s: the alert %s has no %s", name, alert, want)
			}
			_, annotations, _ := strings.Cut(rule, "summary: ")
			for _, label := range []string{"instance", "tenancy"} {
				// A service or a node exporter that is not scraped has no metrics with a tenancy.
				// What is in a state that services share, each of them exports.
				isOfState := label == "instance" && strings.Contains(rule, " by (job, ")
				isDown := alert == "CollectordTextfileMissing" || alert == "CollectordDown" && label == "tenancy"
				if !isOfState && !isDown && !strings.Contains(annotations, "{{ $labels."+label+" }}") {
					t.Errorf("%s: the summary of %s does not name the %s", name, alert, label)
				}
			}
		}
	}
	sections := markdown.Read(t, "docs/runbook/alerts.md").Headings("Alerts")
	slices.Sort(alerts)
	slices.Sort(sections)
	if !slices.Equal(sections, alerts) {
		t.Errorf("docs/runbook/alerts.md has the sections\n%q for the alerts\n%q", sections, alerts)
	}
}

// TestDocumentedMessages checks that the messages in docs/runbook/messages.md are texts
// of the code. A "…" in a message stands for the parts that vary.
func TestDocumentedMessages(t *testing.T) {
	texts := codeTexts(t, "cmd", "pkg", "internal/duckdb", "internal/netadvice", "internal/redact", "internal/systemd", "internal/tracing")
	quoted := 0
	for _, row := range markdown.Read(t, "docs/runbook/messages.md").Rows("Messages") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1) {
			quoted++
			if !slices.ContainsFunc(texts, func(text string) bool { return containsQuotation(text, m[1]) }) {
				t.Errorf("docs/runbook/messages.md quotes %q, which is not in the code", m[1])
			}
		}
	}
	if quoted < 40 {
		t.Errorf("only %d messages are quoted", quoted)
	}
}

// containsQuotation reports whether the parts of a quotation are in a text of the code,
// in their order.
func containsQuotation(text, quoted string) bool {
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

// codeTexts returns the string constants of the code below the directories.
func codeTexts(t *testing.T, below ...string) (texts []string) {
	t.Helper()
	files := token.NewFileSet()
	for _, dir := range below {
		err := filepath.WalkDir(checkout.Join(t, dir), func(path string, entry fs.DirEntry, err error) error {
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

// constantText returns the text of a string constant, or of a sum of strings, whose
// other operands count as empty.
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

func TestContainsQuotation(t *testing.T) {
	const text = "%w for %v (RUN_IDLE_TIMEOUT); stuck at: %s"
	for _, tc := range []struct {
		quoted string
		want   bool
	}{
		{quoted: "… (RUN_IDLE_TIMEOUT); stuck at: …", want: true},
		{quoted: "no progress", want: false},
		{quoted: "stuck at: … (RUN_IDLE_TIMEOUT)", want: false},
	} {
		if got := containsQuotation(text, tc.quoted); got != tc.want {
			t.Errorf("%q in %q: %v, want %v", tc.quoted, text, got, tc.want)
		}
	}
}

// servedPaths returns the paths of openapi.yaml, which a test of package web compares with
// the server, and the tags of their operations by method.
func servedPaths(t *testing.T) map[string]map[string][]string {
	t.Helper()
	text, err := os.ReadFile(checkout.Join(t, "pkg", "web", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct{ Tags []string }
	}
	if err := yaml.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	paths := map[string]map[string][]string{}
	for path, operations := range api.Paths {
		paths[path] = map[string][]string{}
		for method, operation := range operations {
			paths[path][method] = operation.Tags
		}
	}
	return paths
}

// TestPrefixesOfTheServerAreRefused checks that HTTP_PREFIX cannot hide a path of the
// server.
func TestPrefixesOfTheServerAreRefused(t *testing.T) {
	for path := range servedPaths(t) {
		first := strings.Split(path, "/")[1]
		if first == "" {
			continue
		}
		h := config.HTTP{Prefix: "/" + first}
		if errs := h.Validate(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "HTTP_PREFIX") {
			t.Errorf("HTTP_PREFIX=%s: errors %v", h.Prefix, errs)
		}
	}
}

// TestDocumentedAPI compares the requests in docs/reference/api.md with those of
// openapi.yaml, which a test of package web compares with the server.
func TestDocumentedAPI(t *testing.T) {
	served := map[string]bool{}
	for path, operations := range servedPaths(t) {
		for method, tags := range operations {
			if !slices.Contains(tags, "pages") {
				served[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	documented := map[string]bool{}
	for _, row := range markdown.Read(t, "docs/reference/api.md").Rows("Requests") {
		method := ""
		for _, m := range regexp.MustCompile("`(?:(GET|POST) )?(/[^`]+)`").FindAllStringSubmatch(row[0], -1) {
			method = cmp.Or(m[1], method)
			documented[method+" "+m[2]] = true
		}
	}
	if len(documented) < 10 || !maps.Equal(documented, served) {
		t.Errorf("documented: %v, served: %v", slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(served)))
	}
}

// TestKubernetesSettings checks that the variables in the Kubernetes manifest are settings, or
// name the files of some.
func TestKubernetesSettings(t *testing.T) {
	texts := map[string]string{}
	for _, name := range []string{"docs/reference/settings.md", "deploy/kubernetes/collectord.yaml"} {
		text, err := os.ReadFile(checkout.Join(t, name))
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(text)
	}
	found := regexp.MustCompile(`- name: ([A-Z][A-Z0-9_]+)\n`).FindAllStringSubmatch(texts["collectord.yaml"], -1)
	if len(found) < 5 {
		t.Fatalf("the manifest has %d variables", len(found))
	}
	for _, match := range found {
		if name := strings.TrimSuffix(match[1], "_FILE"); !strings.Contains(texts["settings.md"], "| `"+name+"` |") {
			t.Errorf("%s is not a setting", match[1])
		}
	}
}
