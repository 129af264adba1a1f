package collectortest

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/snapshot"
)

// A Spool is a collector.Output that writes a real snapshot.
type Spool struct {
	t testing.TB
	w *snapshot.Writer
}

// NewSpool returns an empty Spool, which is removed when the test ends.
func NewSpool(t testing.TB) *Spool {
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
	return &Spool{t: t, w: w}
}

// NewBatch implements collector.Output.
func (s *Spool) NewBatch() collector.Batch { return s.w.NewBatch() }

// Reset implements collector.Output.
func (s *Spool) Reset() error { return s.w.Reset() }

// RecordCount returns the number of committed records.
func (s *Spool) RecordCount() int64 { return s.w.Info().Records }

// addedMembers is what a snapshot adds to the end of each record.
const addedMembers = `,"_tenancy":"t","_upload_timestamp":"1970-01-01 00:00:00","_upload_id":"u"}`

// Records seals the snapshot and returns its records without the members that
// the snapshot added.
func (s *Spool) Records() []string {
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
		vendorPart, found := strings.CutSuffix(string(record), addedMembers)
		if !found {
			s.t.Fatalf("a record ends with %q", record[max(0, len(record)-len(addedMembers)):])
		}
		all = append(all, vendorPart+"}")
	}
}
