package duckdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/collectord/collectord/internal/durable"
)

// protectFiles gives what DuckDB creates beside and at path, a database file that
// this process has open, the modes of a file of snapshots: DuckDB's own would let
// every user read them. created reports whether the file is new; an existing one
// keeps its mode. The log gets the mode of the file, and the directory for data
// that does not fit in memory is for this user alone. The returned function
// removes that directory, after the database was closed.
func protectFiles(path string, created bool) (cleanUp func() error, err error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	mode := fi.Mode().Perm()
	if created {
		if mode &= durable.FileMode; mode != fi.Mode().Perm() { // the umask has been applied
			if err := os.Chmod(path, mode); err != nil {
				return nil, err
			}
		}
	}
	// DuckDB uses an empty log that is there.
	log, err := os.OpenFile(path+".wal", os.O_CREATE|os.O_WRONLY, mode)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(log.Chmod(mode), log.Close()); err != nil {
		return nil, err
	}
	temp := path + ".tmp" // a process that was killed may have left it
	if err := os.RemoveAll(temp); err != nil {
		return nil, err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return nil, err
	}
	return func() error { return os.RemoveAll(temp) }, nil
}

// adviceFor returns what to do about a file at path that is damaged.
func adviceFor(path string) string {
	if fi, err := os.Stat(path); err == nil && fi.Size() == 0 {
		return "the file is empty, as a crash while it was created leaves it: delete it, and a new one is created"
	}
	return fmt.Sprintf("the file is cut off or damaged: put back a copy of it, or move %s and %s.wal away, and a new one is created", path, path)
}

// isMissing reports whether there is no file at path.
func isMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
