package e2e_test

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/collectord/collectord/test/harness"
)

// A startFault keeps the service from starting until it is removed.
type startFault struct {
	// arrange creates the fault in dir and returns the settings that meet it and the
	// function that removes it.
	arrange func(ws *harness.Workspace, dir string) (settings map[string]string, remove func())
	// restarts reports whether systemd has to start the service again; otherwise it
	// waits within the start.
	restarts bool
}

// TestStartsWhenTheFaultIsGone checks under a real systemd that what may pass by
// itself does not end the service for good.
func TestStartsWhenTheFaultIsGone(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]startFault{
		"port in use":   {arrange: occupyPort},
		"missing mount": {arrange: removeMount, restarts: true},
		"full disk":     {arrange: fillStateDisk, restarts: true},
		"busy database": {arrange: lockDatabase, restarts: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
			ws := harness.NewWorkspace(t).UseVendors(sim)
			ws.Env["SCHEDULE"], ws.Env["SHUTDOWN_GRACE"] = "15 6 1 1 *", "1s"
			settings, remove := fault.arrange(ws, t.TempDir())
			for name, value := range settings {
				ws.Env[name] = value
			}
			m := harness.StartSystemd(ws)
			m.InstallUnit()
			m.MustSystemctl("start", "--no-block", harness.Unit)
			if fault.restarts {
				m.WaitUntil("systemd starts the service again", func() bool { return m.Property("NRestarts") != "0" })
			} else {
				m.WaitUntil("the service waits", func() bool { return strings.Contains(ws.Content(m.LogFile), "cannot be used yet") })
			}
			remove()
			m.WaitUntil("the service is active", func() bool { return m.Property("ActiveState") == "active" })
			if restarts := m.Property("NRestarts"); !fault.restarts && restarts != "0" {
				t.Errorf("%s restarts", restarts)
			}
		})
	}
}

func occupyPort(ws *harness.Workspace, _ string) (map[string]string, func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ws.Fatal(err)
	}
	return map[string]string{"HTTP_LISTEN": l.Addr().String()}, func() { l.Close() }
}

func removeMount(ws *harness.Workspace, dir string) (map[string]string, func()) {
	target := filepath.Join(dir, "disk")
	if err := os.Symlink(target, filepath.Join(dir, "mount")); err != nil {
		ws.Fatal(err)
	}
	return map[string]string{"STATE_DIR": filepath.Join(dir, "mount", "state")}, func() {
		if err := os.Mkdir(target, 0o700); err != nil {
			ws.Fatal(err)
		}
	}
}

func fillStateDisk(ws *harness.Workspace, dir string) (map[string]string, func()) {
	ws.RunAsRoot("mount -t tmpfs -o size=8m,mode=0777 tmpfs '" + dir + "'")
	ws.Cleanup(func() { ws.RunAsRoot("umount --lazy '" + dir + "'") })
	ws.RunAsRoot("head --bytes=8m /dev/zero >'" + dir + "/filler' || true")
	return map[string]string{"STATE_DIR": filepath.Join(dir, "state")}, func() {
		ws.RunAsRoot("rm '" + dir + "/filler'")
	}
}

// TestFailureBecauseOfAFullDiskIsRecorded in the state, although that is on the disk:
// metrics, the status page and notifications read it there.
func TestFailureBecauseOfAFullDiskIsRecorded(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	dir := t.TempDir()
	ws.RunAsRoot("mount -t tmpfs -o size=8m,mode=0777 tmpfs '" + dir + "'")
	t.Cleanup(func() { ws.RunAsRoot("umount --lazy '" + dir + "'") })
	ws.Env["STATE_DIR"], ws.Env["COLLECTORS"] = filepath.Join(dir, "state"), "tenable_assets"
	s := ws.StartService()
	s.WaitForLog(`"stored"`)
	ws.RunAsRoot("head --bytes=8m /dev/zero >'" + dir + "/filler' || true")
	s.Signal(syscall.SIGUSR1)
	s.WaitForLog("stream failed")
	ws.AssertResult(ws.Run("status"), harness.ExitOK, "tenable_assets: ", "no space left on device")
	s.Signal(syscall.SIGTERM)
	s.Wait()
}

func lockDatabase(ws *harness.Workspace, _ string) (map[string]string, func()) {
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	db, err := sql.Open("sqlite", "file:"+ws.Path("state", "collectord.db")+"?_pragma=locking_mode(EXCLUSIVE)&_pragma=journal_mode(WAL)")
	if err != nil {
		ws.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE; CREATE TABLE blocker (x); ROLLBACK"); err != nil {
		ws.Fatal(err)
	}
	return nil, func() { db.Close() }
}

// TestUnusableStatesAreSettings checks that only what a person must change ends with
// the exit code after which systemd does not start the service again.
func TestUnusableStatesAreSettings(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arrange func(dir string) error
		want    string
	}{
		"a file": {
			arrange: func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
			want:    "not a directory",
		},
		"no database": {
			arrange: func(dir string) error { return writeDatabase(dir, strings.Repeat("no database ", 1000)) },
			want:    "the database is damaged",
		},
		"another program's database": {arrange: createForeignDatabase, want: "another program's database"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
			if err := tc.arrange(ws.Env["STATE_DIR"]); err != nil {
				t.Fatal(err)
			}
			ws.AssertResult(ws.Run(), harness.ExitSettings, "STATE_DIR", tc.want)
		})
	}
	ws := harness.NewWorkspace(t).UseVendors(harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable()))
	ws.Env["HTTP_LISTEN"] = "192.0.2.1:19610" // reserved for documentation
	ws.AssertResult(ws.Run(), harness.ExitFailed, "HTTP_LISTEN", "cannot assign requested address")
}

func writeDatabase(dir, text string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "collectord.db"), []byte(text), 0o600)
}

func createForeignDatabase(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "collectord.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec("CREATE TABLE bookmarks (url TEXT)")
	return err
}
