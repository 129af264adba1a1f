package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
)

const managerProgram = "/lib/systemd/systemd"

// manager is a systemd of its own, as a user's.
type manager struct {
	*place
	runtime string
	log     string // of the service
}

// newManager starts a systemd. Sockets must have short paths.
func newManager(p *place) *manager {
	p.Helper()
	if _, err := os.Stat(managerProgram); err != nil {
		p.Fatalf("%v: apt-get install systemd, or make test-servers", err)
	}
	runtime, err := os.MkdirTemp("", "sd")
	if err != nil {
		p.Fatal(err)
	}
	m := &manager{place: p, runtime: runtime, log: p.file("log")}
	if err := os.MkdirAll(filepath.Join(runtime, "config", "systemd", "user"), 0o700); err != nil {
		p.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(managerProgram, "--user")
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		// It starts only where systemd runs the machine: it gets a /run that says so.
		cmd = exec.Command("unshare", "--mount", "--map-root-user", "sh", "-c",
			"mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && mount --make-rshared / && exec "+managerProgram+" --user")
	}
	cmd.Env, cmd.Stdout, cmd.Stderr = m.environment(), &said, &said
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		_, _ = m.systemctl("stop", unit)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		if p.Failed() {
			p.Logf("systemd said:\n%s\nthe service said:\n%s", said.String(), p.content(m.log))
		}
		_ = os.RemoveAll(runtime)
	})
	m.poll("systemd answers", func() bool {
		_, err := m.systemctl("list-units")
		return err == nil
	})
	return m
}

func (m *manager) environment() []string {
	return []string{
		"XDG_RUNTIME_DIR=" + m.runtime, "XDG_CONFIG_HOME=" + filepath.Join(m.runtime, "config"), "XDG_STATE_HOME=" + m.file("xdg"),
		"HOME=" + m.dir, "PATH=" + os.Getenv("PATH"), "SYSTEMD_LOG_TARGET=console",
	}
}

