package statetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// register registers sinks, each with the target "<sink> 1" unless targets has another,
// and returns the changes as text.
func (f *Fixture) register(targets map[string]string, sinks ...string) string {
	f.T.Helper()
	all := map[string]string{}
	for _, sink := range sinks {
		all[sink] = sink + " 1"
		if target, ok := targets[sink]; ok {
			all[sink] = target
		}
	}
	changes, err := f.Queue.RegisterSinks(ctx, "acme", all, state.Policy{Sinks: sinks})
	f.RequireNoError(err)
	return fmt.Sprint(changes)
}

// A destination that is new, or has another target, receives the last-known snapshots
// of its tenancy.
func testNewDestinationIsFilled(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	AssertEqual(t, "first start", f.register(nil, "file"), "[{file  0}]")
	f.CollectUsers(1, 5, state.Policy{Sinks: []string{"file"}})
	f.CollectUsers(2, 6, state.Policy{Sinks: []string{"file"}})
	_, err := CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 3), 0, state.Policy{Sinks: []string{"file"}})
	f.RequireNoError(err)
	_, err = CollectSnapshot(f.State, NewHeader("okta_users", "globex", 4), 9, state.Policy{})
	f.RequireNoError(err)
	f.RequireNoError(DeliverAll(f.State))
	AssertEqual(t, "the same destinations", f.register(nil, "file"), "[]")
	AssertEqual(t, "another one", f.register(nil, "file", "postgres"), "[{postgres  1}]")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>postgres")
	f.RequireNoError(DeliverAll(f.State))
	AssertEqual(t, "another target", f.register(map[string]string{"postgres": "elsewhere"}, "file", "postgres"), "[{postgres postgres 1 1}]")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-002>postgres")
	f.RequireNoError(DeliverAll(f.State))
	AssertEqual(t, "removed", f.register(nil, "file"), "[]")
	AssertEqual(t, "added again", f.register(nil, "file", "postgres"), "[{postgres  1}]")
}

func testRefill(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	f.CollectUsers(1, 5, TwoSinks)
	f.CollectUsers(2, 6, TwoSinks)
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	f.RequireNoError(f.Queue.ScheduleRetry(ctx, queue[0], errors.New("denied"), state.Refused, f.Now().Add(time.Hour)))
	f.markDeliveredTo("s3")
	id, err := f.Queue.Refill(ctx, "okta_users", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "upload", id, "id-002")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-002>file id-002>s3")
	queue, err = f.Queue.List(ctx)
	f.RequireNoError(err)
	for i, want := range []string{`false "" true`, `true "" true`, `true "" true`} {
		AssertEqual(t, queue[i].UploadID+">"+queue[i].Sink, fmt.Sprintf("%v %q %v", queue[i].Refill, queue[i].Class, queue[i].NextTry.IsZero()), want)
	}
	if _, err := f.Queue.Refill(ctx, "okta_none", "acme", TwoSinks); !errors.Is(err, state.ErrNoSnapshot) {
		t.Errorf("error %v, want ErrNoSnapshot", err)
	}
	_, err = CollectSnapshot(f.State, NewHeader("okta_groups", "acme", 3), 0, TwoSinks)
	f.RequireNoError(err)
	id, err = f.Queue.Refill(ctx, "okta_groups", "acme", TwoSinks)
	f.RequireNoError(err)
	AssertEqual(t, "upload of an empty stream", id, "")
}

// A destination that has lost the last-known snapshot gets it again, unless it is queued
// for it, or a person has dropped it.
func testLostCopiesAreRefilled(t *testing.T, harness Harness) {
	t.Parallel()
	f := harness.NewState(t)
	lost := func(want string) {
		t.Helper()
		refilled, err := f.Queue.RefillLost(ctx, "okta_users", "acme", []string{"file", "s3"})
		f.RequireNoError(err)
		AssertEqual(t, "refilled", fmt.Sprint(refilled), want)
	}
	lost("[]") // nothing is known
	f.CollectUsers(1, 5, TwoSinks)
	lost("[]")
	f.RequireNoError(DeliverAll(f.State))
	lost("[file s3]")
	AssertEqual(t, "queue", f.QueuedDeliveries(), "id-001>file id-001>s3")
	queue, err := f.Queue.List(ctx)
	f.RequireNoError(err)
	for _, d := range queue {
		if !d.Refill {
			t.Errorf("%s: the delivery is not marked as a refill", d.Sink)
		}
	}
	f.RequireNoError(DeliverAll(f.State))
	f.CollectUsers(2, 5, TwoSinks)
	_, err = f.Queue.DropSink(ctx, "s3", "acme")
	f.RequireNoError(err)
	lost("[]")
	f.RequireNoError(DeliverAll(f.State))
	lost("[file]")
}
