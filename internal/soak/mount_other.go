//go:build !linux

package main

import "syscall"

// mountMemory is not supported on this system.
func mountMemory(string, string) error { return syscall.EPERM }

// unmountMemory does nothing.
func unmountMemory(string) error { return nil }
