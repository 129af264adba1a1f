//go:build !race

package store

const million = 1_000_000
