package statetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// The result of a commit depends on the last-known snapshot and the policy.
func testCommitRules(t *testing.T, harness Harness) {
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
			f := harness.NewState(t)
			var before int64
			if tc.before != none {
				f.CollectUsers(1, tc.before, state.Policy{})
				before = int64(tc.before)
			}
			done := f.CollectUsers(2, tc.after, tc.policy)
			AssertEqual(t, "outcome", done.Outcome, tc.outcome)
			AssertEqual(t, "records", done.Info.Records, int64(tc.after))
			AssertEqual(t, "records before", done.LastRecords, before)
			AssertEqual(t, "queued", done.Queued, tc.queued)
			AssertEqual(t, "last", f.LastKnown(), tc.last)
			AssertEqual(t, "directories", f.CheckStored(), tc.directories)
			queue, err := f.Queue.List(ctx)
			f.RequireNoError(err)
			AssertEqual(t, "queue", len(queue), tc.queued)
			runs, err := f.Runs.List(ctx, "okta_users", 1)
			f.RequireNoError(err)
			AssertEqual(t, "history", runs[0].Outcome, tc.outcome)
			AssertEqual(t, "error in the history", runs[0].Err != "", tc.outcome == state.Held)
		})
	}
}

func testAccept(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	assertNoneHeld := func(when string) {
		t.Helper()
		if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks); !errors.Is(err, state.ErrNoSnapshot) || !strings.Contains(err.Error(), "okta_users") {
			t.Errorf("%s: error %v, want ErrNoSnapshot", when, err)
		}
	}
	held := func() bool {
		t.Helper()
		status, err := f.Streams(ctx)
		f.RequireNoError(err)
		return status[0].Held
	}
	assertNoneHeld("no snapshot")
	f.CollectUsers(1, 100, state.Policy{})
	assertNoneHeld("nothing held")
	f.CollectUsers(2, 3, TwoSinks)
	f.CollectUsers(3, 4, TwoSinks)
	AssertEqual(t, "only the newest held one stays", f.CheckStored(), "id-001 id-003")
	AssertEqual(t, "held", held(), true)
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "other", TwoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("another tenancy: %v", err)
	}
	info, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "accepted", info.UploadID, "id-003")
	AssertEqual(t, "last", f.LastKnown(), "id-003/4/collected")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-003>file id-003>s3")
	AssertEqual(t, "directories", f.CheckStored(), "id-003")
	AssertEqual(t, "held", held(), false)
	assertNoneHeld("accepted already")

	f.CollectUsers(4, 100, TwoSinks)
	f.CollectUsers(5, 3, TwoSinks)
	f.CollectUsers(6, 90, TwoSinks)
	AssertEqual(t, "held after a newer snapshot", held(), false)
	assertNoneHeld("the last-known snapshot is newer")
	AssertEqual(t, "directories", f.CheckStored(), "id-003 id-004 id-006")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-003>file id-003>s3 id-004>file id-004>s3 id-006>file id-006>s3")
}

// A damaged held snapshot must not replace an intact one.
func testAcceptDamaged(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 100, state.Policy{})
	done := f.CollectUsers(2, 3, TwoSinks)
	f.Alter(done.Info.Header, Records, FlipBit)
	if _, err := f.Snapshots.Accept(ctx, "okta_users", "acme", TwoSinks); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("accepted: %v", err)
	}
	AssertEqual(t, "last", f.LastKnown(), "id-001/100/collected")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "")
}

// A run ends once, even if its caller ends it again.
func testRunEndsOnce(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_users", "acme", 1), Trigger: "cron", Started: Day})
	f.RequireNoError(err)
	stats := state.RunStats{Records: 1, Bytes: 2, Pages: 3, Requests: 4, Retries: 5, RateLimitWait: 6 * time.Second, Doubts: TwoDoubts}
	f.RequireNoError(f.Runs.Fail(ctx, id, state.Timeout, errors.New("too long"), stats))
	f.RequireNoError(f.Runs.Fail(ctx, id, state.Failed, errors.New("again"), state.RunStats{}))
	runs, err := f.Runs.List(ctx, "", 10)
	f.RequireNoError(err)
	want := state.Run{
		ID: id, Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001", Trigger: "cron",
		Started: Day, Ended: f.Now(), Outcome: state.Timeout, Err: "too long", RunStats: stats,
	}
	if diff := cmp.Diff(want, runs[0]); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
	counts, err := f.Runs.OutcomeCounts(ctx)
	f.RequireNoError(err)
	AssertEqual(t, "counts", fmt.Sprint(counts), fmt.Sprint([]state.Count{{Collector: "okta", Stream: "okta_users", Tenancy: "acme", Outcome: state.Timeout, Runs: 1, LastEnded: f.Now()}}))
}

