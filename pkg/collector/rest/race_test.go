//go:build race

package rest

// raceEnabled reports whether the race detector is on, which slows the tests.
const raceEnabled = true
