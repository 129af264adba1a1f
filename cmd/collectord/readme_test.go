package main

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
)

// reader is somebody who follows README.md in a fresh checkout.
type reader struct {
	*place
	sim  *vendorsim.Server
	tool string // takes the place of go: it builds the tests' own binary
}

// TestReadmeCommands runs every command of README.md in its order, as a new
// user would, with simulated vendors. A command that nothing runs fails.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	sim, err := vendorsim.Start(vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendorsim.NewCrowdStrike(), vendorsim.NewKnowBe4(), vendorsim.NewOkta(), vendorsim.NewSnyk(), smallTenant()},
		Counts:  smallCounts, Base: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	dir := filepath.Join(t.TempDir(), "collectord")
	if err := os.CopyFS(filepath.Join(dir, "configs"), os.DirFS(filepath.Join(checkout, "configs"))); err != nil {
		t.Fatal(err)
	}
	r := &reader{place: &place{T: t, dir: dir, env: map[string]string{"HTTP_LISTEN": "127.0.0.1:0"}}, sim: sim, tool: filepath.Join(dir, "go")}
	r.script(r.tool, fmt.Sprintf(`case "$*" in
build*) while [ "$1" != -o ]; do shift; done
  mkdir -p "$(dirname "$2")"
  printf '#!/bin/sh\nexec env %s=1 "%s" "$@"\n' >"$2" && chmod +x "$2" ;;
*internal/demo*) exec go "$@" -data "%s" ;;
*) exec go "$@" ;;
esac`, asProgram, os.Args[0], filepath.Join(dir, "demo")))
	commands := 0
	for _, b := range documentOf(t, "README.md").ofKind("sh") {
		for line := range strings.Lines(b.text) {
			command, _, _ := strings.Cut(line, "   #")
			if command = strings.TrimSpace(command); command == "" || strings.HasPrefix(command, "#") {
				continue
			}
			commands++
			r.follow(command)
		}
	}
	if commands < 8 {
		t.Errorf("only %d commands were found", commands)
	}
	for stream, n := range smallCounts {
		path := filepath.Join(dir, "..", "data", "source", stream, "default.json")
		if got := strings.Count(r.content(path), `"_upload_id"`); got != n {
			t.Errorf("%d records in %s, the vendor has %d", got, path, n)
		}
	}
}

// follow runs one command.
func (r *reader) follow(command string) {
	r.Helper()
	switch words := strings.Fields(command); {
	case command == "make test":
		r.isWhatCIRuns(command)
	case words[0] == "make":
		r.shell(fmt.Sprintf("make -C %q GO=%q BIN=%q %s", r.abs(checkout), r.tool, r.file("bin", "collectord"), strings.Join(words[1:], " ")), 8*time.Minute)
	case command == "cp configs/minimal.env .env && chmod 600 .env":
		r.shell(command, time.Minute)
		r.putKeys()
	case command == "bin/collectord":
		s := r.serve()
		s.until(`"ready"`)
		s.signal(syscall.SIGTERM)
		r.want(s.ended(), 0, `"stopped"`)
	case words[0] == "bin/collectord":
		r.shell(command, 5*time.Minute)
	default:
		r.Errorf("README.md has the command %q, which nothing runs: run it here", command)
	}
}

// isWhatCIRuns: the test that this is part of cannot run itself.
func (r *reader) isWhatCIRuns(command string) {
	r.Helper()
	script := r.content(filepath.Join(checkout, ".ci", "run"))
	if !regexp.MustCompile(`(?m)^` + command + `$`).MatchString(script) {
		r.Errorf(".ci/run does not run %s:\n%s", command, script)
	}
}

// putKeys writes the keys of the simulated vendors into .env, after the
// examples, which are set no more.
func (r *reader) putKeys() {
	r.Helper()
	text := regexp.MustCompile(`(?m)^TIO_.*\n`).ReplaceAllString(r.content(r.file(".env")), "")
	for _, h := range r.sim.Hosts() {
		text += strings.Join(h.Env(), "\n") + "\n"
	}
	if err := os.WriteFile(r.file(".env"), []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

// shell runs a line of shell in the checkout, which must succeed.
func (r *reader) shell(line string, patience time.Duration) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1")
	for name, value := range r.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	e := r.endOf(cmd, err, stdout.String(), stderr.String())
	(&place{T: r.T, env: map[string]string{}}).with(r.sim).noSecrets(e.all())
	if e.code != 0 || e.stdout == "" && !strings.HasPrefix(line, "cp ") {
		r.Fatalf("%s: exit code %d:\n%s", line, e.code, e.all())
	}
	r.Logf("$ %s\n%s", line, e.stdout)
}

func (p *place) abs(path string) string {
	p.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		p.Fatal(err)
	}
	return path
}

func (r *reader) script(path, text string) {
	r.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		r.Fatal(err)
	}
}
