//go:build !linux

package doctor

import "os"

// checkWritable returns an error if this process cannot create files in dir.
func checkWritable(dir string) error {
	probe, err := os.CreateTemp(dir, ".collectord-doctor-*")
	if err != nil {
		return err
	}
	_ = probe.Close() // nothing was written
	return os.Remove(probe.Name())
}

// Disk returns no finding: free space is known on Linux only.
func Disk(string, string, int64, int64) (Finding, bool) { return Finding{}, false }

// Synchronised returns no finding: synchronisation is known on Linux only.
func Synchronised() (Finding, bool) { return Finding{}, false }

// Files returns no finding: the limit is known on Linux only.
func Files() (Finding, bool) { return Finding{}, false }
