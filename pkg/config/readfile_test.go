package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/pkg/config"
)

// newPipe creates a named pipe that nothing writes into.
func newPipe(t *testing.T, path string) string {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTenancyFileIsRegular checks that a pipe or a device in place of the file of a tenancy is
// refused at once.
func TestTenancyFileIsRegular(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newPipe(t, filepath.Join(dir, "pipe.env"))
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "device.env")); err != nil {
		t.Fatal(err)
	}
	shared, err := config.Open(config.Source{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe.env", "device.env"} {
		if _, err := shared.OpenTenancy(dir, name); err == nil || !strings.HasSuffix(err.Error(), name+": not a regular file: want a readable regular file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestValueFromPipe checks that NAME_FILE may be a pipe, also one that is written to later, and
// that one that is never written to is an error.
func TestValueFromPipe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written, silent := newPipe(t, filepath.Join(dir, "written")), newPipe(t, filepath.Join(dir, "silent"))
	ended := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(written, os.O_WRONLY, 0) // which waits for the reader
		if err == nil {
			_, err = f.WriteString("s3cr3t-tenable\n")
			err = errors.Join(err, f.Close())
		}
		ended <- err
	}()
	env, err := config.Open(config.Source{Dir: dir, Environ: []string{"TIO_ACCESS_KEY=a", "TIO_SECRET_KEY_FILE=" + written, "STORE_POSTGRES_HOST_FILE=" + silent}})
	if err != nil {
		t.Fatal(err)
	}
	sections := sampleSections()
	_, err = env.Load(coreSettings(), sections...)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := sections[1].Into.(*tenable).SecretKey.Reveal(); got != "s3cr3t-tenable" {
		t.Errorf("secret %q", got)
	}
	want := `STORE_POSTGRES_HOST_FILE: "` + silent + `": a pipe or device that did not end within 5s: want a readable file that holds the value of STORE_POSTGRES_HOST`
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}
