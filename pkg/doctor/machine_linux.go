package doctor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkWritable returns an error if this process cannot create files in dir.
func checkWritable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// Disk returns the finding about the disk that holds dir, or will hold it. used
// is the size of the last-known data, spool what undelivered snapshots may use
// there. ok is false when it cannot be found out.
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
	if s.Files == 0 { // the file system has no fixed number of them
		inodes = 1 << 32
	}
	return spaceFinding(check, s.Bavail*uint64(s.Bsize), inodes, used, spool), true
}

// Synchronised reports whether the kernel's clock is synchronised. ok is false
// when it cannot be found out.
func Synchronised() (f Finding, ok bool) {
	f = Finding{Group: machineGroup, Check: "time synchronisation", Result: OK, Text: "the kernel's clock is synchronised"}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Finding{}, false
	}
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		f.Result = Warning
		f.Text = "the kernel's clock is not synchronised, as far as the kernel knows"
		f.Advice = "run an NTP client, such as chrony or systemd-timesyncd; in a container the host's counts"
	}
	return f, true
}

// Files returns the finding about the number of files that may be open. ok is
// false when it cannot be found out.
func Files() (f Finding, ok bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return Finding{}, false
	}
	f = Finding{Group: machineGroup, Check: "open files", Result: OK, Text: fmt.Sprintf("%d may be open", limit.Cur)}
	if limit.Cur < 1024 {
		f.Result = Warning
		f.Advice = "allow 1024 or more: LimitNOFILE= in the unit, or ulimit -n"
	}
	return f, true
}
