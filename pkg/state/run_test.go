package state

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// What becomes of a snapshot, by what was there before and the policy.
func TestCommitRules(t *testing.T) {
	t.Parallel()
	const none = -1
	with := func(percent int, empty bool) Policy {
		return Policy{Sinks: []string{"file", "s3"}, StoreEmpty: empty, GuardDropPercent: percent}
	}
	for _, c := range []struct {
		name          string
		before, after int
		policy        Policy
		outcome       Outcome
		last          string // the last-known one afterwards
		queued        int
		folders       string
	}{
		{"first", none, 5, with(10, false), Success, "id-002/5/collected", 2, "id-002"},
		{"first, empty", none, 0, with(10, false), Empty, "id-002/0/collected", 0, "id-002"},
		{"first, empty, stored", none, 0, with(10, true), Empty, "id-002/0/collected", 2, "id-002"},
		{"more", 10, 20, with(10, false), Success, "id-002/20/collected", 2, "id-002"},
		{"same", 10, 10, with(100, false), Success, "id-002/10/collected", 2, "id-002"},
		{"fewer, none allowed", 10, 9, with(100, false), Held, "id-001/10/collected", 0, "id-001 id-002"},
		{"at the guard", 100, 10, with(10, false), Success, "id-002/10/collected", 2, "id-002"},
		{"under the guard", 100, 9, with(10, false), Held, "id-001/100/collected", 0, "id-001 id-002"},
		{"guard off", 100, 1, with(0, false), Success, "id-002/1/collected", 2, "id-002"},
		{"empty after some", 10, 0, with(10, false), Empty, "id-001/10/collected", 0, "id-001"},
		{"empty after some, guard off", 10, 0, with(0, false), Empty, "id-001/10/collected", 0, "id-001"},
		{"empty after some, stored", 10, 0, with(10, true), Empty, "id-002/0/collected", 2, "id-002"},
		{"empty after empty", 0, 0, with(10, false), Empty, "id-002/0/collected", 0, "id-002"},
		{"some after empty", 0, 1, with(100, false), Success, "id-002/1/collected", 2, "id-002"},
		{"no sinks", 10, 10, Policy{}, Success, "id-002/10/collected", 0, "id-002"},
		{"a sink named twice", 10, 10, Policy{Sinks: []string{"s3", "s3"}}, Success, "id-002/10/collected", 1, "id-002"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			var before int64
			if c.before != none {
				f.users(1, c.before, Policy{})
				before = int64(c.before)
			}
			done := f.users(2, c.after, c.policy)
			want(t, "outcome", done.Outcome, c.outcome)
			want(t, "records", done.Info.Records, int64(c.after))
			want(t, "records before", done.LastRecords, before)
			want(t, "queued", done.Queued, c.queued)
			want(t, "last", f.last(), c.last)
			want(t, "folders", f.folders(), c.folders)
			queue, err := f.Queue(ctx)
			f.must(err)
			want(t, "queue", len(queue), c.queued)
			runs, err := f.Runs(ctx, "okta_users", 1)
			f.must(err)
			want(t, "history", runs[0].Outcome, c.outcome)
			want(t, "history's text", runs[0].Err != "", c.outcome == Held)
		})
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	f := open(t)
	none := func(when string) {
		t.Helper()
		if _, err := f.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "okta_users") {
			t.Errorf("%s: %v", when, err)
		}
	}
	held := func() bool {
		t.Helper()
		status, err := f.Streams(ctx)
		f.must(err)
		return status[0].Held
	}
	none("nothing known")
	f.users(1, 100, Policy{})
	none("nothing held")
	f.users(2, 3, twoSinks)
	f.users(3, 4, twoSinks)
	want(t, "only the newest held one stays", f.folders(), "id-001 id-003")
	want(t, "held", held(), true)
	if _, err := f.Accept(ctx, "okta_users", "other", twoSinks); !errors.Is(err, ErrNone) {
		t.Errorf("another tenancy: %v", err)
	}
	info, err := f.Accept(ctx, "okta_users", "acme", twoSinks)
	f.must(err)
	want(t, "accepted", info.UploadID, "id-003")
	want(t, "last", f.last(), "id-003/4/collected")
	want(t, "queue", f.queue(), "id-003>file id-003>s3")
	want(t, "folders", f.folders(), "id-003")
	want(t, "held", held(), false)
	none("accepted already")

	f.users(4, 100, twoSinks)
	f.users(5, 3, twoSinks)
	f.users(6, 90, twoSinks)
	want(t, "held, and passed", held(), false)
	none("something newer is known")
	want(t, "folders", f.folders(), "id-003 id-004 id-006")
	want(t, "queue", f.queue(), "id-003>file id-003>s3 id-004>file id-004>s3 id-006>file id-006>s3")
}

