package local

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// The result of a commit depends on the last-known snapshot and the policy.
func TestCommitRules(t *testing.T) {
	t.Parallel()
	const none = -1
	with := func(percent int, empty bool) state.Policy {
		return state.Policy{Sinks: []string{"file", "s3"}, StoreEmpty: empty, GuardDropPercent: percent}
	}
	for _, tc := range []struct {
		name          string
		before, after int
		policy        state.Policy
		outcome       state.Outcome
		last          string // the last-known snapshot afterwards
		queued        int
		directories   string
	}{
		{name: "first", before: none, after: 5, policy: with(10, false),
			outcome: state.Success, last: "id-002/5/collected", queued: 2, directories: "id-002"},
		{name: "first, empty", before: none, after: 0, policy: with(10, false),
			outcome: state.Empty, last: "id-002/0/collected", queued: 0, directories: "id-002"},
		{name: "first, empty, stored", before: none, after: 0, policy: with(10, true),
			outcome: state.Empty, last: "id-002/0/collected", queued: 2, directories: "id-002"},
		{name: "more", before: 10, after: 20, policy: with(10, false),
			outcome: state.Success, last: "id-002/20/collected", queued: 2, directories: "id-002"},
		{name: "same", before: 10, after: 10, policy: with(100, false),
			outcome: state.Success, last: "id-002/10/collected", queued: 2, directories: "id-002"},
		{name: "fewer, none allowed", before: 10, after: 9, policy: with(100, false),
			outcome: state.Held, last: "id-001/10/collected", queued: 0, directories: "id-001 id-002"},
		{name: "at the guard", before: 100, after: 10, policy: with(10, false),
			outcome: state.Success, last: "id-002/10/collected", queued: 2, directories: "id-002"},
		{name: "under the guard", before: 100, after: 9, policy: with(10, false),
			outcome: state.Held, last: "id-001/100/collected", queued: 0, directories: "id-001 id-002"},
		{name: "guard off", before: 100, after: 1, policy: with(0, false),
			outcome: state.Success, last: "id-002/1/collected", queued: 2, directories: "id-002"},
		{name: "empty after some", before: 10, after: 0, policy: with(10, false),
			outcome: state.Empty, last: "id-001/10/collected", queued: 0, directories: "id-001"},
		{name: "empty after some, guard off", before: 10, after: 0, policy: with(0, false),
			outcome: state.Empty, last: "id-001/10/collected", queued: 0, directories: "id-001"},
		{name: "empty after some, stored", before: 10, after: 0, policy: with(10, true),
			outcome: state.Empty, last: "id-002/0/collected", queued: 2, directories: "id-002"},
		{name: "empty after empty", before: 0, after: 0, policy: with(10, false),
			outcome: state.Empty, last: "id-002/0/collected", queued: 0, directories: "id-002"},
		{name: "some after empty", before: 0, after: 1, policy: with(100, false),
			outcome: state.Success, last: "id-002/1/collected", queued: 2, directories: "id-002"},
		{name: "no sinks", before: 10, after: 10, policy: state.Policy{},
			outcome: state.Success, last: "id-002/10/collected", queued: 0, directories: "id-002"},
		{name: "a sink named twice", before: 10, after: 10, policy: state.Policy{Sinks: []string{"s3", "s3"}},
			outcome: state.Success, last: "id-002/10/collected", queued: 1, directories: "id-002"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := openState(t)
			var before int64
			if tc.before != none {
				f.collectUsers(1, tc.before, state.Policy{})
				before = int64(tc.before)
			}
			done := f.collectUsers(2, tc.after, tc.policy)
			assertEqual(t, "outcome", done.Outcome, tc.outcome)
			assertEqual(t, "records", done.Info.Records, int64(tc.after))
			assertEqual(t, "records before", done.LastRecords, before)
			assertEqual(t, "queued", done.Queued, tc.queued)
			assertEqual(t, "last", f.lastKnown(), tc.last)
			assertEqual(t, "directories", f.checkDirs(), tc.directories)
			queue, err := f.Queue.List(ctx)
			f.requireNoError(err)
			assertEqual(t, "queue", len(queue), tc.queued)
			runs, err := f.Runs.List(ctx, "okta_users", 1)
			f.requireNoError(err)
			assertEqual(t, "history", runs[0].Outcome, tc.outcome)
			assertEqual(t, "error in the history", runs[0].Err != "", tc.outcome == state.Held)
		})
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	f := openState(t)
	assertNoneHeld := func(when string) {
		t.Helper()
		if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, state.ErrNoSnapshot) || !strings.Contains(err.Error(), "okta_users") {
			t.Errorf("%s: error %v, want ErrNoSnapshot", when, err)
		}
	}
	held := func() bool {
		t.Helper()
		status, err := f.Streams(ctx)
		f.requireNoError(err)
		return status[0].Held
	}
	assertNoneHeld("no snapshot")
	f.collectUsers(1, 100, state.Policy{})
	assertNoneHeld("nothing held")
	f.collectUsers(2, 3, twoSinks)
	f.collectUsers(3, 4, twoSinks)
	assertEqual(t, "only the newest held one stays", f.checkDirs(), "id-001 id-003")
	assertEqual(t, "held", held(), true)
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "other", twoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("another tenancy: %v", err)
	}
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks)
	f.requireNoError(err)
	assertEqual(t, "accepted", info.UploadID, "id-003")
	assertEqual(t, "last", f.lastKnown(), "id-003/4/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-003>file id-003>s3")
	assertEqual(t, "directories", f.checkDirs(), "id-003")
	assertEqual(t, "held", held(), false)
	assertNoneHeld("accepted already")

	f.collectUsers(4, 100, twoSinks)
	f.collectUsers(5, 3, twoSinks)
	f.collectUsers(6, 90, twoSinks)
	assertEqual(t, "held after a newer snapshot", held(), false)
	assertNoneHeld("the last-known snapshot is newer")
	assertEqual(t, "directories", f.checkDirs(), "id-003 id-004 id-006")
	assertEqual(t, "queue", f.queuedDeliveries(), "id-003>file id-003>s3 id-004>file id-004>s3 id-006>file id-006>s3")
}

