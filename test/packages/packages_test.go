package packages_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// buildPackages builds the packages of two versions and returns their directories. Their
// program is a script that runs the program of the tests, or the one that PROGRAM names.
func buildPackages(ws *harness.Workspace) (older, newer string) {
	ws.Helper()
	program := ws.Path("program")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec \"${PROGRAM:-%s}\" \"$@\"\n", harness.Program(ws)), 0o755); err != nil {
		ws.Fatal(err)
	}
	for dir, version := range map[string]string{"older": "1.2.0", "newer": "1.10.0", "again": "1.10.0"} {
		ws.RunInCheckout("sh", "-c", "DIST="+ws.Path(dir)+" PACKAGE_VERSION="+version+" deploy/packages/build.sh packages "+program)
	}
	once, again := ws.Files(ws.Path("newer")), ws.Files(ws.Path("again"))
	if len(once) != 2 {
		ws.Errorf("%d packages", len(once))
	}
	for path, content := range once {
		if again[strings.Replace(path, ws.Path("newer"), ws.Path("again"), 1)] != content {
			ws.Errorf("%s differs when it is built again", path)
		}
	}
	return ws.Path("older"), ws.Path("newer")
}

// TestPackages installs, upgrades, removes and purges the packages on a temporary copy of
// this machine, and starts their unit.
func TestPackages(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	older, newer := buildPackages(ws)
	deb := func(dir, version string) string {
		return filepath.Join(dir, "collectord_"+version+"_"+strings.TrimSpace(ws.RunInCheckout("dpkg", "--print-architecture"))+".deb")
	}
	rpm := filepath.Join(newer, "collectord-1.10.0-1."+strings.TrimSpace(ws.RunInCheckout("uname", "-m"))+".rpm")

	files := ws.RunInCheckout("dpkg-deb", "-c", deb(older, "1.2.0"))
	for _, want := range []string{
		`-rwxr-xr-x root/root +\d+ .* \./usr/bin/collectord`, `drwxr-x--- root/root .* \./etc/collectord/`, `-rw-r--r-- root/root +\d+ .* \./usr/share/collectord/collectord\.env`,
		`\./usr/lib/systemd/system/collectord\.service`, `\./usr/share/man/man1/collectord\.1\.gz`, `\./usr/share/man/man1/collectord-status\.1\.gz`,
		`\./usr/share/man/man5/collectord\.env\.5\.gz`, `\./usr/share/bash-completion/completions/collectord`,
		`\./usr/share/zsh/vendor-completions/_collectord`, `\./usr/share/fish/vendor_completions\.d/collectord\.fish`,
		`\./usr/share/doc/collectord/copyright`, `\./usr/share/doc/collectord/prometheus/alerts\.yml`, `\./usr/share/doc/collectord/prometheus/alerts-timer\.yml`,
	} {
		if !regexp.MustCompile(want).MatchString(files) {
			t.Errorf("the .deb has no %s:\n%s", want, files)
		}
	}
	if config := ws.RunInCheckout("rpm", "-qpc", rpm); strings.TrimSpace(config) != "/etc/collectord/collectord.env" {
		t.Errorf("configuration files of the .rpm: %s", config)
	}
	if got := runOnCopy(ws, packageLife, deb(older, "1.2.0"), deb(newer, "1.10.0"), rpm, harness.Program(ws)); !strings.HasSuffix(got, "\nall is well\n") {
		t.Errorf("%s", got)
	}
	startInstalled(ws, deb(newer, "1.10.0"))
}

// runOnCopy runs a script as root on a copy of this machine's file system, which is
// discarded afterwards.
func runOnCopy(ws *harness.Workspace, script string, args ...string) string {
	ws.Helper()
	path := ws.Path("script")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		ws.Fatal(err)
	}
	// The copy is below /mnt, where no test has its directory.
	copied := `set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount --rbind /proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
exec chroot /mnt/root sh "$@"`
	command := append(harness.RootCommand(), "unshare", "--mount", "sh", "-c", copied, "sh", path)
	command = append(command, args...)
	cmd := exec.CommandContext(ws.Context(), command[0], command[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v (installing packages needs root: run the test as root, or with sudo)\n", out, err)
	}
	return string(out)
}

