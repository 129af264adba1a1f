package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/snapshot/parquet"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

var extensions = []string{"json", "json.gz", "ndjson.zst", "parquet"}

// sealTaken returns a snapshot of a tenancy that was taken at an age before now; a
// negative age is in the future.
func sealTaken(t *testing.T, tenancy string, age time.Duration) *snapshot.Snapshot {
	t.Helper()
	return storetest.Seal(t, storetest.NewHeader("okta_users", tenancy, time.Now().Add(-age).UTC().Truncate(time.Second)), `{"n":1}`)
}

// TestFileKeepsNewer: what is older than the file, or from the future, does not
// replace it.
func TestFileKeepsNewer(t *testing.T) {
	const hour = time.Hour
	tests := []struct {
		name       string
		there, new time.Duration // ages
		note       string        // "" when the file is replaced
	}{
		{name: "older", there: hour, new: 2 * hour, note: " is newer than the snapshot and is not replaced"},
		{name: "newer", there: 2 * hour, new: hour},
		{name: "the same time", there: hour, new: hour},
		{name: "from the future", there: hour, new: -2 * hour, note: ", in the future: not stored"},
		{name: "after one from the future", there: -9000 * hour, new: hour},
		{name: "from the future after another", there: -9000 * hour, new: -2 * hour},
	}
	for _, ext := range extensions {
		for _, tt := range tests {
			t.Run(ext+", "+tt.name, func(t *testing.T) {
				var notes []string
				f := newSink(t, filepath.Join(t.TempDir(), "%TAG."+ext))
				f.opts.Note = func(_ *snapshot.Snapshot, text string) { notes = append(notes, text) }
				before, after := sealTaken(t, "acme", tt.there), sealTaken(t, "acme", tt.new)
				storetest.Write(t, f, before)
				notes = nil
				var report store.Report
				if err := f.Write(store.WithReport(t.Context(), &report), after); err != nil {
					t.Fatal(err)
				}
				want := after
				if tt.note != "" {
					want = before
				}
				target := f.opts.Path.Render(after.Header)
				if got, known := readOrigin(t.Context(), target); !known || got.UploadID != want.UploadID {
					t.Errorf("the file is of %+v (%v), want %s", got, known, want.UploadID)
				}
				if report.KeptOut() != (tt.note != "") || len(notes) != 0 != (tt.note != "") ||
					tt.note != "" && (!strings.Contains(notes[0], tt.note) || !strings.HasPrefix(notes[0], target)) {
					t.Errorf("kept out %v, notes %q, want %q", report.KeptOut(), notes, tt.note)
				}
			})
		}
	}
}

// TestFileOfAnotherTenancy: the file of another tenancy is refused and stays.
func TestFileOfAnotherTenancy(t *testing.T) {
	for _, ext := range extensions {
		t.Run(ext, func(t *testing.T) {
			f := newSink(t, filepath.Join(t.TempDir(), "%TAG."+ext))
			theirs := sealTaken(t, "globex", time.Hour)
			storetest.Write(t, f, theirs)
			err := f.Write(t.Context(), sealTaken(t, "acme", time.Minute))
			if !errors.Is(err, store.ErrRefused) || !strings.Contains(err.Error(), `okta_users.`+ext+`: destination refused: the file is of another tenancy and is not replaced by one of "acme": put %TENANCY into STORE_FILE, or remove the file`) {
				t.Errorf("error %v", err)
			}
			if got, _ := readOrigin(t.Context(), f.opts.Path.Render(theirs.Header)); got.UploadID != theirs.UploadID {
				t.Errorf("the file is of %+v", got)
			}
		})
	}
}

// TestFileOfNoOrigin: what is not known to be collectord's is replaced.
func TestFileOfNoOrigin(t *testing.T) {
	for _, ext := range extensions {
		empty := storetest.Seal(t, storetest.NewHeader("okta_users", "globex", time.Now()))
		for name, prepare := range map[string]func(f *Sink, target string) error{
			"empty":         func(_ *Sink, target string) error { return os.WriteFile(target, nil, 0o600) },
			"text":          func(_ *Sink, target string) error { return os.WriteFile(target, []byte("hello"), 0o600) },
			"other records": func(_ *Sink, target string) error { return os.WriteFile(target, []byte(`[{"n":1}]`), 0o600) },
			"no records":    func(f *Sink, _ string) error { return f.Write(t.Context(), empty) },
		} {
			t.Run(ext+", "+name, func(t *testing.T) {
				f := newSink(t, filepath.Join(t.TempDir(), "x.%TAG."+ext))
				snap := sealTaken(t, "acme", time.Hour)
				target := f.opts.Path.Render(snap.Header)
				if err := prepare(f, target); err != nil {
					t.Fatal(err)
				}
				storetest.Write(t, f, snap)
				if got, known := readOrigin(t.Context(), target); !known || got.UploadID != snap.UploadID {
					t.Errorf("the file is of %+v", got)
				}
			})
		}
	}
}

// TestFileDamagedOlderSnapshot: a snapshot that is not written is verified.
func TestFileDamagedOlderSnapshot(t *testing.T) {
	f := newSink(t, filepath.Join(t.TempDir(), "%TAG.json"))
	storetest.Write(t, f, sealTaken(t, "acme", time.Hour))
	old := sealTaken(t, "acme", 2*time.Hour)
	storetest.Damage(t, old)
	if err := f.Write(t.Context(), old); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
}

// TestParquetOrigin reads a path that is a pattern to DuckDB.
func TestParquetOrigin(t *testing.T) {
	snap := sealTaken(t, `te'nancy`, time.Hour)
	path := filepath.Join(t.TempDir(), "a[1]*?'.parquet")
	encoded, err := parquet.Encode(t.Context(), snap, parquet.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	var content bytes.Buffer
	if _, err := encoded.WriteTo(&content); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(encoded.Close(), os.WriteFile(path, content.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	h, err := parquet.ReadOrigin(t.Context(), path)
	if err != nil || h.Tenancy != snap.Tenancy || h.UploadID != snap.UploadID || !h.UploadTimestamp.Equal(snap.UploadTimestamp) {
		t.Errorf("got %+v, %v; want %+v", h, err, snap.Header)
	}
	if _, err := parquet.ReadOrigin(t.Context(), path+".none"); err == nil {
		t.Error("no error for a file that is missing")
	}
}
