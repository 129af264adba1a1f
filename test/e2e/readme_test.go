package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// A reader runs the commands of README.md in a fresh checkout.
type reader struct {
	*harness.Workspace
	sim  *vendorsim.Server
	tool string // runs in place of go: its build copies the program of the tests
}

// TestReadmeCommands runs every command of README.md in its order, as a new user
// would, with simulated vendors. It fails for a command that it does not know.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	sim, err := vendorsim.Start(vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendorsim.NewCrowdStrike(), vendorsim.NewKnowBe4(), vendorsim.NewOkta(), vendorsim.NewSnyk(), harness.NewSmallTenable()},
		Counts:  harness.SmallCounts, Base: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	dir := filepath.Join(t.TempDir(), "collectord")
	if err := os.CopyFS(filepath.Join(dir, "configs"), os.DirFS(checkout.Join(t, "configs"))); err != nil {
		t.Fatal(err)
	}
	r := &reader{Workspace: &harness.Workspace{T: t, Dir: dir, Env: map[string]string{"HTTP_LISTEN": "127.0.0.1:0"}}, sim: sim, tool: filepath.Join(dir, "go")}
	r.writeScript(r.tool, fmt.Sprintf(`case "$*" in
build*) while [ "$1" != -o ]; do shift; done
  mkdir -p "$(dirname "$2")"
  printf '#!/bin/sh\nexec "%s" "$@"\n' >"$2" && chmod +x "$2" ;;
*internal/demo*) exec go "$@" -data "%s" ;;
*) exec go "$@" ;;
esac`, harness.Program(t), filepath.Join(dir, "demo")))
	commands := 0
	for _, b := range markdown.Read(t, "README.md").BlocksOfKind("sh") {
		for line := range strings.Lines(b.Text) {
			command, _, _ := strings.Cut(line, "   #")
			if command = strings.TrimSpace(command); command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			commands++
			r.runCommand(command)
		}
	}
	if commands < 8 {
		t.Errorf("only %d commands were found", commands)
	}
	for stream, n := range harness.SmallCounts {
		path := filepath.Join(dir, "..", "data", "source", stream, "default.json")
		if got := strings.Count(r.Content(path), `"_upload_id"`); got != n {
			t.Errorf("%d records in %s, the vendor has %d", got, path, n)
		}
	}
}

// runCommand runs one command.
func (r *reader) runCommand(command string) {
	r.Helper()
	switch words := strings.Fields(command); {
	case command == "make test":
		r.assertRunByCI(command)
	case words[0] == "make":
		r.runShell(fmt.Sprintf("make -C %q GO=%q BIN=%q %s", checkout.Join(r), r.tool, r.Path("bin", "collectord"), strings.Join(words[1:], " ")), 8*time.Minute)
	case command == "cp configs/minimal.env .env && chmod 600 .env":
		r.runShell(command, time.Minute)
		r.writeKeys()
	case command == "bin/collectord":
		s := r.StartService()
		s.WaitForLog(`"ready"`)
		s.Signal(syscall.SIGTERM)
		r.AssertResult(s.Wait(), harness.ExitOK, `"stopped"`)
	case words[0] == "apt" || words[0] == "dnf":
		r.assertInInstallGuide(command)
	case words[0] == "bin/collectord":
		r.runShell(command, 5*time.Minute)
	default:
		r.Errorf("README.md has the command %q, which this test does not run: add it here", command)
	}
}

// assertRunByCI checks that CI runs the command, which this test cannot run because it
// is a part of it.
func (r *reader) assertRunByCI(command string) {
	r.Helper()
	script := r.Content(checkout.Join(r, ".ci/run"))
	if !regexp.MustCompile(`(?m)^` + command + `$`).MatchString(script) {
		r.Errorf(".ci/run does not run %s:\n%s", command, script)
	}
}

// assertInInstallGuide checks that docs/guide/install.md has the same command. It
// needs root: the tests of the packages install them.
func (r *reader) assertInInstallGuide(command string) {
	r.Helper()
	if guide := r.Content(checkout.Join(r, "docs/guide/install.md")); !strings.Contains(guide, "\n"+command+" ") {
		r.Errorf("docs/guide/install.md does not have the command %q", command)
	}
}

// writeKeys replaces the example keys in .env by those of the simulated vendors.
func (r *reader) writeKeys() {
	r.Helper()
	text := regexp.MustCompile(`(?m)^TIO_.*\n`).ReplaceAllString(r.Content(r.Path(".env")), "")
	for _, h := range r.sim.Hosts() {
		text += strings.Join(h.Env(), "\n") + "\n"
	}
	if err := os.WriteFile(r.Path(".env"), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// runShell runs a line of shell in the checkout. A failure ends the test.
func (r *reader) runShell(line string, timeout time.Duration) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1")
	for name, value := range r.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	e := r.ResultOf(cmd, err, stdout.String(), stderr.String())
	(&harness.Workspace{T: r.T, Env: map[string]string{}}).UseVendors(r.sim).AssertNoSecrets(e.Output())
	if e.Code != 0 || e.Stdout == "" && !strings.HasPrefix(line, "cp ") {
		r.Fatalf("%s: exit code %d:\n%s", line, e.Code, e.Output())
	}
	r.Logf("$ %s\n%s", line, e.Stdout)
}

func (r *reader) writeScript(path, text string) {
	r.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		r.Fatal(err)
	}
}

// TestReadmeSettings checks the example settings in README.md.
func TestReadmeSettings(t *testing.T) {
	t.Parallel()
	blocks := markdown.Read(t, "README.md").BlocksOfKind("env")
	if len(blocks) != 1 {
		t.Fatalf("README.md has %d blocks of settings, want 1", len(blocks))
	}
	w := harness.NewWorkspace(t)
	w.Env = map[string]string{}
	harness.WriteFile(t, w.Path(".env"), blocks[0].Text)
	w.AssertResult(w.Run("check"), harness.ExitOK, "settings are good")
}
