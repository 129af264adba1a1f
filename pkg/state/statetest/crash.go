package statetest

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// crashActions are what a child does until it is killed. Each begins with a state in
// which id-001 with 100 records is last-known; the text is the directory for TakeOver.
var crashActions = map[string]func(Harness, *state.State, string) error{
	"commit": func(_ Harness, s *state.State, _ string) error {
		_, err := CollectSnapshot(s, NewHeader("okta_users", "acme", 2), 90, TwoSinks)
		return err
	},
	"hold": func(_ Harness, s *state.State, _ string) error {
		_, err := CollectSnapshot(s, NewHeader("okta_users", "acme", 2), 3, TwoSinks)
		return err
	},
	"empty": func(_ Harness, s *state.State, _ string) error {
		_, err := CollectSnapshot(s, NewHeader("okta_users", "acme", 2), 0, TwoSinks)
		return err
	},
	"unchanged": func(_ Harness, s *state.State, _ string) error { return confirm(s, 2) },
	"deliver": func(_ Harness, s *state.State, _ string) error {
		_, err := CollectSnapshot(s, NewHeader("okta_users", "acme", 2), 90, TwoSinks)
		if err != nil {
			return err
		}
		database.Reached("collected")
		queue, err := s.Queue.List(ctx)
		if err != nil {
			return err
		}
		return s.Queue.MarkDelivered(ctx, queue[0])
	},
	"restore": func(_ Harness, s *state.State, _ string) error {
		_, err := RestoreSnapshot(s, NewHeader("okta_users", "acme", 5), 80, state.Policy{})
		return err
	},
	"forget": func(_ Harness, s *state.State, _ string) error { return s.ForgetTenancy(ctx, "acme") },
	"take over": func(harness Harness, s *state.State, other string) error {
		source, err := harness.OpenTakeOver(ctx, other)
		if err != nil {
			return err
		}
		_, err = s.TakeOver(ctx, source, "acme")
		return err
	},
}

// crashChild runs the action args[2] and kills itself at the step args[1]. args[3] is the
// directory for TakeOver.
func crashChild(harness Harness, args []string) error {
	place, step, action := args[0], args[1], args[2]
	if action == "deliver" { // not while it collects what it delivers
		database.Reached = func(at string) {
			if at == "collected" {
				killAt(step)
			}
		}
	} else {
		killAt(step)
	}
	s, err := harness.Open(ctx, place, Options{Log: zap.NewNop()})
	if err != nil {
		return err
	}
	if err := crashActions[action](harness, s, args[3]); err != nil {
		return err
	}
	return fmt.Errorf("%s was not reached", step)
}

