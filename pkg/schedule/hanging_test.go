package schedule

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// A hanging destination takes nothing and refuses nothing.
type hanging struct{ store.Sink }

func (hanging) Name() string { return "hanging" }

func (hanging) Write(ctx context.Context, _ *snapshot.Snapshot) error {
	<-ctx.Done()
	return ctx.Err()
}

// queued has the state queue a snapshot for a sink and returns the delivery.
func queued(t *testing.T, st *state.State, sink string) state.Delivery {
	t.Helper()
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "default",
		UploadID: "00000000-0000-4000-8000-000000000001", UploadTimestamp: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	id, err := st.Begin(t.Context(), state.Start{Header: h, Started: h.UploadTimestamp})
	if err != nil {
		t.Fatal(err)
	}
	w, err := st.Spool(t.Context(), h, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	page := w.Page()
	if err := errors.Join(page.Append([]byte(`{"n":1}`)), page.Commit()); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), id, w, state.Figures{}, state.Policy{Sinks: []string{sink}}); err != nil {
		t.Fatal(err)
	}
	queue, err := st.Queue(t.Context())
	if err != nil || len(queue) != 1 {
		t.Fatalf("%d queued, %v", len(queue), err)
	}
	return queue[0]
}

func TestHangingDestinationIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"), state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		q := queued(t, st, "hanging")
		d := NewDeliverer(st, []store.Sink{hanging{}}, time.Hour, 20*time.Minute, zap.NewNop())
		began := time.Now()
		d.deliver(t.Context(), d.to, q)
		if took := time.Since(began); took != 20*time.Minute {
			t.Errorf("it took %s", took)
		}
		err = d.Outcome(q.UploadID, q.Stream, q.Sink).Err
		if err == nil || !strings.Contains(err.Error(), "STORE_WRITE_TIMEOUT") || errors.Is(err, store.ErrRefused) {
			t.Errorf("err = %v", err)
		}
		left, err := st.Queue(t.Context())
		if err != nil || len(left) != 1 || left[0].Attempts != 1 || left[0].Class != state.Transient {
			t.Errorf("queue %+v, %v", left, err)
		}
	})
}

// TestMissingSnapshotHoldsNobodyUp has a queued snapshot whose folder is gone.
func TestMissingSnapshotHoldsNobodyUp(t *testing.T) {
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q := queued(t, st, "hanging")
	if err := os.RemoveAll(q.Dir); err != nil {
		t.Fatal(err)
	}
	d := NewDeliverer(st, []store.Sink{hanging{}}, time.Hour, time.Hour, zap.NewNop())
	d.deliver(t.Context(), d.to, q)
	if left, err := st.Queue(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("queue %+v, %v", left, err)
	}
	if err := d.Outcome(q.UploadID, q.Stream, q.Sink).Err; err == nil {
		t.Error("nothing is said of it")
	}
}
