package local

import (
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// fullChild works in the state directory args[0] with a full disk from the step
// args[1] on. A limit on the size of files stands in for the full disk.
func fullChild(args []string) error {
	signal.Ignore(syscall.SIGXFSZ)
	var initial syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &initial); err != nil {
		return err
	}
	fillDisk := func(bytes uint64) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: initial.Max}); err != nil {
			panic(err)
		}
	}
	s, err := openDirectory(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	h := statetest.NewHeader("okta_users", "acme", 2)
	id, err := s.Runs.Begin(ctx, state.RunStart{Header: h, Started: statetest.Day})
	if err != nil {
		return err
	}
	w, err := s.Snapshots.Spool(h)
	if err != nil {
		return err
	}
	records := 90
	switch args[1] {
	case "spool":
		fillDisk(10)
	case "seal":
		err = statetest.FillWriter(w, records)
		records = 0
		fillDisk(10)
	case "record":
		err = statetest.FillWriter(w, records)
		records = 0
		database.Reached = func(step string) {
			if step == "sealed" {
				fillDisk(4096)
			}
		}
	}
	if err != nil {
		return err
	}
	failure := statetest.FillWriter(w, records)
	if failure == nil {
		_, failure = s.Runs.Commit(ctx, id, w, state.RunStats{}, statetest.TwoSinks)
	}
	if failure == nil {
		return errors.New("the run succeeded on a full disk")
	}
	fmt.Println(failure)
	if err := w.Abort(); err != nil {
		return err
	}
	fmt.Println(s.Runs.Fail(ctx, id, state.Failed, failure, state.RunStats{}))
	_, err = s.Runs.Begin(ctx, state.RunStart{Header: statetest.NewHeader("okta_users", "acme", 4), Started: statetest.Day})
	if err == nil || !strings.Contains(err.Error(), "check that the disk of STATE_DIR has free space") {
		return fmt.Errorf("a run that begins on a full disk: %v, want an error that names the disk", err)
	}
	sealed, _, err := s.Snapshots.LastKnown(ctx, "okta_users", "acme")
	if err != nil {
		return fmt.Errorf("while the disk is full: %w", err)
	}
	if sealed.UploadID != "id-001" {
		return fmt.Errorf("while the disk is full: %s", sealed.UploadID)
	}
	lock, err := s.Locks.LockDelivery("s3", "okta_users", "acme")
	if err != nil {
		return fmt.Errorf("nothing can be delivered, so the disk stays full: %w", err)
	}
	if err := lock.Unlock(); err != nil {
		return err
	}
	database.Reached = func(string) {}
	fillDisk(initial.Cur) // there is space again
	if _, err := statetest.CollectSnapshot(s.With(s), statetest.NewHeader("okta_users", "acme", 3), 95, statetest.TwoSinks); err != nil {
		return fmt.Errorf("when there is space again: %w", err)
	}
	return s.Close()
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"spool", "seal", "record"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := openState(t)
			f.CollectUsers(1, 100, statetest.TwoSinks)
			cmd, stderr := statetest.NewChild(t, "full", f.dir, step)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err, stderr)
			}
			t.Logf("%s", out)
			f.RecoverOkta()
			statetest.AssertEqual(t, "last", f.LastKnown(), "id-003/95/collected")
			statetest.AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3 id-003>file id-003>s3")
			statetest.AssertEqual(t, "directories", f.CheckStored(), "id-001 id-003")
			if got := f.Outcomes(); got != "success failed success" && got != "success interrupted success" {
				t.Errorf("history: %s", got)
			}
		})
	}
}
