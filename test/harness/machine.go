package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// A Machine is a copy of this machine's file system on which systemd runs, as root and
// with all that its sandboxes need. It shares only the network with this machine. It is
// discarded at the end of the test.
type Machine struct {
	*Workspace
	pid int // of its systemd
	out bytes.Buffer
}

// servicesLog is the file on the machine that has the output of all services.
const servicesLog = "/var/log/services.log"

// bootMachine is run by unshare --mount as root, with a directory and the program.
const bootMachine = `set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root" "$1/cgroup"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t cgroup2 cgroup2 "$1/cgroup"
mkdir "$1/cgroup/$5"
echo $$ >"$1/cgroup/$5/cgroup.procs"
exec unshare --cgroup --pid --kill-child --uts --ipc --mount sh -c '
set -e
root=$1/root
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys" # is shared with this machine
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	: >"$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
rm -rf "$root"/etc/systemd/system/* "$root"/usr/lib/systemd/system/*.wants "$root"/var/lib/private
printf "[Unit]\nDefaultDependencies=no\n" >"$root/etc/systemd/system/machine.target"
mkdir "$root/etc/systemd/system/service.d"
printf "[Service]\nStandardOutput=append:$3\nStandardError=append:$3\n" >"$root/etc/systemd/system/service.d/log.conf"
: >"$root$4"
mount --bind "$2" "$root$4"
cd "$root"
mkdir -p mnt
pivot_root . mnt
umount -l mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=machine.target --log-target=console
' sh "$@"
`

// StartMachine starts a machine that has the program at a path, and no units of this
// machine that would start by themselves.
func StartMachine(w *Workspace, program string) *Machine {
	w.Helper()
	if _, err := os.Stat(systemdProgram); err != nil {
		w.Fatalf("%v: apt-get install systemd, or make test-servers", err)
	}
	m := &Machine{Workspace: w}
	base := w.Path("machine")
	if err := os.Mkdir(base, 0o755); err != nil {
		w.Fatal(err)
	}
	group := "collectord-test-" + uuid.NewString()
	command := append(RootCommand(), "unshare", "--mount", "sh", "-c", bootMachine, "sh", base, Program(w), servicesLog, program, group)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &m.out, &m.out
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	w.Cleanup(func() {
		if w.Failed() {
			log, _ := m.Run("cat " + servicesLog)
			w.Logf("log of the services:\n%s", log)
		}
		if m.pid != 0 {
			w.RunAsRoot(fmt.Sprintf("kill -KILL %d", m.pid))
		} else {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		<-ended
		// Control groups outlive the mount that they were created by.
		w.RunAsRoot(fmt.Sprintf("unshare --mount sh -c 'mount -t cgroup2 cgroup2 %q && find %q -depth -type d -exec rmdir {} +'",
			base, filepath.Join(base, group)))
		if w.Failed() {
			w.Logf("output of systemd:\n%s", m.out.String())
		}
	})
	for deadline := time.Now().Add(HangLimit); !m.isUp(cmd.Process.Pid); {
		select {
		case err := <-ended:
			ended <- err
			w.Fatalf("systemd ended: %v: %s (it needs root: run the test as root, or with sudo)", err, m.out.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.Fatal("systemd does not respond")
		}
	}
	return m
}

// isUp reports whether systemd, a descendant of the process pid, responds.
func (m *Machine) isUp(pid int) bool {
	if m.pid == 0 {
		m.pid = FindDescendant(pid, "systemd")
	}
	if m.pid == 0 {
		return false
	}
	out, err := m.Run("systemctl is-active machine.target")
	return err == nil && out == "active"
}

// FindDescendant returns the id of the process with a name among the descendants of a
// process; 0 for none.
func FindDescendant(pid int, name string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, field := range strings.Fields(string(text)) {
		child := 0
		if _, err := fmt.Sscan(field, &child); err != nil {
			return 0
		}
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); err == nil && strings.TrimSpace(string(comm)) == name {
			return child
		}
		if found := FindDescendant(child, name); found != 0 {
			return found
		}
	}
	return 0
}

// Run runs a script of sh on the machine, as its root, and returns its output.
func (m *Machine) Run(script string) (string, error) {
	command := append(RootCommand(), "nsenter", "--target", fmt.Sprint(m.pid), "--mount", "--pid", "--cgroup", "--uts", "--ipc",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// MustRun runs a script on the machine. A failure ends the test.
func (m *Machine) MustRun(script string) string {
	m.Helper()
	out, err := m.Run(script)
	if err != nil {
		m.Fatalf("%s\n%v: %s", script, err, out)
	}
	return out
}

// WaitUntil waits until a script succeeds on the machine.
func (m *Machine) WaitUntil(script string) {
	m.Helper()
	for deadline := time.Now().Add(HangLimit); ; {
		out, err := m.Run(script)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("timeout: %s\n%v: %s", script, err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// WriteFile writes a file on the machine, which only root can read.
func (m *Machine) WriteFile(path, text string) {
	m.Helper()
	m.MustRun(fmt.Sprintf("mkdir -p '%s' && umask 077 && cat >'%s' <<'END_OF_FILE'\n%s\nEND_OF_FILE", filepath.Dir(path), path, text))
}
