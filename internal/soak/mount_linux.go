package main

import "syscall"

// mountMemory mounts a file system in memory on a directory.
func mountMemory(dir, options string) error {
	return syscall.Mount("collectord-soak", dir, "tmpfs", 0, options)
}

// unmountMemory removes the file system from the directory.
func unmountMemory(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
