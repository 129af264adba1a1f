package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/test/checkout"
)

// TestScriptsCallSystemctl runs the scripts on a machine that seems to be run by systemd,
// and checks their calls of systemctl.
func TestScriptsCallSystemctl(t *testing.T) {
	t.Parallel()
	const reload = "daemon-reload\n"
	const restart = "try-restart collectord.service collectord@*.service\n"
	const showState = "show --property=ActiveState --value collectord.service\n" +
		"show --property=ActiveState --value collectord-once.service\n"
	const stopAll = "disable collectord.service collectord-once.timer collectord@.service\n" +
		"stop collectord.service collectord-once.timer collectord-once.service collectord@*.service\n"
	for name, c := range map[string]struct{ script, argument, calls string }{
		"deb is removed":       {script: "prerm.sh", argument: "remove", calls: stopAll},
		"deb is upgraded":      {script: "prerm.sh", argument: "upgrade", calls: ""},
		"rpm is removed":       {script: "prerm.sh", argument: "0", calls: stopAll},
		"rpm is upgraded":      {script: "prerm.sh", argument: "1", calls: ""},
		"deb has been removed": {script: "postrm.sh", argument: "remove", calls: reload},
		"rpm has been removed": {script: "postrm.sh", argument: "0", calls: reload},
		"deb is configured":    {script: "postinst.sh", argument: "configure", calls: showState + reload + restart},
		"rpm is installed":     {script: "postinst.sh", argument: "1", calls: showState + reload + restart},
		"deb is aborted":       {script: "postinst.sh", argument: "abort-upgrade", calls: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := systemctlCalls(t, c.script, c.argument, true); got != c.calls {
				t.Errorf("%s %s calls systemctl with %q, want %q", c.script, c.argument, got, c.calls)
			}
			if got := systemctlCalls(t, c.script, c.argument, false); got != "" {
				t.Errorf("without systemd: %s %s calls systemctl with %q", c.script, c.argument, got)
			}
		})
	}
}

// systemctlCalls returns the arguments of each call of systemctl by a script. The script
// has a /run and an /etc of its own, and creates neither users nor files.
func systemctlCalls(t *testing.T, script, argument string, running bool) string {
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
	path, err := filepath.Abs(checkout.Join(t, "deploy", "packages", script))
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