// After a process was killed at any step, recovery continues its work: nothing is
// lost and nothing is done twice.
func testKilledAtEveryStep(t *testing.T, harness Harness) {
	t.Parallel()
	for _, tc := range []struct {
		action   string       // key of crashActions
		step     string       // the crash point at which the process is killed
		first    state.Policy // of id-001
		last     string       // the last-known snapshot after recovery
		queue    string
		outcomes string
		// sealedOnly reports whether the snapshot was sealed, and not recorded. Where
		// Recover does not complete that, the run is interrupted.
		sealedOnly bool
	}{
		{action: "commit", step: "sealed", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success", sealedOnly: true},
		{action: "commit", step: "recording", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success", sealedOnly: true},
		{action: "commit", step: "recorded", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "commit", step: "sweeping", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "commit", step: "swept", last: "id-002/90/collected", queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "commit", step: "recording", first: TwoSinks, last: "id-002/90/collected",
			queue: "id-001>file id-001>s3 id-002>file id-002>s3", outcomes: "success success", sealedOnly: true},
		{action: "hold", step: "sealed", last: "id-001/100/collected", outcomes: "success held", sealedOnly: true},
		{action: "hold", step: "recording", last: "id-001/100/collected", outcomes: "success held", sealedOnly: true},
		{action: "hold", step: "recorded", last: "id-001/100/collected", outcomes: "success held"},
		{action: "empty", step: "sealed", last: "id-001/100/collected", outcomes: "success empty", sealedOnly: true},
		{action: "empty", step: "recording", last: "id-001/100/collected", outcomes: "success interrupted"},
		{action: "empty", step: "recorded", last: "id-001/100/collected", outcomes: "success empty"},
		{action: "unchanged", step: "confirming", last: "id-001/100/collected", outcomes: "success interrupted"},
		{action: "unchanged", step: "confirmed", last: "id-001/100/collected", outcomes: "success unchanged"},
		{action: "deliver", step: "delivering", first: state.Policy{Sinks: []string{"s3"}}, last: "id-002/90/collected",
			queue: "id-001>s3 id-002>file id-002>s3", outcomes: "success success"},
		{action: "deliver", step: "delivered", first: state.Policy{Sinks: []string{"s3"}}, last: "id-002/90/collected",
			queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "deliver", step: "sweeping", first: state.Policy{Sinks: []string{"s3"}}, last: "id-002/90/collected",
			queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "deliver", step: "swept", first: state.Policy{Sinks: []string{"s3"}}, last: "id-002/90/collected",
			queue: "id-002>file id-002>s3", outcomes: "success success"},
		{action: "restore", step: "restore sealed", last: "id-001/100/collected", outcomes: "success"},
		{action: "restore", step: "restore moved", last: "id-001/100/collected", outcomes: "success"},
		{action: "restore", step: "restored", last: "id-005/80/restored", outcomes: "success"},
		{action: "restore", step: "sweeping", last: "id-005/80/restored", outcomes: "success"},
		{action: "restore", step: "swept", last: "id-005/80/restored", outcomes: "success"},
	} {
		t.Run(tc.action+" "+tc.step, func(t *testing.T) {
			t.Parallel()
			f := harness.NewState(t)
			f.CollectUsers(1, 100, tc.first)
			if tc.sealedOnly && !harness.RecoversSealed {
				tc.last, tc.queue, tc.outcomes = f.LastKnown(), f.QueuedDeliveries(), "success interrupted"
			}
			cmd, stderr := NewChild(t, "crash", f.Place, tc.step, tc.action, "")
			if err := cmd.Run(); !WasKilled(err) {
				t.Fatal(err, stderr)
			}
			// Readers find an intact snapshot before recovery.
			if got := f.LastKnown(); got != "id-001/100/collected" && got != tc.last {
				t.Errorf("last before recovery: %s", got)
			}
			lock := f.LockDead()
			f.RecoverOkta()
			f.RequireNoError(f.Sweep(ctx, KeepHistory))
			f.RemoveGarbage()
			for range 2 {
				AssertEqual(t, "last", f.LastKnown(), tc.last)
				AssertEqual(t, "queue", f.QueuedDeliveries(), tc.queue)
				AssertEqual(t, "history", f.Outcomes(), tc.outcomes)
				f.CheckStored()
				AssertEqual(t, "found again", f.RecoverOkta(), FoundNothing)
			}
			f.RequireNoError(lock.Unlock())
			counts, err := f.Runs.OutcomeCounts(ctx)
			f.RequireNoError(err)
			var runs int64
			for _, n := range counts {
				runs += n.Runs
			}
			AssertEqual(t, "runs counted", runs, int64(len(strings.Fields(tc.outcomes))))
			f.CollectUsers(9, 100, TwoSinks)
			AssertEqual(t, "last after the next run", f.LastKnown(), "id-009/100/collected")
		})
	}
}

// workChild collects, delivers and sweeps, args[2] times or forever if that is 0, and
// prints the number of each snapshot that it has committed.
func workChild(harness Harness, args []string) error {
	times, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s, err := harness.Open(ctx, args[0], Options{Log: zap.NewNop()})
	if err != nil {
		return err
	}
	lock, err := s.Locks.LockStream("okta_"+args[1], "acme")
	for harness.LocksExpire && errors.Is(err, state.ErrLocked) { // until that of an earlier child has
		time.Sleep(20 * time.Millisecond)
		lock, err = s.Locks.LockStream("okta_"+args[1], "acme")
	}
	if err != nil {
		return err
	}
	if _, err := s.Recover(ctx, "okta_"+args[1], "acme", TwoSinks); err != nil {
		return err
	}
	runs, err := s.Runs.List(ctx, "stream_"+args[1], 1)
	if err != nil {
		return err
	}
	first := 1
	if len(runs) > 0 {
		if _, err := fmt.Sscanf(runs[0].UploadID, "id-%d", &first); err != nil {
			return err
		}
		first++
	}
	for n := first; times == 0 || n < first+times; n++ {
		if err := collectAndDeliver(s, args[1], n); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return errors.Join(lock.Unlock(), s.Close())
}

// collectAndDeliver does the nth run of a collector with one stream.
func collectAndDeliver(s *state.State, name string, n int) error {
	h := NewHeader("stream_"+name, "acme", n)
	h.Collector = "okta_" + name
	if _, err := CollectSnapshot(s, h, 50+n%7, TwoSinks); err != nil {
		return err
	}
	deliveries, err := s.Queue.Next(ctx, "acme")
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		if d.Stream != h.Stream {
			continue
		}
		if err := s.Queue.ScheduleRetry(ctx, d, errors.New("no route"), state.Transient, Day); err != nil {
			return err
		}
		if err := s.Queue.MarkDelivered(ctx, d); err != nil {
			return err
		}
	}
	if _, err := s.Streams(ctx); err != nil {
		return err
	}
	return s.Sweep(ctx, KeepHistory)
}

func testTwoProcesses(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	const times = 10
	var all sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		cmd, stderr := NewChild(t, "work", f.Place, name, fmt.Sprint(times))
		all.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, stderr)
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b"} {
		AssertEqual(t, "last", f.LastKnownOf("stream_"+name, "acme"), fmt.Sprintf("id-%03d/%d/collected", times, 50+times%7))
	}
	AssertEqual(t, "queue", f.QueuedDeliveries(), "")
	AssertEqual(t, "history", len(strings.Fields(f.Outcomes())), 2*times)
	f.CheckStored()
}

