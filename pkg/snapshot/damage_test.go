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

	"github.com/google/go-cmp/cmp"
)

// readEveryWay opens the snapshot in dir and reads all of it with Next, Encode and
// Verify. It returns the error of Open or Next. It fails the test when one of them
// misses damage that another finds, or when Next returns a different error the
// second time.
func readEveryWay(t *testing.T, dir string) error {
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
		t.Errorf("Next returns %v, then %v", err, again)
	}
	encoded := s.Encode(context.Background(), io.Discard, Format{Kind: NDJSON})
	if err == io.EOF {
		err = nil
	}
	if (encoded == nil) != (err == nil) || verified != nil && err == nil {
		t.Errorf("Next returns %v, Encode %v, Verify %v", err, encoded, verified)
	}
	return err
}

// sealTwo returns two snapshots with different content.
func sealTwo(t *testing.T) (s, other *Snapshot) {
	var records []string
	for i := range 2000 {
		records = append(records, fmt.Sprintf(`{"id":%d,"name":"user %d"}`, i, i*7919))
	}
	s = sealRecords(t, records...)
	slices.Reverse(records)
	return s, sealRecords(t, records...)
}

func overwriteFile(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readBytes(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every damage to a sealed snapshot on disk is found, and is never taken for its
// end.
func TestDamageIsFound(t *testing.T) {
	s, other := sealTwo(t)
	manifestPath := filepath.Join(s.Dir(), manifestName)
	records, manifest := readBytes(t, s.Path()), readBytes(t, manifestPath)
	restore := func() {
		for name, b := range map[string][]byte{s.Path(): records, manifestPath: manifest} {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
			overwriteFile(t, name, b)
		}
	}
	edit := func(old, new string) func() {
		return func() {
			if !bytes.Contains(manifest, []byte(old)) {
				t.Fatalf("no %s in %s", old, manifest)
			}
			overwriteFile(t, manifestPath, bytes.Replace(manifest, []byte(old), []byte(new), 1))
		}
	}
	// rewrite writes a manifest with other content and a matching checksum.
	rewrite := func(change func(*Info)) func() {
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
	for _, tc := range []struct {
		name   string
		damage func()
		want   string
	}{
		{name: "records missing", damage: func() { os.Remove(s.Path()) }, want: "it is missing"},
		{name: "records empty", damage: func() { overwriteFile(t, s.Path(), nil) }, want: "0 bytes, sealed with"},
		{name: "records cut by a byte", damage: func() { overwriteFile(t, s.Path(), records[:len(records)-1]) }, want: "bytes, sealed with"},
		{name: "records with a byte more", damage: func() { overwriteFile(t, s.Path(), append(slices.Clone(records), 0)) },
			want: "bytes, sealed with"},
		{name: "records twice", damage: func() { overwriteFile(t, s.Path(), append(slices.Clone(records), records...)) },
			want: "bytes, sealed with"},
		{name: "records of another snapshot", damage: func() { overwriteFile(t, s.Path(), readBytes(t, other.Path())) }, want: ""},
		{name: "records zeroed", damage: func() { overwriteFile(t, s.Path(), make([]byte, len(records))) }, want: ""},
		{name: "records replaced by a directory", damage: func() { os.Remove(s.Path()); os.Mkdir(s.Path(), 0o700) }, want: ""},
		{name: "manifest missing", damage: func() { os.Remove(manifestPath) }, want: "it is missing"},
		{name: "manifest empty", damage: func() { overwriteFile(t, manifestPath, nil) }, want: "unexpected end of JSON input"},
		{name: "manifest cut", damage: func() { overwriteFile(t, manifestPath, manifest[:len(manifest)-3]) },
			want: "unexpected end of JSON input"},
		{name: "manifest with trailing data", damage: func() { overwriteFile(t, manifestPath, append(slices.Clone(manifest), '{')) },
			want: "after top-level value"},
		{name: "manifest of another snapshot", damage: func() { overwriteFile(t, manifestPath, readBytes(t, filepath.Join(other.Dir(), manifestName))) },
			want: ""},
		{name: "manifest null", damage: func() { overwriteFile(t, manifestPath, []byte("null")) }, want: "does not match its checksum"},
		{name: "another tenancy", damage: edit(`"acme"`, `"acne"`), want: "does not match its checksum"},
		{name: "another stream", damage: edit(`"okta_users"`, `"okta_apps"`), want: "does not match its checksum"},
		{name: "checksum missing", damage: edit(`"manifest_sha256"`, `"manifest"`), want: "does not match its checksum"},
		{name: "manifest with fewer records", damage: rewrite(func(i *Info) { i.Records-- }), want: "2000 records of"},
		{name: "manifest with more bytes", damage: rewrite(func(i *Info) { i.Bytes++ }), want: "sealed with"},
		{name: "manifest with no bytes", damage: rewrite(func(i *Info) { i.Bytes = 0 }), want: "sealed with"},
		{name: "manifest with another checksum", damage: rewrite(func(i *Info) { i.SHA256 = strings.Repeat("0", 64) }), want: "its SHA-256 is"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer restore()
			tc.damage()
			err := readEveryWay(t, s.Dir())
			requireErrorContains(t, err, tc.want)
			if !errors.Is(err, ErrDamaged) && tc.name != "records replaced by a directory" || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("error %v, want ErrDamaged", err)
			}
		})
	}
	if err := readEveryWay(t, s.Dir()); err != nil {
		t.Errorf("after undoing the damage: %v", err)
	}
}

// Every single flipped bit is found.
func TestFlippedBitsAreFound(t *testing.T) {
	s, _ := sealTwo(t)
	for _, name := range []string{s.Path(), filepath.Join(s.Dir(), manifestName)} {
		whole := readBytes(t, name)
		step := max(1, len(whole)/100)
		if strings.HasSuffix(name, ".json") {
			step = 1
		}
		for at := 0; at < len(whole); at += step {
			flipped := slices.Clone(whole)
			flipped[at] ^= 1 << (at % 8)
			overwriteFile(t, name, flipped)
			if err := readEveryWay(t, s.Dir()); err == nil && !sameManifest(whole, flipped) {
				t.Errorf("%s: bit %d of byte %d is flipped, and no error is returned", filepath.Base(name), at%8, at)
			}
		}
		overwriteFile(t, name, whole)
	}
}

// sameManifest reports whether two manifests are equal when decoded. JSON decoding
// ignores the case of names.
func sameManifest(a, b []byte) bool {
	var x, y manifest
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
}

func TestCutsAreFound(t *testing.T) {
	s, _ := sealTwo(t)
	whole := readBytes(t, s.Path())
	for n := 0; n < len(whole); n += max(1, len(whole)/100) {
		overwriteFile(t, s.Path(), whole[:n])
		// With a manifest that states the size of the truncated file.
		cut := *s
		cut.SpoolBytes = int64(n)
		if err := cut.Verify(context.Background()); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: Verify returns %v", n, err)
		}
		if _, err := readRecords(&cut); !errors.Is(err, ErrDamaged) {
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
		t.Errorf("an empty directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	overwriteFile(t, file, nil)
	if _, err := Open(file); err == nil {
		t.Error("Open accepted a file")
	}
}

func TestNewerFormat(t *testing.T) {
	s := sealRecords(t, `{"id":1}`)
	manifestPath := filepath.Join(s.Dir(), manifestName)
	overwriteFile(t, manifestPath, []byte(`{"format":2,"parts":[{"sha256":"x"}],"records":"many"}`))
	_, err := Open(s.Dir())
	requireErrorContains(t, err, "has format 2, this collectord knows up to 1: use a newer collectord")
	if errors.Is(err, ErrDamaged) {
		t.Errorf("a newer format is reported as damage: %v", err)
	}
}

func TestReadingStopsWithContext(t *testing.T) {
	s, _ := sealTwo(t)
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
