package packages_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/checkout"
	"github.com/collectord/collectord/test/harness"
)

// TestContainer runs the program as the Containerfile describes it: in a read-only root
// that contains only what the file copies, as its user, with its variables, and with
// data on a volume.
func TestContainer(t *testing.T) {
	t.Parallel()
	ws := harness.NewWorkspace(t)
	ws.RunInCheckout("sh", "-c", "DIST="+ws.Path("dist")+" deploy/packages/build.sh program")
	c := readContainerfile(ws)
	sim := harness.StartVendors(t, harness.SmallCounts, harness.NewSmallTenable())
	ws.Env = map[string]string{"SHUTDOWN_GRACE": "1s"}
	for _, line := range c.env {
		name, value, _ := strings.Cut(line, "=")
		ws.Env[name] = value
	}
	ws.UseVendors(sim)
	if out, err := c.runProgram(ws, "version"); err != nil || !strings.HasPrefix(out, "collectord ") {
		t.Errorf("version: %v: %s", err, out)
	}
	if out, err := c.runProgram(ws, "check", "--connect"); err != nil {
		t.Errorf("check: %v: %s", err, out)
	}
	out, err := c.runProgram(ws, "--once")
	ws.AssertNoSecrets(out)
	if err != nil {
		t.Fatalf("--once: %v: %s", err, out)
	}
	for stream, n := range harness.SmallCounts {
		if got := strings.Count(ws.Content(filepath.Join(c.root, "data", "source", stream, "default.json")), `"_upload_id"`); got != n {
			t.Errorf("%d records of %s on the volume, the vendor has %d", got, stream, n)
		}
	}
	c.assertStops(ws, sim)
	if len(c.health) != 2 || c.health[0] != c.entry {
		t.Fatalf("the command of the health check is %q", c.health)
	}
	ws.Env["HTTP_LISTEN"] = "127.0.0.1:1"
	if out, err := c.runProgram(ws, c.health[1:]...); err == nil || !strings.Contains(out, "not healthy: no service responds at 127.0.0.1:1") {
		t.Errorf("the health check without a service: %v: %s", err, out)
	}
	// A query and a Parquet file need temporary disk space.
	ws.Env["STORE_FILE"] = "/data/parquet/%TAG.parquet"
	if out, err := c.runProgram(ws, "--once", "tenable_assets"); err != nil {
		t.Errorf("Parquet: %v: %s", err, out)
	}
	if out, err := c.runProgram(ws, "query", "SELECT count(*) AS n FROM tenable_assets"); err != nil || !strings.Contains(out, fmt.Sprint(harness.SmallCounts["tenable_assets"])) {
		t.Errorf("query: %v: %s", err, out)
	}
}

// container is what the Containerfile describes.
type container struct {
	root, user, directory, entry string
	env, health                  []string
}

// readContainerfile creates the root of the container in a directory.
func readContainerfile(ws *harness.Workspace) *container {
	ws.Helper()
	c := &container{root: ws.Path("root")}
	text := strings.ReplaceAll(ws.Content(checkout.Join(ws, "Containerfile")), "\\\n", " ")
	text = strings.ReplaceAll(text, "dist/${ARCH}", ws.Path("dist", runtime.GOARCH))
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		switch rest := words[1:]; words[0] {
		case "COPY":
			ws.RunInCheckout("sh", "-c", fmt.Sprintf("mkdir -p %q && cp -rL %s %q",
				filepath.Dir(filepath.Join(c.root, rest[len(rest)-1])), rest[len(rest)-2], filepath.Join(c.root, rest[len(rest)-1])))
		case "USER":
			c.user = rest[0]
		case "WORKDIR":
			c.directory = rest[0]
		case "ENV":
			c.env = append(c.env, rest...)
		case "ENTRYPOINT":
			c.entry = strings.Trim(strings.Join(rest, " "), `[]"`)
		case "HEALTHCHECK":
			_, command, _ := strings.Cut(strings.Join(rest, " "), " CMD ")
			if err := json.Unmarshal([]byte(command), &c.health); err != nil {
				ws.Errorf("the command of the health check is no list of words: %v: %s", err, command)
			}
		case "ARG", "FROM", "VOLUME", "EXPOSE":
		default:
			ws.Errorf("the Containerfile has the instruction %q, which this test does not know", line)
		}
	}
	if !strings.HasPrefix(c.user, "65532") {
		ws.Errorf("the container's user is %q", c.user)
	}
	ws.RunAsRoot(fmt.Sprintf("mkdir %q && chown -R %s %q", filepath.Join(c.root, "proc"), c.user, filepath.Join(c.root, c.directory)))
	ws.Cleanup(func() { ws.RunAsRoot(fmt.Sprintf("rm -rf %q", c.root)) })
	return c
}

