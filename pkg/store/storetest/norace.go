//go:build !race

package storetest

// million is how many records RunMillion stores.
const million = 1_000_000

// large is the size of the largest record that every sink stores, in bytes.
const large = 63 << 20
