// Package snapshot writes, verifies and reads snapshots.
//
// A snapshot is one complete extraction of one stream. On disk it is a directory
// of two files: records.ndjson.zst has the records, one JSON object per line,
// compressed with Zstandard; manifest.json describes them and has their checksum.
// The directory gets its name by one rename, after everything in it is synced.
// Before that the snapshot does not exist; after that it never changes.
package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	recordsName  = "records.ndjson.zst"
	manifestName = "manifest.json"
	// manifestFormat is increased when an older program could misread a newer
	// directory.
	manifestFormat = 1
)

// TimestampLayout is the layout of the member _upload_timestamp, in UTC.
const TimestampLayout = "2006-01-02 15:04:05"

// ErrDamaged means that a snapshot on disk differs from what was sealed.
var ErrDamaged = errors.New("snapshot damaged")

// IsUnusable reports whether err means that a snapshot is missing or damaged. Other errors
// may be temporary.
func IsUnusable(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist)
}

// A Header identifies a snapshot: whose records it has, and of which run.
type Header struct {
	// Collector is the vendor's name, such as "okta".
	Collector string `json:"collector"`
	// Stream is the table's name, such as "okta_users".
	Stream string `json:"stream"`
	// Tenancy is the value of the member _tenancy.
	Tenancy string `json:"tenancy"`
	// UploadID is the value of the member _upload_id: one UUID for all
	// streams of one collector run.
	UploadID string `json:"upload_id"`
	// UploadTimestamp is the run's start in UTC, cut to whole seconds.
	UploadTimestamp time.Time `json:"upload_timestamp"`
}

// Info is the content of the manifest of a sealed snapshot.
type Info struct {
	Format int `json:"format"`
	Header
	Records int64 `json:"records"`
	// Bytes is the size of the records as NDJSON, newlines included.
	Bytes int64 `json:"bytes"`
	// SpoolBytes is the size of the compressed records file.
	SpoolBytes int64 `json:"spool_bytes"`
	// SHA256 is the checksum of the compressed file, in lower-case hexadecimal.
	SHA256 string `json:"sha256"`
	// RenamedMembers is the number of records in which a vendor's member had the
	// name of a reserved one and was renamed, see Splicer.
	RenamedMembers int64 `json:"renamed_members,omitempty"`
	// RepairedUTF8 is the number of records in which bytes that are not UTF-8
	// were replaced, see Splicer.
	RepairedUTF8 int64 `json:"repaired_utf8,omitempty"`
	// Doubts are the differences that the extraction accepted.
	Doubts Doubts `json:"doubts,omitempty"`
	// Note is for the next extraction; zero when there is none.
	Note Note `json:"note,omitzero"`
}

// manifest is the content of manifest.json.
type manifest struct {
	Info
	// Sum is the checksum of Info without its doubts and its note, which earlier
	// programs do not know. Without it a flipped bit in a name would go unnoticed.
	Sum string `json:"manifest_sha256"`
	// DoubtsSum is the checksum of Info with its doubts and without its note; ""
	// when there are none.
	DoubtsSum string `json:"doubts_sha256,omitempty"`
	// NoteSum is the checksum of Info with its doubts and its note; "" when there is
	// none.
	NoteSum string `json:"note_sha256,omitempty"`
}

// newManifest returns the manifest of i.
func newManifest(i Info) manifest {
	m := manifest{Info: i}
	if i.Note != (Note{}) {
		m.NoteSum = i.checksum()
	}
	i.Note = Note{}
	if len(i.Doubts) > 0 {
		m.DoubtsSum = i.checksum()
	}
	i.Doubts = nil
	m.Sum = i.checksum()
	return m
}

// isIntact reports whether the checksums of m match its content.
func (m manifest) isIntact() bool {
	want := newManifest(m.Info)
	return m.Sum == want.Sum && m.DoubtsSum == want.DoubtsSum && m.NoteSum == want.NoteSum
}

// checksum returns the SHA-256 of i as compact JSON, in lower-case hexadecimal.
func (i Info) checksum() string {
	text, err := json.Marshal(i)
	if err != nil { // cannot happen: strings, numbers and a time with a four-digit year
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// A Snapshot is a sealed snapshot on disk.
type Snapshot struct {
	Info
	dir string
}

// Open reads and checks the manifest of the snapshot in dir, and checks that the
// records file has the right size. The error wraps fs.ErrNotExist when there is no
// such directory, and ErrDamaged when its content is not what Seal wrote.
func Open(dir string) (*Snapshot, error) {
	s := &Snapshot{dir: dir}
	var err error
	if s.Info, err = readManifest(dir); err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	fi, err := os.Stat(s.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open snapshot: %s: %w: it is missing", s.Path(), ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	if fi.Size() != s.SpoolBytes {
		return nil, fmt.Errorf("open snapshot: %s: %w: %d bytes, sealed with %d", s.Path(), ErrDamaged, fi.Size(), s.SpoolBytes)
	}
	return s, nil
}

// readManifest reads and checks the manifest in dir.
func readManifest(dir string) (Info, error) {
	path := filepath.Join(dir, manifestName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return Info{}, err
		}
		return Info{}, fmt.Errorf("%s: %w: it is missing", path, ErrDamaged)
	}
	if err != nil {
		return Info{}, err
	}
	return ParseManifest(path, text)
}

// ParseManifest returns the content of a manifest. Errors show name, that of its file; they
// wrap ErrDamaged when the text is not what Seal wrote.
func ParseManifest(name string, text []byte) (Info, error) {
	// A newer format may have members of the same name with another type.
	var newer struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(text, &newer) == nil && newer.Format > manifestFormat {
		return Info{}, fmt.Errorf("%s has format %d, this collectord knows up to %d: use a newer collectord", name, newer.Format, manifestFormat)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Info{}, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	if !m.isIntact() {
		return Info{}, fmt.Errorf("%s: %w: its content does not match its checksum", name, ErrDamaged)
	}
	return m.Info, nil
}

// Dir returns the snapshot's directory.
func (s *Snapshot) Dir() string { return s.dir }

// Path returns the path of the records file: NDJSON compressed with Zstandard.
func (s *Snapshot) Path() string { return filepath.Join(s.dir, recordsName) }
