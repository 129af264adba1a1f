//go:build race

package store

// million is how many records TestAMillionRecords takes.
const million = 100_000
