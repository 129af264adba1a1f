package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/state"
)

// lockChild takes three locks, prints "locked", and holds them until its input ends.
func lockChild(args []string) error {
	s, err := openDirectory(ctx, args[0], Options{})
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

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	f := openState(t)
	cmd, stderr := newChild(t, "lock", f.dir, "--once")
	_, err := cmd.StdinPipe() // stays open until the end
	f.requireNoError(err)
	out, err := cmd.StdoutPipe()
	f.requireNoError(err)
	f.requireNoError(cmd.Start())
	word := make([]byte, len("locked\n"))
	if _, err := io.ReadFull(out, word); err != nil {
		t.Fatal(err, stderr)
	}
	host, err := os.Hostname()
	f.requireNoError(err)
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
	f.requireNoError(cmd.Process.Kill())
	if err := cmd.Wait(); !wasKilled(err) {
		t.Fatal(err)
	}
	for work, acquireLock := range acquire {
		lock, err := acquireLock()
		if err != nil {
			t.Errorf("%s, after its owner was killed: %v", work, err)
			continue
		}
		f.requireNoError(lock.Unlock())
	}
}

func TestLockWithinProcess(t *testing.T) {
	t.Parallel()
	f := openState(t)
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.requireNoError(err)
	if _, err := f.Locks.LockStream("okta_users", "acme"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("second lock: error %v, want ErrLocked", err)
	}
	otherTenancy, err := f.Locks.LockStream("okta_users", "globex")
	f.requireNoError(err)
	f.requireNoError(otherTenancy.Unlock())
	other, err := f.Locks.LockStream("snyk_issues", "acme")
	f.requireNoError(err)
	f.requireNoError(other.Unlock())
	f.requireNoError(lock.Unlock())
	again, err := f.Locks.LockStream("okta_users", "acme")
	f.requireNoError(err)
	f.requireNoError(again.Unlock())
	// Names with hyphens must not share a lock.
	a, err := f.Locks.LockDelivery("a-b", "c", "acme")
	f.requireNoError(err)
	b, err := f.Locks.LockDelivery("a", "b-c", "acme")
	f.requireNoError(err)
	f.requireNoError(errors.Join(a.Unlock(), b.Unlock()))
}

// The error names the owner only if the lock file does.
func TestLockOfUnknownOwner(t *testing.T) {
	t.Parallel()
	f := openState(t)
	lock, err := f.Locks.LockStream("okta_users", "acme")
	f.requireNoError(err)
	f.requireNoError(os.WriteFile(filepath.Join(f.dir, "locks", "stream~okta_users~acme"), []byte("{"), 0o600))
	_, err = f.Locks.LockStream("okta_users", "acme")
	if !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "okta_users is being collected by another process") {
		t.Error(err)
	}
	f.requireNoError(lock.Unlock())
}
