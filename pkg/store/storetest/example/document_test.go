package example

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
)

// TestDocumentQuotesExample: docs/internals/writing-a-destination.md has the
// source of this package as it is.
func TestDocumentQuotesExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "internals", "writing-a-destination.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"example.go", "suite_test.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "```go\n"+string(source)+"```\n") {
			t.Errorf("docs/internals/writing-a-destination.md does not quote %s as it is", name)
		}
	}
}

// TestDefinition loads the settings and opens the sink, as the program does.
func TestDefinition(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		on      bool
	}{
		{name: "not set", environ: nil, on: false},
		{name: "set", environ: []string{"STORE_LINES=/data/lines"}, on: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings := Definition.NewSettings()
			found, err := config.Open(config.Source{Environ: tt.environ, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			core := &config.Settings{Store: config.Store{Destinations: config.Groups{{Title: Definition.Title, Into: settings}}}}
			if _, err := found.Load(core); err != nil {
				t.Fatal(err)
			}
			sink, err := Definition.Open(settings, store.Options{})
			if err != nil || (sink != nil) != tt.on {
				t.Errorf("Open returns %v, %v; on is %t", sink, err, tt.on)
			}
		})
	}
}
