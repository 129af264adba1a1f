package records

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A zipFile is an entry of an archive that a test builds.
type zipFile struct {
	name, content string
	method        uint16
}

// buildZIP returns an archive.
func buildZIP(t testing.TB, comment string, files ...zipFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		entry, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method, Comment: "comment of an entry"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(entry, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.SetComment(comment); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// saveFile returns an open file with the given content.
func saveFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// readObjects returns the objects of an archive.
func readObjects(t testing.TB, archive []byte, maxBytes int64) ([]string, error) {
	t.Helper()
	z, err := OpenZIP(saveFile(t, archive))
	if err != nil {
		return nil, err
	}
	return collectRecords(func(each Func) (int64, error) {
		return z.EachObject(maxBytes, func(_ Entry, record []byte) error { return each(record) })
	})
}

// twoFiles returns an archive with a directory, a compressed and a stored file.
func twoFiles(t testing.TB) []byte {
	return buildZIP(t, "a comment", zipFile{name: "d/"},
		zipFile{name: "d/a.json", content: `{"id":"A-1","n":1.10}` + "\n", method: zip.Deflate},
		zipFile{name: "b.json", content: "\ufeff" + `{"id":"B"}`, method: zip.Store})
}

// entryAt returns where the nth entry of an archive's directory is, n from 0.
func entryAt(archive []byte, n int) int {
	at := 0
	for range n + 1 {
		at += bytes.Index(archive[at:], []byte("PK\x01\x02")) + 4
	}
	return at - 4
}

// endAt returns where the end record of an archive is.
func endAt(archive []byte) int { return bytes.LastIndex(archive, []byte("PK\x05\x06")) }

func TestZIP(t *testing.T) {
	change := func(edit func(archive []byte) []byte) []byte { return edit(twoFiles(t)) }
	put16 := binary.LittleEndian.PutUint16
	put32 := binary.LittleEndian.PutUint32
	for _, tc := range []struct {
		name     string
		archive  []byte
		maxBytes int64
		want     []string
		wantErr  string
	}{
		{name: "files and a directory", archive: twoFiles(t), want: []string{`{"id":"A-1","n":1.10}`, `{"id":"B"}`}},
		{name: "no entries", archive: buildZIP(t, "")},
		{name: "nothing", archive: nil, wantErr: "the file is empty, want a ZIP archive"},
		{name: "HTML", archive: []byte("<html>busy</html>"), wantErr: "does not end as a ZIP archive does: <html>busy"},
		{name: "cut", archive: change(func(a []byte) []byte { return a[:len(a)-1] }), wantErr: "does not end as a ZIP"},
		{name: "cut before the directory", archive: change(func(a []byte) []byte { return a[:entryAt(a, 0)] }), wantErr: "does not end as a ZIP"},
		{name: "more after the end", archive: change(func(a []byte) []byte { return append(a, 0) }), wantErr: "does not end as a ZIP"},
		{name: "something before the archive", archive: change(func(a []byte) []byte { return append([]byte("0123"), a...) }), wantErr: "does not end at"},
		{name: "fewer entries than declared", archive: change(func(a []byte) []byte { put16(a[endAt(a)+10:], 4); return a }), wantErr: "has 3 entries, its end declares 4"},
		{name: "more entries than declared", archive: change(func(a []byte) []byte { put16(a[endAt(a)+10:], 2); return a }), wantErr: "has 3 entries, its end declares 2"},
		{name: "several parts", archive: change(func(a []byte) []byte { put16(a[endAt(a)+4:], 1); return a }), wantErr: "several parts"},
		{name: "directory damaged", archive: change(func(a []byte) []byte { a[entryAt(a, 1)] = 0; return a }), wantErr: "something else than an entry"},
		{name: "entry longer than the directory", archive: change(func(a []byte) []byte { put16(a[entryAt(a, 2)+30:], 9999); return a }), wantErr: "ends within an entry"},
		{name: "wrong checksum", archive: change(func(a []byte) []byte { a[entryAt(a, 1)+16] ^= 1; return a }), wantErr: "entry d/a.json: the content does not match its checksum"},
		{name: "content damaged", archive: change(func(a []byte) []byte { a[bytes.Index(a, []byte(`"B"`))+1] = 'C'; return a }), wantErr: "entry b.json: the content does not match its checksum"},
		{name: "compressed content damaged", archive: change(func(a []byte) []byte { copy(a[bytes.Index(a, []byte("d/a.json"))+8:], "\xff\xff\xff"); return a }), wantErr: "entry d/a.json"},
		{name: "shorter than declared", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 1)+24:], 99); return a }), wantErr: "entry d/a.json: the content has 22 bytes, the directory declares 99"},
		{name: "longer than declared", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 1)+24:], 9); return a }), wantErr: "entry d/a.json: the content has more than the declared 9 bytes"},
		{name: "entry at another place", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 2)+42:], 5); return a }), wantErr: "entry b.json: the ZIP archive is damaged: the entry is not where"},
		{name: "entry behind the archive", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 2)+42:], 1<<30); return a }), wantErr: "entry b.json: the ZIP archive is damaged: the entry is not where"},
		{name: "encrypted", archive: change(func(a []byte) []byte { a[entryAt(a, 1)+8] |= 1; return a }), wantErr: "entry d/a.json: the content is encrypted"},
		{name: "unknown method", archive: change(func(a []byte) []byte { put16(a[entryAt(a, 1)+10:], 12); return a }), wantErr: "entry d/a.json: it has the compression method 12"},
		{name: "more compressed bytes than the file", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 1)+20:], 1<<20); return a }), wantErr: "more compressed bytes than it has"},
		{name: "too much content", archive: twoFiles(t), maxBytes: 30, wantErr: "too long"},
		{name: "record too long", archive: change(func(a []byte) []byte { put32(a[entryAt(a, 1)+24:], 65<<20); return a }), wantErr: "entry d/a.json: too long: one record"},
		{name: "not JSON", archive: buildZIP(t, "", zipFile{name: "x", content: "{"}), wantErr: "entry x: it is not one JSON object"},
		{name: "two objects", archive: buildZIP(t, "", zipFile{name: "x", content: "{}{}"}), wantErr: "entry x: it is not one JSON object"},
		{name: "array", archive: buildZIP(t, "", zipFile{name: "x", content: "[]"}), wantErr: "entry x: want a JSON object"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.maxBytes == 0 {
				tc.maxBytes = 1 << 30
			}
			got, err := readObjects(t, tc.archive, tc.maxBytes)
			requireRecords(t, got, err, tc.want, tc.wantErr)
		})
	}
}

