package e2e_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// TestUnderSystemd runs the service under a real systemd with the shipped unit.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	m := harness.StartSystemd(ws)
	secret := ws.Path("secret")
	if err := os.WriteFile(secret, []byte(ws.Env["TIO_SECRET_KEY"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	delete(ws.Env, "TIO_SECRET_KEY")
	delete(ws.Env, "STATE_DIR")
	ws.Env["SCHEDULE"], ws.Env["SHUTDOWN_GRACE"] = "15 6 1 1 *", "1s"
	m.InstallUnit("LoadCredential=TIO_SECRET_KEY:" + secret)

	m.MustSystemctl("start", harness.Unit) // returns when it is ready
	if got := m.Property("ActiveState") + " " + m.Property("SubState"); got != "active running" {
		t.Errorf("the service is %s", got)
	}
	m.WaitUntil("data is collected with the credential", func() bool { return strings.HasPrefix(ws.Content(ws.SourceFile("tenable_assets")), "[") })
	m.WaitUntil("the status names the next run", func() bool {
		return regexp.MustCompile(`^1 collector, next tenable Jan 1 06:15 UTC$`).MatchString(m.Property("StatusText"))
	})
	// A user's systemd keeps state beside the settings, since version 254 in a directory
	// of its own.
	databases := ws.Content(filepath.Join(m.RuntimeDir, "config", "collectord", "collectord.db")) + ws.Content(ws.Path("xdg", "collectord", "collectord.db"))
	if !strings.Contains(databases, "SQLite format") {
		t.Error("the state is not in the state directory")
	}
	fed := m.Property("WatchdogTimestampMonotonic")
	m.WaitUntil("the watchdog is notified", func() bool { return m.Property("WatchdogTimestampMonotonic") != fed })

	for i, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		pid, err := strconv.Atoi(m.Property("MainPID"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		m.WaitUntil(fmt.Sprintf("the service is restarted after %v", signal), func() bool {
			return m.Property("NRestarts") == strconv.Itoa(i+1) && m.Property("ActiveState") == "active"
		})
	}
	m.MustSystemctl("reload", harness.Unit)
	m.WaitUntil("the service is running after a reload", func() bool { return m.Property("ActiveState") == "active" })
	m.WaitUntil("the reload is over", func() bool { return strings.Contains(ws.Content(m.LogFile), "settings reloaded") })

	_, requested := hangChunk(sim)
	m.MustSystemctl("kill", "--signal=USR1", harness.Unit)
	<-requested
	began := time.Now()
	m.MustSystemctl("stop", harness.Unit)
	if elapsed := time.Since(began); elapsed > harness.HangLimit || m.Property("Result") != "success" || m.Property("ExecMainStatus") != "0" {
		t.Errorf("the service stopped after %v with %s, %s", elapsed, m.Property("Result"), m.Property("ExecMainStatus"))
	}
	ws.AssertNoSecrets(ws.Content(m.LogFile))

	ws.Env["SCHEDULE"] = "0 0 30 2 *"
	m.InstallUnit("LoadCredential=TIO_SECRET_KEY:" + secret)
	if out, err := m.Systemctl("start", harness.Unit); err == nil {
		t.Errorf("the service starts with bad settings: %s", out)
	}
	if got := m.Property("ActiveState") + " " + m.Property("ExecMainStatus") + " " + m.Property("NRestarts"); got != "failed 78 0" {
		t.Errorf("with bad settings: %s", got)
	}
}

// TestUnits checks that the units are valid and that their sandbox is tight.
func TestUnits(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("%v: apt-get install systemd, or make test-servers", err)
	}
	dir := t.TempDir()
	units, err := filepath.Glob(checkout.Join(t, "deploy", "systemd", "collectord*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%v %v", units, err)
	}
	for _, path := range units {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The program is not installed on this machine.
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
		out, _ := security.CombinedOutput() // the exit code is not of interest
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s:\n%s", name, out)
		}
		if level, err := strconv.ParseFloat(string(m[1]), 64); err != nil || level > 2 {
			t.Errorf("%s: the exposure is %s, at most 2.0 is allowed", name, m[1])
		}
	}
}

// TestUnitsAreEquallyRestricted compares the sandboxes of the services, and the modes of
// their state directories, which one may open for the other.
func TestUnitsAreEquallyRestricted(t *testing.T) {
	t.Parallel()
	restrictions := func(name string) string {
		text, err := os.ReadFile(checkout.Join(t, "deploy", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		own := regexp.MustCompile(`^(?:#.*|User=.*|)$`)
		_, sandbox, _ := strings.Cut(string(text), "\nWorkingDirectory=")
		sandbox, _, _ = strings.Cut(sandbox, "\n[Install]")
		for line := range strings.Lines(sandbox) {
			if line = strings.TrimSpace(line); !own.MatchString(line) && strings.Contains(line, "=") {
				lines = append(lines, line)
			}
		}
		for _, line := range []string{"StateDirectoryMode=0700", "WatchdogSec=60", "LimitCORE=0"} {
			if strings.Contains("\n"+string(text), "\n"+line+"\n") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	want := restrictions("collectord.service")
	for _, line := range []string{"LimitCORE=0", "UMask=0077", "StateDirectoryMode=0700", "ProtectSystem=strict", "SystemCallFilter=@system-service"} {
		if !strings.Contains(want, line) {
			t.Errorf("collectord.service has no %s", line)
		}
	}
	if got := restrictions("collectord@.service"); got != want {
		t.Errorf("collectord@.service has\n%s\nand collectord.service\n%s", got, want)
	}
	// A run has no watchdog.
	want = strings.Replace(want, "\nWatchdogSec=60", "", 1)
	if got := strings.Replace(restrictions("collectord-once.service"), "TimeoutStartSec=infinity\nTimeoutStopSec=60\n", "", 1); got != want {
		t.Errorf("collectord-once.service has\n%s\nand collectord.service\n%s", got, want)
	}
}

// TestJournalPriorities checks that each line for the journal has its priority.
func TestJournalPriorities(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(write.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, ws.Path("state"), "a file in place of the directory")
	maps.Copy(ws.Env, map[string]string{
		"JOURNAL_STREAM": fmt.Sprintf("%d:%d", stat.Dev, stat.Ino), "STORE_FIEL": "x",
		"OKTA_DOMAIN": "acme.okta.com", "OKTA_TOKEN": "a-token", "STATE_DIR": ws.Path("state"),
	})
	cmd := ws.Command(t.Context())
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	var output bytes.Buffer
	if _, err := output.ReadFrom(read); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	lines := strings.Split(strings.TrimSpace(output.String()), "\n")
	if !strings.HasPrefix(lines[0], `<4>{"level":"warn"`) || !strings.HasPrefix(lines[len(lines)-1], "<3>collectord: ") {
		t.Errorf("the output is\n%s", output.String())
	}
	for _, line := range lines {
		if line[0] != '<' {
			t.Errorf("no priority: %s", line)
		}
	}
}

// TestCommandBesideTheService runs the documented command under a real systemd, without
// the change of user, which needs root. The command must see the state of a service
// with the same name.
func TestCommandBesideTheService(t *testing.T) {
	t.Parallel()
	var block string
	for _, b := range markdown.Read(t, "docs/guide/service.md").BlocksOfKind("sh") {
		if strings.HasPrefix(b.Text, "systemd-run ") {
			block = b.Text
		}
	}
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	delete(ws.Env, "STATE_DIR") // use that of systemd
	m := harness.StartSystemd(ws)
	var lines []string
	for name, value := range ws.Env {
		lines = append(lines, name+`="`+value+`"`)
	}
	if err := os.WriteFile(ws.Path("collectord.env"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := harness.Program(t)
	for _, r := range []struct{ old, with string }{
		{"systemd-run ", "systemd-run --user "}, {"-p User=collectord -p DynamicUser=yes ", ""}, {"=/var/lib/collectord ", "=" + ws.Dir + " "},
		{"=/etc/collectord/collectord.env collectord status", "=" + ws.Path("collectord.env") + " " + binary + " status"},
	} {
		if strings.Count(block, r.old) != 1 {
			t.Fatalf("the command has no %q:\n%s", r.old, block)
		}
		block = strings.Replace(block, r.old, r.with, 1)
	}
	ask := func(line string) string {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Env = m.Environ()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		ws.AssertNoSecrets(string(out))
		return string(out)
	}
	if output := ask(block); !strings.Contains(output, "no state in ") {
		t.Errorf("at first: %s", output)
	}
	ask(strings.Replace(block, binary+" status", binary+" --once tenable_assets", 1))
	if output := ask(block); !strings.Contains(output, "tenable_assets  default") {
		t.Errorf("after a run: %s", output)
	}
}
