package state

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
)

// crashes are what a child does while it is killed. Each begins with a state
// that has id-001 with 100 records.
var crashes = map[string]func(*State) error{
	"commit": func(s *State) error {
		_, err := collect(s, header("okta_users", "acme", 2), 90, twoSinks)
		return err
	},
	"hold": func(s *State) error {
		_, err := collect(s, header("okta_users", "acme", 2), 3, twoSinks)
		return err
	},
	"empty": func(s *State) error {
		_, err := collect(s, header("okta_users", "acme", 2), 0, twoSinks)
		return err
	},
	"deliver": func(s *State) error {
		_, err := collect(s, header("okta_users", "acme", 2), 90, twoSinks)
		if err != nil {
			return err
		}
		reached("collected")
		queue, err := s.Queue(ctx)
		if err != nil {
			return err
		}
		return s.Delivered(ctx, queue[0].ID)
	},
	"restore": func(s *State) error {
		_, err := restore(s, header("okta_users", "acme", 5), 80)
		return err
	},
}

func crashChild(args []string) error {
	dir, step, what := args[0], args[1], args[2]
	if what == "deliver" { // what it collects first must not end it
		reached = func(at string) {
			if at == "collected" {
				dieAt(step)
			}
		}
	} else {
		dieAt(step)
	}
	s, err := Open(ctx, dir, Options{})
	if err != nil {
		return err
	}
	if err := crashes[what](s); err != nil {
		return err
	}
	return fmt.Errorf("%s was not reached", step)
}

// A process that is killed at any step leaves a state that goes on as if it
// had not been: nothing is lost and nothing there twice.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, step string
		first      Policy // of id-001
		last       string
		queue      string
		outcomes   string
	}{
		{"commit", "sealed", Policy{}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"commit", "recording", Policy{}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"commit", "recorded", Policy{}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"commit", "sweeping", Policy{}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"commit", "swept", Policy{}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"commit", "recording", twoSinks, "id-002/90/collected", "id-001>file id-001>s3 id-002>file id-002>s3", "success success"},
		{"hold", "sealed", Policy{}, "id-001/100/collected", "", "success held"},
		{"hold", "recording", Policy{}, "id-001/100/collected", "", "success held"},
		{"hold", "recorded", Policy{}, "id-001/100/collected", "", "success held"},
		{"empty", "sealed", Policy{}, "id-001/100/collected", "", "success empty"},
		{"empty", "recording", Policy{}, "id-001/100/collected", "", "success interrupted"},
		{"empty", "recorded", Policy{}, "id-001/100/collected", "", "success empty"},
		{"deliver", "delivering", Policy{Sinks: []string{"s3"}}, "id-002/90/collected", "id-001>s3 id-002>file id-002>s3", "success success"},
		{"deliver", "delivered", Policy{Sinks: []string{"s3"}}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"deliver", "sweeping", Policy{Sinks: []string{"s3"}}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"deliver", "swept", Policy{Sinks: []string{"s3"}}, "id-002/90/collected", "id-002>file id-002>s3", "success success"},
		{"restore", "restore sealed", Policy{}, "id-001/100/collected", "", "success"},
		{"restore", "restore moved", Policy{}, "id-001/100/collected", "", "success"},
		{"restore", "restored", Policy{}, "id-005/80/restored", "", "success"},
		{"restore", "sweeping", Policy{}, "id-005/80/restored", "", "success"},
		{"restore", "swept", Policy{}, "id-005/80/restored", "", "success"},
	} {
		t.Run(c.what+" "+c.step, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.users(1, 100, c.first)
			cmd, stderr := child(t, "crash", f.dir, c.step, c.what)
			if err := cmd.Run(); !killed(err) {
				t.Fatal(err, stderr)
			}
			// What readers find before anybody has recovered is whole.
			if got := f.last(); got != "id-001/100/collected" && got != c.last {
				t.Errorf("last before recovery: %s", got)
			}
			lock, err := f.Lock("okta") // it died with its owner
			f.must(err)
			f.recovered()
			f.must(f.Sweep(ctx, keep))
			for range 2 {
				want(t, "last", f.last(), c.last)
				want(t, "queue", f.queue(), c.queue)
				want(t, "history", f.outcomes(), c.outcomes)
				f.folders()
				want(t, "found again", f.recovered(), nothing)
			}
			f.must(lock.Unlock())
			counts, err := f.Counts(ctx)
			f.must(err)
			var runs int64
			for _, n := range counts {
				runs += n.Runs
			}
			want(t, "runs counted", runs, int64(len(strings.Fields(c.outcomes))))
			f.users(9, 100, twoSinks)
			want(t, "goes on", f.last(), "id-009/100/collected")
		})
	}
}

