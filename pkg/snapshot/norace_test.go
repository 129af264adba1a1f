//go:build !race

package snapshot

const (
	million   = 1_000_000
	maxGrowth = 32 << 20
)
