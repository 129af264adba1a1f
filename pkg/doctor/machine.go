package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/dustin/go-humanize"
)

const machineGroup = "machine"

// MachineChecks is what Machine examines.
type MachineChecks struct {
	// DuckDBMemory is the memory in bytes that DuckDB may use.
	DuckDBMemory int64
	// StateDir is STATE_DIR, and SpoolMax the bytes that undelivered snapshots
	// may use there; "" when the settings cannot be used.
	StateDir string
	SpoolMax int64
	// Outputs are the directories that destinations write to.
	Outputs []OutputDirectory
}

// An OutputDirectory is a directory that a destination writes to.
type OutputDirectory struct {
	Setting string // the name of the setting that it is from
	Dir     string
}

// Machine returns the findings about the clock's synchronisation, memory, open
// files and disks of this machine.
func Machine(c MachineChecks) []Finding {
	var findings []Finding
	addIf := func(f Finding, ok bool) {
		if ok {
			findings = append(findings, f)
		}
	}
	addIf(Synchronised())
	addIf(Memory(c.DuckDBMemory), true)
	addIf(Files())
	if c.StateDir == "" {
		return findings
	}
	used := Size(filepath.Join(c.StateDir, "snapshots"))
	addIf(Disk("disk of STATE_DIR", c.StateDir, used, c.SpoolMax))
	for _, output := range c.Outputs {
		addIf(Disk("disk of "+output.Setting, output.Dir, used, 0))
		if !contains(output.Dir, c.StateDir) { // whose files are for this user alone
			addIf(Readers(output.Setting, output.Dir))
		}
	}
	return findings
}

// contains reports whether a directory is, or is above, another one.
func contains(dir, below string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	below, err = filepath.Abs(below)
	return err == nil && strings.HasPrefix(below+"/", strings.TrimSuffix(dir, "/")+"/")
}

// Memory compares the memory that this process may use, by its control group or
// GOMEMLIMIT, with the bytes that DuckDB may use of it.
func Memory(duckdb int64) Finding {
	f := Finding{Group: machineGroup, Check: "memory", Result: OK, Text: "no limit is set for this process"}
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return f
	}
	f.Text = "this process may use " + humanize.IBytes(uint64(limit))
	// Without DuckDB, extraction needs less than 100 MB.
	if need := duckdb + 100<<20; limit < need {
		f.Result = Warning
		f.Text += ", DuckDB alone " + humanize.IBytes(uint64(duckdb))
		f.Advice = "give it " + humanize.IBytes(uint64(need)) + ", or lower STORE_DUCKDB_MEMORY"
	}
	return f
}

// Directory reports whether files can be created in the directory of a setting,
// or the directory itself if it does not exist.
func Directory(group, setting, dir string) Finding {
	f := Finding{Group: group, Check: "folder", Result: OK, Text: dir}
	existing := dir
	for {
		fi, err := os.Stat(existing)
		if err == nil && !fi.IsDir() {
			return f.failed("%s is not a directory", existing).withAdvice("move it away, or change %s", setting)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return f.failed("%v", err).withAdvice("let user id %d access it, or change %s", os.Geteuid(), setting)
		}
		existing = filepath.Dir(existing)
	}
	if err := checkWritable(existing); err != nil {
		return f.failed("nothing can be created in %s: %v", existing, err).
			withAdvice("let user id %d write there, or change %s", os.Geteuid(), setting)
	}
	if existing != dir {
		f.Text += " does not exist yet and can be created"
	}
	return f
}

// CheckDirectory returns an error with advice if no files can be created in the directory
// of a setting, nor the directory itself if it does not exist.
func CheckDirectory(setting, dir string) error {
	if f := Directory("", setting, dir); f.Result == Failed {
		return fmt.Errorf("%s: %s", f.Text, f.Advice)
	}
	return nil
}

// Size returns the sum of the sizes of the files below a directory, in bytes. A
// file that is removed meanwhile counts as 0.
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

// spaceFinding returns the finding about free bytes and inodes. used is the size
// of the last-known data, of which a run needs as much again while it writes;
// spool is what undelivered snapshots may use.
func spaceFinding(check string, free, inodes uint64, used, spool int64) Finding {
	f := Finding{Group: machineGroup, Check: check, Result: OK, Text: humanize.IBytes(free) + " free"}
	need := max(2*used, 256<<20)
	switch {
	case free < uint64(need):
		f.Result = Failed
		f.Advice = "free some space: a run may need " + humanize.IBytes(uint64(need))
	case free < uint64(need+spool):
		f.Result = Warning
		f.Advice = fmt.Sprintf("undelivered snapshots may need %s (STORE_SPOOL_MAX) while a destination is unavailable, and a run %s: "+
			"free some space, or lower it", humanize.IBytes(uint64(spool)), humanize.IBytes(uint64(need)))
	}
	if inodes < 1000 {
		f.Result = Failed
		f.Text += fmt.Sprintf(", %d inodes free", inodes)
		f.Advice = "the file system is full of small files: remove some"
	}
	return f
}
