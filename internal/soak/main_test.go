package main

import (
	"os"
	"testing"

	"github.com/collectord/collectord/internal/testserver"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.Stop()
	os.Exit(code)
}
