package main

import (
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf returns the user and the group that own a file. ok is false when it does not
// exist or cannot be examined.
func ownerOf(path string) (uid, gid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(stat.Uid), int(stat.Gid), true
}

// restartAs restarts the program as a user, with its groups and its home directory. Where
// root has the capability, the program can read what only root can: the settings, and
// directories above the state of a dynamic user. It returns only with an error.
func restartAs(uid, gid int) error {
	groups := []int{gid}
	environ := os.Environ()
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		environ = append(withoutVariable(environ, "HOME"), "HOME="+u.HomeDir)
		if ids, err := u.GroupIds(); err == nil {
			groups = append(groups, parseIDs(ids)...)
		}
	}
	// Capabilities belong to a thread, and exec keeps those of its own.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0) // without it, only root's files cannot be read
	if err := syscall.Setgroups(groups); err != nil {
		return err
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	keepReading()
	return syscall.Exec("/proc/self/exe", os.Args, environ)
}

// keepReading keeps the capability to read and search everything across an exec, if the
// thread has it. It grants no right to write.
func keepReading() {
	const capability = unix.CAP_DAC_READ_SEARCH
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil || data[0].Permitted&(1<<capability) == 0 {
		return
	}
	data[0] = unix.CapUserData{Effective: 1 << capability, Permitted: 1 << capability, Inheritable: 1 << capability}
	data[1] = unix.CapUserData{}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, capability, 0, 0) // as above
}

// parseIDs returns the numbers of groups.
func parseIDs(texts []string) (ids []int) {
	for _, text := range texts {
		if id, err := strconv.Atoi(text); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
