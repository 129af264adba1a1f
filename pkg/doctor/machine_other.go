//go:build !linux

package doctor

import "os"

func writable(dir string) error {
	probe, err := os.CreateTemp(dir, ".collectord-doctor-*")
	if err != nil {
		return err
	}
	_ = probe.Close() // nothing was written
	return os.Remove(probe.Name())
}

// Disk is known on Linux only.
func Disk(string, string, int64, int64) (Finding, bool) { return Finding{}, false }

// Synchronised is known on Linux only.
func Synchronised() (Finding, bool) { return Finding{}, false }

// Files is known on Linux only.
func Files() (Finding, bool) { return Finding{}, false }
