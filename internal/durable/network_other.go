//go:build !linux

package durable

// NetworkFileSystem returns "": the file system is known on Linux only.
func NetworkFileSystem(string) string { return "" }
