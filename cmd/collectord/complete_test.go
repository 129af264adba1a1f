package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletion asks what the shells ask.
func TestCompletion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for call, want := range map[string]struct{ offers, never string }{
		"--once tena":        {"tenable_assets", "okta_users"},
		"--once ":            {"okta", "restore"},
		"acc":                {"accept", "tenable"},
		"restore okta":       {"okta_users", "tenable"},
		"accept snyk_":       {"snyk_issues", "\nsnyk\n"},
		"accept okta_users ": {":4", "snyk_issues"},
		"drop ":              {"postgres", "okta"},
		"query --format ":    {"parquet", "okta"},
	} {
		words := strings.Split(call, " ")
		e := p.run(append([]string{"__complete"}, words...)...)
		p.want(e, 0, want.offers)
		if strings.Contains("\n"+e.stdout, want.never) {
			t.Errorf("%q offers %q:\n%s", call, want.never, e.stdout)
		}
	}
}

// TestCompletionInBash has a real bash complete a line by the script.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	e := p.run("completion", "bash")
	p.want(e, 0)
	script := p.file("completion")
	program := p.file("collectord")
	for path, text := range map[string]string{script: e.stdout, program: "#!/bin/sh\nexec env " + asProgram + "=1 '" + p.abs(os.Args[0]) + "' \"$@\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What bash-completion offers to scripts, reduced to what this one needs.
	line := `_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
__ltrim_colon_completions() { :; }
compopt() { :; }
source "$0"
COMP_WORDS=(collectord --once tenable_as) COMP_CWORD=2 COMP_LINE="collectord --once tenable_as" COMP_POINT=28 COMP_TYPE=9
__start_collectord collectord
printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", line, script)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "tenable_assets" {
		t.Errorf("%v: %s", err, out)
	}
}
