package query

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPriorityOfWorkers: only the workers beside extractions get less of the processor.
func TestPriorityOfWorkers(t *testing.T) {
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		low  bool
		want int
	}{{low: false, want: own}, {low: true, want: 20 - workerNice}} {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
		if err := limitProcess(cmd.Process.Pid, defaultMemory, tc.low); err != nil {
			t.Fatal(err)
		}
		// The system call returns 20 less the nice value.
		if got, err := unix.Getpriority(unix.PRIO_PROCESS, cmd.Process.Pid); err != nil || got != tc.want {
			t.Errorf("low priority %v: %d, error %v, want %d", tc.low, got, err, tc.want)
		}
	}
}