func (m *manager) systemctl(args ...string) (string, error) {
	cmd := exec.CommandContext(m.Context(), "systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	if m.Context().Err() != nil { // while cleaning up
		cmd = exec.Command("systemctl", append([]string{"--user", "--no-pager"}, args...)...)
	}
	cmd.Env = m.environment()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (m *manager) do(args ...string) {
	m.Helper()
	if out, err := m.systemctl(args...); err != nil {
		m.Fatalf("systemctl %v: %v\n%s", args, err, out)
	}
}

const unit = "collectord.service"

// show returns one property of the service.
func (m *manager) show(property string) string {
	m.Helper()
	out, err := m.systemctl("show", "--value", "-p", property, unit)
	if err != nil {
		m.Fatalf("systemctl show: %v\n%s", err, out)
	}
	return out
}

// poll waits for what another process brings about.
func (m *manager) poll(what string, done func() bool) {
	m.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			m.Fatalf("in vain: %s; state %s, restarts %s", what, m.show("ActiveState"), m.show("NRestarts"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// install writes the service's unit: the one that is shipped, without its
// sandbox, which takes root, and with short times.
func (m *manager) install(lines ...string) {
	m.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", unit))
	if err != nil {
		m.Fatal(err)
	}
	m.installUnit(string(text), lines...)
}

// installUnit does so with the text of a unit.
func (m *manager) installUnit(text string, lines ...string) {
	m.Helper()
	shipped, _, found := strings.Cut(text, "User=collectord\n")
	if !found {
		m.Fatal("the unit has no User=")
	}
	binary, err := filepath.Abs(os.Args[0])
	if err != nil {
		m.Fatal(err)
	}
	for _, r := range []struct{ old, with string }{
		{`ExecStart=.*`, "ExecStart=" + binary}, {`WatchdogSec=.*`, "WatchdogSec=1500ms"}, {`RestartSec=.*`, "RestartSec=50ms"},
		{`WorkingDirectory=.*`, "WorkingDirectory=" + m.dir}, {`EnvironmentFile=.*`, ""}, {`StartLimitBurst=.*`, "StartLimitBurst=100"},
	} {
		shipped = regexp.MustCompile(`(?m)^`+r.old+`$`).ReplaceAllLiteralString(shipped, r.with)
	}
	shipped += "TimeoutAbortSec=1\nStandardOutput=null\nStandardError=append:" + m.log + "\n" + strings.Join(lines, "\n") + "\n"
	m.env[asProgram] = "1"
	for name, value := range m.env {
		shipped += fmt.Sprintf("Environment=\"%s=%s\"\n", name, strings.ReplaceAll(value, "%", "%%"))
	}
	path := filepath.Join(m.runtime, "config", "systemd", "user", unit)
	if err := os.WriteFile(path, []byte(shipped), 0o600); err != nil {
		m.Fatal(err)
	}
	m.do("daemon-reload")
}

// TestUnderSystemd: the service under a real systemd, by the unit that is
// shipped.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	sim := startVendors(t, smallCounts, smallTenant())
	p := newPlace(t).with(sim)
	m := newManager(p)
	secret := p.file("secret")
	if err := os.WriteFile(secret, []byte(p.env["TIO_SECRET_KEY"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(p.env, "TIO_SECRET_KEY")
	delete(p.env, "STATE_DIR")
	p.env["SCHEDULE"], p.env["SHUTDOWN_GRACE"] = "15 6 1 1 *", "1s"
	m.install("LoadCredential=TIO_SECRET_KEY:" + secret)

	m.do("start", unit) // returns when it is ready
	if got := m.show("ActiveState") + " " + m.show("SubState"); got != "active running" {
		t.Errorf("it is %s", got)
	}
	m.poll("it collects with the credential", func() bool { return strings.HasPrefix(p.content(p.source("tenable_assets")), "[") })
	m.poll("it tells what is next", func() bool {
		return regexp.MustCompile(`^1 collector, next tenable Jan 1 06:15$`).MatchString(m.show("StatusText"))
	})
	// A user's systemd keeps state with the settings, since 254 in a place of its own.
	places := p.content(filepath.Join(m.runtime, "config", "collectord", "collectord.db")) + p.content(p.file("xdg", "collectord", "collectord.db"))
	if !strings.Contains(places, "SQLite format") {
		t.Error("the state is not in the state directory")
	}
	fed := m.show("WatchdogTimestampMonotonic")
	m.poll("it feeds the watchdog", func() bool { return m.show("WatchdogTimestampMonotonic") != fed })

	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		pid, err := strconv.Atoi(m.show("MainPID"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		m.poll(fmt.Sprintf("it is restarted after %v", signal), func() bool {
			return m.show("NRestarts") == strconv.Itoa(i+1) && m.show("ActiveState") == "active"
		})
	}
	m.do("reload", unit)
	m.poll("it is running after a reload", func() bool { return m.show("ActiveState") == "active" })
	m.poll("the reload is over", func() bool { return strings.Contains(p.content(m.log), "settings were read anew") })

	_, asked := hang(sim)
	m.do("kill", "--signal=USR1", unit)
	<-asked
	began := time.Now()
	m.do("stop", unit)
	if took := time.Since(began); took > 10*time.Second || m.show("Result") != "success" || m.show("ExecMainStatus") != "0" {
		t.Errorf("it stopped after %v with %s, %s", took, m.show("Result"), m.show("ExecMainStatus"))
	}
	p.noSecrets(p.content(m.log))

	p.env["SCHEDULE"] = "0 0 30 2 *"
	m.install("LoadCredential=TIO_SECRET_KEY:" + secret)
	if out, err := m.systemctl("start", unit); err == nil {
		t.Errorf("it starts with bad settings: %s", out)
	}
	if got := m.show("ActiveState") + " " + m.show("ExecMainStatus") + " " + m.show("NRestarts"); got != "failed 78 0" {
		t.Errorf("with bad settings: %s", got)
	}
}

// TestUnits: the units are well-formed and leave the service little to do harm
// with.
func TestUnits(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("%v: apt-get install systemd, or make test-servers", err)
	}
	dir := t.TempDir()
	units, err := filepath.Glob(filepath.Join("..", "..", "deploy", "systemd", "collectord*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%v %v", units, err)
	}
	for _, path := range units {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The program need not be installed here.
		text = bytes.ReplaceAll(text, []byte("/usr/bin/collectord"), []byte("/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range units {
		name := filepath.Base(path)
		verify := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "./"+name)
		verify.Dir = dir
		if out, err := verify.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if filepath.Ext(name) != ".service" {
			continue
		}
		security := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--no-pager", "./"+name)
		security.Dir = dir
		out, _ := security.CombinedOutput() // its exit code is a judgement of its own
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s:\n%s", name, out)
		}
		if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > 2 {
			t.Errorf("%s: the exposure is %s, at most 2.0 is allowed", name, m[1])
		}
	}
}

// TestJournalPriorities: each line that goes to the journal has its priority.
func TestJournalPriorities(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(write.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	p.env["JOURNAL_STREAM"], p.env["STORE_FIEL"] = fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), "x"
	cmd := p.command(t.Context())
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	var said bytes.Buffer
	if _, err := said.ReadFrom(read); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	if !strings.HasPrefix(lines[0], `<4>{"level":"warn"`) || !strings.HasPrefix(lines[1], "<3>collectord: no collector") {
		t.Errorf("it said\n%s", said.String())
	}
	for _, line := range lines {
		if line[0] != '<' {
			t.Errorf("no priority: %s", line)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC)
	at := func(h int) time.Time { return now.Add(time.Duration(h) * time.Hour) }
	for want, all := range map[string][]schedule.Standing{
		"0 collectors, none scheduled":               nil,
		"1 collector, none scheduled":                {{Collector: "okta"}},
		"2 collectors, next okta 06:00":              {{Collector: "okta", Next: at(5)}, {Collector: "snyk", Next: at(9)}},
		"1 collector, next okta Nov 26 03:00":        {{Collector: "okta", Next: at(50)}},
		"1 collector, running okta, next okta 02:00": {{Collector: "okta", Next: at(1), Running: true}},
	} {
		if got := statusText(all, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