// packageLife installs, upgrades and removes packages. Its arguments are OLDER.deb,
// NEWER.deb, NEWER.rpm and PROGRAM.
const packageLife = `set -eu
is() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }
gone() { for path; do [ ! -e "$path" ] || { echo "$path is still there"; exit 1; }; done; }
kept() { for path; do [ -e "$path" ] || { echo "$path is gone"; exit 1; }; done; }
settings=/etc/collectord/collectord.env

dpkg -i "$1" >/tmp/output </dev/null
grep -q 'systemctl enable --now collectord' /tmp/output || { cat /tmp/output; exit 1; }
is "the settings' owner" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
is "their directory's" "$(stat -c '%U:%G %a' /etc/collectord)" "root:collectord 750"
su -s /bin/sh collectord -c "grep -q SCHEDULE_JITTER $settings"
! su -s /bin/sh daemon -c "cat $settings" 2>/dev/null || { echo "other users can read the settings"; exit 1; }
bash -n /usr/share/bash-completion/completions/collectord
man -w collectord >/dev/null
# As the service's user, beside the service: no key is in the settings yet.
mkdir -p /var/lib/collectord/state && chown -R collectord: /var/lib/collectord
cp "$4" /opt/program
code=0; su -s /bin/sh collectord -c "cd /var/lib/collectord && PROGRAM=/opt/program STATE_DIR=/var/lib/collectord/state collectord --env-file $settings check" >/tmp/output 2>&1 || code=$?
is "check without keys" $code 78
grep -q 'TIO_ACCESS_KEY' /tmp/output || { cat /tmp/output; exit 1; }

echo 'TENANCY=acme' >>$settings
echo state >/var/lib/collectord/state/file
# A version with another example asks no questions: it may be installed unattended.
dpkg-deb -R "$2" /tmp/other
find /tmp/other -name collectord.env -exec sh -c 'echo "# as of this version" >>"$1"' sh {} ';'
dpkg-deb -b /tmp/other /tmp/other.deb >/dev/null
dpkg -i /tmp/other.deb >/tmp/output 2>&1 </dev/null || { cat /tmp/output; exit 1; }
is "the version" "$(dpkg-query -W -f '${Version}' collectord)" 1.10.0
! grep -q 'does nothing yet' /tmp/output || { echo "an upgrade prints the text of a first installation"; exit 1; }
is "the tenancy after an upgrade" "$(tail -n 1 $settings)" TENANCY=acme
is "the owner after an upgrade" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
kept /var/lib/collectord/state/file

dpkg -r collectord >/dev/null
gone /usr/bin/collectord /usr/lib/systemd/system/collectord.service
kept $settings /var/lib/collectord/state/file

dpkg -i "$2" >/dev/null </dev/null
is "the tenancy after a new installation" "$(tail -n 1 $settings)" TENANCY=acme
# State of instances: on a volume, of a dynamic user, and in a directory of STATE_DIR. An
# administrator's directories are no state, or of no instance.
mkdir -p /var/lib/collectord-acme /var/lib/private/collectord-acme.com /var/lib/collectord-eu/state
mount -t tmpfs tmpfs /var/lib/collectord-acme
ln -s private/collectord-acme.com /var/lib/collectord-acme.com
for directory in collectord-acme private/collectord-acme.com collectord-eu/state; do echo state >/var/lib/$directory/collectord.db; done
touch /etc/collectord/acme.env /etc/collectord/eu.env /etc/collectord/notes.env
mkdir /var/lib/collectord-backup /var/lib/collectord-notes /var/lib/private/collectord-notes
echo state >/var/lib/collectord-backup/collectord.db
echo notes | tee /var/lib/collectord-notes/file >/var/lib/private/collectord-notes/file
dpkg -P collectord >/tmp/output 2>&1
gone /usr/bin/collectord /etc/collectord /var/lib/collectord /var/lib/collectord-acme/collectord.db /var/lib/collectord-eu
gone /var/lib/private/collectord-acme.com
[ ! -L /var/lib/collectord-acme.com ] || { echo "the link of a dynamic user is still there"; exit 1; }
kept /var/lib/collectord-backup/collectord.db /var/lib/collectord-notes/file /var/lib/private/collectord-notes/file
grep -q '/var/lib/collectord-backup is kept' /tmp/output || { cat /tmp/output; exit 1; }
umount /var/lib/collectord-acme
getent passwd collectord >/dev/null || { echo "the user is gone, and with it who owned its files"; exit 1; }

# Over a unit of make install that runs as a dynamic user: NSS names the user as
# long as it runs.
userdel collectord
mkdir -p /run/systemd/system /opt/stub
cat >/opt/stub/getent <<'STUB'
#!/bin/sh
[ "$*" != "passwd collectord" ] || [ -e /opt/stopped ] || { echo collectord:x:61234:61234::/:/usr/sbin/nologin; exit; }
exec /usr/bin/getent "$@"
STUB
cat >/opt/stub/systemctl <<'STUB'
#!/bin/sh
echo "$@" >>/opt/asked
case "$*" in
"show "*" collectord.service") [ -e /opt/stopped ] && echo inactive || echo active ;;
"show "*) echo inactive ;;
"stop collectord.service") touch /opt/stopped ;;
"start "*) /usr/bin/getent -s files passwd collectord >/dev/null && echo "the user is there" >>/opt/asked ;;
esac
STUB
chmod +x /opt/stub/*
PATH=/opt/stub:$PATH dpkg -i "$2" >/tmp/output </dev/null
is "a service with a dynamic user" "$(tail -n 2 /opt/asked)" "start --no-block collectord.service
the user is there"
is "the settings' owner after it" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
dpkg -P collectord >/dev/null
rm -r /run/systemd/system

# Debian's rpm knows none of the packages that are here.
rpm -i --nodeps "$3" >/tmp/output
grep -q 'systemctl enable --now collectord' /tmp/output || { cat /tmp/output; exit 1; }
is "the settings' owner by rpm" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
echo 'TENANCY=acme' >>$settings
mkdir -p /var/lib/collectord/state
rpm -e --nodeps collectord
gone /usr/bin/collectord
kept $settings.rpmsave /var/lib/collectord/state
echo; echo "all is well"
`

