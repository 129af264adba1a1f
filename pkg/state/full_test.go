package state

import (
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"testing"
)

// fullChild runs out of disk, as far as a limit on the size of files is the
// same, at the named step.
func fullChild(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var whole syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &whole); err != nil {
		return err
	}
	fillDisk := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: whole.Max}); err != nil {
			panic(err)
		}
	}
	s, err := Open(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	h := header("okta_users", "acme", 2)
	id, err := s.Begin(ctx, Start{Header: h, Started: day})
	if err != nil {
		return err
	}
	w, err := s.Spool(ctx, h, 1<<30)
	if err != nil {
		return err
	}
	records := 90
	switch args[1] {
	case "spool":
		fillDisk(10)
	case "seal":
		err = fill(w, records)
		records = 0
		fillDisk(10)
	case "record":
		err = fill(w, records)
		records = 0
		reached = func(step string) {
			if step == "sealed" {
				fillDisk(4096)
			}
		}
	}
	if err != nil {
		return err
	}
	failure := fill(w, records)
	if failure == nil {
		_, failure = s.Commit(ctx, id, w, Figures{}, twoSinks)
	}
	if failure == nil {
		return errors.New("there was room")
	}
	fmt.Println(failure)
	if err := w.Abort(); err != nil {
		return err
	}
	fmt.Println(s.Fail(ctx, id, Failed, failure, Figures{}))
	sealed, _, err := s.LastKnown(ctx, "okta_users", "acme")
	if err != nil {
		return fmt.Errorf("while the disk is full: %w", err)
	}
	if sealed.UploadID != "id-001" {
		return fmt.Errorf("while the disk is full: %s", sealed.UploadID)
	}
	lock, err := s.LockDelivery("s3", "okta_users")
	if err != nil {
		return fmt.Errorf("nothing can be delivered, so that it stays full: %w", err)
	}
	if err := lock.Unlock(); err != nil {
		return err
	}
	reached = func(string) {}
	fillDisk(whole.Cur) // there is room again
	if _, err := collect(s, header("okta_users", "acme", 3), 95, twoSinks); err != nil {
		return fmt.Errorf("when there is room again: %w", err)
	}
	return s.Close()
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"spool", "seal", "record"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.users(1, 100, twoSinks)
			cmd, stderr := child(t, "full", f.dir, step)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err, stderr)
			}
			t.Logf("%s", out)
			f.recovered()
			want(t, "last", f.last(), "id-003/95/collected")
			want(t, "queue", f.queue(), "id-001>file id-001>s3 id-003>file id-003>s3")
			want(t, "folders", f.folders(), "id-001 id-003")
			if got := f.outcomes(); got != "success failed success" && got != "success interrupted success" {
				t.Errorf("history: %s", got)
			}
		})
	}
}
