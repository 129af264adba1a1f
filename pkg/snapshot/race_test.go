//go:build race

package snapshot

const (
	// million is how many records TestMemoryDoesNotGrow takes.
	million = 100_000
	// maxGrowth is how much more memory the end may need than the first tenth. The race
	// detector's own memory, several times that of the program, varies.
	maxGrowth = 64 << 20
)
