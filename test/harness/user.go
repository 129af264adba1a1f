package harness

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// ServiceUser is the user and the group of a service in tests, which no account has.
const ServiceUser = 61234

// NewSharedWorkspace returns a workspace that every user of the machine can enter, and
// that ServiceUser owns. Only root can call it.
func NewSharedWorkspace(t *testing.T) *Workspace {
	t.Helper()
	w := NewWorkspace(t)
	dir, err := os.MkdirTemp("", "collectord-shared-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w.Dir = dir
	w.Env["STATE_DIR"], w.Env["STORE_FILE"] = w.Path("state"), w.Path("source", "%TAG", "%TENANCY.json")
	if err := os.Chown(dir, ServiceUser, ServiceUser); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return w
}

// RunAsService runs the program as ServiceUser.
func (w *Workspace) RunAsService(args ...string) Result {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), HangLimit)
	defer cancel()
	cmd := w.Command(ctx, args...)
	cmd.Path = w.sharedProgram()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ServiceUser, Gid: ServiceUser}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return w.ResultOf(cmd, err, stdout.String(), stderr.String())
}

// sharedProgram returns the path of a copy of the program that every user can execute.
func (w *Workspace) sharedProgram() string {
	w.Helper()
	path := filepath.Join(filepath.Dir(w.Dir), filepath.Base(w.Dir)+"-program")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	w.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			w.Error(err)
		}
	})
	if os.Link(Program(w), path) == nil {
		return path
	}
	from, err := os.Open(Program(w))
	if err != nil {
		w.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		w.Fatal(err)
	}
	if err := to.Close(); err != nil {
		w.Fatal(err)
	}
	return path
}
