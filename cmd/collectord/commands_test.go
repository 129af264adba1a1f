package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/collectord/collectord/test/markdown"
)

// TestDocumentedCommands checks that the command lines of collectord in the
// documents have commands, flags and arguments of the program.
func TestDocumentedCommands(t *testing.T) {
	lines := 0
	for _, doc := range markdown.ReadAll(t) {
		for _, b := range doc.BlocksOfKind("sh") {
			for line := range strings.Lines(b.Text) {
				for _, args := range collectordCalls(line) {
					lines++
					if err := parseCommand(args, true); err != nil {
						t.Errorf("%s: the block at line %d: %s: %v", doc.Path, b.Line, strings.TrimSpace(line), err)
					}
				}
			}
		}
		doc.EachCodeSpan(func(line int, text string) {
			for _, args := range collectordCalls(text) {
				if len(args) == 0 {
					continue
				}
				lines++
				// Arguments are not checked, because words in capitals are placeholders.
				if err := parseCommand(args, false); err != nil {
					t.Errorf("%s:%d: %s: %v", doc.Path, line, text, err)
				}
			}
		})
	}
	if lines < 25 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// collectordCalls returns the arguments of each call of collectord in a line of
// shell.
func collectordCalls(line string) (calls [][]string) {
	for _, words := range shellWords(line) {
		for len(words) > 0 && (words[0] == "sudo" || words[0] == "env" || words[0] == "$" || strings.Contains(words[0], "=")) {
			words = words[1:]
		}
		if len(words) > 0 && (words[0] == "collectord" || strings.HasSuffix(words[0], "/collectord")) {
			calls = append(calls, words[1:])
		}
	}
	return calls
}

// shellWords splits a line of shell into its commands, and these into words,
// without redirections.
func shellWords(line string) (commands [][]string) {
	var words []string
	var word strings.Builder
	quote, started := rune(0), false
	endWord := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	endCommand := func() {
		endWord()
		for i, w := range words {
			if strings.HasPrefix(w, ">") || strings.HasPrefix(w, "<") || strings.HasPrefix(w, "2>") {
				words = words[:i]
				break
			}
		}
		commands, words = append(commands, words), nil
	}
	for _, r := range strings.TrimSpace(line) {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == '#' && !started:
			endCommand()
			return commands
		case r == ' ' || r == '\t':
			endWord()
		case strings.ContainsRune("|;&", r):
			endCommand()
		default:
			word.WriteRune(r)
			started = true
		}
	}
	endCommand()
	return commands
}

// parseCommand returns the error of the program for a command line. withArgs says
// whether the arguments are checked as well.
func parseCommand(args []string, withArgs bool) error {
	root := rootCommand(&program{stdout: io.Discard, stderr: io.Discard})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	rest = cmd.Flags().Args()
	if cmd == root && len(rest) > 0 && !root.Flags().Changed("once") {
		return fmt.Errorf("unknown command %s", rest[0])
	}
	if !withArgs {
		return nil
	}
	return cmd.ValidateArgs(rest)
}

func TestShellWords(t *testing.T) {
	calls := collectordCalls(`sudo FOO=1 bin/collectord query "SELECT 1; --x" --format csv > x.csv && collectord status | less # all`)
	if len(calls) != 2 || len(calls[0]) != 4 || calls[0][1] != "SELECT 1; --x" || calls[1][0] != "status" {
		t.Errorf("got %q", calls)
	}
}

func TestParseCommand(t *testing.T) {
	for _, tc := range []struct {
		line  string
		valid bool
	}{
		{line: "collectord --once tenable", valid: true},
		{line: "collectord tenable", valid: false},
		{line: "collectord restore --too x", valid: false},
		{line: "collectord drop", valid: false},
		{line: "collectord drop postgres", valid: true},
		{line: "collectord sttus", valid: false},
		{line: "collectord query -f x.sql", valid: true},
		{line: "collectord --help", valid: true},
	} {
		if err := parseCommand(collectordCalls(tc.line)[0], true); (err == nil) != tc.valid {
			t.Errorf("%s: error %v, want valid %v", tc.line, err, tc.valid)
		}
	}
}
