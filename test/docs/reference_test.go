package docs_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/metrics"
	"github.com/collectord/collectord/pkg/store/sinks"
	"github.com/collectord/collectord/test/checkout"
)

var update = flag.Bool("update", false, "rewrite the generated documents")

func settingsReference() string {
	return config.Reference(sinks.NewSettings(), sources.Sections()...)
}

// TestGeneratedDocuments compares the documents that are generated from the code
// with what the code generates now.
func TestGeneratedDocuments(t *testing.T) {
	for name, want := range map[string]string{
		"metrics.md":    metrics.Reference(),
		"settings.md":   settingsReference(),
		"collectors.md": sources.Reference(),
	} {
		path := checkout.Join(t, "docs", "reference", name)
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
			t.Errorf("docs/reference/%s differs from the code (-code +document); run `make docs`:\n%s", name, diff)
		}
	}
}
