package state

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

	"github.com/collectord/collectord/pkg/snapshot"
)

// restoredSuffix ends the names of the folders of restored snapshots. fileName
// makes no such name.
const restoredSuffix = "~restored"

// stampLayout begins the name of a snapshot's folder.
const stampLayout = "20060102T150405Z"

// folder is a snapshot's place below the state folder.
func folder(h snapshot.Header) string {
	return filepath.Join(parent(h.Stream, h.Tenancy), h.UploadTimestamp.UTC().Format(stampLayout)+"-"+fileName(h.UploadID))
}

// parent is the place of a stream's snapshots below the state folder.
func parent(stream, tenancy string) string {
	return filepath.Join("snapshots", fileName(stream), fileName(tenancy))
}

// fileName makes a name that is safe as one element of a path and tells
// different texts apart.
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
	case len(name) > 110: // file systems take 255 bytes, and some names are joined
		return fmt.Sprintf("%s~%x", name[:64], sha256.Sum256([]byte(text)))[:97]
	default:
		return name
	}
}

// mkdirs makes the folder sub below root, durably.
func mkdirs(root, sub string) error {
	if err := os.MkdirAll(filepath.Join(root, sub), 0o700); err != nil {
		return err
	}
	for sub != "." {
		sub = filepath.Dir(sub)
		if err := syncDir(filepath.Join(root, sub)); err != nil {
			return err
		}
	}
	return nil
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// discard takes the folder dir, relative to the state folder, away by one
// rename, so that no half of it is ever seen as a snapshot. Its space is given
// back by emptyTrash. A folder that is gone is no error.
func (s *State) discard(dir string) error {
	dir = filepath.Join(s.dir, dir)
	err := os.Rename(dir, filepath.Join(s.dir, "spool", ".trash-"+uuid.NewString()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		// A power loss must not bring it back when the database knows it no more.
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	return nil
}

// emptyTrash gives back the space of what was discarded, by whichever process.
func (s *State) emptyTrash() {
	for _, pattern := range []string{"spool/.trash-*", ".probe-*", "spool/.probe-*", "locks/.probe-*", "snapshots/.probe-*"} {
		names, err := fs.Glob(os.DirFS(s.dir), pattern)
		for _, name := range names {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, name)))
		}
		if err != nil {
			s.log.Warn("removing what is not needed any more; it is tried again", zap.Error(err))
		}
	}
}
