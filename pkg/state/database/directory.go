package database

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/durable"
	"github.com/collectord/collectord/pkg/snapshot"
)

// RestoredSuffix ends the names of the places of restored snapshots.
// FileName never returns such a name.
const RestoredSuffix = "~restored"

// StampLayout is the time layout at the start of the names of the directories
// of snapshots and export jobs.
const StampLayout = "20060102T150405Z"

// subdirectories are those in which every process creates files.
var subdirectories = []string{"", "snapshots", "spool", "locks"}

// CreateDirectories creates dir and its subdirectories, and checks that files can be created
// in them.
func CreateDirectories(dir string) error {
	_, missing := os.Stat(dir)
	for _, sub := range subdirectories {
		if err := createDirectory(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	if missing != nil { // the name of dir must be durable as well
		return errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir)))
	}
	return nil
}

// createDirectory creates a directory, and checks that files can be created in it.
func createDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	err = os.Remove(f.Name())
	if errors.Is(err, fs.ErrNotExist) { // another process has removed it
		err = nil
	}
	return errors.Join(err, f.Close())
}

// SnapshotPlace returns the usual place of a snapshot.
func SnapshotPlace(h snapshot.Header) string {
	return filepath.Join(StreamPlace(h.Stream, h.Tenancy), h.UploadTimestamp.UTC().Format(StampLayout)+"-"+FileName(h.UploadID))
}

// StreamPlace returns the directory of the usual places of the snapshots of a stream.
func StreamPlace(stream, tenancy string) string {
	return filepath.Join("snapshots", FileName(stream), FileName(tenancy))
}

// FileName returns a name that is safe as one element of a path, and different
// for different texts.
func FileName(text string) string {
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

// A Directory is the directory of a state on this machine.
type Directory struct {
	Path string
	// Log receives a warning when discarded files could not be removed.
	Log *zap.Logger
}

// Discard moves the directory dir, relative to the state directory, to the trash by one
// rename, so that it is never seen in part. EmptyTrash frees its space. A missing directory
// is no error.
func (d Directory) Discard(dir string) error {
	dir = filepath.Join(d.Path, dir)
	err := os.Rename(dir, filepath.Join(d.Path, "spool", ".trash-"+uuid.NewString()))
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

// EmptyTrash removes what this and other processes have discarded.
func (d Directory) EmptyTrash() { d.removeMatches("spool/.trash-*") }

// removeProbes removes what killed processes have left that checked whether they can create
// files. It reads whole directories, one of which has a file for each stream of each tenancy.
func (d Directory) removeProbes() {
	for _, sub := range subdirectories {
		d.removeMatches(path.Join(sub, ".probe-*"))
	}
}

// removeMatches removes the files and directories whose names match a pattern of [fs.Glob].
func (d Directory) removeMatches(pattern string) {
	names, err := fs.Glob(os.DirFS(d.Path), pattern)
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.Path, name)))
	}
	if err != nil {
		d.Log.Warn("removing discarded files failed; the next cleanup tries again", zap.Error(err))
	}
}
