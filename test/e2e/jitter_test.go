package e2e_test

import (
	"os/exec"
	"regexp"
	"testing"

	"github.com/collectord/collectord/test/harness"
)

// TestJitterBelongsToTheState checks that the delay of the ticks is the same on a host of
// another name, such as a new container with the same volume, and differs between tenancies
// and between state directories.
func TestJitterBelongsToTheState(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	newInstance := func(tenancy string) *harness.Workspace {
		ws := harness.NewWorkspace(t).UseVendors(sim)
		ws.Env["SCHEDULE"], ws.Env["SCHEDULE_JITTER"], ws.Env["TENANCY"] = "0 0 1 1 *", "4000h", tenancy
		return ws
	}
	next := func(ws *harness.Workspace, command ...string) string {
		binary := ws.Command(t.Context(), "check")
		cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], binary.Args...)...)
		cmd.Dir, cmd.Env = binary.Dir, binary.Env
		out, err := cmd.CombinedOutput()
		m := regexp.MustCompile(`tenable_assets +0 0 1 1 \* UTC and .* later, next (.*)`).FindSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(m[1])
	}
	renamed := func(name string) []string {
		return []string{"unshare", "--map-root-user", "--uts", "sh", "-c", "hostname " + name + ` && exec "$@"`, "sh"}
	}
	ws := newInstance("acme")
	if got := next(ws, "env"); regexp.MustCompile(`-01-01 00:00:00 UTC$`).FindString(got) == "" {
		t.Errorf("before the first start the next run is %s, want the tick itself", got)
	}
	ws.AssertResult(ws.Run("--once", "tenable_assets"), harness.ExitOK)
	first := next(ws, renamed("d2f1c0a9b8e7")...)
	if second := next(ws, renamed("0a1b2c3d4e5f")...); second != first {
		t.Errorf("the next run is %s on one host and %s on another", first, second)
	}
	ws.Env["TENANCY"] = "acme-eu"
	if other := next(ws, "env"); other == first {
		t.Errorf("another tenancy runs at the same time, %s", other)
	}
	elsewhere := newInstance("acme")
	elsewhere.AssertResult(elsewhere.Run("--once", "tenable_assets"), harness.ExitOK)
	if other := next(elsewhere, "env"); other == first {
		t.Errorf("another state directory runs at the same time, %s", other)
	}
}
