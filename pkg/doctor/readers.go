package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSearched bounds the files and directories that are searched for one to examine.
const maxSearched = 1000

// Readers reports who can read the files of a destination, by the first file below dir.
// ok is false when there is none.
func Readers(setting, dir string) (f Finding, ok bool) {
	path, err := findFile(dir)
	if err != nil || path == "" {
		return Finding{}, false
	}
	who, err := readersOf(path)
	if err != nil {
		return Finding{}, false
	}
	return Finding{
		Group: machineGroup, Check: "readers of " + setting, Result: OK,
		Text: path + " is readable for " + strings.Join(who, " and "),
	}, true
}

// findFile returns a regular file below dir; "" when there is none.
func findFile(dir string) (found string, err error) {
	searched := 0
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		searched++
		if entry.Type().IsRegular() && !strings.HasPrefix(entry.Name(), ".") {
			found = path
		}
		if found != "" || searched > maxSearched {
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// readersOf returns who can read a file, besides root: by its mode, and by those of the
// directories above it.
func readersOf(path string) (who []string, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	fi, stat, err := statFile(real)
	if err != nil {
		return nil, err
	}
	group, everyone := fi.Mode()&0o040 != 0, fi.Mode()&0o004 != 0
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		above, owner, err := statFile(dir)
		if err != nil {
			return nil, err
		}
		othersPass := above.Mode()&0o001 != 0
		everyone = everyone && othersPass
		group = group && (othersPass || owner.Gid == stat.Gid && above.Mode()&0o010 != 0)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	switch {
	case everyone:
		return []string{"every user of this machine"}, nil
	case group:
		return []string{"user " + userName(stat.Uid), "group " + groupName(stat.Gid)}, nil
	}
	return []string{"user " + userName(stat.Uid) + " only"}, nil
}

func statFile(path string) (fs.FileInfo, *syscall.Stat_t, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	stat, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, nil, errors.New("no owner is known")
	}
	return fi, stat, nil
}

func userName(id uint32) string {
	if u, err := user.LookupId(fmt.Sprint(id)); err == nil {
		return u.Username
	}
	return fmt.Sprint(id)
}

func groupName(id uint32) string {
	if g, err := user.LookupGroupId(fmt.Sprint(id)); err == nil {
		return g.Name
	}
	return fmt.Sprint(id)
}
