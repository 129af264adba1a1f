//go:build !linux

package supervise

import (
	"os"
	"syscall"
)

// ownPath returns the path of the running program.
func ownPath() (string, error) { return os.Executable() }

// adoptOrphans does nothing here: processes that leave the group of the program stay.
func adoptOrphans() {}

// programAttributes returns the attributes of the program's process: a group of its own.
func programAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// keepDyingWithParent does nothing here.
func keepDyingWithParent() {}

// waitLeader waits for the end of the leader, kills what is left of the group, and returns
// how the leader ended.
func (pg *processGroup) waitLeader() syscall.WaitStatus {
	status := waitProcess(pg.leader)
	pg.signal(syscall.SIGKILL)
	pg.setReaped()
	return status
}

// ownChildren returns no ids here: the group of the program is killed as a whole.
func ownChildren() []int { return nil }

// limitOwnProcess sets no limits here.
func limitOwnProcess(int64) error { return nil }
