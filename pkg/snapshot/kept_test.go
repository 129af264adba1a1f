package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestKeptPageIsCarried: a page kept by one run is another's, with the other's
// members and counts.
func TestKeptPageIsCarried(t *testing.T) {
	t.Parallel()
	records := []string{`{"id":1,"_upload_id":"theirs"}`, `{}`, `{"text":"},{"}`, "{\"bad\":\"\xff\"}"}
	for name, damage := range map[string]func(path string) error{
		"whole": nil,
		"cut":   func(path string) error { return os.Truncate(path, 20) },
		"flipped": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 4
			return os.WriteFile(path, b, 0o600)
		},
		"no manifest": func(path string) error { return os.Remove(filepath.Join(filepath.Dir(path), manifestName)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "kept")
			old := testHeader
			old.UploadID = "an older one"
			first, err := Create(filepath.Join(t.TempDir(), "spool"), old)
			if err != nil {
				t.Fatal(err)
			}
			p := first.Page()
			for _, r := range records {
				if err := p.Append([]byte(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.CommitAs(dir); err != nil {
				t.Fatal(err)
			}
			if n := first.Read().Records; n != int64(len(records)) {
				t.Errorf("the first run's spool has %d records", n)
			}
			if err := first.Abort(); err != nil {
				t.Fatal(err)
			}
			if damage != nil {
				if err := damage(filepath.Join(dir, recordsName)); err != nil {
					t.Fatal(err)
				}
			}
			w, sealed := create(t)
			var n int64
			kept, err := Open(dir)
			if err == nil {
				n, _, err = kept.CarryTo(context.Background(), w)
			}
			if damage != nil {
				if !errors.Is(err, ErrDamaged) || w.Read().Records != 0 {
					t.Fatalf("%d records carried, error %v", w.Read().Records, err)
				}
				return
			}
			if err != nil || n != int64(len(records)) {
				t.Fatalf("%d records carried, error %v", n, err)
			}
			s, err := w.Seal(sealed)
			if err != nil {
				t.Fatal(err)
			}
			// What collecting them anew gives.
			fresh := seal(t, records...)
			want, err := read(fresh)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(s)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, want %q, error %v", got, want, err)
			}
			if s.RenamedMembers != fresh.RenamedMembers || s.RepairedUTF8 != fresh.RepairedUTF8 || s.Bytes != fresh.Bytes {
				t.Errorf("got %+v, want %+v", s.Info, fresh.Info)
			}
		})
	}
}