// withZIP64End returns an archive whose end record refers to a ZIP64 record, which
// begins at the given distance from where the end record says.
func withZIP64End(archive []byte, distance int) []byte {
	end := endAt(archive)
	tail := bytes.Clone(archive[end:])
	record := binary.LittleEndian.AppendUint32(nil, end64Signature)
	record = binary.LittleEndian.AppendUint64(record, end64Length-12)
	record = append(record, make([]byte, 12)...)
	entries := uint64(binary.LittleEndian.Uint16(tail[10:]))
	for _, number := range []uint64{entries, entries, uint64(binary.LittleEndian.Uint32(tail[12:])), uint64(binary.LittleEndian.Uint32(tail[16:]))} {
		record = binary.LittleEndian.AppendUint64(record, number)
	}
	locator := binary.LittleEndian.AppendUint32(nil, locator64Signature)
	locator = binary.LittleEndian.AppendUint64(append(locator, make([]byte, 4)...), uint64(end+distance))
	locator = binary.LittleEndian.AppendUint32(locator, 1)
	for i := 8; i < 20; i++ {
		tail[i] = 0xff
	}
	return append(append(append(bytes.Clone(archive[:end]), record...), locator...), tail...)
}

// TestZIP64 tests the records for archives and entries that are too large for the
// plain ones.
func TestZIP64(t *testing.T) {
	t.Run("numbers in a record of their own", func(t *testing.T) {
		archive := withZIP64End(twoFiles(t), 0)
		if plain, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive))); err != nil || len(plain.File) != 3 {
			t.Fatalf("the test's archive is wrong: %v", err)
		}
		got, err := readObjects(t, archive, 1<<30)
		requireRecords(t, got, err, []string{`{"id":"A-1","n":1.10}`, `{"id":"B"}`}, "")
		for _, distance := range []int{-4, 4, 1 << 40} {
			_, err := readObjects(t, withZIP64End(twoFiles(t), distance), 1<<30)
			requireRecords(t, nil, err, nil, "its ZIP64 record is not where it should be")
		}
	})
	t.Run("sizes in an extra field", func(t *testing.T) {
		content := `{"id":1}`
		extra := binary.LittleEndian.AppendUint16(nil, 0x5455) // a field of another program
		extra = append(extra, 1, 0, 9)
		extra = append(binary.LittleEndian.AppendUint16(extra, extraZIP64), 24, 0)
		for _, number := range []int{len(content), len(content), 0} {
			extra = binary.LittleEndian.AppendUint64(extra, uint64(number))
		}
		archive := buildZIP(t, "", zipFile{name: "a", content: content})
		at, end := entryAt(archive, 0), endAt(archive)
		entry := bytes.Clone(archive[at:end])
		for _, field := range []int{20, 24, 42} {
			binary.LittleEndian.PutUint32(entry[field:], math.MaxUint32)
		}
		binary.LittleEndian.PutUint16(entry[30:], uint16(len(extra)))
		comment := entry[entryLength+1:]
		entry = append(append(bytes.Clone(entry[:entryLength+1]), extra...), comment...)
		tail := bytes.Clone(archive[end:])
		binary.LittleEndian.PutUint32(tail[12:], uint32(len(entry)))
		got, err := readObjects(t, append(append(bytes.Clone(archive[:at]), entry...), tail...), 1<<30)
		requireRecords(t, got, err, []string{content}, "")
	})
}

