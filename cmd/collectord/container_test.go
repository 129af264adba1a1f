package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestContainer runs the program as the Containerfile has it: in a root that
// holds what the file copies and nothing else, which cannot be written to, as
// its user, with its variables, and data on a volume.
func TestContainer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.output("sh", "-c", "DIST="+p.file("dist")+" deploy/packages/build.sh program")
	c := readContainerfile(p)
	sim := startVendors(t, smallCounts, smallTenant())
	p.env = map[string]string{"SHUTDOWN_GRACE": "1s"}
	for _, line := range c.env {
		name, value, _ := strings.Cut(line, "=")
		p.env[name] = value
	}
	p.with(sim)
	if out, err := c.run(p, "version"); err != nil || !strings.HasPrefix(out, "collectord ") {
		t.Errorf("version: %v: %s", err, out)
	}
	if out, err := c.run(p, "check", "--connect"); err != nil {
		t.Errorf("check: %v: %s", err, out)
	}
	out, err := c.run(p, "--once")
	p.noSecrets(out)
	if err != nil {
		t.Fatalf("--once: %v: %s", err, out)
	}
	for stream, n := range smallCounts {
		if got := strings.Count(p.content(filepath.Join(c.root, "data", "source", stream, "default.json")), `"_upload_id"`); got != n {
			t.Errorf("%d records of %s on the volume, the vendor has %d", got, stream, n)
		}
	}
	// A query and a Parquet file need room beside memory.
	p.env["STORE_FILE"] = "/data/parquet/%TAG.parquet"
	if out, err := c.run(p, "--once", "tenable_assets"); err != nil {
		t.Errorf("Parquet: %v: %s", err, out)
	}
	if out, err := c.run(p, "query", "SELECT count(*) AS n FROM tenable_assets"); err != nil || !strings.Contains(out, fmt.Sprint(smallCounts["tenable_assets"])) {
		t.Errorf("query: %v: %s", err, out)
	}
}

// container is what the Containerfile says.
type container struct {
	root, user, folder, entry string
	env                       []string
}

// readContainerfile lays out the container's root in a folder.
func readContainerfile(p *place) *container {
	p.Helper()
	c := &container{root: p.file("root")}
	text := strings.ReplaceAll(p.content(filepath.Join(checkout, "Containerfile")), "\\\n", " ")
	text = strings.ReplaceAll(text, "dist/${ARCH}", p.file("dist", runtime.GOARCH))
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		switch rest := words[1:]; words[0] {
		case "COPY":
			p.output("sh", "-c", fmt.Sprintf("mkdir -p %q && cp -rL %s %q",
				filepath.Dir(filepath.Join(c.root, rest[len(rest)-1])), rest[len(rest)-2], filepath.Join(c.root, rest[len(rest)-1])))
		case "USER":
			c.user = rest[0]
		case "WORKDIR":
			c.folder = rest[0]
		case "ENV":
			c.env = append(c.env, rest...)
		case "ENTRYPOINT":
			c.entry = strings.Trim(strings.Join(rest, " "), `[]"`)
		case "ARG", "FROM", "VOLUME", "EXPOSE":
		default:
			p.Errorf("the Containerfile says %q, which this test does not know", line)
		}
	}
	if !strings.HasPrefix(c.user, "65532") {
		p.Errorf("the container's user is %q", c.user)
	}
	p.asRoot(fmt.Sprintf("mkdir %q && chown -R %s %q", filepath.Join(c.root, "proc"), c.user, filepath.Join(c.root, c.folder)))
	p.Cleanup(func() { p.asRoot(fmt.Sprintf("rm -rf %q", c.root)) })
	return c
}

// run calls the program in the container.
func (c *container) run(p *place, args ...string) (string, error) {
	p.Helper()
	// What only looks static would look for libraries here, in vain.
	const inside = `set -e
root=$1; user=$2; entry=$3; shift 3
mount --bind "$root" "$root"
mount --bind "$root/data" "$root/data"
mount --rbind /proc "$root/proc" # as every container's runtime does
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" "$root" "$entry" "$@"`
	command := append(rootCommandLine(), "unshare", "--mount", "env", "-i")
	for name, value := range p.env {
		command = append(command, name+"="+value)
	}
	command = append(command, "PATH="+os.Getenv("PATH"), "sh", "-c", inside, "sh", c.root, c.user, c.entry)
	cmd := exec.CommandContext(p.Context(), command[0], append(command[1:], args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// rootCommandLine begins a command that takes root.
func rootCommandLine() []string {
	if os.Getuid() == 0 {
		return nil
	}
	return []string{"sudo", "-n"}
}

// asRoot runs a line of shell as root, also while cleaning up.
func (p *place) asRoot(line string) {
	p.Helper()
	command := append(rootCommandLine(), "sh", "-c", line)
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		p.Errorf("%s: %v: %s (it takes root: run it as root, or with sudo)", line, err, out)
	}
}
