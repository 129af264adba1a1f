package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// The state directory testdata/state-2026-11 was written by collectord as of
// November 2026, against simulated vendors and a Postgres that could not be
// reached: four successful runs, one held, one cancelled, and one of
// tenable_vulnerabilities that was killed after the first chunk of its export.
// The contents of the lock files and of the killed run's spool are left out.
const earlierState = "testdata/state-2026-11"

// earlierTime is shortly after the last run in earlierState.
var earlierTime = time.Date(2026, 11, 28, 22, 10, 0, 0, time.UTC)

// openEarlier opens a copy of earlierState.
func openEarlier(t *testing.T) *State {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(dir, os.DirFS(earlierState)); err != nil {
		t.Fatal(err)
	}
	s, err := openDirectory(ctx, dir, Options{Now: func() time.Time { return earlierTime }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestEarlierStateContent(t *testing.T) {
	t.Parallel()
	s := openEarlier(t)

	for _, tc := range []struct {
		stream, uploadID string
		records          int64
	}{
		{stream: "knowbe4_enrollments", uploadID: "ea232022-ff12-4633-9131-65d2318479d0", records: 5},
		{stream: "okta_users", uploadID: "79ec0655-2413-4ba7-9a6e-fcb7498ded0c", records: 15},
		{stream: "tenable_assets", uploadID: "614a2bb6-59ca-4699-80e5-986613da8dbc", records: 4},
		{stream: "tenable_vulnerabilities", uploadID: "614a2bb6-59ca-4699-80e5-986613da8dbc", records: 6},
	} {
		sealed, info, err := s.Snapshots.LastKnown(ctx, tc.stream, "acme")
		if err != nil {
			t.Error(err)
			continue
		}
		if sealed.UploadID != tc.uploadID || sealed.Records != tc.records || info.Source != state.Collected {
			t.Errorf("last-known snapshot of %s: %+v, source %s, want %+v", tc.stream, sealed.Info, info.Source, tc)
		}
		if err := sealed.Encode(ctx, io.Discard, snapshot.Format{Kind: snapshot.NDJSON}); err != nil {
			t.Errorf("records of %s: %v", tc.stream, err)
		}
	}

	runs, err := s.Runs.List(ctx, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var history []string
	for _, r := range slices.Backward(runs) {
		history = append(history, fmt.Sprintf("%s %q records=%d trigger=%s", r.Stream, r.Outcome, r.Records, r.Trigger))
	}
	if diff := cmp.Diff([]string{
		`tenable_assets "success" records=4 trigger=once`,
		`knowbe4_enrollments "success" records=5 trigger=once`,
		`tenable_vulnerabilities "success" records=6 trigger=once`,
		`okta_users "success" records=15 trigger=once`,
		`okta_users "held" records=1 trigger=once`,
		`okta_users "cancelled" records=0 trigger=once`,
		`tenable_vulnerabilities "" records=0 trigger=once`,
	}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	counts, err := s.Runs.OutcomeCounts(ctx)
	if err != nil || len(counts) != 6 {
		t.Errorf("outcome counts %+v, want 6; error %v", counts, err)
	}

	deliveries, err := s.Queue.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var queue []string
	for _, d := range deliveries {
		if _, err := s.Queue.Open(ctx, d); err != nil {
			t.Error(err)
		}
		queue = append(queue, fmt.Sprintf("%s to %s, %d attempts, %s, error %t", d.Stream, d.Sink, d.Attempts, d.Class, d.Err != ""))
	}
	if diff := cmp.Diff([]string{
		"knowbe4_enrollments to postgres, 4 attempts, transient, error true",
		"okta_users to postgres, 3 attempts, transient, error true",
		"tenable_assets to postgres, 3 attempts, transient, error true",
		"tenable_vulnerabilities to postgres, 3 attempts, transient, error true",
	}, queue); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}
	sinks, err := s.Queue.SinkStatuses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var attempts []string
	for _, st := range sinks {
		attempts = append(attempts, fmt.Sprintf("%s %s %d/%d", st.Stream, st.Sink, st.Successes, st.Failures))
	}
	if diff := cmp.Diff([]string{
		"knowbe4_enrollments file 1/0", "knowbe4_enrollments postgres 0/4",
		"okta_users file 1/0", "okta_users postgres 0/3",
		"tenable_assets file 1/0", "tenable_assets postgres 0/3",
		"tenable_vulnerabilities file 1/0", "tenable_vulnerabilities postgres 0/3",
	}, attempts); diff != "" {
		t.Errorf("delivery counts (-want +got):\n%s", diff)
	}

	const job = "be291dd2-3193-4a6c-93bd-214536eb1e04"
	for _, key := range []string{"tenable export /vulns/export", "tenable export /assets/export"} {
		if note, err := s.Notes("acme").Note(ctx, key); note != job || err != nil {
			t.Errorf("note %q: %q, want %q; error %v", key, note, job, err)
		}
	}
}

// The next run recovers what the killed one left, and a held snapshot can still
// be accepted.
func TestEarlierStateRecovers(t *testing.T) {
	t.Parallel()
	s := openEarlier(t)
	policy := state.Policy{Sinks: []string{"file", "postgres"}, GuardDropPercent: 10}
	for _, tc := range []struct {
		collector string
		want      state.RecoverResult
	}{
		{collector: "knowbe4"},
		{collector: "okta"},
		{collector: "tenable", want: state.RecoverResult{Spools: 1, Interrupted: 1}},
		{collector: "tenable"},
	} {
		found, err := s.Recover(ctx, tc.collector, "acme", policy)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, found); diff != "" {
			t.Errorf("recovery of %s (-want +got):\n%s", tc.collector, diff)
		}
	}
	if err := s.Sweep(ctx, 90*24*time.Hour); err != nil {
		t.Fatal(err)
	}
	chunks, err := filepath.Glob(filepath.Join(s.dir, "kept/tenable_vulnerabilities/acme/*/*"))
	if err != nil || len(chunks) != 1 {
		t.Fatalf("kept chunks %q, want one; error %v", chunks, err)
	}
	chunk, err := snapshot.Open(chunks[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := chunk.Verify(ctx); err != nil {
		t.Error(err)
	}

	status, err := s.Streams(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var streams []string
	for _, st := range status {
		streams = append(streams, fmt.Sprintf("%s last=%s records=%d held=%t queued=%d", st.Stream, st.Last.Outcome, st.Records, st.Held, st.Queued))
	}
	if diff := cmp.Diff([]string{
		"knowbe4_enrollments last=success records=5 held=false queued=1",
		"okta_users last=cancelled records=15 held=true queued=1",
		"tenable_assets last=success records=4 held=false queued=1",
		"tenable_vulnerabilities last=interrupted records=6 held=false queued=1",
	}, streams); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	accepted, err := s.Snapshots.Accept(ctx, "okta_users", "acme", policy)
	if err != nil || accepted.Records != 1 {
		t.Errorf("accepted %+v, want 1 record; error %v", accepted, err)
	}
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "next", UploadTimestamp: earlierTime}
	if done, err := statetest.CollectSnapshot(s.With(s), h, 20, policy); err != nil || done.Outcome != state.Success || done.LastRecords != 1 {
		t.Errorf("next run: %+v, want success after 1 record; error %v", done, err)
	}
	if err := statetest.DeliverAll(s.With(s)); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Queue.List(ctx); err != nil || len(left) > 0 {
		t.Errorf("queue after delivery: %+v, error %v", left, err)
	}
}

// Inspect refuses the directory while it is as the killed process left it, and reads
// it after Open has upgraded it.
func TestInspectEarlierState(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(dir, os.DirFS(earlierState)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(ctx, dir); !errors.Is(err, state.ErrOlder) {
		t.Errorf("before the upgrade: error %v, want ErrOlder", err)
	}
	opened, err := openDirectory(ctx, dir, Options{})
	if err == nil {
		err = opened.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Inspect(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	status, err := s.Streams(ctx)
	if err != nil || len(status) != 4 {
		t.Errorf("%d streams, want 4; error %v", len(status), err)
	}
	for _, st := range status {
		if len(st.Doubts) > 0 || len(st.Last.Doubts) > 0 {
			t.Errorf("%s has the doubts %v, and its last run %v, want none", st.Stream, st.Doubts, st.Last.Doubts)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
