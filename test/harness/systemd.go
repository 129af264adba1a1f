package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/collectord/collectord/test/checkout"
)

// Unit is the name of the service's systemd unit.
const Unit = "collectord.service"

const (
	systemdProgram = "/lib/systemd/systemd"
	systemdTimeout = HangLimit
)

// Systemd is a systemd of the test's own, which runs as a user's.
type Systemd struct {
	*Workspace
	RuntimeDir string
	LogFile    string // of the service
}

// StartSystemd starts a systemd, which ends with the test.
func StartSystemd(w *Workspace) *Systemd {
	w.Helper()
	if _, err := os.Stat(systemdProgram); err != nil {
		w.Fatalf("%v: apt-get install systemd, or make test-servers", err)
	}
	lockSystemd(w)
	runtime, err := os.MkdirTemp("", "sd") // sockets need short paths
	if err != nil {
		w.Fatal(err)
	}
	s := &Systemd{Workspace: w, RuntimeDir: runtime, LogFile: w.Path("log")}
	if err := os.MkdirAll(filepath.Join(runtime, "config", "systemd", "user"), 0o700); err != nil {
		w.Fatal(err)
	}
	var output bytes.Buffer
	cmd := exec.Command(systemdProgram, "--user")
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		// systemd starts only where systemd runs the machine: it gets a /run that
		// looks like it.
		cmd = exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c",
			"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && mount --make-rshared / && exec "+systemdProgram+" --user")
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = s.Environ(), &output, &output
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_, _ = s.Systemctl("stop", Unit)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		if w.Failed() {
			w.Logf("output of systemd:\n%s\nlog of the service:\n%s", output.String(), w.Content(s.LogFile))
		}
		_ = os.RemoveAll(runtime)
	})
	s.WaitUntil("systemd responds", func() bool {
		_, err := s.Systemctl("list-units")
		return err == nil
	})
	return s
}

// lockSystemd waits until no other test has a systemd, also of another package. Those
// that one process starts share a control group, in which units of one name are one.
func lockSystemd(w *Workspace) {
	w.Helper()
	lock := flock.New(filepath.Join(os.TempDir(), fmt.Sprintf("collectord-test-systemd-%d.lock", os.Getuid())))
	if err := lock.Lock(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = lock.Unlock() })
}

// Environ returns the environment for commands that use this systemd.
func (s *Systemd) Environ() []string {
	return []string{
		"XDG_RUNTIME_DIR=" + s.RuntimeDir, "XDG_CONFIG_HOME=" + filepath.Join(s.RuntimeDir, "config"), "XDG_STATE_HOME=" + s.Path("xdg"),
		"HOME=" + s.Dir, "PATH=" + os.Getenv("PATH"), "SYSTEMD_LOG_TARGET=console",
	}
}

// Systemctl runs systemctl and returns its output.
func (s *Systemd) Systemctl(args ...string) (string, error) {
	cmd := exec.CommandContext(s.Context(), "systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	if s.Context().Err() != nil { // during cleanup
		cmd = exec.Command("systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	}
	cmd.Env = s.Environ()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// MustSystemctl runs systemctl. A failure ends the test.
func (s *Systemd) MustSystemctl(args ...string) {
	s.Helper()
	if out, err := s.Systemctl(args...); err != nil {
		s.Fatalf("systemctl %v: %v\n%s", args, err, out)
	}
}

// Property returns a property of the unit.
func (s *Systemd) Property(name string) string {
	s.Helper()
	out, err := s.Systemctl("show", "--value", "-p", name, Unit)
	if err != nil {
		s.Fatalf("systemctl show: %v\n%s", err, out)
	}
	return out
}

// WaitUntil waits until the condition holds, which another process brings about.
func (s *Systemd) WaitUntil(condition string, holds func() bool) {
	s.Helper()
	for deadline := time.Now().Add(systemdTimeout); !holds(); {
		if time.Now().After(deadline) {
			s.Fatalf("timeout: %s; state %s, restarts %s", condition, s.Property("ActiveState"), s.Property("NRestarts"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// InstallUnit installs the unit of deploy/systemd with further lines; see
// InstallUnitText.
func (s *Systemd) InstallUnit(lines ...string) {
	s.Helper()
	text, err := os.ReadFile(checkout.Join(s, "deploy/systemd", Unit))
	if err != nil {
		s.Fatal(err)
	}
	s.InstallUnitText(string(text), lines...)
}

// InstallUnitText installs a unit with this text, without its sandbox, which needs
// root, and with short times.
func (s *Systemd) InstallUnitText(text string, lines ...string) {
	s.Helper()
	shipped, _, found := strings.Cut(text, "User=collectord\n")
	if !found {
		s.Fatal("the unit has no User=")
	}
	for _, r := range []struct{ pattern, with string }{
		{`ExecStart=.*`, "ExecStart=" + Program(s)}, {`ExecReload=/usr/bin/collectord check`, "ExecReload=" + Program(s) + " check"},
		{`WatchdogSec=.*`, "WatchdogSec=1500ms"}, {`RestartSec=.*`, "RestartSec=50ms"},
		{`WorkingDirectory=.*`, "WorkingDirectory=" + s.Dir}, {`EnvironmentFile=.*`, ""},
	} {
		shipped = regexp.MustCompile(`(?m)^`+r.pattern+`$`).ReplaceAllLiteralString(shipped, r.with)
	}
	shipped += "TimeoutAbortSec=1\nStandardOutput=null\nStandardError=append:" + s.LogFile + "\n" + strings.Join(lines, "\n") + "\n"
	for name, value := range s.Env {
		shipped += fmt.Sprintf("Environment=\"%s=%s\"\n", name, strings.ReplaceAll(value, "%", "%%"))
	}
	path := filepath.Join(s.RuntimeDir, "config", "systemd", "user", Unit)
	if err := os.WriteFile(path, []byte(shipped), 0o600); err != nil {
		s.Fatal(err)
	}
	s.MustSystemctl("daemon-reload")
}
