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
	"github.com/collectord/collectord/pkg/store/file"
)

// Save reads and verifies the backup of the stream that h names, as a restore
// does, and writes it to <dir>/<stream>/<tenancy> with the extension of the
// backup. It does not change the state.
func (s *Sink) Save(ctx context.Context, h snapshot.Header, dir string) (_ snapshot.Info, path string, err error) {
	target, err := store.ParsePath("--to", filepath.Join(strings.NewReplacer("%", "%%", "$", "$$").Replace(dir), "%TAG", "%TENANCY"+extension(s.path.String())))
	if err != nil {
		return snapshot.Info{}, "", err
	}
	files, err := file.New(file.Options{Path: target, Setting: "--to"})
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
	w, err := s.fetchBackup(ctx, h, func(snapshot.Header, int64) error { return nil }, func(h snapshot.Header) (*snapshot.Writer, error) {
		return snapshot.CreateCopy(filepath.Join(spool, "writing"), h)
	})
	if err != nil {
		return snapshot.Info{}, "", err
	}
	sealed, err := w.Seal(filepath.Join(spool, "sealed"))
	if err != nil {
		return snapshot.Info{}, "", errors.Join(err, w.Abort())
	}
	path = target.Render(sealed.Header)
	var report store.Report
	if err := files.Write(store.WithReport(ctx, &report), sealed); err != nil {
		return sealed.Info, path, err
	}
	if report.KeptOut() {
		return sealed.Info, path, fmt.Errorf("--to: %s is newer than the backup and is not replaced: remove it, or choose another directory", path)
	}
	return sealed.Info, path, nil
}

// extension returns the part of a name that names its format, such as ".json.gz".
func extension(name string) string {
	for _, compressed := range []string{".gz", ".zst"} {
		if bare, ok := strings.CutSuffix(strings.ToLower(name), compressed); ok {
			return filepath.Ext(bare) + compressed
		}
	}
	return strings.ToLower(filepath.Ext(name))
}
