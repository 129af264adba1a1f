//go:build !race

package storetest

// million is how many records RunMillion stores.
const million = 1_000_000
