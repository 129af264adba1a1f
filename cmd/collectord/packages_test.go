package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// packaged builds the packages of two versions. Their program is a script that
// calls the tests' own binary, or a copy that everybody may read.
func packaged(p *place) (older, newer string) {
	p.Helper()
	program := p.file("program")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec env %s=1 \"${PROGRAM:-%s}\" \"$@\"\n", asProgram, p.abs(os.Args[0])), 0o755); err != nil {
		p.Fatal(err)
	}
	for dir, version := range map[string]string{"older": "1.2.0", "newer": "1.10.0", "again": "1.10.0"} {
		p.output("sh", "-c", "DIST="+p.file(dir)+" PACKAGE_VERSION="+version+" deploy/packages/build.sh packages "+program)
	}
	once, again := p.files(p.file("newer")), p.files(p.file("again"))
	if len(once) != 2 {
		p.Errorf("%d packages", len(once))
	}
	for path, content := range once {
		if again[strings.Replace(path, p.file("newer"), p.file("again"), 1)] != content {
			p.Errorf("%s is another when it is built again", path)
		}
	}
	return p.file("older"), p.file("newer")
}

// output runs a program in the checkout and returns what it says.
func (p *place) output(name string, args ...string) string {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), name, args...)
	cmd.Dir = checkout
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		p.Fatalf("%s %q: %v\n%s", name, args, err, out.String())
	}
	return out.String()
}

// TestPackages installs, upgrades, removes and purges the packages on a copy
// of this machine that is thrown away, and starts the unit that they hold.
func TestPackages(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	older, newer := packaged(p)
	deb := func(dir, version string) string {
		return filepath.Join(dir, "collectord_"+version+"_"+strings.TrimSpace(p.output("dpkg", "--print-architecture"))+".deb")
	}
	rpm := filepath.Join(newer, "collectord-1.10.0-1."+strings.TrimSpace(p.output("uname", "-m"))+".rpm")

	files := p.output("dpkg-deb", "-c", deb(older, "1.2.0"))
	for _, want := range []string{
		`-rwxr-xr-x root/root +\d+ .* \./usr/bin/collectord`, `drwxr-x--- root/root .* \./etc/collectord/`, `-rw-r--r-- root/root +\d+ .* \./usr/share/collectord/collectord\.env`,
		`\./usr/lib/systemd/system/collectord\.service`, `\./usr/share/man/man1/collectord\.1\.gz`, `\./usr/share/man/man1/collectord-status\.1\.gz`,
		`\./usr/share/man/man5/collectord\.env\.5\.gz`, `\./usr/share/bash-completion/completions/collectord`,
		`\./usr/share/zsh/vendor-completions/_collectord`, `\./usr/share/fish/vendor_completions\.d/collectord\.fish`,
		`\./usr/share/doc/collectord/copyright`, `\./usr/share/doc/collectord/prometheus/alerts\.yml`,
	} {
		if !regexp.MustCompile(want).MatchString(files) {
			t.Errorf("the .deb has no %s:\n%s", want, files)
		}
	}
	if config := p.output("rpm", "-qpc", rpm); strings.TrimSpace(config) != "/etc/collectord/collectord.env" {
		t.Errorf("configuration files of the .rpm: %s", config)
	}
	if got := p.onACopy(packageLife, deb(older, "1.2.0"), deb(newer, "1.10.0"), rpm, p.abs(os.Args[0])); !strings.HasSuffix(got, "\nall is well\n") {
		t.Errorf("%s", got)
	}
	p.unpackedStarts(deb(newer, "1.10.0"))
}

// onACopy runs a script as root where the file system is a copy of this
// machine's, and nothing of what the script does stays.
func (p *place) onACopy(script string, args ...string) string {
	p.Helper()
	path := p.file("script")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		p.Fatal(err)
	}
	// The copy is below /mnt, which no test's folder is.
	copied := `set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount --rbind /proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
exec chroot /mnt/root sh "$@"`
	command := append(rootCommandLine(), "unshare", "--mount", "sh", "-c", copied, "sh", path)
	command = append(command, args...)
	cmd := exec.CommandContext(p.Context(), command[0], command[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s: %v (installing packages takes root: run it as root, or with sudo)\n", out, err)
	}
	return string(out)
}

