// Package columns chooses the types and names of the columns of a stream's records,
// for destinations that show the members of records as columns, and remembers them
// from snapshot to snapshot. Types only widen.
package columns
