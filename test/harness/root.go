package harness

import (
	"os"
	"os/exec"
)

// RootCommand returns the beginning of a command line that runs as root.
func RootCommand() []string {
	if os.Getuid() == 0 {
		return nil
	}
	return []string{"sudo", "-n"}
}

// RunAsRoot runs a line of shell as root, also during cleanup.
func (w *Workspace) RunAsRoot(line string) {
	w.Helper()
	command := append(RootCommand(), "sh", "-c", line)
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		w.Errorf("%s: %v: %s (it needs root: run the test as root, or with sudo)", line, err, out)
	}
}
