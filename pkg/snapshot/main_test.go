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

// childVariable is an environment variable. It selects what the test binary does
// instead of running tests, in a process that is killed, runs out of disk space, or
// has its memory measured.
const childVariable = "SNAPSHOT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "million":
		measureMillion()
	case "full":
		writeUntilFull(os.Args[1])
	case "crash":
		sealForever(os.Args[1])
	}
}

// newChild returns a command that runs the test binary as a child in the mode.
func newChild(mode string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"="+mode)
	cmd.Stderr = os.Stderr
	return cmd
}

// exitWithError ends the child process with an error.
func exitWithError(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

var testHeader = Header{
	Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "6f1c0f52-7f0c-4f5e-9d53-1f9d2d6d3c11",
	UploadTimestamp: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
}

// storedMembers is the end of a stored record: the reserved members of testHeader.
const storedMembers = `"_tenancy":"acme","_upload_timestamp":"2026-03-04 05:06:07","_upload_id":"6f1c0f52-7f0c-4f5e-9d53-1f9d2d6d3c11"}`

// createWriter starts a snapshot in a new directory, and returns the directory to
// seal it in.
func createWriter(t testing.TB) (w *Writer, sealed string) {
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

// commitBatch commits the records to w as one batch.
func commitBatch(t testing.TB, w *Writer, records ...string) {
	t.Helper()
	b := w.NewBatch()
	for _, r := range records {
		if err := b.Append([]byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

// sealRecords returns a snapshot of the records.
func sealRecords(t testing.TB, records ...string) *Snapshot {
	t.Helper()
	w, sealed := createWriter(t)
	commitBatch(t, w, records...)
	s, err := w.Seal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readRecords returns all records of s, and the error that ended the reading unless
// it was io.EOF.
func readRecords(s *Snapshot) (records []string, err error) {
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

// asStored returns the records in the form in which they are stored.
func asStored(records ...string) []string {
	var all []string
	for _, r := range records {
		r = strings.TrimSuffix(r, "}")
		if r != "{" {
			r += ","
		}
		all = append(all, r+storedMembers)
	}
	return all
}

// entryNames returns the names of the entries of a directory, separated by spaces.
func entryNames(t testing.TB, dir string) string {
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

// requireErrorContains fails the test unless err contains each of the texts.
func requireErrorContains(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that contains %q", want)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not contain %q", err, text)
		}
	}
}
