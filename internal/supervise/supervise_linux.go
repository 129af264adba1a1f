package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownPath returns the path of the running program, also when its file was replaced by an
// upgrade.
func ownPath() (string, error) { return "/proc/self/exe", nil }

// adoptOrphans makes this process the parent of the processes that the program starts and
// that lose their own parent, in whichever group or session they are.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// programAttributes returns the attributes of the program's process: a group of its own,
// and its death when the supervisor is killed.
func programAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// keepDyingWithParent sets for this thread what programAttributes sets for the first one.
func keepDyingWithParent() { _ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0) }

// waitLeader waits for the end of the leader, kills what is left of the group, and returns
// how the leader ended.
func (pg *processGroup) waitLeader() syscall.WaitStatus {
	for {
		// The process id stays that of the leader until waitProcess.
		err := unix.Waitid(unix.P_PID, pg.leader, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	pg.signal(syscall.SIGKILL)
	pg.setReaped()
	return waitProcess(pg.leader)
}

// ownChildren returns the ids of the children of this process.
func ownChildren() (children []int) {
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		text, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				children = append(children, pid)
			}
		}
	}
	return children
}

// limitOwnProcess bounds the private memory of this process and of those that it starts.
// It leaves no core file, and is among the first that the kernel ends when the machine runs
// out of memory.
func limitOwnProcess(memory int64) error {
	// A system that denies this is as safe as without it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	limits := map[int]uint64{unix.RLIMIT_CORE: 0}
	if memory > 0 {
		limits[unix.RLIMIT_DATA] = uint64(memory)
	}
	for resource, limit := range limits {
		if err := unix.Prlimit(0, resource, &unix.Rlimit{Cur: limit, Max: limit}, nil); err != nil {
			return fmt.Errorf("prlimit: %w", err)
		}
	}
	return nil
}
