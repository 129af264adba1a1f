package statetest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/collectord/collectord/pkg/state"
)

// BeginRun begins the nth run of okta_users.
func (f *Fixture) BeginRun(n int) state.RunID {
	f.T.Helper()
	id, err := f.Runs.Begin(ctx, state.RunStart{Header: NewHeader("okta_users", "acme", n), Trigger: "test", Started: Day})
	f.RequireNoError(err)
	return id
}

// RecoverOkta recovers the collector okta and returns a summary of the result.
func (f *Fixture) RecoverOkta() string {
	f.T.Helper()
	r, err := f.Recover(ctx, "okta", "acme", TwoSinks)
	f.RequireNoError(err)
	return fmt.Sprintf("spools=%d completed=%d reclaimed=%d interrupted=%d lost=%d", r.Spools, len(r.Completed), len(r.Reclaimed), r.Interrupted, len(r.Lost))
}

// FoundNothing is RecoverOkta when there is nothing to recover.
const FoundNothing = "spools=0 completed=0 reclaimed=0 interrupted=0 lost=0"

// A RecoverCase is what a process that died has left, and what is there after recovery. Before,
// id-001 with 100 records is last-known.
type RecoverCase struct {
	Name  string
	Leave func(*Fixture)
	// Found is the result of RecoverOkta.
	Found string
	// Last is the last-known snapshot afterwards.
	Last     string
	Queue    string
	Outcomes string
}

// Check recovers a new state and checks the result.
func (r RecoverCase) Check(t *testing.T, f *Fixture) {
	f.CollectUsers(1, 100, state.Policy{})
	r.Leave(f)
	if found, err := f.Recover(ctx, "snyk", "acme", TwoSinks); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
		t.Errorf("another collector's recovery: %+v %v", found, err)
	}
	if found, err := f.Recover(ctx, "okta", "acme", TwoSinks, "okta_groups"); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
		t.Errorf("another stream's recovery: %+v %v", found, err)
	}
	if found, err := f.Recover(ctx, "okta", "globex", TwoSinks); err != nil || found.Interrupted+int64(found.Spools+len(found.Completed)+len(found.Lost)) > 0 {
		t.Errorf("another tenancy's recovery: %+v %v", found, err)
	}
	AssertEqual(t, "found", f.RecoverOkta(), r.Found)
	for range 2 {
		AssertEqual(t, "last", f.LastKnown(), r.Last)
		AssertEqual(t, "queue", f.QueuedDeliveries(), r.Queue)
		AssertEqual(t, "history", f.Outcomes(), r.Outcomes)
		f.CheckStored()
		AssertEqual(t, "found again", f.RecoverOkta(), FoundNothing)
	}
}

func testRecover(t *testing.T, harness Harness) {
	t.Parallel()
	for _, tc := range []RecoverCase{
		{Name: "nothing", Leave: func(*Fixture) {}, Found: FoundNothing, Last: "id-001/100/collected", Outcomes: "success"},
		{Name: "begun", Leave: func(f *Fixture) { f.BeginRun(2) },
			Found: "spools=0 completed=0 reclaimed=0 interrupted=1 lost=0", Last: "id-001/100/collected", Outcomes: "success interrupted"},
		{Name: "partly spooled", Leave: func(f *Fixture) {
			f.BeginRun(2)
			w, err := f.Snapshots.Spool(NewHeader("okta_users", "acme", 2))
			f.RequireNoError(err)
			f.RequireNoError(FillWriter(w, 5))
		},
			Found: "spools=1 completed=0 reclaimed=0 interrupted=1 lost=0", Last: "id-001/100/collected", Outcomes: "success interrupted"},
		{Name: "the last-known snapshot is missing", Leave: func(f *Fixture) {
			f.Alter(NewHeader("okta_users", "acme", 1), Manifest, Remove)
		}, Found: "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", Last: "none", Outcomes: "success"},
		{Name: "the last-known snapshot is damaged, another is queued", Leave: func(f *Fixture) {
			f.CollectUsers(2, 90, TwoSinks)
			f.CollectUsers(3, 91, TwoSinks)
			f.Alter(NewHeader("okta_users", "acme", 3), Records, Shorten)
		},
			Found: "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1", Last: "id-002/90/collected", Queue: "id-002>file id-002>s3", Outcomes: "success success success"},
	} {
		t.Run(tc.Name, func(t *testing.T) {
			t.Parallel()
			tc.Check(t, harness.NewState(t))
		})
	}
}

// A snapshot of a newer collectord cannot be read, but is kept.
func testRecoverUnreadable(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	done := f.CollectUsers(1, 100, TwoSinks)
	var manifest []byte
	f.Alter(done.Info.Header, Manifest, func(content []byte) []byte {
		manifest = content
		return bytes.Replace(content, []byte(`"format": 1`), []byte(`"format": 9`), 1)
	})
	for range 2 {
		AssertEqual(t, "found", f.RecoverOkta(), "spools=0 completed=0 reclaimed=0 interrupted=0 lost=1")
	}
	f.Alter(done.Info.Header, Manifest, func([]byte) []byte { return manifest })
	AssertEqual(t, "last", f.LastKnown(), "id-001/100/collected")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
}