// TestZIPOverlap: entries that share the same compressed bytes are refused before
// they are read.
func TestZIPOverlap(t *testing.T) {
	archive := buildZIP(t, "", zipFile{name: "a", content: `{"a":"` + strings.Repeat("x", 100_000) + `"}`})
	at, end := entryAt(archive, 0), endAt(archive)
	entry := archive[at:end]
	bomb := bytes.Clone(archive[:at])
	for range 3 {
		bomb = append(bomb, entry...)
	}
	tail := bytes.Clone(archive[end:])
	binary.LittleEndian.PutUint16(tail[10:], 3)
	binary.LittleEndian.PutUint32(tail[12:], uint32(3*len(entry)))
	_, err := readObjects(t, append(bomb, tail...), 1<<30)
	requireRecords(t, nil, err, nil, "more compressed bytes than it has")
}

// TestZIPReturnsErrorsUnchanged: an error of the caller's function ends the reading.
func TestZIPReturnsErrorsUnchanged(t *testing.T) {
	errStop := errors.New("stop")
	z, err := OpenZIP(saveFile(t, twoFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	if z.Entries() != 3 {
		t.Errorf("%d entries, want 3", z.Entries())
	}
	calls := 0
	_, err = z.EachObject(1<<20, func(Entry, []byte) error { calls++; return errStop })
	if err != errStop || calls != 1 {
		t.Errorf("error %v after %d calls, want %v after 1", err, calls, errStop)
	}
	// Content that is not read is checked nevertheless.
	archive := twoFiles(t)
	archive[entryAt(archive, 2)+16] ^= 1
	if z, err = OpenZIP(saveFile(t, archive)); err != nil {
		t.Fatal(err)
	}
	_, err = z.Each(1<<20, func(Entry, io.Reader) error { return nil })
	requireRecords(t, nil, err, nil, "checksum")
}

// FuzzZIP: an archive is read whole or refused. An archive that Go's own reader
// refuses may be read only where that reader is stricter about names.
func FuzzZIP(f *testing.F) {
	f.Add(twoFiles(f))
	f.Add(buildZIP(f, ""))
	f.Fuzz(func(t *testing.T, archive []byte) {
		got, err := readObjects(t, archive, 1<<20)
		if err != nil {
			if asFormatError(err) == nil {
				t.Errorf("error %v, want a FormatError", err)
			}
			return
		}
		plain, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
			t.Fatalf("%d records of an archive that another reader refuses: %v", len(got), err)
		}
		files := 0
		for _, file := range plain.File {
			if !strings.HasSuffix(file.Name, "/") || file.UncompressedSize64 > 0 {
				files++
			}
		}
		if files != len(got) {
			t.Errorf("%d records, another reader has %d files", len(got), files)
		}
	})
}
