package doctor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// Disk judges the space where dir is, or will be.
func Disk(check, dir string, used, spool int64) (f Finding, ok bool) {
	for {
		if _, err := os.Stat(dir); err == nil || filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Finding{}, false
	}
	inodes := s.Ffree
	if s.Files == 0 { // a file system without a fixed number of them
		inodes = 1 << 32
	}
	return space(check, s.Bavail*uint64(s.Bsize), inodes, used, spool), true
}

// Synchronised tells whether the kernel's clock is kept right.
func Synchronised() (f Finding, ok bool) {
	f = Finding{Group: "machine", Check: "time synchronisation", Result: OK, Text: "the kernel's clock is kept right"}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Finding{}, false
	}
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		f.Result = Warning
		f.Text = "nothing keeps the kernel's clock right, as far as it knows"
		f.Advice = "run an NTP client, such as chrony or systemd-timesyncd; in a container the host's counts"
	}
	return f, true
}

// Files judges how many files may be open.
func Files() (f Finding, ok bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return Finding{}, false
	}
	f = Finding{Group: "machine", Check: "open files", Result: OK, Text: fmt.Sprintf("%d may be open", limit.Cur)}
	if limit.Cur < 1024 {
		f.Result = Warning
		f.Advice = "allow 1024 or more: LimitNOFILE= in the unit, or ulimit -n"
	}
	return f, true
}