var (
	kills = flag.Int("kills", 8, "number of kills in TestKilledAtRandom")
	seed  = flag.Uint64("seed", 1, "seed for the times of kills in TestKilledAtRandom")
)

func testKilledAtRandom(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	random := rand.New(rand.NewPCG(*seed, 0))
	committed := 0
	for range *kills {
		cmd, stderr := NewChild(t, "work", f.Place, "a", "0")
		committed = killAfterFirst(t, cmd, time.Duration(random.IntN(60))*time.Millisecond, committed)
		if stderr.Len() > 0 {
			t.Fatal(stderr)
		}
		sealed, _, err := f.Snapshots.LastKnown(ctx, "stream_a", "acme")
		f.RequireNoError(err)
		f.RequireNoError(sealed.Verify(ctx))
		var n int
		if _, err := fmt.Sscanf(sealed.UploadID, "id-%d", &n); err != nil || n < committed {
			t.Fatalf("the last-known snapshot is %s, want %d or later; error %v", sealed.UploadID, committed, err)
		}
		if f.T.Failed() {
			return
		}
	}
	_, err := f.Recover(ctx, "okta_a", "acme", TwoSinks)
	f.RequireNoError(err)
	f.RequireNoError(f.Sweep(ctx, KeepHistory))
	f.RemoveGarbage()
	f.CheckStored()
	f.QueuedDeliveries()
	// Every run is counted once and has at most one snapshot.
	runs, err := f.Runs.List(ctx, "", 1e6)
	f.RequireNoError(err)
	seen := map[string]bool{}
	for _, r := range runs {
		if r.Outcome == "" || seen[r.UploadID] {
			t.Errorf("run not ended or found twice: %+v", r)
		}
		seen[r.UploadID] = true
	}
	f.RequireNoError(DeliverAll(f.State))
	stored, err := f.Queue.SinkStatuses(ctx)
	f.RequireNoError(err)
	counts, err := f.Runs.OutcomeCounts(ctx)
	f.RequireNoError(err)
	for _, c := range counts {
		if c.Outcome != state.Success {
			continue
		}
		for _, s := range stored {
			AssertEqual(t, "delivered to "+s.Sink, s.Successes, c.Runs)
		}
	}
}

// killAfterFirst starts cmd and kills it some time after it has printed its first
// number. It returns the last number.
func killAfterFirst(t *testing.T, cmd *exec.Cmd, after time.Duration, last int) int {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Error(err)
		}
		once.Do(func() { time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) })
	}
	if err := cmd.Wait(); !WasKilled(err) {
		t.Errorf("the child was not killed: %v", err)
	}
	return last
}

func testGoroutines(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	const times = 5
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for n := 1; n <= times; n++ {
				if err := collectAndDeliver(f.State, name, n); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 3 * times {
				sealed, _, err := f.Snapshots.LastKnown(ctx, "stream_"+name, "acme")
				if errors.Is(err, state.ErrNoSnapshot) {
					continue
				}
				if err != nil {
					t.Error(err)
					continue
				}
				if sealed.Collector != "okta_"+name {
					t.Error(sealed.Info)
				}
			}
		})
		all.Go(func() {
			for n := 1; n <= times; n++ {
				if _, err := RestoreSnapshot(f.State, NewHeader("restored_"+name, "acme", n), n, state.Policy{}); err != nil && !errors.Is(err, state.ErrLocked) {
					t.Error(err)
				}
				if _, err := f.Recover(ctx, "okta", "acme", TwoSinks); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b", "c", "d"} {
		AssertEqual(t, "last", f.LastKnownOf("stream_"+name, "acme"), fmt.Sprintf("id-%03d/%d/collected", times, 50+times%7))
		AssertEqual(t, "restored", strings.HasSuffix(f.LastKnownOf("restored_"+name, "acme"), "/restored"), true)
	}
	f.CheckStored()
}
