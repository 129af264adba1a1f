// Package e2e_test runs the built program as its users do: once, as a service,
// under systemd, and through every documented command.
package e2e_test

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

// assertSameRecords compares records byte for byte, in any order.
func assertSameRecords(t *testing.T, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, w := range want {
		count[w]++
	}
	for _, g := range got {
		count[g]--
	}
	for record, n := range count {
		if n != 0 {
			t.Fatalf("%d stored, %d expected; one that differs (missing %d times): %.200s", len(got), len(want), n, record)
		}
	}
}
