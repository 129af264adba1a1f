package e2e_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/collectord/collectord/test/harness"
)

// mountFUSE mounts an empty FUSE file system, as sshfs does, that belongs to another
// user, so that the kernel responds to statfs itself. It returns false where mounting
// is not allowed.
func mountFUSE(t *testing.T, dir string) bool {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	t.Cleanup(func() { device.Close() })
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=12345,group_id=12345", device.Fd())
	if err := unix.Mount("collectord-test", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return false
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}

// TestCautions: check and doctor warn of settings that are valid and unwise, and show
// what is off.
func TestCautions(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws := harness.NewWorkspace(t).UseVendors(sim)
	ws.UseS3()
	ws.Env["STORE_FILE"] = ws.Path("source") + "/%TAG.json"
	ws.Env["STORE_AWS_S3_BACKUP"] = "backup/%TAG.json"
	result := ws.Run("check")
	ws.AssertResult(result, harness.ExitOK, "settings are good", "destination  backup\n",
		`warning      STORE_FILE: `, `warning      STORE_AWS_S3_BACKUP: "backup/%TAG.json" has no %TENANCY: if another tenancy has the same, one of the two is refused`)
	ws.AssertResult(ws.Run("doctor"), harness.ExitOK, `STORE_AWS_S3_BACKUP: "backup/%TAG.json" has no %TENANCY`)

	ws.Env["STORE_FILE"] = ws.Path("source") + "/%TAG/%TENANCY.json"
	for _, off := range []string{"off", ""} {
		ws.Env["STORE_AWS_S3_BACKUP"] = off
		ws.AssertResult(ws.Run("check"), harness.ExitOK, "destination  backup: off (STORE_AWS_S3_BACKUP)")
	}
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)

	mounted := ws.Path("mounted")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	if !mountFUSE(t, mounted) {
		return
	}
	ws.Env["STORE_DUCKDB"] = mounted + "/x.duckdb"
	duckdb := "STORE_DUCKDB: " + mounted + " is on a network file system, FUSE"
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "warning      "+duckdb)
	ws.AssertResult(ws.Run("doctor"), harness.ExitPartial, duckdb)
	delete(ws.Env, "STORE_DUCKDB")
	state := ws.Env["STATE_DIR"]
	ws.Env["STATE_DIR"] = mounted
	ws.AssertResult(ws.Run("check"), harness.ExitOK, "warning      STATE_DIR: "+mounted+" is on a network file system, FUSE")
	ws.AssertResult(ws.Run("--once"), harness.ExitFailed, "STATE_DIR: "+mounted+" is on a network file system, FUSE")
	ws.Env["STATE_DIR"] = state
}
