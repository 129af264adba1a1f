package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// nextPrompt is what the terminal shows when the program waits for the next statement. The
// line editor shows the prompt again for each key, but not after a line break.
const nextPrompt = "\r\ncollectord> "

// The keys of the tests.
const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlP = "\x10" // the line before in the history
	enter = "\r"
	tab   = "\t"
)

// TestPrompt uses the prompt of queries as a person does.
func TestPrompt(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	term := ws.StartInTerminal("query")
	term.Expect("The oldest is ", "old", nextPrompt)
	for _, step := range []struct {
		keys string
		want []string
	}{
		{keys: ".tables" + enter, want: []string{"stream", "records", "tenable_assets ", "80", "old"}},
		{keys: "SELECT 40 + 2 AS sum," + enter + " 'a;'';' AS text;" + enter, want: []string{"       ...> ", "sum  text\r\n", "42   a;';\r\n", "(1 row, "}},
		{keys: "sel" + tab + "count(*) + 900 AS n FROM tenable_as" + tab + ";" + enter, want: []string{"\r\n980", "tenable_assets is ", "old)"}},
		{keys: "SELECT * FROM tenable_" + tab + tab + ctrlC, want: []string{"tenable_assets", vendorsim.TenableVulns}},
		{keys: ".schema tenable_as" + tab + enter, want: []string{"tenable_assets\r\n", "_tenancy ", "VARCHAR\r\n", "_upload_id ", "UUID"}},
		{keys: "FROM tenable_assets SELECT count(_tenan" + tab + ") + 600 AS n;" + enter, want: []string{"\r\n680"}},
		{keys: "SELEKT 1;" + enter, want: []string{"error: ", "syntax error"}},
		{keys: ".format xml" + enter, want: []string{"table, csv, csv-raw, json"}},
		{keys: ".format csv" + enter},
		{keys: ".rows 2" + enter},
		{keys: "SELECT i + 500 AS i FROM range(10) r(i);" + enter, want: []string{"i\r\n500\r\n501\r\n(the first 2 rows"}},
		{keys: ".fromat" + enter, want: []string{"unknown command .fromat: .help"}},
		{keys: ".help" + enter, want: []string{".tables", ".schema [STREAM]", ".quit"}},
		{keys: "SELECT 1, given up" + ctrlC},
		{keys: "\x1b[200~SELECT\t30 + 3\n AS\tpasted;\n\x1b[201~", want: []string{"pasted\r\n33\r\n"}},
	} {
		term.Type(step.keys)
		term.Expect(append(step.want, nextPrompt)...)
	}
	term.Type("SELECT count(*) FROM range(10000000) a, range(10000000) b;" + enter)
	waitForWorker(t, ws.Dir, true)
	term.Type(ctrlC)
	term.Expect("cancelled", nextPrompt)
	waitForWorker(t, ws.Dir, false)
	term.Type("SELECT 8000 + 8 AS last;" + enter)
	term.Expect("8008", nextPrompt)
	term.Type(ctrlD)
	ws.AssertResult(term.Wait(), harness.ExitOK)

	history := ws.Path(".local", "state", "collectord", "query_history")
	if info, err := os.Stat(history); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text := ws.Content(history); !strings.Contains(text, "\nSELECT 40 + 2 AS sum, 'a;'';' AS text;\n") || strings.Contains(text, "given up") {
		t.Errorf("the history is:\n%s", text)
	}
	term = ws.StartInTerminal("query", "--format", "json")
	term.Expect(nextPrompt)
	term.Type(ctrlP + enter)
	term.Expect(`{"last":8008}`, nextPrompt)
	term.Type(".quit" + enter)
	ws.AssertResult(term.Wait(), harness.ExitOK)
}

// waitForWorker waits until there is, or is not, a worker process of a query in dir.
func waitForWorker(t *testing.T, dir string, exists bool) {
	t.Helper()
	for began := time.Now(); (workerIn(dir) != "") != exists; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > harness.HangLimit {
			t.Fatalf("that there is a worker should be %v", exists)
		}
	}
}

