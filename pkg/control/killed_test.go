package control

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// kills is the number of kills at random times. One takes about a second, so that
// "make soak" has 200 of them.
var kills = flag.Int("kills", 2, "the `number` of kills at random times in TestKilled")

// killedDirVariable names the directory of a process that evaluates until it is killed.
const killedDirVariable = "COLLECTORD_TEST_EVALUATE"

// killedRounds is the number of snapshots of data after which a process ends by itself.
const killedRounds = 2

// scoredName is the file in which a process notes each snapshot of data whose score it
// has sealed. A kill does not lose what was written.
const scoredName = "scored"

// userRecords returns the records of the nth snapshot of users. All but the first comply.
func userRecords(n int) (records []string) {
	records = []string{fmt.Sprintf(`{"login":"first","mfa":0,"n":%d}`, n)}
	for i := range n % 7 {
		records = append(records, fmt.Sprintf(`{"login":"user%d","mfa":1,"n":%d}`, i, n))
	}
	return records
}

// sumsOf returns the sums of the nth snapshot of users, which differ on a day.
func sumsOf(n int) string { return fmt.Sprint("measured ", n%7, "/", n%7+1) }

// takenAt returns the time of the nth snapshot of users. A few are on the same day.
func takenAt(n int) time.Time { return start.Add(time.Duration(n) * 7 * time.Hour) }

// killedSQL has the number of its snapshot in each row.
const killedSQL = "SELECT login AS resource, 'user' AS resource_type, mfa AS compliance, n AS detail FROM {{ ref('okta_users') }}"

// evaluateUntilKilled evaluates what is due, and then collects and evaluates again and
// again. It kills itself at the step that the second variable names.
func evaluateUntilKilled(dir string) int {
	ctx, clock := context.Background(), start
	e := openEvaluator(ctx, filepath.Join(dir, "state"), filepath.Join(dir, "controls"), func() time.Time { return clock })
	killAt := os.Getenv(killedDirVariable + "_STEP")
	crashPoint = func(step string) {
		if step == killAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := e.State.Recover(ctx, "okta", "default", state.Policy{StoreEmpty: true}); err != nil {
		return fail(err)
	}
	n, err := lastNumber(ctx, e.State)
	for range killedRounds {
		if err == nil && n > 0 {
			clock = takenAt(n)
			if _, err = e.EvaluateDue(ctx, "test"); err == nil {
				err = note(dir, n)
				crashPoint(scoredName)
			}
		}
		n++
		clock = takenAt(n)
		if err == nil {
			err = collectRecords(ctx, e.State, "okta_users", clock, userRecords(n)...)
		}
		if err != nil {
			return fail(err)
		}
	}
	return 0
}

// lastNumber returns the number of the last-known snapshot of users; 0 when there is none.
func lastNumber(ctx context.Context, st *state.State) (n int, err error) {
	_, err = st.Snapshots.EachRecord(ctx, "okta_users", "default", func(text []byte) error {
		var record struct{ N int }
		err := json.Unmarshal(text, &record)
		if n = record.N; err == nil {
			err = state.ErrEnough
		}
		return err
	})
	if errors.Is(err, state.ErrNoSnapshot) {
		return 0, nil
	}
	return n, err
}

// note appends a number to the file of the scored snapshots.
func note(dir string, n int) error {
	f, err := os.OpenFile(filepath.Join(dir, scoredName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, n)
	return errors.Join(err, f.Close())
}

// lastNoted returns the last number in the file of the scored snapshots; 0 without one.
func lastNoted(t *testing.T, dir string) (n int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, scoredName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if lines := strings.Fields(string(text)); len(lines) > 0 {
		if n, err = strconv.Atoi(lines[len(lines)-1]); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestKilled kills processes between any two steps, and at random times between the seal
// of data and its score: each process goes on where the last one was killed, and in the
// end each snapshot of data has its score, on its day, once.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &fixture{T: t, dir: filepath.Join(dir, "controls")}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.writeControl("mfa", killedSQL)
	f.writeControl("bad", "SELECT")
	began := time.Now()
	if killEvaluation(t, dir, "", 0) {
		t.Fatal("a process that nothing kills was killed")
	}
	took := time.Since(began)
	for _, step := range []string{DetailStream, "recorded", SummaryStream} {
		for _, step := range []string{step, scoredName} { // the next process completes what is due
			if !killEvaluation(t, dir, step, 0) {
				t.Fatalf("the process did not reach the step %q", step)
			}
			f.requireScores(dir)
		}
	}
	for killed := 0; killed < *kills; {
		if killEvaluation(t, dir, "", 1+rand.N(took)) {
			killed++
		}
		f.requireScores(dir)
	}
	if !killEvaluation(t, dir, scoredName, 0) {
		t.Fatal("the last process did not reach a score")
	}
	scored := f.requireScores(dir)
	t.Logf("%d snapshots of data have their scores after %d kills at random times", scored, *kills)
}

// killEvaluation runs a process that is killed at a step, or after a time unless that is 0,
// and reports whether it was killed.
func killEvaluation(t *testing.T, dir, step string, after time.Duration) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedDirVariable+"="+dir, killedDirVariable+"_STEP="+step)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended with %v", err)
	}
	return true
}

// requireScores checks that each control is once on each day, that each day but the last
// has the sums of its last snapshot of data, that the last day has not lost a score that was
// sealed, and that the details are those of one snapshot, and complete. It returns the
// number of snapshots of data.
func (f *fixture) requireScores(dir string) (last int) {
	f.Helper()
	f.Evaluator = openEvaluator(f.Context(), filepath.Join(dir, "state"), f.dir, time.Now)
	defer func() {
		f.Engine.Close()
		if err := f.State.Close(); err != nil {
			f.Error(err)
		}
	}()
	last, err := lastNumber(f.Context(), f.State)
	if err != nil {
		f.Fatal(err)
	}
	noted := lastNoted(f.T, dir)
	sums := map[string]string{}
	for _, r := range f.records(SummaryStream) {
		key := fmt.Sprint(r["datestamp"], " ", r["metric_id"])
		if sums[key] != "" {
			f.Errorf("%s is there twice: %s and %v", key, sums[key], r)
		}
		sums[key] = fmt.Sprint(r["state"], " ", r["totalok"], "/", r["total"])
	}
	for n := 1; n <= noted; n++ {
		day := takenAt(n).Format(time.DateOnly)
		if n < noted && takenAt(n+1).Format(time.DateOnly) == day {
			continue // a later snapshot of the day has replaced its score
		}
		allowed := []string{sumsOf(n)}
		for later := n + 1; later <= last && takenAt(later).Format(time.DateOnly) == day; later++ {
			allowed = append(allowed, sumsOf(later))
		}
		if got := sums[day+" mfa"]; !slices.Contains(allowed, got) {
			f.Errorf("%s has the score %q, want one of %q", day, got, allowed)
		}
		if got := sums[day+" bad"]; got != "failed <nil>/<nil>" {
			f.Errorf("%s has %q of the control that fails", day, got)
		}
	}
	details := f.records(DetailStream)
	if noted == 0 && len(details) == 0 {
		return last
	}
	of := details[0]["detail"].(string)
	if n, err := strconv.Atoi(of); err != nil || n < noted || n > last || len(details) != len(userRecords(n)) {
		f.Errorf("%d details are of snapshot %q, want all of one from %d to %d", len(details), of, noted, last)
	}
	for _, r := range details {
		if r["detail"] != of || r["metric_id"] != "mfa" {
			f.Errorf("a detail is %v, others are of snapshot %s", r, of)
		}
	}
	return last
}