// assertStops checks that the service, the first process of the container, ends on SIGTERM
// during a run, and without being killed by the runtime.
func (c *container) assertStops(ws *harness.Workspace, sim *vendorsim.Server) {
	ws.Helper()
	const killedAfter = 10 * time.Second // by docker stop
	grace, err := time.ParseDuration(c.variable("SHUTDOWN_GRACE"))
	if err != nil || grace < time.Second || grace > killedAfter-4*time.Second {
		ws.Errorf("SHUTDOWN_GRACE is %v, %v; there are %v to stop", grace, err, killedAfter)
	}
	ws.Env["SCHEDULE"] = "off"
	defer delete(ws.Env, "SCHEDULE")
	requested := make(chan struct{}, 100)
	fault := sim.Hosts()[0].Inject(vendorsim.Fault{
		Path: "/vulns/export/*/chunks/*", Times: vendorsim.Forever,
		Do: func(next http.Handler) http.Handler {
			return vendorsim.Before(func() { requested <- struct{}{} })(vendorsim.Hang()(next))
		},
	})
	defer fault.Remove()
	log, err := os.Create(ws.Path("container.log"))
	if err != nil {
		ws.Fatal(err)
	}
	defer log.Close()
	cmd := c.command(ws)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		ws.Fatal(err)
	}
	program := 0
	for deadline := time.Now().Add(harness.HangLimit); program == 0 || !strings.Contains(ws.Content(log.Name()), `"ready"`); {
		if time.Now().After(deadline) {
			ws.Fatalf("the service is not ready:\n%s", ws.Content(log.Name()))
		}
		time.Sleep(50 * time.Millisecond)
		program = harness.FindDescendant(cmd.Process.Pid, "collectord")
	}
	ws.RunAsRoot(fmt.Sprintf("kill -USR1 %d", program))
	<-requested
	ws.RunAsRoot(fmt.Sprintf("kill -TERM %d", program))
	if err := cmd.Wait(); err != nil || !strings.Contains(ws.Content(log.Name()), `"stopped"`) {
		ws.Errorf("the service ended with %v:\n%s", err, ws.Content(log.Name()))
	}
}

// variable returns the value of a variable in the container.
func (c *container) variable(name string) string {
	for _, line := range c.env {
		if value, found := strings.CutPrefix(line, name+"="); found {
			return value
		}
	}
	return ""
}

// runProgram runs the program in the container.
func (c *container) runProgram(ws *harness.Workspace, args ...string) (string, error) {
	ws.Helper()
	out, err := c.command(ws, args...).CombinedOutput()
	return string(out), err
}

// command returns a call of the program as the first process of the container.
func (c *container) command(ws *harness.Workspace, args ...string) *exec.Cmd {
	// A program that is not static finds no libraries here.
	const inside = `set -e
root=$1; user=$2; entry=$3; shift 3
mount --bind "$root" "$root"
mount --bind "$root/data" "$root/data"
mount --rbind /proc "$root/proc" # as every container runtime does
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" "$entry" "$@"`
	command := append(harness.RootCommand(), "unshare", "--mount", "--pid", "--fork", "--kill-child", "env", "-i")
	for name, value := range ws.Env {
		command = append(command, name+"="+value)
	}
	command = append(command, "PATH="+os.Getenv("PATH"), "sh", "-c", inside, "sh", c.root, c.user, c.entry)
	return exec.CommandContext(ws.Context(), command[0], append(command[1:], args...)...)
}
