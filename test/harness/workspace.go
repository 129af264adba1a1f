// Package harness runs the built program in tests: once, as a service, and under
// systemd, with simulated vendors and real destinations.
package harness

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
)

// A Workspace is a directory in which collectord runs, with its environment.
type Workspace struct {
	*testing.T
	Dir string
	Env map[string]string
}

// NewWorkspace returns an empty workspace whose settings name a state directory, a
// file for each stream, and a free port for HTTP.
func NewWorkspace(t *testing.T) *Workspace {
	t.Helper()
	dir := t.TempDir()
	return &Workspace{T: t, Dir: dir, Env: map[string]string{
		"STATE_DIR":   filepath.Join(dir, "state"),
		"STORE_FILE":  filepath.Join(dir, "source", "%TAG", "%TENANCY.json"),
		"HTTP_LISTEN": "127.0.0.1:0",
	}}
}

// UseVendors sets the addresses and credentials of simulated vendors.
func (w *Workspace) UseVendors(sim *vendorsim.Server) *Workspace {
	for _, h := range sim.Hosts() {
		for _, line := range h.Env() {
			name, value, _ := strings.Cut(line, "=")
			w.Env[name] = value
		}
	}
	return w
}

// UseS3 sets the address and credentials of an S3 server and the name of a new
// bucket. It returns the function that maps an object's key to its file.
func (w *Workspace) UseS3() (object func(key string) string) {
	w.Helper()
	s3 := testserver.StartS3(w)
	for name, value := range s3.Env() {
		w.Env[name] = value
	}
	bucket := "b-" + uuid.NewString()
	w.Env["STORE_AWS_S3_BUCKET"] = bucket
	if err := os.Mkdir(s3.Object(bucket, ""), 0o700); err != nil {
		w.Fatal(err)
	}
	return func(key string) string { return s3.Object(bucket, key) }
}

// A Result is the exit code and the output of a finished program.
type Result struct {
	Code           int // -1 when a signal ended it
	Stdout, Stderr string
}

// Output returns standard output followed by standard error.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Command returns a call of the program that has not been started.
func (w *Workspace) Command(ctx context.Context, args ...string) *exec.Cmd {
	w.Helper()
	cmd := exec.CommandContext(ctx, Program(w), args...)
	cmd.Dir = w.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.Dir, "NO_PROXY=127.0.0.1", WithoutSleep}
	for name, value := range w.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// WithoutSleep is the variable with which a program that is built with the race detector
// ends at once; otherwise it sleeps for a second at its end.
const WithoutSleep = "GORACE=atexit_sleep_ms=0"

// runTimeout bounds one call of the program.
const runTimeout = 2 * time.Minute

// Run runs the program to its end.
func (w *Workspace) Run(args ...string) Result {
	w.Helper()
	_, wait := w.Start(args...)
	return wait()
}

// Start starts the program and returns the function that waits for its end.
func (w *Workspace) Start(args ...string) (cmd *exec.Cmd, wait func() Result) {
	w.Helper()
	Program(w) // building it does not count
	ctx, cancel := context.WithTimeout(w.Context(), runTimeout)
	var stdout, stderr bytes.Buffer
	cmd = w.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		cancel()
		w.Fatal(err)
	}
	return cmd, func() Result {
		w.Helper()
		defer cancel()
		err := cmd.Wait()
		return w.ResultOf(cmd, err, stdout.String(), stderr.String())
	}
}

// ResultOf returns the result of a command that has ended with err. It fails the
// test when the program panicked, had a data race, or printed a secret.
func (w *Workspace) ResultOf(cmd *exec.Cmd, err error, stdout, stderr string) Result {
	w.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.Fatalf("%v\n%s", err, stderr)
	}
	r := Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout, Stderr: stderr}
	if strings.Contains(stderr, "panic:") || strings.Contains(stderr, "DATA RACE") {
		w.Errorf("the program crashed or has a data race:\n%s", stderr)
	}
	w.AssertNoSecrets(r.Output())
	return r
}

// AssertResult checks the exit code and that the output contains the texts.
func (w *Workspace) AssertResult(r Result, code int, texts ...string) {
	w.Helper()
	if r.Code != code {
		w.Errorf("exit code %d, want %d:\n%s", r.Code, code, r.Output())
	}
	for _, text := range texts {
		if !strings.Contains(r.Output(), text) {
			w.Errorf("the output does not contain %q:\n%s", text, r.Output())
		}
	}
}

// secrets returns the values of the environment that must not be printed.
func (w *Workspace) secrets() []string {
	var secrets []string
	for name, value := range w.Env {
		if name == "STORE_AWS_S3_KEY" { // the name of an object
			continue
		}
		for _, part := range []string{"SECRET", "TOKEN", "KEY", "PASSWORD"} {
			if strings.Contains(name, part) && len(value) > 6 && !strings.HasSuffix(name, "_FILE") {
				secrets = append(secrets, value)
			}
		}
	}
	return secrets
}

// AssertNoSecrets checks that the text contains no secret of the environment.
func (w *Workspace) AssertNoSecrets(text string) {
	w.Helper()
	for _, s := range w.secrets() {
		if strings.Contains(text, s) {
			w.Errorf("a secret is shown:\n%s", text)
		}
	}
}

// RunInCheckout runs another program in the repository's directory and returns
// its output. A failure ends the test.
func (w *Workspace) RunInCheckout(name string, args ...string) string {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), name, args...)
	cmd.Dir = checkout.Join(w)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		w.Fatalf("%s %q: %v\n%s", name, args, err, out.String())
	}
	return out.String()
}
