// Package snapshot makes, keeps and reads snapshots.
//
// A snapshot is one complete extraction of one stream, sealed on disk as a
// folder of two files: records.ndjson.zst, the records, one JSON object a
// line, compressed with Zstandard; and manifest.json, which says what the
// records are and how to tell that they are undamaged. The folder appears by
// one rename, when everything in it is on disk. Until then the snapshot does
// not exist; from then on it never changes.
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
	// manifestFormat rises when an older program could misread a newer folder.
	manifestFormat = 1
)

// TimestampLayout is the form of the member _upload_timestamp, in UTC.
const TimestampLayout = "2006-01-02 15:04:05"

// ErrDamaged means that a snapshot on disk is not what was sealed.
var ErrDamaged = errors.New("snapshot damaged")

// A Header says whose records a snapshot holds and when they were taken.
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

// Info is what the manifest of a sealed snapshot says.
type Info struct {
	Format int `json:"format"`
	Header
	Records int64 `json:"records"`
	// Bytes is the size of the records as NDJSON, newlines included.
	Bytes int64 `json:"bytes"`
	// SpoolBytes is the size of the compressed records file.
	SpoolBytes int64 `json:"spool_bytes"`
	// SHA256 is the lower-case hexadecimal sum of the compressed file.
	SHA256 string `json:"sha256"`
	// RenamedMembers counts records in which a member of the vendor's own had
	// the name of one of ours and was renamed, see Splicer.
	RenamedMembers int64 `json:"renamed_members,omitempty"`
	// RepairedUTF8 counts records in which bytes that are not UTF-8 were
	// replaced, see Splicer.
	RepairedUTF8 int64 `json:"repaired_utf8,omitempty"`
}

// manifest is the content of manifest.json.
type manifest struct {
	Info
	// Sum is that of Info, so that a flipped bit in a name does not pass for
	// another name.
	Sum string `json:"manifest_sha256"`
}

// sum is the lower-case hexadecimal SHA-256 of i as JSON without white space.
func (i Info) sum() string {
	text, err := json.Marshal(i)
	if err != nil { // texts, numbers and a time of four-digit year
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

// Open reads the manifest of the snapshot in dir, checks it, and checks that
// the records file is there in full length. The error is fs.ErrNotExist when
// there is no such folder, ErrDamaged when there is one that Seal did not
// leave so.
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
	// A newer format may have members of the same name and another kind.
	var newer struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(text, &newer) == nil && newer.Format > manifestFormat {
		return Info{}, fmt.Errorf("%s has format %d, this collectord knows up to %d: use a newer collectord", path, newer.Format, manifestFormat)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Info{}, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	}
	if m.Sum != m.Info.sum() {
		return Info{}, fmt.Errorf("%s: %w: its content does not match its sum", path, ErrDamaged)
	}
	return m.Info, nil
}

// Dir is the snapshot's folder.
func (s *Snapshot) Dir() string { return s.dir }

// Path is the records file: NDJSON compressed with Zstandard.
func (s *Snapshot) Path() string { return filepath.Join(s.dir, recordsName) }

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
