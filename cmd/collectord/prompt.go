package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/collectord/collectord/pkg/query/prompt"
)

// promptRows is the default of --rows at the prompt.
const promptRows = 1000

// runPrompt reads statements from the terminal and runs them.
func (a *assembly) runPrompt(ctx context.Context, q queryFlags, s *signals) error {
	engine := a.newQueryEngine(int64(q.memoryBytes))
	defer engine.Close()
	history, lack := a.historyPath()
	if lack != "" {
		fmt.Fprintf(a.stderr, "the history of this session is not kept: %s; COLLECTORD_HISTORY may name another file, or off\n", lack)
	}
	refresh := func(ctx context.Context) error {
		if err := a.reinspectState(ctx); err != nil {
			return err
		}
		engine.SetState(a.state)
		return nil
	}
	return prompt.Run(ctx, prompt.Options{
		Engine: engine, Refresh: refresh, Limits: q.limits(), Format: q.resultFormat(), History: history,
		Interrupts: s.divertInterrupts(), Width: stdoutWidth, Out: a.stdout, Err: a.stderr,
	})
}

// reinspectState opens the state again, for data that is newer.
func (a *assembly) reinspectState(ctx context.Context) error {
	former := a.state
	if err := a.inspectState(ctx); err != nil {
		a.state = former
		return err
	}
	return former.Close()
}

// stdoutWidth returns the number of columns of the terminal, or 0 when it is not known.
func stdoutWidth() int {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// historyPath returns the path of the file of the prompt's history. It is "" for none, and
// lack says why. By default the file is in the home directory, unless that is of another
// user, as it may be under sudo, or is the state directory, as it may be for the user of
// the service.
func (a *assembly) historyPath() (path, lack string) {
	switch path := os.Getenv("COLLECTORD_HISTORY"); path {
	case "off":
		return "", ""
	case "":
	default:
		return path, ""
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "there is no home directory"
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(home, ".local", "state")
	}
	parent := existingParent(dir)
	if uid, _, ok := ownerOf(parent); ok && uid != os.Geteuid() {
		return "", parent + " belongs to another user"
	}
	if isWithin(dir, a.stateDir()) {
		return "", dir + " is in STATE_DIR"
	}
	return filepath.Join(dir, "collectord", "query_history"), ""
}

// existingParent returns dir or the closest directory above it that exists.
func existingParent(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// isWithin reports whether path is dir or below it.
func isWithin(path, dir string) bool {
	relative, err := filepath.Rel(dir, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}
