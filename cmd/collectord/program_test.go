package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
)

// asProgram makes the test binary be collectord itself, so that signals, exit
// codes and output are the real ones.
const asProgram = "COLLECTORD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	code := m.Run()
	testserver.Stop()
	os.Exit(code)
}

// place is a folder in which collectord runs, with its settings.
type place struct {
	*testing.T
	dir string
	env map[string]string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	return &place{T: t, dir: dir, env: map[string]string{
		"STATE_DIR":   filepath.Join(dir, "state"),
		"STORE_FILE":  filepath.Join(dir, "source", "%TAG", "%TENANCY.json"),
		"HTTP_LISTEN": "127.0.0.1:0",
	}}
}

// with points the place at simulated vendors.
func (p *place) with(sim *vendorsim.Server) *place {
	for _, h := range sim.Hosts() {
		for _, line := range h.Env() {
			name, value, _ := strings.Cut(line, "=")
			p.env[name] = value
		}
	}
	return p
}

func (p *place) file(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// source is the file of a stream.
func (p *place) source(stream string) string { return p.file("source", stream, "default.json") }

// ended is how a call of the program ended.
type ended struct {
	code           int
	stdout, stderr string
}

func (e ended) all() string { return e.stdout + e.stderr }

// command is a call of the program that has not started.
func (p *place) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Dir = p.dir
	cmd.Env = []string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "NO_PROXY=127.0.0.1"}
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// run calls the program and waits for its end.
func (p *place) run(args ...string) ended {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := p.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return p.endOf(cmd, err, stdout.String(), stderr.String())
}

func (p *place) endOf(cmd *exec.Cmd, err error, stdout, stderr string) ended {
	p.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.Fatalf("%v\n%s", err, stderr)
	}
	e := ended{code: cmd.ProcessState.ExitCode(), stdout: stdout, stderr: stderr}
	if strings.Contains(stderr, "panic:") || strings.Contains(stderr, "DATA RACE") {
		p.Errorf("the program broke:\n%s", stderr)
	}
	p.noSecrets(e.all())
	return e
}

// secrets are the values that nothing may show.
func (p *place) secrets() []string {
	var secrets []string
	for name, value := range p.env {
		for _, part := range []string{"SECRET", "TOKEN", "KEY", "PASSWORD"} {
			if strings.Contains(name, part) && len(value) > 6 && !strings.HasSuffix(name, "_FILE") {
				secrets = append(secrets, value)
			}
		}
	}
	return secrets
}

func (p *place) noSecrets(text string) {
	p.Helper()
	for _, s := range p.secrets() {
		if strings.Contains(text, s) {
			p.Errorf("a secret is shown:\n%s", text)
		}
	}
}

// want holds a call's end against what it should be.
func (p *place) want(e ended, code int, says ...string) {
	p.Helper()
	if e.code != code {
		p.Errorf("exit code %d, want %d:\n%s", e.code, code, e.all())
	}
	for _, text := range says {
		if !strings.Contains(e.all(), text) {
			p.Errorf("the output does not say %q:\n%s", text, e.all())
		}
	}
}

// content is a file's content, or why there is none.
func (p *place) content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text)
}

// startVendors starts simulated vendors with small streams.
func startVendors(t *testing.T, counts map[string]int, vendors ...vendorsim.Vendor) *vendorsim.Server {
	t.Helper()
	sim, err := vendorsim.Start(vendorsim.Options{Vendors: vendors, Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// smallTenant is a Tenable tenant whose exports are finished at once.
func smallTenant() *vendorsim.Tenable {
	v := vendorsim.NewTenable()
	for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings} {
		v.Configure(stream, func(s *vendorsim.TenableStream) { s.QueuedPolls, s.GrowPolls, s.ChunkRecords = 0, 0, 40 })
	}
	return v
}

var smallCounts = map[string]int{
	vendorsim.TenableVulns: 120, vendorsim.TenableAssets: 80, vendorsim.TenableFindings: 60, vendorsim.TenableWAS: 30,
}
