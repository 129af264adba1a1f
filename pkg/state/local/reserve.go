package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/collectord/collectord/pkg/state/database"
)

// The reserve is a file without content that matters. When the disk is full, it
// is removed: that is room for the database to record deliveries, whose
// snapshots are removed then, and runs that fail because of the disk.
const (
	reserveName  = "reserve"
	reserveBytes = 256 << 10
)

// keepReserve creates the reserve when it is missing and the disk has room. The
// state works without one.
func (c *core) keepReserve() {
	path := filepath.Join(c.dir, reserveName)
	if info, err := os.Stat(path); err == nil && info.Size() == reserveBytes {
		return
	}
	temp := path + ".new"
	err := os.WriteFile(temp, make([]byte, reserveBytes), 0o600)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp) // it is small, and the next attempt replaces it
	}
}

// releaseReserve removes the reserve. It reports whether there was one.
func (c *core) releaseReserve() bool {
	err := os.Remove(filepath.Join(c.dir, reserveName))
	return err == nil
}

// inReservedTransaction is inTransaction for work that leads to free space, or that
// records why there is none: when the disk is full, it reuses the space of the write-ahead log, and then that of
// the reserve.
func (c *core) inReservedTransaction(ctx context.Context, do func(database.DB) error) error {
	err := c.inTransaction(ctx, do)
	if IsDiskFull(err) && c.truncateLog(ctx) == nil {
		err = c.inTransaction(ctx, do)
	}
	if IsDiskFull(err) && c.releaseReserve() {
		// The log may have to grow before it can be truncated.
		err = c.inTransaction(ctx, do)
	}
	return err
}

// truncateLog copies the write-ahead log into the database and empties it.
func (c *core) truncateLog(ctx context.Context) error {
	_, err := c.db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// IsDiskFull reports whether err means that the disk has no space left for the
// state. A quota may show as an I/O error of the database.
func IsDiskFull(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	e := (*sqlite.Error)(nil)
	if !errors.As(err, &e) {
		return false
	}
	return e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code()&0xff == sqlite3.SQLITE_IOERR
}
