//go:build !linux

package rss

// ReleaseProgramMemory does nothing: only Linux is supported.
func ReleaseProgramMemory() error { return nil }
