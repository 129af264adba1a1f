//go:build !linux

package query

import "os"

// ownProgram returns the path of the running program.
func ownProgram() (string, error) { return os.Executable() }

// limitProcess does nothing: only DuckDB's own bound of memory holds here.
func limitProcess(int, int64, bool) error { return nil }

// raiseOOMScore does nothing here.
func raiseOOMScore() {}
