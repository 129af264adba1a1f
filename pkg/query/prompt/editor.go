package prompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/peterh/liner"
)

// errAborted means that Ctrl-C was pressed while a line was edited.
var errAborted = errors.New("aborted")

// An editor reads lines from the terminal of standard input.
type editor struct {
	line *liner.State
	// sequences reports whether the terminal knows control sequences.
	sequences bool
}

// openEditor opens the editor, which close closes. It ends when ctx is cancelled.
func openEditor(ctx context.Context, complete liner.WordCompleter) (*editor, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("prompt: %w", err)
	}
	// The line editor reads from os.Stdin, but not by itself recognises pasted text. It
	// gets a pipe to read from, which also can be closed when ctx ends; the terminal
	// itself it knows by its file descriptor.
	stdin := os.Stdin
	os.Stdin = read
	line := liner.NewLiner()
	os.Stdin = stdin
	line.SetCtrlCAborts(true)
	line.SetMultiLineMode(true)
	line.SetTabCompletionStyle(liner.TabPrints)
	line.SetBeep(false)
	line.SetWordCompleter(complete)
	context.AfterFunc(ctx, func() { _ = write.Close() })
	go func() {
		_, _ = io.Copy(write, &pasteReader{r: stdin}) // the end of the input ends the prompt
		_ = write.Close()
	}()
	return &editor{line: line, sequences: liner.TerminalSupported()}, nil
}

// close restores the mode of the terminal.
func (e *editor) close() { _ = e.line.Close() }

// readLine reads a line. It returns errAborted after Ctrl-C, and io.EOF after Ctrl-D.
func (e *editor) readLine(prompt string) (string, error) {
	if e.sequences {
		fmt.Print(enablePaste)
		defer fmt.Print(disablePaste)
	}
	text, err := e.line.Prompt(prompt)
	if errors.Is(err, liner.ErrPromptAborted) {
		return "", errAborted
	}
	return text, err
}
