package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/delivery"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// twoDoubts are the doubts in these tests.
var twoDoubts = snapshot.Doubts{{Text: "received fewer hosts than declared", Count: 3}, {Text: "hosts without an id", Count: 12}}

const acceptedHosts = "crowdstrike_hosts: accepted: received fewer hosts than declared (3); hosts without an id (12)"

// commitWithDoubts adds a successful run with doubts to the state directory.
func commitWithDoubts(t *testing.T, dir, stream string, doubts snapshot.Doubts) {
	t.Helper()
	st, err := local.Open(t.Context(), dir, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now().UTC().Truncate(time.Second)
	h := snapshot.Header{Collector: "crowdstrike", Stream: stream, Tenancy: "acme", UploadID: "id-1", UploadTimestamp: began}
	id, err := st.Runs.Begin(t.Context(), state.RunStart{Header: h, Trigger: "test", Started: began})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	batch := w.NewBatch()
	if err := errors.Join(batch.Append([]byte(`{"id":1}`)), batch.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Runs.Commit(t.Context(), id, w, state.RunStats{Records: 1, Doubts: doubts}, state.Policy{}); err != nil {
		t.Fatal(err)
	}
}

// TestStatusShowsDoubts runs the command status on a real state directory.
func TestStatusShowsDoubts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	commitWithDoubts(t, dir, "crowdstrike_hosts", twoDoubts)
	commitWithDoubts(t, dir, "crowdstrike_vulnerabilities", nil)
	t.Chdir(t.TempDir())
	t.Setenv("STATE_DIR", dir)
	t.Setenv("FALCON_CLIENT_ID", "id")
	t.Setenv("FALCON_SECRET", "secret")
	t.Setenv("TENANCY", "acme")
	var stdout, stderr bytes.Buffer
	command := statusCommand(&program{stdout: &stdout, stderr: &stderr, from: settingSources{environ: os.Environ()}})
	command.SetArgs([]string{})
	if err := command.ExecuteContext(context.Background()); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) != 5 || lines[4] != acceptedHosts {
		t.Errorf("the status is\n%s\nwant the state directory, a table of 3 lines and %q", &stdout, acceptedHosts)
	}
}

// TestSummaryShowsDoubts checks that doubts are below the table and leave the exit code 0.
func TestSummaryShowsDoubts(t *testing.T) {
	results := []run.Result{
		{Collector: "crowdstrike", Stream: "crowdstrike_hosts", Outcome: state.Success, Records: 1, Doubts: twoDoubts},
		{Collector: "crowdstrike", Stream: "crowdstrike_zta", Outcome: state.Success, Records: 1},
	}
	var out bytes.Buffer
	printSummary(&out, results, []string{"file"}, func(string, string, string) delivery.Status { return delivery.Status{} })
	_, below, _ := strings.Cut(out.String(), "\n\n")
	if below != acceptedHosts+"\n" {
		t.Errorf("the summary is\n%s\nwant below the table: %q", &out, acceptedHosts)
	}
	if err := runError(t.Context(), results, nil); err != nil {
		t.Errorf("error %v, want none", err)
	}
}
