package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
	"github.com/collectord/collectord/test/markdown"
)

// startOktaMachine starts a machine with the shipped units, and a simulated Okta. It
// returns the lines of settings that switch that on.
func startOktaMachine(t *testing.T) (*harness.Machine, string) {
	t.Helper()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 20}, vendorsim.NewOkta())
	ws := harness.NewWorkspace(t)
	ws.Env = map[string]string{}
	ws.UseVendors(sim)
	m := harness.StartMachine(ws, "/usr/bin/collectord")
	units, err := filepath.Glob(checkout.Join(t, "deploy", "systemd", "*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%v %v", units, err)
	}
	for _, path := range units {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m.WriteFile("/usr/lib/systemd/system/"+filepath.Base(path), string(text))
	}
	m.MustRun("systemctl daemon-reload")
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(ws.Env)) {
		lines = append(lines, name+"='"+ws.Env[name]+"'")
	}
	return m, strings.Join(lines, "\n") + "\n"
}

// TestDefaultPathsUnderTheUnit starts the service with nothing but the settings of a
// vendor: it stores data where its sandbox lets it write. Other paths are refused with the
// directive that allows them.
func TestDefaultPathsUnderTheUnit(t *testing.T) {
	t.Parallel()
	m, settings := startOktaMachine(t)
	m.WriteFile("/etc/collectord/collectord.env", settings)
	const file = "/var/lib/collectord/source/okta_users/default.json"
	m.MustRun("systemctl start collectord")
	m.WaitUntil("grep -q _upload_id " + file)
	m.MustRun("test -e /var/lib/collectord/collectord.db")
	if out, err := m.Run("setpriv --reuid=daemon --regid=daemon --clear-groups cat " + file); err == nil {
		t.Errorf("another user can read the file: %.100s", out)
	}
	if out := m.MustRun("stat -L -c %a /var/lib/collectord"); out != "700" {
		t.Errorf("the mode of the state directory is %s", out)
	}

	m.MustRun("systemctl stop collectord && rm -r /var/lib/collectord/source")
	// The run of a timer has the same state and the same sandbox.
	m.MustRun("systemctl start collectord-once && grep -q _upload_id " + file)
	if out := m.MustRun("stat -L -c %a /var/lib/collectord"); out != "700" {
		t.Errorf("after the run of the timer the mode of the state directory is %s", out)
	}
	for _, outside := range []string{
		"STORE_FILE=/srv/%TAG.json", "STORE_FILE=../data/source/%TAG/%TENANCY.json", "STORE_FILE=/home/files/%TAG.json",
		"STORE_DUCKDB=/srv/collectord.duckdb", "METRICS_TEXTFILE=/srv/collectord.prom", "STATE_DIR=/srv/state",
	} {
		m.MustRun("systemctl reset-failed && : >/var/log/services.log")
		m.WriteFile("/etc/collectord/collectord.env", settings+outside+"\nSTORE_ONCE_TIMEOUT=1s\n")
		name, _, _ := strings.Cut(outside, "=")
		if out, err := m.Run("systemctl start collectord-once"); err == nil {
			t.Errorf("%s: the run succeeds: %s", outside, out)
		}
		log := m.MustRun("cat /var/log/services.log")
		advised := func(line string) bool {
			return strings.Contains(line, name) && strings.Contains(line, "ReadWritePaths=")
		}
		if !slices.ContainsFunc(strings.Split(log, "\n"), advised) {
			t.Errorf("%s: no advice in\n%s", outside, log)
		}
		m.AssertNoSecrets(log)
	}
}