func testTwoStreamsTwoTenancies(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	n := 0
	for _, stream := range []string{"okta_users", "okta_groups"} {
		for _, tenancy := range []string{"acme", "umbrella", ""} {
			n++
			_, err := CollectSnapshot(f.State, NewHeader(stream, tenancy, n), 100*n, TwoSinks)
			f.RequireNoError(err)
			f.AdvanceClock(time.Minute)
		}
	}
	_, err := CollectSnapshot(f.State, NewHeader("okta_users", "umbrella", 7), 2, TwoSinks) // held
	f.RequireNoError(err)
	f.AdvanceClock(time.Minute)
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_groups", "acme", 8), Trigger: "cron", Started: Day})
	f.RequireNoError(err)
	_, err = f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("snyk_new", "acme", 9), Trigger: "cron", Started: Day})
	f.RequireNoError(err)

	status, err := f.Streams(ctx)
	f.RequireNoError(err)
	var lines []string
	for _, s := range status {
		lines = append(lines, fmt.Sprintf("%s/%s last=%s:%s taken=%d n=%d held=%v queued=%d ok=%d bad=%d %q", s.Stream, s.Tenancy, s.Last.UploadID, s.Last.Outcome,
			hoursSinceDay(s.Taken), s.Records, s.Held, s.Queued, minutesSinceStart(s.LastSuccess), minutesSinceStart(s.LastFailure), s.FailureErr))
	}
	AssertEqual(t, "status", strings.Join(lines, "\n"), strings.Join([]string{
		`okta_groups/ last=id-006:success taken=6 n=600 held=false queued=2 ok=5 bad=-1 ""`,
		`okta_groups/acme last=id-008: taken=4 n=400 held=false queued=2 ok=3 bad=-1 ""`,
		`okta_groups/umbrella last=id-005:success taken=5 n=500 held=false queued=2 ok=4 bad=-1 ""`,
		`okta_users/ last=id-003:success taken=3 n=300 held=false queued=2 ok=2 bad=-1 ""`,
		`okta_users/acme last=id-001:success taken=1 n=100 held=false queued=2 ok=0 bad=-1 ""`,
		`okta_users/umbrella last=id-007:held taken=2 n=200 held=true queued=2 ok=1 bad=6 "2 records, the last-known snapshot has 200, and GUARD_DROP holds what has less than 10% of it"`,
		`snyk_new/acme last=id-009: taken=-1 n=0 held=false queued=0 ok=-1 bad=-1 ""`,
	}, "\n"))
	AssertEqual(t, "the run in progress", status[1].Last.ID, id)
	if diff := cmp.Diff(state.RunStats{Records: 600, Requests: 3}, status[0].Last.RunStats); diff != "" {
		t.Errorf("stats of the last run (-want +got):\n%s", diff)
	}
	for i, tenancy := range []string{"acme", "umbrella", ""} {
		AssertEqual(t, "users", f.LastKnownOf("okta_users", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+1, 100*(i+1)))
		AssertEqual(t, "groups", f.LastKnownOf("okta_groups", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+4, 100*(i+4)))
	}
	runs, err := f.Runs.List(ctx, "okta_users", 2)
	f.RequireNoError(err)
	AssertEqual(t, "limited history", len(runs), 2)
	AssertEqual(t, "newest first", runs[0].UploadID, "id-007")
	for _, tenancy := range []string{"acme", "umbrella", ""} {
		deliveries, err := f.Queue.Next(ctx, tenancy)
		f.RequireNoError(err)
		AssertEqual(t, "first deliveries of "+tenancy, len(deliveries), 4)
	}
}

// hoursSinceDay returns -1 for the zero time.
func hoursSinceDay(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(Day).Hours())
}

// minutesSinceStart returns the minutes since the start of a fixture's clock, -1 for
// the zero time.
func minutesSinceStart(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(Day.Add(24 * time.Hour)).Minutes())
}

func testNotes(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	a, b := f.Notes("acme"), f.Notes("umbrella")
	readNote := func(n state.Notes) string {
		t.Helper()
		text, err := n.Note(ctx, "export")
		f.RequireNoError(err)
		return text
	}
	AssertEqual(t, "none", readNote(a), "")
	f.RequireNoError(a.SetNote(ctx, "export", "job 1"))
	f.RequireNoError(a.SetNote(ctx, "export", "job 2"))
	AssertEqual(t, "own", readNote(a), "job 2")
	AssertEqual(t, "another tenancy's", readNote(b), "")
	f.RequireNoError(b.SetNote(ctx, "export", "x"))
	f.RequireNoError(a.SetNote(ctx, "export", ""))
	AssertEqual(t, "removed", readNote(a), "")
	AssertEqual(t, "the other's", readNote(b), "x")
}
