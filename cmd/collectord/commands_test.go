package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestDocumentedCommands holds every command line of collectord in the
// documents against the program's commands, flags and arguments.
func TestDocumentedCommands(t *testing.T) {
	lines := 0
	for _, m := range markdowns(t) {
		for _, b := range m.ofKind("sh") {
			for line := range strings.Lines(b.text) {
				for _, args := range collectordCalls(line) {
					lines++
					if err := parses(args, true); err != nil {
						t.Errorf("%s: the block at line %d: %s: %v", m.path, b.line, strings.TrimSpace(line), err)
					}
				}
			}
		}
		m.spans(func(line int, text string) {
			for _, args := range collectordCalls(text) {
				if len(args) == 0 {
					continue
				}
				lines++
				// Names in capitals stand for arguments, so that these are not checked.
				if err := parses(args, false); err != nil {
					t.Errorf("%s:%d: %s: %v", m.path, line, text, err)
				}
			}
		})
	}
	if lines < 25 {
		t.Errorf("only %d command lines were found", lines)
	}
}

// collectordCalls are the arguments of each call of collectord in a line of
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

// shellWords splits a line of shell into its commands, and these into words.
// Redirections are left out.
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

// parses tells why the program would refuse a command line.
func parses(args []string, whole bool) error {
	root := rootCommand(&app{stdout: io.Discard, stderr: io.Discard})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil && err != pflag.ErrHelp {
		return err
	}
	rest = cmd.Flags().Args()
	if cmd == root && len(rest) > 0 && !root.Flags().Changed("once") {
		return errUnknownCommand(rest[0])
	}
	if !whole {
		return nil
	}
	return cmd.ValidateArgs(rest)
}

type errUnknownCommand string

func (e errUnknownCommand) Error() string { return "there is no command " + string(e) }

func TestShellWords(t *testing.T) {
	calls := collectordCalls(`sudo FOO=1 bin/collectord query "SELECT 1; --x" --format csv > x.csv && collectord status | less # all`)
	if len(calls) != 2 || len(calls[0]) != 4 || calls[0][1] != "SELECT 1; --x" || calls[1][0] != "status" {
		t.Errorf("got %q", calls)
	}
	for line, good := range map[string]bool{
		"collectord --once tenable": true, "collectord tenable": false, "collectord restore --too x": false, "collectord drop": false,
		"collectord drop postgres": true, "collectord sttus": false, `collectord query -f x.sql`: true, "collectord --help": true,
	} {
		if err := parses(collectordCalls(line)[0], true); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}
