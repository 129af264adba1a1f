package external

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// checkWritable returns an error if any user of the machine may change a file, or replace
// it in its directory.
func checkWritable(path string) error {
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		// In a sticky directory only the owner of a file replaces it.
		if info.Mode().Perm()&0o002 != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0) {
			return fmt.Errorf("anyone on this machine can change %s, and so run programs as this user: run chmod o-w %s", p, p)
		}
	}
	return nil
}

// describeGroupAccess returns a warning if a group may change a file; "" otherwise.
func describeGroupAccess(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o020 == 0 {
		return ""
	}
	return fmt.Sprintf("its group can change %s, and so run programs as this user: run chmod g-w %s, unless that is intended", path, path)
}

// resolve returns the path of the program of a command. A path with a slash is relative to
// the directory of the file. The program, and scripts among its arguments, may not be
// changed by others.
func (f *File) resolve(command []string) (path string, err error) {
	path = command[0]
	switch {
	case filepath.IsAbs(path):
	case strings.Contains(path, "/"):
		path = filepath.Join(filepath.Dir(f.path), path)
	default:
		if path, err = exec.LookPath(path); err != nil {
			return "", fmt.Errorf("command: %w: want a path that begins with /, or a program in PATH", err)
		}
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("command: %s does not exist: install the program, or correct the path", path)
	case err != nil:
		return "", fmt.Errorf("command: %w: want a program that the service can execute", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return "", fmt.Errorf("command: %s is not executable: run chmod a+x %s", path, path)
	}
	if err := checkWritable(path); err != nil {
		return "", fmt.Errorf("command: %w", err)
	}
	for _, argument := range command[1:] {
		if info, err := os.Stat(argument); err != nil || !filepath.IsAbs(argument) || !info.Mode().IsRegular() {
			continue
		}
		if err := checkWritable(argument); err != nil {
			return "", fmt.Errorf("command: %w", err)
		}
	}
	return path, nil
}
