//go:build race

package snapshot

// million is how many records TestMemoryDoesNotGrow takes.
const million = 100_000
