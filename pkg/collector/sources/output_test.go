package sources

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
)

// spool is a collector.Output over a real snapshot.
type spool struct {
	t testing.TB
	w *snapshot.Writer
}

func newSpool(t testing.TB) *spool {
	t.Helper()
	w, err := snapshot.Create(filepath.Join(t.TempDir(), "spool"), snapshot.Header{
		Collector: "test", Stream: "test", Tenancy: "t", UploadID: "u", UploadTimestamp: time.Unix(0, 0),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	})
	return &spool{t: t, w: w}
}

// Page implements collector.Output.
func (s *spool) Page() collector.Page { return s.w.Page() }

// Reset implements collector.Output.
func (s *spool) Reset() error { return s.w.Reset() }

// ours is what a snapshot adds to each record.
const ours = `,"_tenancy":"t","_upload_timestamp":"1970-01-01 00:00:00","_upload_id":"u"}`

// records seals the snapshot and reads it back, without what it added.
func (s *spool) records() []string {
	s.t.Helper()
	sealed, err := s.w.Seal(filepath.Join(s.t.TempDir(), "sealed"))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := sealed.Reader(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var all []string
	for {
		record, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			s.t.Fatal(err)
		}
		own, cut := strings.CutSuffix(string(record), ours)
		if !cut {
			s.t.Fatalf("a record ends with %q", record[max(0, len(record)-len(ours)):])
		}
		all = append(all, own+"}")
	}
}
