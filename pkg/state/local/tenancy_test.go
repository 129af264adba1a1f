package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// TestTenancyTables checks that ForgetTenancy knows all tables.
func TestTenancyTables(t *testing.T) {
	t.Parallel()
	f := openState(t)
	names := f.QueryTexts(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
	for _, name := range names {
		found := false
		for _, table := range database.TenancyTables {
			found = found || table.Name == name
		}
		if !found {
			t.Errorf("the table %s is not in TenancyTables", name)
		}
	}
	statetest.AssertEqual(t, "tables", len(database.TenancyTables), len(names))
}

// A state directory of an earlier version, with a run that was killed, is taken over, and
// keeps its schema.
func TestTakeOverEarlier(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "earlier")
	if err := os.CopyFS(dir, os.DirFS(earlierState)); err != nil {
		t.Fatal(err)
	}
	before := statetest.Fingerprint(t, dir)
	f := openState(t)
	f.SetClock(earlierTime)
	result := f.TakeAcme(dir)
	statetest.AssertEqual(t, "the other directory", statetest.Fingerprint(t, dir), before)
	earlier := openEarlier(t)
	held := 0
	for _, one := range result.Streams {
		if one.Held == state.TakenAdded {
			held++
		}
		sealed, info, err := earlier.Snapshots.LastKnown(ctx, one.Stream, "acme")
		if errors.Is(err, state.ErrNoSnapshot) {
			statetest.AssertEqual(t, one.Stream, one.Snapshot, state.TakenNone)
			continue
		}
		f.RequireNoError(err)
		statetest.AssertEqual(t, one.Stream, one.Snapshot, state.TakenAdded)
		copied, copiedInfo, err := f.Snapshots.LastKnown(ctx, one.Stream, "acme")
		f.RequireNoError(err)
		f.RequireNoError(copied.Verify(ctx))
		statetest.AssertEqual(t, "upload of "+one.Stream, copied.UploadID, sealed.UploadID)
		statetest.AssertEqual(t, "time of "+one.Stream, copied.UploadTimestamp, sealed.UploadTimestamp)
		statetest.AssertEqual(t, "records of "+one.Stream, copied.Records, sealed.Records)
		statetest.AssertEqual(t, "source of "+one.Stream, copiedInfo, info)
	}
	statetest.AssertEqual(t, "held", held, 1)
	want, err := earlier.Runs.OutcomeCounts(ctx)
	f.RequireNoError(err)
	got, err := f.Runs.OutcomeCounts(ctx)
	f.RequireNoError(err)
	statetest.AssertEqual(t, "counts", fmt.Sprint(got), fmt.Sprint(want))
	f.CheckStored()
}

// A state that another process has open is refused.
func TestTakeOverInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "other")
	harness.CreateOther(t, dir, true)
	cmd, stderr := statetest.NewChild(t, "open and wait", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err, stderr)
	}
	if _, err := OpenTakeOver(ctx, dir); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("error %v", err)
	}
	if err := errors.Join(cmd.Process.Kill(), stdin.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f := openState(t)
	f.TakeAcme(dir) // it was killed, and its write-ahead log is there
	f.AssertTaken()
}

// openAndWaitChild opens a state and waits to be killed.
func openAndWaitChild(args []string) error {
	s, err := openDirectory(ctx, args[0], Options{})
	if err != nil {
		return err
	}
	if _, err := s.Streams(ctx); err != nil {
		return err
	}
	fmt.Println()
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}
