//go:build !race

package rest

const underRace = false
