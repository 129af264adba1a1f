package statetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
)

// lockChild takes three locks, prints "locked", and holds them until its input ends.
func lockChild(harness Harness, args []string) error {
	s, err := harness.Open(ctx, args[0], Options{Log: zap.NewNop()})
	if err != nil {
		return err
	}
	_, err = s.Locks.LockStream("okta_users", "acme")
	_, e := s.Locks.LockDelivery("s3", "okta_users", "acme")
	_, e2 := s.Locks.LockRestore("okta_users", "acme")
	if err := errors.Join(err, e, e2); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func testLockOfAnotherProcess(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	cmd, stderr := NewChild(t, "lock", f.Place, "--once")
	_, err := cmd.StdinPipe() // stays open until the end
	f.RequireNoError(err)
	out, err := cmd.StdoutPipe()
	f.RequireNoError(err)
	f.RequireNoError(cmd.Start())
	word := make([]byte, len("locked\n"))
	if _, err := io.ReadFull(out, word); err != nil {
		t.Fatal(err, stderr)
	}
	host, err := os.Hostname()
	f.RequireNoError(err)
	acquire := map[string]func() (state.Lock, error){
		"okta_users is being collected":           func() (state.Lock, error) { return f.Locks.LockStream("okta_users", "acme") },
		"okta_users is being delivered to s3":     func() (state.Lock, error) { return f.Locks.LockDelivery("s3", "okta_users", "acme") },
		"okta_users is being restored by process": func() (state.Lock, error) { return f.Locks.LockRestore("okta_users", "acme") },
	}
	for work, acquireLock := range acquire {
		_, err := acquireLock()
		if !errors.Is(err, state.ErrLocked) {
			t.Fatalf("%s: error %v, want ErrLocked", work, err)
		}
		for _, words := range []string{work, fmt.Sprintf("process %d on %s since ", cmd.Process.Pid, host), filepath.Base(cmd.Path), "--once"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("error %v does not contain %q", err, words)
			}
		}
	}
	f.RequireNoError(cmd.Process.Kill())
	if err := cmd.Wait(); !WasKilled(err) {
		t.Fatal(err)
	}
	for work, acquireLock := range acquire {
		t.Logf("%s, after its owner was killed", work)
		f.AfterOwnerDied(func() error {
			lock, err := acquireLock()
			if err != nil {
				return err
			}
			return lock.Unlock()
		})
	}
}

func testLockWithinProcess(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.RequireNoError(err)
	if _, err := f.Locks.LockStream("okta_users", "acme"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("second lock: error %v, want ErrLocked", err)
	}
	otherTenancy, err := f.Locks.LockStream("okta_users", "globex")
	f.RequireNoError(err)
	f.RequireNoError(otherTenancy.Unlock())
	other, err := f.Locks.LockStream("snyk_issues", "acme")
	f.RequireNoError(err)
	f.RequireNoError(other.Unlock())
	f.RequireNoError(lock.Unlock())
	again, err := f.Locks.LockStream("okta_users", "acme")
	f.RequireNoError(err)
	f.RequireNoError(again.Unlock())
	// Names with hyphens must not share a lock.
	a, err := f.Locks.LockDelivery("a-b", "c", "acme")
	f.RequireNoError(err)
	b, err := f.Locks.LockDelivery("a", "b-c", "acme")
	f.RequireNoError(err)
	f.RequireNoError(errors.Join(a.Unlock(), b.Unlock()))
}