// A damaged held snapshot must not replace an intact one.
func TestAcceptDamaged(t *testing.T) {
	t.Parallel()
	f := openState(t)
	f.collectUsers(1, 100, state.Policy{})
	done := f.collectUsers(2, 3, twoSinks)
	flipBit(t, filepath.Join(f.dir, database.SnapshotPlace(done.Info.Header)))
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("accepted: %v", err)
	}
	assertEqual(t, "last", f.lastKnown(), "id-001/100/collected")
	assertEqual(t, "queue", f.queuedDeliveries(), "")
}

// A run ends once, even if its caller ends it again.
func TestRunEndsOnce(t *testing.T) {
	t.Parallel()
	f := openState(t)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_users", "acme", 1), Trigger: "cron", Started: day})
	f.requireNoError(err)
	stats := state.RunStats{Records: 1, Bytes: 2, Pages: 3, Requests: 4, Retries: 5, RateLimitWait: 6 * time.Second, Doubts: twoDoubts}
	f.requireNoError(f.Runs.Fail(ctx, id, state.Timeout, errors.New("too long"), stats))
	f.requireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("again"), state.RunStats{}))
	runs, err := f.Runs.List(ctx, "", 10)
	f.requireNoError(err)
	want := state.Run{
		ID: id, Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001", Trigger: "cron",
		Started: day, Ended: f.now(), Outcome: state.Timeout, Err: "too long", RunStats: stats,
	}
	if diff := cmp.Diff(want, runs[0]); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
	counts, err := f.Runs.OutcomeCounts(ctx)
	f.requireNoError(err)
	assertEqual(t, "counts", fmt.Sprint(counts), fmt.Sprint([]state.Count{{Collector: "okta", Stream: "okta_users", Tenancy: "acme", Outcome: state.Timeout, Runs: 1, LastEnded: f.now()}}))
}