// TestFilesForAGroup follows the guide: a user in the group reads the files, one who is not
// cannot, and neither can read the state.
func TestFilesForAGroup(t *testing.T) {
	t.Parallel()
	m, settings := startOktaMachine(t)
	guide := markdown.Read(t, "docs/guide/service.md")
	find := func(kind, text string) string {
		for _, b := range guide.BlocksOfKind(kind) {
			if strings.Contains(b.Text, text) {
				return b.Text
			}
		}
		t.Fatalf("the guide has no %s with %s", kind, text)
		return ""
	}
	m.MustRun("useradd --system metrics && useradd --system stranger")
	commands, _, found := strings.Cut(find("sh", "groupadd --system security-data"), "systemctl edit collectord")
	if !found {
		t.Fatal("the guide does not edit the unit")
	}
	m.MustRun("set -e\n" + commands)
	m.WriteFile("/etc/systemd/system/collectord.service.d/override.conf", find("ini", "SupplementaryGroups="))
	m.WriteFile("/etc/collectord/collectord.env", settings+find("", "STORE_FILE=/srv/collectord"))
	m.MustRun("systemctl daemon-reload && systemctl restart collectord")
	const file = "/srv/collectord/okta_users/default.json"
	const asMetrics = "setpriv --reuid=metrics --regid=metrics --init-groups "
	for run := range 2 { // the file is new, and then replaced
		m.WaitUntil("test -s " + file)
		before := m.MustRun("stat -c %i " + file)
		if out := m.MustRun(asMetrics + "cat " + file); strings.Count(out, "_upload_id") != 20 {
			t.Errorf("run %d: a user of the group reads %.100s", run, out)
		}
		if out, err := m.Run("setpriv --reuid=stranger --regid=stranger --init-groups cat " + file); err == nil {
			t.Errorf("run %d: a user outside the group reads %.100s", run, out)
		}
		if out, err := m.Run(asMetrics + "ls /var/lib/collectord/"); err == nil {
			t.Errorf("run %d: a user of the group lists the state: %s", run, out)
		}
		if run == 0 {
			m.MustRun("systemctl kill --signal=USR1 collectord")
			m.WaitUntil("test $(stat -c %i " + file + ") != " + before)
		}
	}
	doctor := m.MustRun("cd / && set -a && . /etc/collectord/collectord.env && STATE_DIR=/var/lib/collectord collectord doctor || true")
	if !regexp.MustCompile(`readers of STORE_FILE +` + file + ` is readable for user \S+ and group security-data\n`).MatchString(doctor) {
		t.Errorf("doctor does not say who can read the file:\n%s", doctor)
	}
}

// TestSeveralInstances starts instances of the template with nothing but the settings of a
// vendor.
func TestSeveralInstances(t *testing.T) {
	t.Parallel()
	m, settings := startOktaMachine(t)
	instances := []string{"acme.com", "acme-eu-west-1", "subsidiary-with-a-name-that-is-as-long-as-a-user-name-must-not-be"}
	for _, name := range instances {
		m.WriteFile("/etc/collectord/"+name+".env", settings)
		m.MustRun("systemctl start collectord@" + name)
	}
	for _, name := range instances {
		unit, socket := "collectord@"+name, "/run/collectord-"+name+"/http.sock"
		file := fmt.Sprintf("/var/lib/collectord-%s/source/okta_users/%s.json", name, name)
		m.WaitUntil("grep -q '\"_tenancy\":\"" + name + "\"' " + file)
		if out := m.MustRun("systemctl is-active " + unit); out != "active" {
			t.Errorf("%s is %s", unit, out)
		}
		if out := m.MustRun("curl --silent --unix-socket " + socket + " http://localhost/-/ready"); !strings.Contains(out, `"ready"`) {
			t.Errorf("%s: %s", socket, out)
		}
		if out, err := m.Run("setpriv --reuid=daemon --regid=daemon --clear-groups curl --silent --unix-socket " + socket + " http://localhost/-/ready"); err == nil {
			t.Errorf("%s: another user gets %s", socket, out)
		}
		out := m.MustRun("cd / && set -a && . /etc/collectord/" + name + ".env && STORE_FILE=off HTTP_LISTEN=unix:" + socket + " collectord doctor || true")
		if !strings.Contains(out, "the service at unix:"+socket+" is ready") {
			t.Errorf("doctor: %s", out)
		}
		// In the service's own view of the machine there is only its own state.
		pid := m.MustRun("systemctl show --property=MainPID --value " + unit)
		if out := m.MustRun("ls /proc/" + pid + "/root/var/lib/private"); out != "collectord-"+name {
			t.Errorf("%s sees the state of %s", unit, out)
		}
	}
	m.MustRun("systemctl restart 'collectord@*'")
	m.MustRun("systemctl stop 'collectord@*'")
	if out := m.MustRun("ls -d /run/collectord-* 2>/dev/null || true"); out != "" {
		t.Errorf("after the stop there are %s", out)
	}
	for _, name := range instances {
		if out := m.MustRun("systemctl show --property=Result --value collectord@" + name); out != "success" {
			t.Errorf("%s ended with %s", name, out)
		}
	}
}
