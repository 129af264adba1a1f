package e2e_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/collectord/collectord/test/harness"
)

// readOnlyCommands are those that change no state.
var readOnlyCommands = [][]string{
	{"status"}, {"status", "--json"}, {"list"}, {"check"}, {"check", "--connect"}, {"doctor"}, {"query", "SELECT 1 AS one"}, {"health"},
}

// paths returns the paths of all files and directories below dir with their owners.
func paths(t *testing.T, dir string) map[string]uint32 {
	t.Helper()
	owners := map[string]uint32{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err == nil {
			owners[path] = info.Sys().(*syscall.Stat_t).Uid
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return owners
}

// TestReadOnlyCommandsCreateNothing calls commands where there is no state: they create
// none, and say where they looked.
func TestReadOnlyCommandsCreateNothing(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	delete(ws.Env, "STATE_DIR") // ../data/state
	ws.Env["HTTP_LISTEN"] = "127.0.0.1:1"
	outer := ws.Dir
	ws.Dir = ws.Path("working", "directory")
	if err := os.MkdirAll(ws.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	before := paths(t, outer)
	for _, args := range readOnlyCommands {
		result := ws.Run(args...)
		if after := paths(t, outer); !maps.Equal(before, after) {
			t.Errorf("%q has created %q", args, slices.Sorted(maps.Keys(after)))
		}
		if args[0] != "list" && args[0] != "health" && !strings.Contains(result.Output(), filepath.Join(outer, "working", "data", "state")) {
			t.Errorf("%q does not name the state directory:\n%s", args, result.Output())
		}
	}
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "no state in "+filepath.Join(outer, "working", "data", "state")+" (STATE_DIR)", "use --env-file")
	ws.AssertResult(ws.Run("query", "SELECT 1"), harness.ExitFailed, "no state in ")
	for _, args := range [][]string{{"deliver"}, {"accept", "tenable_assets"}, {"drop", "postgres"}, {"drop", "file", "tenable_assets"}} {
		ws.AssertResult(ws.Run(args...), harness.ExitFailed, "no state in ")
	}
	ws.AssertResult(ws.Run("--once", "tenable_asets"), harness.ExitUsage, "did you mean tenable_assets?")
	if after := paths(t, outer); !maps.Equal(before, after) {
		t.Errorf("a command without a state has created %q", slices.Sorted(maps.Keys(after)))
	}
}

// TestReadOnlyState reads a state on a read-only file system, after a clean end and after
// a killed process.
func TestReadOnlyState(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.Env["TMPDIR"] = t.TempDir()
	state := ws.Env["STATE_DIR"]
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	mounted := ws.Path("mounted")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }) // after a failure
	mount := func() bool {
		if err := unix.Mount(state, mounted, "", unix.MS_BIND, ""); err != nil {
			return false // mounting is not allowed here
		}
		if err := unix.Mount("", mounted, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	check := func(when string) {
		ws.Env["STATE_DIR"] = mounted
		ws.AssertResult(ws.Run("status"), harness.ExitOK, "tenable_assets", "state directory: "+mounted)
		ws.AssertResult(ws.Run("query", "SELECT count(*) AS n FROM tenable_assets"), harness.ExitOK, "80")
		ws.AssertResult(ws.Run("check", "--connect"), harness.ExitPartial, "STATE_DIR", "read-only file system")
		if t.Failed() {
			t.Fatal(when)
		}
		ws.Env["STATE_DIR"] = state
		if err := unix.Unmount(mounted, 0); err != nil {
			t.Fatal(err)
		}
	}
	if !mount() {
		return
	}
	check("after a clean end")
	service := ws.StartService()
	service.WaitForLog(`"ready"`)
	service.Signal(syscall.SIGKILL)
	service.Wait()
	if _, err := os.Stat(filepath.Join(state, "collectord.db-wal")); err != nil {
		t.Fatal(err)
	}
	mount()
	check("after a killed process")
	if err := os.Remove(filepath.Join(state, "collectord.db-shm")); err != nil {
		t.Fatal(err)
	}
	mount()
	check("without the index of the write-ahead log")
	if left, err := filepath.Glob(filepath.Join(ws.Env["TMPDIR"], "*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v %q", err, left)
	}
}

// TestRootBesideTheService calls every command as root on the state of another user. What
// root leaves there belongs to that user, who goes on.
func TestRootBesideTheService(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can be two users
	}
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewSharedWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.AssertResult(ws.RunAsService("--once", "tenable_assets"), harness.ExitOK, "success")
	assertOwner := func(after ...string) {
		for path, uid := range paths(t, ws.Dir) {
			if uid != harness.ServiceUser {
				t.Errorf("after %q, %s belongs to user id %d", after, path, uid)
			}
		}
	}
	assertOwner("--once of the service")
	for _, args := range append(slices.Clone(readOnlyCommands), [][]string{
		{"query", "SELECT count(*) FROM tenable_assets"}, {"deliver"}, {"drop", "postgres"}, {"drop", "file", "tenable_assets"},
		{"accept", "tenable_assets"}, {"restore"}, {"--once", "tenable_assets"},
	}...) {
		ws.Run(args...)
		assertOwner(args...)
	}
	ws.AssertResult(ws.Run("deliver"), harness.ExitOK, "stored")
	ws.AssertResult(ws.Run("--once", "tenable_vulnerabilities"), harness.ExitOK, "success")

	// A killed process leaves the write-ahead log, to which root would add its index.
	ws.AssertResult(ws.RunAsService("--once", "tenable_assets"), harness.ExitOK)
	ws.RunAsRoot("cd " + ws.Dir + "/state && cp -a collectord.db-wal w 2>/dev/null || install -o 61234 -g 61234 -m 600 /dev/null collectord.db-wal; rm -f w collectord.db-shm")
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "tenable_assets")
	assertOwner("status after a killed process")

	// As with a dynamic user, only root can enter the directory above the state.
	if err := os.Chown(ws.Dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(ws.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if mayReadAll(t) {
		ws.AssertResult(ws.Run("deliver", "--to", "file"), harness.ExitOK, "stored")
	}
	if err := errors.Join(os.Chmod(ws.Dir, 0o755), os.Chown(ws.Dir, harness.ServiceUser, harness.ServiceUser)); err != nil {
		t.Fatal(err)
	}
	assertOwner("deliver below a directory of root")
	for _, args := range [][]string{{"status"}, {"query", "SELECT count(*) AS n FROM tenable_assets"}, {"--once", "tenable_assets"}, {"deliver"}} {
		ws.AssertResult(ws.RunAsService(args...), harness.ExitOK)
	}
}

// mayReadAll reports whether root has the capability to read everything, which some
// containers take away.
func mayReadAll(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Permitted&(1<<unix.CAP_DAC_READ_SEARCH) != 0
}

// TestOtherUser: a user who may not read the state gets an error that says who may.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can be two users
	}
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewSharedWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK) // root's own state
	for _, args := range [][]string{{"status"}, {"query", "SELECT 1"}} {
		ws.AssertResult(ws.RunAsService(args...), harness.ExitFailed, "permission denied", "only root and the user of the service can read it")
	}
}

// TestRootThatCannotBecomeTheOwner: without the capability to change the user, a command
// that writes says what to do, and one that reads works.
func TestRootThatCannotBecomeTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can be two users
	}
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewSharedWorkspace(t).UseVendors(sim)
	ws.AssertResult(ws.RunAsService("--once", "tenable_assets"), harness.ExitOK)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatalf("%v: apt-get install util-linux", err)
	}
	run := func(args ...string) (string, error) {
		cmd := ws.Command(t.Context(), args...)
		cmd.Args = append([]string{"setpriv", "--bounding-set=-setuid,-setgid", cmd.Path}, args...)
		cmd.Path = setpriv
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("deliver"); err == nil || !strings.Contains(out, "root cannot become here: operation not permitted: run this command as that user") {
		t.Errorf("deliver: %v: %s", err, out)
	}
	if out, err := run("status"); err != nil || !strings.Contains(out, "tenable_assets") {
		t.Errorf("status: %v: %s", err, out)
	}
}
