//go:build race

package storetest

// million is how many records RunMillion stores.
const million = 100_000

// large is the size of the largest record that every sink stores, in bytes.
const large = 9 << 20
