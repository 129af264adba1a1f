package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A batch that one run has stored with CommitTo can be copied into the snapshot of
// another run, with that run's reserved members and the same counts.
func TestCommitToAndCopyTo(t *testing.T) {
	t.Parallel()
	records := []string{`{"id":1,"_upload_id":"theirs"}`, `{}`, `{"text":"},{"}`, "{\"bad\":\"\xff\"}"}
	for name, damage := range map[string]func(path string) error{
		"intact":    nil,
		"truncated": func(path string) error { return os.Truncate(path, 20) },
		"flipped": func(path string) error {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text[len(text)/2] ^= 4
			return os.WriteFile(path, text, 0o600)
		},
		"no manifest": func(path string) error { return os.Remove(filepath.Join(filepath.Dir(path), manifestName)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "kept")
			old := testHeader
			old.UploadID = "an older run"
			first, err := Create(filepath.Join(t.TempDir(), "spool"), old)
			if err != nil {
				t.Fatal(err)
			}
			b := first.NewBatch()
			for _, r := range records {
				if err := b.Append([]byte(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.CommitTo(dir); err != nil {
				t.Fatal(err)
			}
			if n := first.Info().Records; n != int64(len(records)) {
				t.Errorf("the first run's spool has %d records, want %d", n, len(records))
			}
			if err := first.Abort(); err != nil {
				t.Fatal(err)
			}
			if damage != nil {
				if err := damage(filepath.Join(dir, recordsName)); err != nil {
					t.Fatal(err)
				}
			}
			w, sealed := createWriter(t)
			var n int64
			kept, err := Open(dir)
			if err == nil {
				n, _, err = kept.CopyTo(context.Background(), w)
			}
			if damage != nil {
				if !errors.Is(err, ErrDamaged) || w.Info().Records != 0 {
					t.Fatalf("%d records copied, error %v", w.Info().Records, err)
				}
				return
			}
			if err != nil || n != int64(len(records)) {
				t.Fatalf("%d records copied, error %v", n, err)
			}
			s, err := w.Seal(sealed)
			if err != nil {
				t.Fatal(err)
			}
			// The result of collecting the same records again.
			fresh := sealRecords(t, records...)
			want, err := readRecords(fresh)
			if err != nil {
				t.Fatal(err)
			}
			got, err := readRecords(s)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, want %q, error %v", got, want, err)
			}
			if s.RenamedMembers != fresh.RenamedMembers || s.RepairedUTF8 != fresh.RepairedUTF8 || s.Bytes != fresh.Bytes {
				t.Errorf("got %+v, want %+v", s.Info, fresh.Info)
			}
		})
	}
}
