package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// maxFile is the maximum size of any file, in bytes.
const maxFile = 1 << 20

// pipeTimeout is how long a pipe or a device may take to deliver a value.
const pipeTimeout = 5 * time.Second

// readFile reads a file to its end, and a pipe or device if it ends before pipeTimeout. The
// error does not name the path, since a user may have given a secret in place of a path.
func readFile(path string) (text string, mode fs.FileMode, err error) {
	f, mode, err := openFile(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if mode.IsRegular() {
		text, err = readText(f)
		return text, mode, err
	}
	deadline := time.Now().Add(pipeTimeout)
	_ = f.SetReadDeadline(deadline) // a device without one does not block
	for {
		text, err = readText(f)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), err == nil && text == "" && isPipe(mode) && !time.Now().Before(deadline):
			return "", 0, fmt.Errorf("a pipe or device that did not end within %v", pipeTimeout)
		case err == nil && text == "" && isPipe(mode): // until another process opens it
			time.Sleep(10 * time.Millisecond)
		default:
			return text, mode, err
		}
	}
}

// readRegularFile is readFile for a file that must be regular: it is read at each reload.
func readRegularFile(path string) (text string, mode fs.FileMode, err error) {
	f, mode, err := openFile(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if !mode.IsRegular() {
		return "", 0, errors.New("not a regular file")
	}
	text, err = readText(f)
	return text, mode, err
}

// openFile opens a file without waiting for the writer of a pipe.
func openFile(path string) (*os.File, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, withoutPath(err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(withoutPath(err), f.Close())
	}
	return f, info.Mode(), nil
}

// readText reads f to its end.
func readText(f *os.File) (string, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", withoutPath(err)
	}
	if len(data) > maxFile {
		return "", errors.New("longer than 1 MiB")
	}
	return string(data), nil
}

func isPipe(mode fs.FileMode) bool { return mode&fs.ModeNamedPipe != 0 }

// withoutPath returns the cause of an error that names a path.
func withoutPath(err error) error {
	if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
