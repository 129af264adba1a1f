package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// Save checks the backup of the stream that h names, as a restore does, and
// writes it to <dir>/<stream>/<tenancy> with the extension of the backup. The
// state folder is left alone.
func (s *Sink) Save(ctx context.Context, h snapshot.Header, dir string) (_ snapshot.Info, path string, err error) {
	target, err := store.ParsePath("--to", filepath.Join(strings.NewReplacer("%", "%%", "$", "$$").Replace(dir), "%TAG", "%TENANCY"+extension(s.path.String())))
	if err != nil {
		return snapshot.Info{}, "", err
	}
	file, err := store.NewFile(target, store.FileOptions{Setting: "--to"})
	if err != nil {
		return snapshot.Info{}, "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return snapshot.Info{}, "", fmt.Errorf("--to: %w", err)
	}
	spool, err := os.MkdirTemp(dir, ".collectord-restore-*")
	if err != nil {
		return snapshot.Info{}, "", fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(spool)) }()
	w, err := s.fetch(ctx, h, func(snapshot.Header, int64) bool { return false }, func(h snapshot.Header) (*snapshot.Writer, error) {
		return snapshot.CreateCopy(filepath.Join(spool, "writing"), h)
	})
	if err != nil {
		return snapshot.Info{}, "", err
	}
	sealed, err := w.Seal(filepath.Join(spool, "sealed"))
	if err != nil {
		return snapshot.Info{}, "", errors.Join(err, w.Abort())
	}
	return sealed.Info, target.Render(sealed.Header), file.Write(ctx, sealed)
}

// extension is the part of a name that tells its format.
func extension(name string) string {
	for _, compressed := range []string{".gz", ".zst"} {
		if bare, ok := strings.CutSuffix(strings.ToLower(name), compressed); ok {
			return filepath.Ext(bare) + compressed
		}
	}
	return strings.ToLower(filepath.Ext(name))
}