// A held snapshot that was damaged must not take the place of a sound one.
func TestAcceptDamaged(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.users(1, 100, Policy{})
	done := f.users(2, 3, twoSinks)
	spoil(t, filepath.Join(f.dir, folder(done.Info.Header)))
	if _, err := f.Accept(ctx, "okta_users", "acme", twoSinks); !errors.Is(err, snapshot.ErrDamaged) {
		t.Errorf("accepted: %v", err)
	}
	want(t, "last", f.last(), "id-001/100/collected")
	want(t, "queue", f.queue(), "")
}

// A run ends once, whatever its caller believes.
func TestEndOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	id, err := f.Begin(ctx, Start{Header: header("okta_users", "acme", 1), Trigger: "cron", Started: day})
	f.must(err)
	figures := Figures{Records: 1, Bytes: 2, Pages: 3, Requests: 4, Retries: 5, RateLimitWait: 6 * time.Second}
	f.must(f.Fail(ctx, id, Timeout, errors.New("too long"), figures))
	f.must(f.Fail(ctx, id, Failed, errors.New("again"), Figures{}))
	runs, err := f.Runs(ctx, "", 10)
	f.must(err)
	want(t, "run", runs[0], Run{
		ID: id, Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-001", Trigger: "cron",
		Started: day, Ended: f.now(), Outcome: Timeout, Err: "too long", Figures: figures,
	})
	counts, err := f.Counts(ctx)
	f.must(err)
	want(t, "counts", fmt.Sprint(counts), fmt.Sprint([]Count{{"okta", "okta_users", "acme", Timeout, 1, f.now()}}))
}

func TestSpoolBound(t *testing.T) {
	t.Parallel()
	f := open(t)
	h := header("okta_users", "acme", 1)
	f.users(1, 500, Policy{Sinks: []string{"s3", "postgres", "duckdb"}})
	f.users(2, 3, twoSinks) // held, so that it is not queued
	queue, err := f.Queue(ctx)
	f.must(err)
	f.must(f.Delivered(ctx, queue[2].ID))
	sealed, err := snapshot.Open(queue[0].Dir)
	f.must(err)
	w, err := f.Spool(ctx, header("okta_users", "acme", 3), sealed.SpoolBytes)
	if err != nil {
		t.Fatalf("a snapshot queued for two sinks counts more than once, or a held one counts: %v", err)
	}
	f.must(w.Abort())
	_, err = f.Spool(ctx, h, sealed.SpoolBytes-1)
	if !errors.Is(err, ErrSpoolFull) {
		t.Fatalf("got %v", err)
	}
	for _, words := range []string{"postgres, s3", "STORE_SPOOL_MAX", fmt.Sprint(sealed.SpoolBytes, " bytes"), fmt.Sprint(sealed.SpoolBytes - 1)} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q is not in: %v", words, err)
		}
	}
	if strings.Contains(err.Error(), "duckdb") {
		t.Errorf("duckdb is not behind: %v", err)
	}
	want(t, "nothing was dropped", f.queue(), "id-001>s3 id-001>postgres")
}

