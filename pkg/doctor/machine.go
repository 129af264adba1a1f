package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/dustin/go-humanize"
)

// Memory holds the memory that this process may use, by its control group or
// GOMEMLIMIT, against what DuckDB may use of it.
func Memory(duckdb int64) Finding {
	f := Finding{Group: "machine", Check: "memory", Result: OK, Text: "no limit is set for this process"}
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return f
	}
	f.Text = "this process may use " + humanize.IBytes(uint64(limit))
	// Beside DuckDB, extraction takes less than 100 MB.
	if need := duckdb + 100<<20; limit < need {
		f.Result = Warning
		f.Text += ", DuckDB alone " + humanize.IBytes(uint64(duckdb))
		f.Advice = "give it " + humanize.IBytes(uint64(need)) + ", or lower STORE_DUCKDB_MEMORY"
	}
	return f
}

// Folder tells whether files can be made in a folder of the setting, or where
// it would be made.
func Folder(group, setting, dir string) Finding {
	f := Finding{Group: group, Check: "folder", Result: OK, Text: dir}
	there := dir
	for {
		fi, err := os.Stat(there)
		if err == nil && !fi.IsDir() {
			return f.because("%s is no folder", there).do("move it away, or change %s", setting)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return f.because("%v", err).do("let user id %d into it, or change %s", os.Geteuid(), setting)
		}
		there = filepath.Dir(there)
	}
	if err := writable(there); err != nil {
		return f.because("nothing can be made in %s: %v", there, err).do("let user id %d write there, or change %s", os.Geteuid(), setting)
	}
	if there != dir {
		f.Text += " is not there yet and can be made"
	}
	return f
}

// because makes a failure of the finding.
func (f Finding) because(format string, args ...any) Finding {
	f.Result, f.Text = Failed, fmt.Sprintf(format, args...)
	return f
}

func (f Finding) do(format string, args ...any) Finding {
	f.Advice = fmt.Sprintf(format, args...)
	return f
}

// Size is how much the files below a folder hold. What vanishes meanwhile
// counts nothing.
func Size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		if fi, err := entry.Info(); err == nil {
			bytes += fi.Size()
		}
		return nil
	})
	return bytes
}

// space judges free space and inodes. used is what the last-known data take:
// while a run writes the next, as much again; spool is what undelivered
// snapshots may take.
func space(check string, free, inodes uint64, used, spool int64) Finding {
	f := Finding{Group: "machine", Check: check, Result: OK, Text: humanize.IBytes(free) + " free"}
	need := max(2*used, 256<<20)
	switch {
	case free < uint64(need):
		f.Result = Failed
		f.Advice = "free some: a run may need " + humanize.IBytes(uint64(need))
	case free < uint64(need+spool):
		f.Result = Warning
		f.Advice = fmt.Sprintf("undelivered snapshots may take %s (STORE_SPOOL_MAX) when a destination is away, and a run %s: free some, or lower it",
			humanize.IBytes(uint64(spool)), humanize.IBytes(uint64(need)))
	}
	if inodes < 1000 {
		f.Result = Failed
		f.Text += fmt.Sprintf(", %d inodes free", inodes)
		f.Advice = "the file system is full of small files: remove some"
	}
	return f
}
