package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// TestCompletion makes the calls that the shells make.
func TestCompletion(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	for _, tc := range []struct {
		line            string
		offered, absent string
	}{
		{line: "--once tena", offered: "tenable_assets", absent: "okta_users"},
		{line: "--once ", offered: "okta", absent: "restore"},
		{line: "acc", offered: "accept", absent: "tenable"},
		{line: "restore okta", offered: "okta_users", absent: "tenable"},
		{line: "accept snyk_", offered: "snyk_issues", absent: "\nsnyk\n"},
		{line: "accept okta_users ", offered: ":4", absent: "snyk_issues"},
		{line: "drop ", offered: "postgres", absent: "okta"},
		{line: "query --format ", offered: "parquet", absent: "okta"},
	} {
		words := strings.Split(tc.line, " ")
		e := ws.Run(append([]string{"__complete"}, words...)...)
		ws.AssertResult(e, harness.ExitOK, tc.offered)
		if strings.Contains("\n"+e.Stdout, tc.absent) {
			t.Errorf("%q offers %q:\n%s", tc.line, tc.absent, e.Stdout)
		}
	}
}

// TestCompletionInBash completes a line in a real bash with the generated script.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	e := ws.Run("completion", "bash")
	ws.AssertResult(e, harness.ExitOK)
	script := ws.Path("completion")
	program := ws.Path("collectord")
	for path, text := range map[string]string{script: e.Stdout, program: "#!/bin/sh\nexec '" + harness.Program(t) + "' \"$@\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The functions of bash-completion that the script needs, simplified.
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