func TestTwoStreamsTwoTenancies(t *testing.T) {
	t.Parallel()
	f := open(t)
	n := 0
	for _, stream := range []string{"okta_users", "okta_groups"} {
		for _, tenancy := range []string{"acme", "umbrella", ""} {
			n++
			_, err := collect(f.State, header(stream, tenancy, n), 100*n, twoSinks)
			f.must(err)
			f.pass(time.Minute)
		}
	}
	_, err := collect(f.State, header("okta_users", "umbrella", 7), 2, twoSinks) // held
	f.must(err)
	f.pass(time.Minute)
	id, err := f.Begin(ctx, Start{Header: header("okta_groups", "acme", 8), Trigger: "cron", Started: day})
	f.must(err)
	_, err = f.Begin(ctx, Start{Header: header("snyk_new", "acme", 9), Trigger: "cron", Started: day})
	f.must(err)

	status, err := f.Streams(ctx)
	f.must(err)
	var lines []string
	for _, s := range status {
		lines = append(lines, fmt.Sprintf("%s/%s last=%s:%s taken=%d n=%d held=%v queued=%d ok=%d bad=%d %q", s.Stream, s.Tenancy, s.Last.UploadID, s.Last.Outcome,
			hours(s.Taken), s.Records, s.Held, s.Queued, minutes(s.LastSuccess), minutes(s.LastFailure), s.FailureErr))
	}
	want(t, "status", strings.Join(lines, "\n"), strings.Join([]string{
		`okta_groups/ last=id-006:success taken=6 n=600 held=false queued=2 ok=5 bad=-1 ""`,
		`okta_groups/acme last=id-008: taken=4 n=400 held=false queued=2 ok=3 bad=-1 ""`,
		`okta_groups/umbrella last=id-005:success taken=5 n=500 held=false queued=2 ok=4 bad=-1 ""`,
		`okta_users/ last=id-003:success taken=3 n=300 held=false queued=2 ok=2 bad=-1 ""`,
		`okta_users/acme last=id-001:success taken=1 n=100 held=false queued=2 ok=0 bad=-1 ""`,
		`okta_users/umbrella last=id-007:held taken=2 n=200 held=true queued=2 ok=1 bad=6 "2 records, the last-known snapshot has 200, and GUARD_DROP holds what has less than 10% of it"`,
		`snyk_new/acme last=id-009: taken=-1 n=0 held=false queued=0 ok=-1 bad=-1 ""`,
	}, "\n"))
	want(t, "the run that goes on", status[1].Last.ID, id)
	want(t, "the last run's figures", status[0].Last.Figures, Figures{Records: 600, Requests: 3})
	for i, tenancy := range []string{"acme", "umbrella", ""} {
		want(t, "users", f.lastOf("okta_users", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+1, 100*(i+1)))
		want(t, "groups", f.lastOf("okta_groups", tenancy), fmt.Sprintf("id-%03d/%d/collected", i+4, 100*(i+4)))
	}
	runs, err := f.Runs(ctx, "okta_users", 2)
	f.must(err)
	want(t, "limited history", len(runs), 2)
	want(t, "newest first", runs[0].UploadID, "id-007")
	heads, err := f.Heads(ctx)
	f.must(err)
	want(t, "heads", len(heads), 12)
}

func hours(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(day).Hours())
}

// minutes counts from where a fixture's clock starts.
func minutes(at time.Time) int {
	if at.IsZero() {
		return -1
	}
	return int(at.Sub(day.Add(24 * time.Hour)).Minutes())
}

func TestNotes(t *testing.T) {
	t.Parallel()
	f := open(t)
	a, b := f.Notes("acme"), f.Notes("umbrella")
	read := func(n *Notes) string {
		t.Helper()
		text, err := n.Note(ctx, "export")
		f.must(err)
		return text
	}
	want(t, "none", read(a), "")
	f.must(a.SetNote(ctx, "export", "job 1"))
	f.must(a.SetNote(ctx, "export", "job 2"))
	want(t, "own", read(a), "job 2")
	want(t, "another tenancy's", read(b), "")
	f.must(b.SetNote(ctx, "export", "x"))
	f.must(a.SetNote(ctx, "export", ""))
	want(t, "removed", read(a), "")
	want(t, "the other's", read(b), "x")
}
