package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
)

// killedDirVariable names the directory of a process that evaluates until it is killed.
const killedDirVariable = "COLLECTORD_TEST_EVALUATE"

// evaluateUntilKilled collects and evaluates again and again. It kills itself at the
// step that the second variable names.
func evaluateUntilKilled(dir string) int {
	ctx := context.Background()
	e := openEvaluator(ctx, filepath.Join(dir, "state"), filepath.Join(dir, "controls"), time.Now)
	killAt := os.Getenv(killedDirVariable + "_STEP")
	crashPoint = func(step string) {
		if step == killAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	for {
		err := collectRecords(ctx, e.State, "okta_users", time.Now().UTC(), `{"login":"a","mfa":1}`, `{"login":"b","mfa":0}`)
		if err == nil {
			_, err = e.EvaluateNow(ctx, "test", nil)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

// TestKilled checks that processes that are killed between any steps, or at any time,
// leave each control once on each day, and that the next one goes on.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := &fixture{T: t, dir: filepath.Join(dir, "controls")}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.writeControl("mfa", mfaSQL)
	f.writeControl("bad", "SELECT")
	for _, step := range []string{DetailStream, "recorded", SummaryStream, "", ""} {
		killEvaluation(t, dir, step)
	}
	f.Evaluator = openEvaluator(t.Context(), filepath.Join(dir, "state"), f.dir, time.Now)
	defer f.Engine.Close()
	defer func() {
		if err := f.State.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := f.EvaluateNow(t.Context(), "test", nil); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	last := map[any]map[string]any{}
	for _, r := range f.records(SummaryStream) {
		key := fmt.Sprint(r["datestamp"], r["metric_id"])
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key], last[r["metric_id"]] = true, r
	}
	if last["mfa"]["totalok"] != 1.0 || last["mfa"]["total"] != 2.0 || last["bad"]["state"] != "failed" {
		t.Errorf("the last day is %v", last)
	}
	if n := len(f.records(DetailStream)); n != 2 {
		t.Errorf("%d records of details", n)
	}
	recovered, err := f.State.Recover(t.Context(), collector.ControlsName, state.Policy{})
	if err != nil || len(recovered.Lost) > 0 {
		t.Errorf("%+v, error %v", recovered, err)
	}
}

// killEvaluation runs a process that is killed at a step, or at a random time for "".
func killEvaluation(t *testing.T, dir, step string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedDirVariable+"="+dir, killedDirVariable+"_STEP="+step)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if step == "" {
		time.AfterFunc(rand.N(time.Second), func() { _ = cmd.Process.Kill() })
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended with %v", err)
	}
}
