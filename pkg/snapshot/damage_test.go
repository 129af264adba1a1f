package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// check opens the snapshot in dir and reads it to its end, by every way there
// is, and returns the first error. It fails the test when a way that must
// find a damage of the records does not, or a reader changes its mind.
func check(t *testing.T, dir string) error {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		return err
	}
	verified := s.Verify(context.Background())
	r, err := s.Reader(context.Background())
	if err != nil {
		return err
	}
	defer r.Close()
	for err == nil {
		_, err = r.Next()
	}
	if _, again := r.Next(); again != err {
		t.Errorf("the reader says %v, then %v", err, again)
	}
	encoded := s.Encode(context.Background(), io.Discard, Format{Kind: NDJSON})
	if err == io.EOF {
		err = nil
	}
	if (encoded == nil) != (err == nil) || verified != nil && err == nil {
		t.Errorf("Next says %v, Encode %v, Verify %v", err, encoded, verified)
	}
	return err
}

// pair makes two sealed snapshots of other content.
func pair(t *testing.T) (s, other *Snapshot) {
	var records []string
	for i := range 2000 {
		records = append(records, fmt.Sprintf(`{"id":%d,"name":"user %d"}`, i, i*7919))
	}
	s = seal(t, records...)
	slices.Reverse(records)
	return s, seal(t, records...)
}

func replaceFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whatever happens to a sealed snapshot on disk is found, and never passes
// for its end.
func TestDamageIsFound(t *testing.T) {
	s, other := pair(t)
	manifestPath := filepath.Join(s.Dir(), manifestName)
	records, manifest := content(t, s.Path()), content(t, manifestPath)
	restore := func() {
		for name, b := range map[string][]byte{s.Path(): records, manifestPath: manifest} {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			replaceFile(t, name, b)
		}
	}
	edit := func(old, new string) func() {
		return func() {
			if !bytes.Contains(manifest, []byte(old)) {
				t.Fatalf("no %s in %s", old, manifest)
			}
			replaceFile(t, manifestPath, bytes.Replace(manifest, []byte(old), []byte(new), 1))
		}
	}
	// another rewrites the manifest with a sum that fits.
	another := func(change func(*Info)) func() {
		return func() {
			i := s.Info
			change(&i)
			if err := os.Remove(manifestPath); err != nil {
				t.Fatal(err)
			}
			if err := writeManifest(manifestPath, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range []struct {
		name   string
		damage func()
		want   string
	}{
		{"records missing", func() { os.Remove(s.Path()) }, "it is missing"},
		{"records empty", func() { replaceFile(t, s.Path(), nil) }, "0 bytes, sealed with"},
		{"records cut by a byte", func() { replaceFile(t, s.Path(), records[:len(records)-1]) }, "bytes, sealed with"},
		{"records with a byte more", func() { replaceFile(t, s.Path(), append(slices.Clone(records), 0)) }, "bytes, sealed with"},
		{"records twice", func() { replaceFile(t, s.Path(), append(slices.Clone(records), records...)) }, "bytes, sealed with"},
		{"records of another", func() { replaceFile(t, s.Path(), content(t, other.Path())) }, ""},
		{"records zeroed", func() { replaceFile(t, s.Path(), make([]byte, len(records))) }, ""},
		{"records a folder", func() { os.Remove(s.Path()); os.Mkdir(s.Path(), 0o700) }, ""},
		{"manifest missing", func() { os.Remove(manifestPath) }, "it is missing"},
		{"manifest empty", func() { replaceFile(t, manifestPath, nil) }, "unexpected end of JSON input"},
		{"manifest cut", func() { replaceFile(t, manifestPath, manifest[:len(manifest)-3]) }, "unexpected end of JSON input"},
		{"manifest with more behind it", func() { replaceFile(t, manifestPath, append(slices.Clone(manifest), '{')) }, "after top-level value"},
		{"manifest of another", func() { replaceFile(t, manifestPath, content(t, filepath.Join(other.Dir(), manifestName))) }, ""},
		{"manifest null", func() { replaceFile(t, manifestPath, []byte("null")) }, "does not match its sum"},
		{"another tenancy", edit(`"acme"`, `"acne"`), "does not match its sum"},
		{"another stream", edit(`"okta_users"`, `"okta_apps"`), "does not match its sum"},
		{"no sum", edit(`"manifest_sha256"`, `"manifest"`), "does not match its sum"},
		{"fewer records said", another(func(i *Info) { i.Records-- }), "2000 records of"},
		{"more bytes said", another(func(i *Info) { i.Bytes++ }), "sealed with"},
		{"no bytes said", another(func(i *Info) { i.Bytes = 0 }), "sealed with"},
		{"another sum said", another(func(i *Info) { i.SHA256 = strings.Repeat("0", 64) }), "its SHA-256 is"},
	} {
		t.Run(f.name, func(t *testing.T) {
			defer restore()
			f.damage()
			err := check(t, s.Dir())
			mustHold(t, err, f.want)
			if !errors.Is(err, ErrDamaged) && f.name != "records a folder" || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is not ErrDamaged", err)
			}
		})
	}
	if err := check(t, s.Dir()); err != nil {
		t.Errorf("restored: %v", err)
	}
}

// Each single flipped bit is found, wherever it is.
func TestFlippedBitsAreFound(t *testing.T) {
	s, _ := pair(t)
	for _, name := range []string{s.Path(), filepath.Join(s.Dir(), manifestName)} {
		whole := content(t, name)
		step := max(1, len(whole)/100)
		if strings.HasSuffix(name, ".json") {
			step = 1
		}
		for at := 0; at < len(whole); at += step {
			flipped := slices.Clone(whole)
			flipped[at] ^= 1 << (at % 8)
			replaceFile(t, name, flipped)
			if err := check(t, s.Dir()); err == nil && !harmless(whole, flipped) {
				t.Errorf("%s: bit %d of byte %d is flipped, and nobody finds it", filepath.Base(name), at%8, at)
			}
		}
		replaceFile(t, name, whole)
	}
}

// harmless tells manifests that mean the same: the case of a name says
// nothing to the reader.
func harmless(a, b []byte) bool {
	var x, y manifest
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && x == y
}

func TestCutsAreFound(t *testing.T) {
	s, _ := pair(t)
	whole := content(t, s.Path())
	for n := 0; n < len(whole); n += max(1, len(whole)/100) {
		replaceFile(t, s.Path(), whole[:n])
		// As if the manifest had been made for the file as it is.
		cut := *s
		cut.SpoolBytes = int64(n)
		if err := cut.Verify(context.Background()); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: Verify says %v", n, err)
		}
		if _, err := read(&cut); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestOpenNothing(t *testing.T) {
	for _, dir := range []string{filepath.Join(t.TempDir(), "none"), ""} {
		if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", dir, err)
		}
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	replaceFile(t, file, nil)
	if _, err := Open(file); err == nil {
		t.Error("a file is opened")
	}
}

func TestNewerFormat(t *testing.T) {
	s := seal(t, `{"id":1}`)
	manifestPath := filepath.Join(s.Dir(), manifestName)
	replaceFile(t, manifestPath, []byte(`{"format":2,"parts":[{"sha256":"x"}],"records":"many"}`))
	_, err := Open(s.Dir())
	mustHold(t, err, "has format 2, this collectord knows up to 1: use a newer collectord")
	if errors.Is(err, ErrDamaged) {
		t.Errorf("a newer snapshot passes for a damaged one: %v", err)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	s, _ := pair(t)
	cause := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(context.Background())
	r, err := s.Reader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	cancel(cause)
	if _, err := r.Next(); !errors.Is(err, cause) {
		t.Errorf("Next: %v", err)
	}
	if err := s.Verify(ctx); !errors.Is(err, cause) {
		t.Errorf("Verify: %v", err)
	}
	for _, kind := range []Kind{JSON, NDJSON} {
		if err := s.Encode(ctx, io.Discard, Format{Kind: kind}); !errors.Is(err, cause) {
			t.Errorf("Encode: %v", err)
		}
	}
}
