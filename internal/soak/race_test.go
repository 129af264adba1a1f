//go:build race

package main

// race tells that the tests, and so the daemon, run with the race detector.
const race = true