// packageLife is the life of the packages: OLDER.deb NEWER.deb NEWER.rpm PROGRAM.
const packageLife = `set -eu
is() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }
gone() { for path; do [ ! -e "$path" ] || { echo "$path is still there"; exit 1; }; done; }
kept() { for path; do [ -e "$path" ] || { echo "$path is gone"; exit 1; }; done; }
settings=/etc/collectord/collectord.env

dpkg -i "$1" >/tmp/said </dev/null
grep -q 'systemctl enable --now collectord' /tmp/said || { cat /tmp/said; exit 1; }
is "the settings' owner" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
is "their folder's" "$(stat -c '%U:%G %a' /etc/collectord)" "root:collectord 750"
su -s /bin/sh collectord -c "grep -q SCHEDULE_JITTER $settings"
! su -s /bin/sh nobody -c "cat $settings" 2>/dev/null || { echo "anybody may read the settings"; exit 1; }
bash -n /usr/share/bash-completion/completions/collectord
man -w collectord >/dev/null
# As the service's user, beside the service: no key is in the settings yet.
mkdir -p /var/lib/collectord/state && chown -R collectord: /var/lib/collectord
cp "$4" /opt/program
code=0; su -s /bin/sh collectord -c "cd /var/lib/collectord && PROGRAM=/opt/program STATE_DIR=/var/lib/collectord/state collectord --env-file $settings check" >/tmp/said 2>&1 || code=$?
is "check without keys" $code 78
grep -q 'TIO_ACCESS_KEY' /tmp/said || { cat /tmp/said; exit 1; }

echo 'TENANCY=acme' >>$settings
echo state >/var/lib/collectord/state/file
# A version whose example is another asks nothing: nobody may be there to answer.
dpkg-deb -R "$2" /tmp/other
find /tmp/other -name collectord.env -exec sh -c 'echo "# as of this version" >>"$1"' sh {} ';'
dpkg-deb -b /tmp/other /tmp/other.deb >/dev/null
dpkg -i /tmp/other.deb >/tmp/said 2>&1 </dev/null || { cat /tmp/said; exit 1; }
is "the version" "$(dpkg-query -W -f '${Version}' collectord)" 1.10.0
! grep -q 'does nothing yet' /tmp/said || { echo "an upgrade speaks as a first installation"; exit 1; }
is "the tenancy after an upgrade" "$(tail -n 1 $settings)" TENANCY=acme
is "the owner after an upgrade" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
kept /var/lib/collectord/state/file

dpkg -r collectord >/dev/null
gone /usr/bin/collectord /usr/lib/systemd/system/collectord.service
kept $settings /var/lib/collectord/state/file

dpkg -i "$2" >/dev/null </dev/null
is "the tenancy after a new installation" "$(tail -n 1 $settings)" TENANCY=acme
mkdir /var/lib/collectord-acme
mount -t tmpfs tmpfs /var/lib/collectord-acme
echo state >/var/lib/collectord-acme/file
dpkg -P collectord >/dev/null 2>&1
gone /usr/bin/collectord /etc/collectord /var/lib/collectord /var/lib/collectord-acme/file
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
PATH=/opt/stub:$PATH dpkg -i "$2" >/tmp/said </dev/null
is "a service with a dynamic user" "$(tail -n 2 /opt/asked)" "start --no-block collectord.service
the user is there"
is "the settings' owner after it" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
dpkg -P collectord >/dev/null
rm -r /run/systemd/system

# Debian's rpm knows none of the packages that are here.
rpm -i --nodeps "$3" >/tmp/said
grep -q 'systemctl enable --now collectord' /tmp/said || { cat /tmp/said; exit 1; }
is "the settings' owner by rpm" "$(stat -c '%U:%G %a' $settings)" "root:collectord 640"
echo 'TENANCY=acme' >>$settings
mkdir -p /var/lib/collectord/state
rpm -e --nodeps collectord
gone /usr/bin/collectord
kept $settings.rpmsave /var/lib/collectord/state
echo; echo "all is well"
`

// unpackedStarts starts the unit of a package.
func (p *place) unpackedStarts(deb string) {
	p.Helper()
	root := p.file("unpacked")
	p.output("dpkg-deb", "-x", deb, root)
	unitOf := p.content(filepath.Join(root, "usr/lib/systemd/system", unit))
	if drop := p.content(filepath.Join(root, "usr/lib/systemd/system", unit+".d", "10-package.conf")); !strings.Contains(drop, "[Service]\nDynamicUser=no\n") {
		p.Errorf("the drop-in is %s", drop)
	}
	m := newManager(p.with(startVendors(p.T, smallCounts, smallTenant())))
	delete(p.env, "STATE_DIR")
	p.env["SCHEDULE"] = "15 6 1 1 *"
	m.installUnit(unitOf)
	m.do("start", unit)
	if got := m.show("ActiveState") + " " + m.show("SubState"); got != "active running" {
		p.Errorf("the package's service is %s", got)
	}
}

// TestScripts has shellcheck read what is written in shell.
func TestScripts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.output("sh", "-c", "shellcheck --shell=sh deploy/packages/*.sh tools/*.sh && shellcheck --shell=bash .ci/run && echo fine")
}