// workChild collects, delivers and sweeps, args[2] times or for ever, and
// says on its output what it has committed.
func workChild(args []string) error {
	times, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s, err := Open(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	lock, err := s.Lock("okta_" + args[1])
	if err != nil {
		return err
	}
	if _, err := s.Recover(ctx, "okta_"+args[1], twoSinks); err != nil {
		return err
	}
	runs, err := s.Runs(ctx, "stream_"+args[1], 1)
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
		if err := work(s, args[1], n); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return errors.Join(lock.Unlock(), s.Close())
}

func work(s *State, name string, n int) error {
	h := header("stream_"+name, "acme", n)
	h.Collector = "okta_" + name
	if _, err := collect(s, h, 50+n%7, twoSinks); err != nil {
		return err
	}
	heads, err := s.Heads(ctx)
	if err != nil {
		return err
	}
	for _, d := range heads {
		if d.Stream != h.Stream {
			continue
		}
		if err := s.Postpone(ctx, d.ID, day); err != nil {
			return err
		}
		if err := s.Delivered(ctx, d.ID); err != nil {
			return err
		}
	}
	if _, err := s.Streams(ctx); err != nil {
		return err
	}
	return s.Sweep(ctx, keep)
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	f := open(t)
	const times = 10
	var all sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		cmd, stderr := child(t, "work", f.dir, name, fmt.Sprint(times))
		all.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, stderr)
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b"} {
		want(t, "last", f.lastOf("stream_"+name, "acme"), fmt.Sprintf("id-%03d/%d/collected", times, 50+times%7))
	}
	want(t, "queue", f.queue(), "")
	want(t, "history", len(strings.Fields(f.outcomes())), 2*times)
	f.folders()
}

var (
	kills = flag.Int("kills", 8, "how often TestKilledAtRandom kills")
	seed  = flag.Uint64("seed", 1, "where TestKilledAtRandom's instants start")
)

func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	f := open(t)
	random := rand.New(rand.NewPCG(*seed, 0))
	committed := 0
	for range *kills {
		cmd, stderr := child(t, "work", f.dir, "a", "0")
		committed = killSoon(t, cmd, time.Duration(random.IntN(60))*time.Millisecond, committed)
		if stderr.Len() > 0 {
			t.Fatal(stderr)
		}
		sealed, _, err := f.LastKnown(ctx, "stream_a", "acme")
		f.must(err)
		f.must(sealed.Verify(ctx))
		var n int
		if _, err := fmt.Sscanf(sealed.UploadID, "id-%d", &n); err != nil || n < committed {
			t.Fatalf("the last-known snapshot is %s, %d was committed (%v)", sealed.UploadID, committed, err)
		}
		if f.t.Failed() {
			return
		}
	}
	_, err := f.Recover(ctx, "okta_a", twoSinks)
	f.must(err)
	f.must(f.Sweep(ctx, keep))
	f.folders()
	f.queue()
	// Every run was counted once and left no more than one snapshot.
	runs, err := f.Runs(ctx, "", 1e6)
	f.must(err)
	seen := map[string]bool{}
	for _, r := range runs {
		if r.Outcome == "" || seen[r.UploadID] {
			t.Errorf("%+v", r)
		}
		seen[r.UploadID] = true
	}
	f.must(deliverAll(f.State))
	stored, err := f.Stored(ctx)
	f.must(err)
	counts, err := f.Counts(ctx)
	f.must(err)
	for _, c := range counts {
		if c.Outcome != Success {
			continue
		}
		for _, s := range stored {
			want(t, "delivered to "+s.Sink, s.Successes, c.Runs)
		}
	}
}

// killSoon starts cmd and kills it a while after it has committed something
// new. It returns the last number that it said.
func killSoon(t *testing.T, cmd *exec.Cmd, after time.Duration, last int) int {
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
	if err := cmd.Wait(); !killed(err) {
		t.Errorf("ended by itself: %v", err)
	}
	return last
}

func TestGoroutines(t *testing.T) {
	t.Parallel()
	f := open(t)
	const times = 5
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for n := 1; n <= times; n++ {
				if err := work(f.State, name, n); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 3 * times {
				sealed, _, err := f.LastKnown(ctx, "stream_"+name, "acme")
				if errors.Is(err, ErrNone) {
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
				if _, err := restore(f.State, header("restored_"+name, "acme", n), n); err != nil && !errors.Is(err, ErrLocked) {
					t.Error(err)
				}
				if _, err := f.Recover(ctx, "okta", twoSinks); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b", "c", "d"} {
		want(t, "last", f.lastOf("stream_"+name, "acme"), fmt.Sprintf("id-%03d/%d/collected", times, 50+times%7))
		want(t, "restored", strings.HasSuffix(f.lastOf("restored_"+name, "acme"), "/restored"), true)
	}
	f.folders()
}
