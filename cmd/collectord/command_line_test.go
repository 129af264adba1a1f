package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestCommandLineReference compares the sections and the flags of
// docs/reference/command-line.md with the commands and flags of the program.
func TestCommandLineReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "command-line.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		flags := []string{}
		for _, row := range regexp.MustCompile("(?m)^\\| (?:`-[a-z]`, )?`--([a-z-]+)` \\|").FindAllStringSubmatch(body, -1) {
			flags = append(flags, row[1])
		}
		documented[name] = flags
	}

	root := rootCommand(&program{})
	root.InitDefaultVersionFlag()
	root.InitDefaultCompletionCmd()
	commands := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			commands = append(commands, c)
		}
	}
	for _, c := range commands {
		got, found := documented[c.CommandPath()]
		if !found {
			t.Errorf("docs/reference/command-line.md has no section %q", c.CommandPath())
			continue
		}
		var want []string
		described := []*cobra.Command{c}
		if c != root && c.Name() != "completion" {
			described = append(described, c.Commands()...) // they are in the same section
		}
		for _, one := range described {
			one.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if f.Name != "help" {
					want = append(want, f.Name)
				}
			})
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("section %q has the flags %q, the command has %q", c.CommandPath(), got, want)
		}
	}
	if len(documented) != len(commands) {
		t.Errorf("docs/reference/command-line.md has %d sections for %d commands", len(documented), len(commands))
	}
}