// TestPromptFitsTheTerminal checks that the lines of a table are no longer than the
// terminal is wide.
func TestPromptFitsTheTerminal(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	term := ws.StartInTerminal("query")
	term.Expect(nextPrompt)
	term.Type("SELECT * FROM tenable_assets LIMIT 2;" + enter)
	for line := range strings.Lines(term.Expect(" columns)\r\n", "(2 rows")) {
		if n := len([]rune(strings.TrimSpace(line))); n > 100 {
			t.Errorf("a line has %d characters: %s", n, line)
		}
	}
	term.Expect(nextPrompt)
	term.Type(".exit" + enter)
	ws.AssertResult(term.Wait(), harness.ExitOK)
}

// TestPromptIsTerminated ends the prompt with a signal, and checks that the terminal is as
// it was.
func TestPromptIsTerminated(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	for name, keys := range map[string]string{"while a line is edited": "SELECT", "while a query runs": "SELECT count(*) FROM range(10000000) a, range(10000000) b;" + enter} {
		t.Run(name, func(t *testing.T) {
			term := ws.StartInTerminal("query")
			term.Expect(nextPrompt)
			if term.Echoes() {
				t.Error("the terminal shows what is typed, and so does the line editor")
			}
			term.Type(keys)
			if strings.HasSuffix(keys, enter) {
				waitForWorker(t, ws.Dir, true)
			}
			term.Signal(syscall.SIGTERM)
			ws.AssertResult(term.Wait(), harness.ExitTerminated, "SIGTERM")
			if !term.Echoes() {
				t.Error("the terminal does not show any more what is typed")
			}
		})
	}
}

// TestPromptKeepsOutOfOtherDirectories checks that there is no history where it would be in
// the state directory or in the home directory of another user.
func TestPromptKeepsOutOfOtherDirectories(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	foreign := "/" // also for root, which owns it, there is another one
	if os.Geteuid() == 0 {
		foreign = t.TempDir()
		if err := os.Chown(foreign, harness.ServiceUser, harness.ServiceUser); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct{ home, history, want string }{
		"the state directory":        {home: ws.Env["STATE_DIR"], want: "not kept: " + ws.Env["STATE_DIR"]},
		"the home of another user":   {home: foreign, want: "belongs to another user"},
		"off":                        {home: ws.Dir, history: "off", want: "SQL over"},
		"a directory that is a file": {home: ws.Dir, history: "/dev/null/history", want: "error: history: "},
	} {
		t.Run(name, func(t *testing.T) {
			ws.Env["HOME"], ws.Env["COLLECTORD_HISTORY"] = tc.home, tc.history
			term := ws.StartInTerminal("query")
			term.Expect(tc.want, nextPrompt)
			term.Type(".rows" + enter)
			term.Expect("1000", nextPrompt)
			term.Type(ctrlD)
			ws.AssertResult(term.Wait(), harness.ExitOK)
			if _, err := os.Stat(filepath.Join(tc.home, ".local")); err == nil {
				t.Errorf("%s has a directory .local", tc.home)
			}
		})
	}
}

// TestQueryFromStandardInput checks where a query without text reads from.
func TestQueryFromStandardInput(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.AssertResult(ws.Run("--once"), harness.ExitOK)
	harness.WriteFile(ws, ws.Path("q.sql"), "SELECT 30 + 3 AS n;\n")
	runShell := func(line string) harness.Result {
		cmd := ws.Command(t.Context())
		program := cmd.Path
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", line, program}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		return ws.ResultOf(cmd, err, stdout.String(), stderr.String())
	}
	ws.AssertResult(runShell(`echo "SELECT 20 + 2 AS n" | "$0" query --format csv`), harness.ExitOK, "n\n22\n")
	ws.AssertResult(runShell(`"$0" query --format csv < q.sql`), harness.ExitOK, "n\n33\n")
	ws.AssertResult(runShell(`"$0" query -f - --format csv < q.sql`), harness.ExitOK, "n\n33\n")
	ws.AssertResult(runShell(`: | "$0" query`), harness.ExitUsage, "the query is empty")
	ws.AssertResult(runShell(`"$0" query < /dev/null`), harness.ExitUsage, "it opens a prompt on a terminal")
}
