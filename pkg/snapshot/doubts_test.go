package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// twoDoubts are the doubts in most tests.
var twoDoubts = Doubts{{Text: "received fewer hosts than declared", Count: 3}, {Text: "applications without a finished scan", Count: 12}}

// sealWithDoubts returns a snapshot of one record with doubts.
func sealWithDoubts(t *testing.T, doubts Doubts) *Snapshot {
	t.Helper()
	w, dir := createWriter(t)
	commitBatch(t, w, `{"id":1}`)
	w.SetDoubts(doubts)
	s, err := w.Seal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDoubts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		doubts Doubts
		total  int64
		text   string
	}{
		{name: "none", doubts: nil, total: 0, text: ""},
		{name: "one", doubts: twoDoubts[:1], total: 3, text: "received fewer hosts than declared (3)"},
		{name: "two", doubts: twoDoubts, total: 15, text: "received fewer hosts than declared (3); applications without a finished scan (12)"},
	} {
		if tc.doubts.Total() != tc.total || tc.doubts.String() != tc.text {
			t.Errorf("%s: total %d, text %q", tc.name, tc.doubts.Total(), tc.doubts)
		}
	}
}

// The manifest has the doubts as they were when they were set.
func TestManifestHasDoubts(t *testing.T) {
	doubts := slices.Clone(twoDoubts)
	s := sealWithDoubts(t, doubts)
	doubts[0].Count = 99
	again, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(twoDoubts, again.Doubts); diff != "" {
		t.Errorf("doubts (-want +got):\n%s", diff)
	}
	if err := readEveryWay(t, s.Dir()); err != nil {
		t.Error(err)
	}
}

func TestResetRemovesDoubts(t *testing.T) {
	w, dir := createWriter(t)
	w.SetDoubts(twoDoubts)
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if s, err := w.Seal(dir); err != nil || len(s.Doubts) > 0 {
		t.Errorf("doubts %v, error %v", s.Doubts, err)
	}
}

// A flipped bit in the doubts is found like one in the rest of the manifest.
func TestFlippedBitsInDoubtsAreFound(t *testing.T) {
	s := sealWithDoubts(t, twoDoubts)
	path := filepath.Join(s.Dir(), manifestName)
	whole := readBytes(t, path)
	for at := range whole {
		for bit := range 8 {
			flipped := slices.Clone(whole)
			flipped[at] ^= 1 << bit
			overwriteFile(t, path, flipped)
			if _, err := Open(s.Dir()); err == nil && !sameManifest(whole, flipped) {
				t.Errorf("bit %d of byte %d is flipped, and no error is returned", bit, at)
			}
		}
	}
}

// earlierInfo is the manifest as programs before doubts knew it.
type earlierInfo struct {
	Format int `json:"format"`
	Header
	Records        int64  `json:"records"`
	Bytes          int64  `json:"bytes"`
	SpoolBytes     int64  `json:"spool_bytes"`
	SHA256         string `json:"sha256"`
	RenamedMembers int64  `json:"renamed_members,omitempty"`
	RepairedUTF8   int64  `json:"repaired_utf8,omitempty"`
}

// Programs before doubts read a manifest that has doubts, and find it intact.
func TestEarlierProgramsReadDoubts(t *testing.T) {
	s := sealWithDoubts(t, twoDoubts)
	var m struct {
		earlierInfo
		Sum string `json:"manifest_sha256"`
	}
	if err := json.Unmarshal(readBytes(t, filepath.Join(s.Dir(), manifestName)), &m); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m.earlierInfo)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != m.Sum {
		t.Errorf("manifest_sha256 is %s, an earlier program computes %x", m.Sum, sum)
	}
}

// A manifest without doubts has the bytes that programs before doubts wrote.
func TestManifestWithoutDoubtsIsUnchanged(t *testing.T) {
	const earlier = `{
  "format": 1,
  "collector": "okta",
  "stream": "okta_users",
  "tenancy": "acme",
  "upload_id": "79ec0655-2413-4ba7-9a6e-fcb7498ded0c",
  "upload_timestamp": "2026-11-28T22:05:39Z",
  "records": 15,
  "bytes": 4000,
  "spool_bytes": 900,
  "sha256": "05c5a5d1",
  "manifest_sha256": "SUM"
}
`
	info := Info{
		Format: 1, Records: 15, Bytes: 4000, SpoolBytes: 900, SHA256: "05c5a5d1",
		Header: Header{
			Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "79ec0655-2413-4ba7-9a6e-fcb7498ded0c",
			UploadTimestamp: time.Date(2026, 11, 28, 22, 5, 39, 0, time.UTC),
		},
	}
	path := filepath.Join(t.TempDir(), manifestName)
	if err := writeManifest(path, info); err != nil {
		t.Fatal(err)
	}
	want := bytes.Replace([]byte(earlier), []byte("SUM"), []byte(info.checksum()), 1)
	if diff := cmp.Diff(string(want), string(readBytes(t, path))); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	manifests, err := filepath.Glob("../state/local/testdata/state-2026-11/snapshots/*/*/*/" + manifestName)
	if err != nil || len(manifests) == 0 {
		t.Fatalf("manifests %q, error %v", manifests, err)
	}
	for _, name := range manifests {
		info, err := readManifest(filepath.Dir(name))
		if err != nil {
			t.Error(err)
			continue
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := writeManifest(path, info); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(readBytes(t, name)), string(readBytes(t, path))); diff != "" {
			t.Errorf("%s written again (-want +got):\n%s", name, diff)
		}
	}
}
