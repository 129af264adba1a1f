// Package rss reduces the resident memory of the running program.
package rss
