//go:build race

package rest

// underRace tells that the race detector slows this program down.
const underRace = true
