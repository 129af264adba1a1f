package durable

import (
	"io/fs"
	"path/filepath"
)

// SizeOf returns the size in bytes of the files in a directory. What is removed meanwhile
// does not count.
func SizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
