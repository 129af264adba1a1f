package query

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownProgram returns the path of the running program, also when its file was replaced
// by an upgrade.
func ownProgram() (string, error) { return "/proc/self/exe", nil }

// limitProcess bounds the private memory of a process, which leaves no core file. With
// lowPriority it gets less of the processor than others where that is short.
func limitProcess(pid int, memory int64, lowPriority bool) error {
	for resource, limit := range map[int]uint64{unix.RLIMIT_DATA: uint64(memory), unix.RLIMIT_CORE: 0} {
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return fmt.Errorf("limit the process of the query: %w", err)
		}
	}
	if lowPriority {
		// The sandbox of a service may deny this.
		_ = unix.Setpriority(unix.PRIO_PROCESS, pid, workerNice)
	}
	return nil
}

// workerNice is the nice value of worker processes with low priority.
const workerNice = 10

// raiseOOMScore makes the kernel end this process before others when the machine runs
// out of memory. A system that denies that is as safe as without it.
func raiseOOMScore() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }
