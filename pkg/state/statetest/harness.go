// Package statetest has the tests that every state passes, wherever it is kept, and helpers
// for tests of states.
package statetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/database"
)

// A Harness opens states of one kind. Its functions are called in child processes as well.
type Harness struct {
	// New returns a place for a new state, as text.
	New func(t *testing.T) (place string)
	// Open opens the state at a place.
	Open func(ctx context.Context, place string, o Options) (*state.State, error)
	// Store returns where an open state keeps its data.
	Store func(s *state.State) Store
	// RemoveGarbage removes what a process that was killed leaves until a later cleanup; nil
	// for nothing.
	RemoveGarbage func(t *testing.T, s *state.State)
	// RecoversSealed reports whether Recover completes a run whose snapshot was sealed. If
	// not, the run ends as interrupted.
	RecoversSealed bool
	// LocksExpire reports whether the locks of a process that was killed stay for a while.
	LocksExpire bool
	// OpenDirectory and OpenTakeOver open a state in a directory, for work and for TakeOver.
	OpenDirectory func(ctx context.Context, dir string, o Options) (*state.State, error)
	OpenTakeOver  func(ctx context.Context, dir string) (*state.State, error)
}

// Options are what the tests open a state with.
type Options struct {
	// Now is the clock; nil means the usual one.
	Now func() time.Time
	Log *zap.Logger
}

// A Store is where a state keeps its data.
type Store struct {
	// DB is the database.
	DB database.DB
	// Snapshots is the directory that has the files of each snapshot at its place.
	Snapshots string
	// Copies is the directory that has copies of snapshots at their places; "" for none.
	Copies string
}

// Run runs the tests, or only the named ones.
func Run(t *testing.T, harness Harness, names ...string) {
	for _, tc := range []struct {
		name string
		test func(*testing.T, Harness)
	}{
		{name: "CommitRules", test: testCommitRules},
		{name: "Accept", test: testAccept},
		{name: "AcceptDamaged", test: testAcceptDamaged},
		{name: "RunEndsOnce", test: testRunEndsOnce},
		{name: "TwoStreamsTwoTenancies", test: testTwoStreamsTwoTenancies},
		{name: "Notes", test: testNotes},
		{name: "Recover", test: testRecover},
		{name: "RecoverUnreadable", test: testRecoverUnreadable},
		{name: "RestoreRules", test: testRestoreRules},
		{name: "RestoreWithQueuedAndHeld", test: testRestoreWithQueuedAndHeld},
		{name: "RestoreOlderThanHeld", test: testRestoreOlderThanHeld},
		{name: "RestoreOverDamaged", test: testRestoreOverDamaged},
		{name: "RestoreAborted", test: testRestoreAborted},
		{name: "RestoreAgain", test: testRestoreAgain},
		{name: "RestoreGuard", test: testRestoreGuard},
		{name: "RestoreFromTheFuture", test: testRestoreFromTheFuture},
		{name: "KilledAtEveryStep", test: testKilledAtEveryStep},
		{name: "TwoProcesses", test: testTwoProcesses},
		{name: "KilledAtRandom", test: testKilledAtRandom},
		{name: "Goroutines", test: testGoroutines},
		{name: "LockOfAnotherProcess", test: testLockOfAnotherProcess},
		{name: "LockWithinProcess", test: testLockWithinProcess},
		{name: "QueueOrder", test: testQueueOrder},
		{name: "DeliveryAttempts", test: testDeliveryAttempts},
		{name: "LastSuccessOfAWrongClock", test: testLastSuccessOfAWrongClock},
		{name: "DropDamaged", test: testDropDamaged},
		{name: "OnlyNewestWaits", test: testOnlyNewestWaits},
		{name: "DeliveryInProgressStays", test: testDeliveryInProgressStays},
		{name: "SpoolBound", test: testSpoolBound},
		{name: "QueuesOfTenancies", test: testQueuesOfTenancies},
		{name: "DropFirst", test: testDropFirst},
		{name: "FromTheFutureSupersedesNothing", test: testFromTheFutureSupersedesNothing},
		{name: "NewDestinationIsFilled", test: testNewDestinationIsFilled},
		{name: "Refill", test: testRefill},
		{name: "LostCopiesAreRefilled", test: testLostCopiesAreRefilled},
		{name: "ConfirmUnchanged", test: testConfirmUnchanged},
		{name: "ConfirmUnchangedDropsHeld", test: testConfirmUnchangedDropsHeld},
		{name: "ConfirmUnchangedDoubts", test: testConfirmUnchangedDoubts},
		{name: "ConfirmUnchangedOfReplaced", test: testConfirmUnchangedOfReplaced},
		{name: "Recent", test: testRecent},
		{name: "LastDuration", test: testLastDuration},
		{name: "FirstFailure", test: testFirstFailure},
		{name: "DoubtsOfAStream", test: testDoubtsOfAStream},
		{name: "DoubtsOutliveTheHistory", test: testDoubtsOutliveTheHistory},
		{name: "ImportedDoubts", test: testImportedDoubts},
		{name: "EachRecord", test: testEachRecord},
		{name: "ExportChunks", test: testExportChunks},
		{name: "SwapNote", test: testSwapNote},
		{name: "Sweep", test: testSweep},
		{name: "DropSink", test: testDropSink},
		{name: "SweepLeftovers", test: testSweepLeftovers},
		{name: "LastKnownDamaged", test: testLastKnownDamaged},
		{name: "StreamsOfTenancy", test: testStreamsOfTenancy},
		{name: "ForgetTenancy", test: testForgetTenancy},
		{name: "ForgetTenancyKilled", test: testForgetTenancyKilled},
		{name: "TakeOver", test: testTakeOver},
		{name: "TakeOverOlder", test: testTakeOverOlder},
		{name: "TakeOverWithQueue", test: testTakeOverWithQueue},
		{name: "TakeOverDamaged", test: testTakeOverDamaged},
		{name: "TakeOverKilled", test: testTakeOverKilled},
	} {
		if len(names) > 0 && !slices.Contains(names, tc.name) {
			continue
		}
		t.Run(tc.name, func(t *testing.T) { tc.test(t, harness) })
	}
}
