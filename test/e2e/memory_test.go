package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/test/harness"
)

// TestMemoryDoesNotGrowWithTheData extracts a million records of 2 KB and checks the
// largest resident set.
func TestMemoryDoesNotGrowWithTheData(t *testing.T) {
	const (
		records = 1_000_000
		most    = 128 << 20
	)
	ws := harness.NewWorkspace(t)
	ws.Env["STORE_FILE"] = "off"
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	sim := exec.CommandContext(ctx, harness.BuildWithoutRaceDetector(t, "internal/vendorsim/sim"), "-vendors", "tenable", "-gzip", "off",
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
	for lines := bufio.NewScanner(stdout); ws.Env["TIO_SECRET_KEY"] == "" && lines.Scan(); {
		if name, value, found := strings.Cut(lines.Text(), "="); found && !strings.HasPrefix(name, "#") {
			ws.Env[name] = value
		}
	}
	cmd := ws.Command(ctx, "--once", "tenable_vulnerabilities")
	cmd.Path = harness.BuildWithoutRaceDetector(t, "cmd/collectord")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	peak := watchMemory(cmd.Process.Pid)
	err = cmd.Wait()
	memory := <-peak
	ws.AssertResult(ws.ResultOf(cmd, err, out.String(), errs.String()), harness.ExitOK, fmt.Sprint(records))
	if memory == 0 || memory > most {
		t.Errorf("at most %d MiB of memory were used, want at most %d", memory>>20, most>>20)
	}
	t.Logf("at most %d MiB of memory were used", memory>>20)
}

// watchMemory returns a channel that receives the largest resident set of a process in
// bytes when the process has ended. The kernel's own number for an ended child counts
// the memory that the child shared with its parent before it executed the program.
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
