package store

import "context"

// An Observation is something about a destination that does not keep it from
// storing snapshots, and that a person should know.
type Observation struct {
	// Text says what was found, Advice what to do about it.
	Text, Advice string
}

// An Inspector is a Sink that can report more than whether it works. Its methods
// change nothing.
type Inspector interface {
	// Inspect returns what is worth knowing about the place, such as tables
	// of an earlier program that receive no new rows. It needs no more time
	// than Check.
	Inspect(ctx context.Context) ([]Observation, error)
	// InspectRecords returns what is worth knowing about the stored records.
	// It may read all of them. What it cannot read until the deadline of ctx
	// is an observation.
	InspectRecords(ctx context.Context) ([]Observation, error)
}
