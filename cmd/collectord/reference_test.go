package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/metrics"
)

var update = flag.Bool("update", false, "write the generated documents anew")

// TestGeneratedDocuments holds the documents that are made from the code
// against it.
func TestGeneratedDocuments(t *testing.T) {
	for name, want := range map[string]string{
		"metrics.md":    metrics.Reference(),
		"settings.md":   settingsReference(),
		"collectors.md": collectorsReference(),
	} {
		path := filepath.Join("..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("docs/%s is not what the code says (-code +document); run `make docs`:\n%s", name, diff)
		}
	}
}
