package local

import (
	"slices"
	"strings"
)

// entries are the files and directories of a state in its directory, also those of a state
// that other machines share and those of queries.
var entries = []string{databaseName, instanceName, reserveName, "snapshots", "spool", "locks", "kept", "query", "cache"}

// IsOwnEntry reports whether a name in the state directory is that of a file or directory of
// the state.
func IsOwnEntry(name string) bool {
	return slices.Contains(entries, name) || strings.HasPrefix(name, databaseName+"-") || strings.HasPrefix(name, reserveName+".")
}