// startInstalled installs a package on a machine that systemd runs, and starts its service
// and an instance of it with nothing but the settings of a vendor.
func startInstalled(ws *harness.Workspace, deb string) {
	ws.Helper()
	ws.Env = map[string]string{}
	ws.UseVendors(harness.StartVendors(ws.T, map[string]int{vendorsim.OktaUsers: 20}, vendorsim.NewOkta()))
	m := harness.StartMachine(ws, "/opt/collectord")
	settings := "PROGRAM=/opt/collectord\n"
	for name, value := range ws.Env {
		settings += name + "='" + value + "'\n"
	}
	m.MustRun("dpkg -i " + deb)
	m.WriteFile("/etc/collectord/collectord.env", settings)
	m.WriteFile("/etc/collectord/acme.com.env", settings)
	m.MustRun("systemctl enable --now collectord collectord@acme.com")
	m.WaitUntil("grep -q _upload_id /var/lib/collectord/source/okta_users/default.json")
	m.WaitUntil("grep -q _upload_id /var/lib/collectord-acme.com/source/okta_users/acme.com.json")
	if owner := m.MustRun("stat -c %U /var/lib/collectord/source/okta_users/default.json"); owner != "collectord" {
		ws.Errorf("the owner of the files is %s", owner)
	}
	m.MustRun("dpkg -i " + deb)
	for _, unit := range []string{"collectord", "collectord@acme.com"} {
		m.WaitUntil("systemctl is-active " + unit)
	}
	m.MustRun("mkdir /var/lib/collectord-backup && cp /var/lib/collectord/collectord.db /var/lib/collectord-backup/")
	m.MustRun("dpkg -P collectord")
	if left := m.MustRun("ls -d /var/lib/collectord* /var/lib/private/collectord* /etc/collectord /run/collectord* 2>/dev/null || true"); left != "/var/lib/collectord-backup" {
		ws.Errorf("after a purge there are %s", left)
	}
}

// TestScripts checks the shell scripts with shellcheck.
func TestScripts(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.RunInCheckout("sh", "-c", "shellcheck --shell=sh deploy/packages/*.sh tools/*.sh && shellcheck --shell=bash .ci/run && echo fine")
}
