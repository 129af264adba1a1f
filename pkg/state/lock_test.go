package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lockChild takes locks, says so, and holds them while its input lasts.
func lockChild(args []string) error {
	s, err := Open(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	_, err = s.Lock("okta")
	_, e := s.LockDelivery("s3", "okta_users")
	_, e2 := s.LockRestore("okta_users", "acme")
	if err := errors.Join(err, e, e2); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	f := open(t)
	cmd, stderr := child(t, "lock", f.dir, "--once")
	_, err := cmd.StdinPipe() // it stays open until the end
	f.must(err)
	out, err := cmd.StdoutPipe()
	f.must(err)
	f.must(cmd.Start())
	word := make([]byte, len("locked\n"))
	if _, err := io.ReadFull(out, word); err != nil {
		t.Fatal(err, stderr)
	}
	host, err := os.Hostname()
	f.must(err)
	takes := map[string]func() (*Lock, error){
		"okta is being collected":                 func() (*Lock, error) { return f.Lock("okta") },
		"okta_users is being delivered to s3":     func() (*Lock, error) { return f.LockDelivery("s3", "okta_users") },
		"okta_users is being restored by process": func() (*Lock, error) { return f.LockRestore("okta_users", "acme") },
	}
	for what, take := range takes {
		_, err := take()
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("%s: %v", what, err)
		}
		for _, words := range []string{what, fmt.Sprintf("process %d on %s since ", cmd.Process.Pid, host), filepath.Base(cmd.Path), "--once"} {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%q is not in: %v", words, err)
			}
		}
	}
	f.must(cmd.Process.Kill())
	if err := cmd.Wait(); !killed(err) {
		t.Fatal(err)
	}
	for what, take := range takes {
		lock, err := take()
		if err != nil {
			t.Errorf("%s, after its owner was killed: %v", what, err)
			continue
		}
		f.must(lock.Unlock())
	}
}

func TestLockWithin(t *testing.T) {
	t.Parallel()
	f := open(t)
	lock, err := f.Lock("okta")
	f.must(err)
	if _, err := f.Lock("okta"); !errors.Is(err, ErrLocked) {
		t.Errorf("twice: %v", err)
	}
	other, err := f.Lock("snyk")
	f.must(err)
	f.must(other.Unlock())
	f.must(lock.Unlock())
	again, err := f.Lock("okta")
	f.must(err)
	f.must(again.Unlock())
	// A hyphen in a name must not make two locks one.
	a, err := f.LockDelivery("a-b", "c")
	f.must(err)
	b, err := f.LockDelivery("a", "b-c")
	f.must(err)
	f.must(errors.Join(a.Unlock(), b.Unlock()))
}

// Who holds a lock is only said as far as its file tells.
func TestLockOfUnknownOwner(t *testing.T) {
	t.Parallel()
	f := open(t)
	lock, err := f.Lock("okta")
	f.must(err)
	f.must(os.WriteFile(filepath.Join(f.dir, "locks", "collector~okta"), []byte("{"), 0o600))
	_, err = f.Lock("okta")
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "okta is being collected by another process") {
		t.Error(err)
	}
	f.must(lock.Unlock())
}

func TestFileName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	long := strings.Repeat("ü", 300)
	for _, text := range []string{"", ".", "..", "a/b", "a%2Fb", "a b", "a+b", "A", "a", "~", "a~restored", "a.b", long, long + "x", "\x00", "ü"} {
		name := fileName(text)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %q", text, other, name)
		}
		seen[name] = text
		if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' || len(name) > 110 || strings.HasSuffix(name, restoredSuffix) {
			t.Errorf("%q: %q", text, name)
		}
	}
}

func TestInstants(t *testing.T) {
	t.Parallel()
	want(t, "none", toMillis(time.Time{}), 0)
	want(t, "none back", fromMillis(0), time.Time{})
	want(t, "some", fromMillis(toMillis(day)), day)
}

func TestClip(t *testing.T) {
	t.Parallel()
	want(t, "short", clip("as it is"), "as it is")
	if got := clip(strings.Repeat("ü", 8<<10)); len(got) > 8<<10+6 || !strings.HasSuffix(got, "ü (cut)") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-10:])
	}
}
