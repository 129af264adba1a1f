package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// child names what the test program does instead of tests, as a process of
// its own: one that is killed, is out of disk, or has its memory measured.
const child = "SNAPSHOT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(child) {
	case "":
		goleak.VerifyTestMain(m)
	case "million":
		measureMillion()
	case "full":
		writeUntilFull(os.Args[1])
	case "crash":
		sealForEver(os.Args[1])
	}
}

func childProcess(mode string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), child+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// die ends a child with an error.
func die(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

var testHeader = Header{
	Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "6f1c0f52-7f0c-4f5e-9d53-1f9d2d6d3c11",
	UploadTimestamp: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
}

const ours = `"_tenancy":"acme","_upload_timestamp":"2026-03-04 05:06:07","_upload_id":"6f1c0f52-7f0c-4f5e-9d53-1f9d2d6d3c11"}`

// create starts a snapshot in a new folder and returns where to seal it.
func create(t testing.TB) (w *Writer, sealed string) {
	t.Helper()
	dir := t.TempDir()
	w, err := Create(filepath.Join(dir, "spool"), testHeader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
	})
	return w, filepath.Join(dir, "sealed")
}

// write keeps records as one page of w.
func write(t testing.TB, w *Writer, records ...string) {
	t.Helper()
	p := w.Page()
	for _, r := range records {
		if err := p.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
}

// seal makes a snapshot of one page of records.
func seal(t testing.TB, records ...string) *Snapshot {
	t.Helper()
	w, sealed := create(t)
	write(t, w, records...)
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns all records of s and what ended the reading, nil for io.EOF.
func read(s *Snapshot) (records []string, err error) {
	r, err := s.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for {
		record, err := r.Next()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, string(record))
	}
}

// spliced are records as they are stored.
func spliced(records ...string) []string {
	var all []string
	for _, r := range records {
		r = strings.TrimSuffix(r, "}")
		if r != "{" {
			r += ","
		}
		all = append(all, r+ours)
	}
	return all
}

// names are the entries of a folder.
func names(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// mustHold fails the test for each text that err does not hold.
func mustHold(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", want)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q lacks %q", err, text)
		}
	}
}
