package local

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
)

// restoredSuffix ends the names of the directories of restored snapshots.
// fileName never returns such a name.
const restoredSuffix = "~restored"

// stampLayout is the time layout at the start of the names of the directories
// of snapshots and export jobs.
const stampLayout = "20060102T150405Z"

// createLayout creates the directories and the database file, and checks that
// files can be created in them.
func createLayout(dir string) error {
	_, missing := os.Stat(dir)
	for _, sub := range []string{"", "snapshots", "spool", "locks"} {
		sub = filepath.Join(dir, sub)
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(sub, ".probe-*")
		if err != nil {
			return err
		}
		err = os.Remove(f.Name())
		if errors.Is(err, fs.ErrNotExist) { // another process has removed it
			err = nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	// SQLite gives the files beside the database the same mode. An existing
	// database is not opened here: closing it would drop the locks that SQLite
	// holds on it elsewhere in this process.
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if missing != nil { // the name of dir must be durable as well
		return errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir)))
	}
	return nil
}

// snapshotDir returns the directory of a snapshot, relative to the state
// directory.
func snapshotDir(h snapshot.Header) string {
	return filepath.Join(streamDir(h.Stream, h.Tenancy), h.UploadTimestamp.UTC().Format(stampLayout)+"-"+fileName(h.UploadID))
}

// streamDir returns the directory of the snapshots of a stream, relative to
// the state directory.
func streamDir(stream, tenancy string) string {
	return filepath.Join("snapshots", fileName(stream), fileName(tenancy))
}

// fileName returns a name that is safe as one element of a path, and different
// for different texts.
func fileName(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	switch name := b.String(); {
	case name == "":
		return "%"
	case len(name) > 110: // file systems allow 255 bytes, and some names are joined
		return fmt.Sprintf("%s~%x", name[:64], sha256.Sum256([]byte(text)))[:97]
	default:
		return name
	}
}

// discardDir moves the directory dir, relative to the state directory, to the
// trash by one rename, so that it is never seen in part. emptyTrash frees its
// space. A missing directory is no error.
func (c *core) discardDir(dir string) error {
	dir = filepath.Join(c.dir, dir)
	err := os.Rename(dir, filepath.Join(c.dir, "spool", ".trash-"+uuid.NewString()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		// Otherwise a power failure could bring it back after its row is deleted.
		err = durable.SyncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	return nil
}

// emptyTrash removes what this and other processes have discarded.
func (c *core) emptyTrash() {
	for _, pattern := range []string{"spool/.trash-*", ".probe-*", "spool/.probe-*", "locks/.probe-*", "snapshots/.probe-*"} {
		names, err := fs.Glob(os.DirFS(c.dir), pattern)
		for _, name := range names {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.dir, name)))
		}
		if err != nil {
			c.log.Warn("removing discarded files failed; the next cleanup tries again", zap.Error(err))
		}
	}
}
