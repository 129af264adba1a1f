package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScriptsAskSystemd runs the scripts where systemd seems to run the machine,
// and reads what they ask of it.
func TestScriptsAskSystemd(t *testing.T) {
	t.Parallel()
	const reload = "daemon-reload\n"
	const restart = "try-restart collectord.service collectord@*.service\n"
	const look = "show --property=ActiveState --value collectord.service\n" +
		"show --property=ActiveState --value collectord-once.service\n"
	const leave = "disable collectord.service collectord-once.timer collectord@.service\n" +
		"stop collectord.service collectord-once.timer collectord-once.service collectord@*.service\n"
	for name, c := range map[string]struct{ script, argument, asks string }{
		"deb is removed":       {"prerm.sh", "remove", leave},
		"deb is upgraded":      {"prerm.sh", "upgrade", ""},
		"rpm is removed":       {"prerm.sh", "0", leave},
		"rpm is upgraded":      {"prerm.sh", "1", ""},
		"deb has been removed": {"postrm.sh", "remove", reload},
		"rpm has been removed": {"postrm.sh", "0", reload},
		"deb is configured":    {"postinst.sh", "configure", look + reload + restart},
		"rpm is installed":     {"postinst.sh", "1", look + reload + restart},
		"deb is given up":      {"postinst.sh", "abort-upgrade", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for running, want := range map[bool]string{true: c.asks, false: ""} {
				if got := asked(t, c.script, c.argument, running); got != want {
					t.Errorf("systemd runs: %v: %s %s asks %q, want %q", running, c.script, c.argument, got, want)
				}
			}
		})
	}
}

// asked returns the lines that a script asks of systemctl. The script sees a /run
// and an /etc of its own, and neither a user nor a file is made.
func asked(t *testing.T, script, argument string, running bool) string {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for name, text := range map[string]string{
		"systemctl": "#!/bin/sh\necho \"$@\" >>" + log + "\n",
		"useradd":   "#!/bin/sh\n",
		"install":   "#!/bin/sh\n",
		"log":       "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, err := filepath.Abs(filepath.Join(checkout, "deploy", "packages", script))
	if err != nil {
		t.Fatal(err)
	}
	prepare := "set -e; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /etc; "
	if running {
		prepare += "mkdir -p /run/systemd/system; "
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--map-root-user", "sh", "-c", prepare+`exec sh "$@"`, "sh", path, argument)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", script, argument, err, out)
	}
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimLeft(string(content), "\n")
}
