// Package store delivers sealed snapshots to the destinations: local files,
// DuckDB, Postgres and S3.
package store

import (
	"context"
	"errors"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A Sink is one destination.
type Sink interface {
	// Name is the destination's name in settings, metrics and messages:
	// "file", "duckdb", "postgres" or "s3".
	Name() string
	// Write stores all of s or none of it: readers see the previous snapshot
	// until Write returns nil. Writing the same snapshot again changes
	// nothing, so whoever is unsure whether a Write succeeded repeats it. An
	// error wraps ErrRefused when repeating cannot help before somebody
	// changes something.
	Write(ctx context.Context, s *snapshot.Snapshot) error
	// Check tells whether the destination can be reached and written to,
	// without changing what it holds.
	Check(ctx context.Context) error
	Close() error
}

// ErrRefused means that a destination will not take a snapshot until somebody
// changes something there or in the settings: a missing permission, a missing
// database, a table of another shape.
var ErrRefused = errors.New("destination refused")
