//go:build race

package store

// million is how many records TestMillionRecords takes.
const million = 100_000
