package file

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

// TestHasLost: a file that each snapshot replaces is missed when it is gone; one that is
// named by the time of its snapshot may have been moved.
func TestHasLost(t *testing.T) {
	h := snapshot.Header{Collector: "epss", Stream: "epss_scores", Tenancy: "acme", UploadID: "1", UploadTimestamp: time.Now()}
	for name, wantLost := range map[string]bool{"%TAG.json": true, "%TAG-%UUID.json": false} {
		dir := t.TempDir()
		path, err := store.ParseTarget("STORE_FILE", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.HasLost(h); got != wantLost {
			t.Errorf("%s: lost %v, want %v", name, got, wantLost)
		}
		if err := os.WriteFile(path.Render(h), []byte("[]"), 0o600); err != nil {
			t.Fatal(err)
		}
		if s.HasLost(h) || len(store.FindLost([]store.Sink{s}, h)) > 0 {
			t.Errorf("%s: the file is there and counts as lost", name)
		}
	}
}