func TestTwoStreamsTwoTenancies(t *testing.T) {
	t.Parallel()
	f := openState(t)
	n := 0
	for _, stream := range []string{"okta_users", "okta_groups"} {
		for _, tenancy := range []string{"acme", "umbrella", ""} {
			n++
			_, err := collectSnapshot(f.State, newHeader(stream, tenancy, n), 100*n, twoSinks)
			f.requireNoError(err)
			f.advanceClock(time.Minute)
		}
	}
	_, err := collectSnapshot(f.State, newHeader("okta_users", "umbrella", 7), 2, twoSinks) // held
	f.requireNoError(err)
	f.advanceClock(time.Minute)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: newHeader("okta_groups", "acme", 8), Trigger: "cron", Started: day})
	f.requireNoError(err)
	_, err = f.Runs.Begin(ctx, state.RunStart{Header: newHeader("snyk_new", "acme", 9), Trigger: "cron", Started: day})
	f.requireNoError(err)

	status, err := f.Streams(ctx)
	f.requireNoError(err)
	var lines []string
	for _, s := range status {
		lines = append(lines, fmt.Sprintf("%s/%s last=%s:%s taken=%d n=%d held=%v queued=%d ok=%d bad=%d %q", s.Stream, s.Tenancy, s.Last.UploadID, s.Last.Outcome,
			hoursSinceDay(s.Taken), s.Records, s.Held, s.Queued, minutesSinceStart(s.LastSuccess), minutesSinceStart(s.LastFailure), s.FailureErr))
	}
	assertEqual(t, "status", strings.Join(lines, "\n"), strings.Join([]string{
		`okta_groups/ last=id-006:success taken=6 n=600 held=false queued=2 ok=5 bad=-1 ""`,
		`okta_groups/acme last=id-008: taken=4 n=400 held=false queued=2 ok=3 bad=-1 ""`,
		`okta_groups/umbrella last=id-005:success taken=5 n=500 held=false queued=2 ok=4 bad=-1 ""`,
		`okta_users/ last=id-003:success taken=3 n=300 held=false queued=2 ok=2 bad=-1 ""`,
		`okta_users/acme last=id-001:success taken=1 n=100 held=false queued=2 ok=0 bad=-1 ""`,
		`okta_users/umbrella last=id-007:held taken=2 n=200 held=true queued=2 ok=1 bad=6 "2 records, the last-known snapshot has 200, and GUARD_DROP holds what has less than 10% of it"`,
		`snyk_new/acme last=id-009: taken=-1 n=0 held=false queued=0 ok=-1 bad=-1 ""`,
	}, "\n"))
	assertEqual(t, "the run in progress", status[1].Last.ID, id)
	if diff := cmp.Diff(state.RunStats{Records: 600, Requests: 3}, status[0].Last.RunStats); diff != "" {
		t.Errorf("stats of the last run (-want +got):\n%s", diff)
	}
	for i, tenancy := range []string{"acme", "umbrella", ""} {
		assertEqual(t, "users", f.lastKnownOf("okta_users", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+1, 100*(i+1)))
		assertEqual(t, "groups", f.lastKnownOf("okta_groups", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+4, 100*(i+4)))
	}
	runs, err := f.Runs.List(ctx, "okta_users", 2)
	f.requireNoError(err)
	assertEqual(t, "limited history", len(runs), 2)
	assertEqual(t, "newest first", runs[0].UploadID, "id-007")
	for _, tenancy := range []string{"acme", "umbrella", ""} {
		deliveries, err := f.Queue.Next(ctx, tenancy)
		f.requireNoError(err)
		assertEqual(t, "first deliveries of "+tenancy, len(deliveries), 4)
	}
}

// hoursSinceDay returns -1 for the zero time.
func hoursSinceDay(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(day).Hours())
}

// minutesSinceStart returns the minutes since the start of a fixture's clock, -1 for
// the zero time.
func minutesSinceStart(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(day.Add(24 * time.Hour)).Minutes())
}

func TestNotes(t *testing.T) {
	t.Parallel()
	f := openState(t)
	a, b := f.Notes("acme"), f.Notes("umbrella")
	readNote := func(n state.Notes) string {
		t.Helper()
		text, err := n.Note(ctx, "export")
		f.requireNoError(err)
		return text
	}
	assertEqual(t, "none", readNote(a), "")
	f.requireNoError(a.SetNote(ctx, "export", "job 1"))
	f.requireNoError(a.SetNote(ctx, "export", "job 2"))
	assertEqual(t, "own", readNote(a), "job 2")
	assertEqual(t, "another tenancy's", readNote(b), "")
	f.requireNoError(b.SetNote(ctx, "export", "x"))
	f.requireNoError(a.SetNote(ctx, "export", ""))
	assertEqual(t, "removed", readNote(a), "")
	assertEqual(t, "the other's", readNote(b), "x")
}
