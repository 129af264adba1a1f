package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/markdown"
)

// TestDocumentedExitCodes compares the exit codes in the documents with those in
// exit.go and in the help.
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
	var documented []int
	help := rootCommand(&program{}).Long
	for _, row := range markdown.Read(t, "docs/reference/exit-codes.md").Rows("Exit codes") {
		code, err := strconv.Atoi(row[0])
		if err != nil {
			t.Error(err)
		}
		documented = append(documented, code)
		if !regexp.MustCompile(`\b` + row[0] + `\b`).MatchString(help) {
			t.Errorf("collectord --help does not name the exit code %d", code)
		}
	}
	if !slices.Equal(documented, codes) {
		t.Errorf("the documented exit codes are %v, those of the code are %v", documented, codes)
	}
}
