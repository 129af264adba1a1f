//go:build !linux

package main

import "errors"

// ownerOf returns no owner: owners are known on Linux only.
func ownerOf(string) (uid, gid int, ok bool) { return 0, 0, false }

// restartAs returns an error: the program changes its user on Linux only.
func restartAs(int, int) error { return errors.ErrUnsupported }
