//go:build embedroots

package main

// Mozilla's certificate authorities, for where the machine has none: the root
// of a container may hold nothing but the program.
import _ "golang.org/x/crypto/x509roots/fallback"
