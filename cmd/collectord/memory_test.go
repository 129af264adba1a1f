package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// built builds a program of this module as users get it, without the race
// detector.
func built(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, module+"/"+pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// TestMemoryDoesNotGrowWithTheData extracts a million records of 2 KB.
func TestMemoryDoesNotGrowWithTheData(t *testing.T) {
	const (
		records = 1_000_000
		most    = 128 << 20
	)
	p := newPlace(t)
	p.env["STORE_FILE"] = "off"
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	sim := exec.CommandContext(ctx, built(t, "internal/vendorsim/sim"), "-vendors", "tenable", "-gzip", "off",
		"-count", fmt.Sprintf("tenable_vulnerabilities=%d", records), "-bytes", "tenable_vulnerabilities=2048")
	stdout, err := sim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = sim.Wait() // it was killed
	}()
	for lines := bufio.NewScanner(stdout); p.env["TIO_SECRET_KEY"] == "" && lines.Scan(); {
		if name, value, found := strings.Cut(lines.Text(), "="); found && !strings.HasPrefix(name, "#") {
			p.env[name] = value
		}
	}
	cmd := p.command(ctx, "--once", "tenable_vulnerabilities")
	cmd.Path = built(t, "cmd/collectord")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peak := watchMemory(cmd.Process.Pid)
	err = cmd.Wait()
	memory := <-peak
	p.want(p.endOf(cmd, err, out.String(), errs.String()), 0, fmt.Sprint(records))
	if memory == 0 || memory > most {
		t.Errorf("%d MiB of memory at the most, want at most %d", memory>>20, most>>20)
	}
	t.Logf("%d MiB of memory at the most", memory>>20)
}

// watchMemory returns, when the process has ended, its largest resident set in
// bytes. What the kernel tells of a child that has ended counts the memory
// that it shared with its parent before it became another program.
func watchMemory(pid int) <-chan int64 {
	peak := make(chan int64, 1)
	go func() {
		most := int64(0)
		defer func() { peak <- most }()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, found := strings.Cut(string(text), "VmHWM:")
			if err != nil || !found { // it has ended
				return
			}
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				return
			}
			most = max(most, kib<<10)
		}
	}()
	return peak
}
