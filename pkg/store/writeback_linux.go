package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriteback lets the kernel begin to write n bytes of f, from that offset
// on, to the disk. What it cannot begin the sync at the end does.
func beginWriteback(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
