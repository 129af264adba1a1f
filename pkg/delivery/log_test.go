package delivery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/file"
)

// TestSnapshotBehindAnotherWaits checks that a snapshot is shown with the reason for which
// the one before it is not stored, and that all queued deliveries are returned.
func TestSnapshotBehindAnotherWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := openState(t)
		sink := &countingSink{err: fmt.Errorf("%w: no permission", store.ErrRefused)}
		for n := range 3 {
			collectSnapshot(t, st, "okta_users", n+1, state.Policy{Sinks: []string{"counting"}})
		}
		d := New(st, "default", []store.Sink{sink}, time.Hour, 0, zap.NewNop())
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		undelivered, err := d.WaitUntilDelivered(ctx)
		if err != nil || len(undelivered) != 3 {
			t.Errorf("%d deliveries, want 3; error: %v", len(undelivered), err)
		}
		s := d.DeliveryStatus("00000000-0000-4000-8000-000000000003", "okta_users", "counting")
		if s.Label() != "refused" || s.Err == nil || !strings.Contains(s.Err.Error(), "an earlier snapshot waits: ") {
			t.Errorf("the status is %s, %v", s.Label(), s.Err)
		}
		stop()
		<-done
	})
}

// TestLastingFailuresDoNotFloodTheLog checks that a destination that fails for two days is
// retried all the time but logged only a few times.
func TestLastingFailuresDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := store.ParsePath("STORE_FILE", filepath.Join(blocked, "%TAG.json"))
	if err != nil {
		t.Fatal(err)
	}
	sink, err := file.New(file.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		st := openState(t)
		queueSnapshot(t, st, sink.Name())
		d := New(st, "default", []store.Sink{sink}, 15*time.Minute, 0, zap.New(core))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		queue, err := st.Queue.List(t.Context())
		if err != nil || len(queue) != 1 {
			t.Fatalf("queue: %v, error: %v", queue, err)
		}
		lines := logs.FilterMessage("not stored; it stays queued").Len()
		if queue[0].Attempts < 150 || lines < 5 || lines > 10 {
			t.Errorf("%d attempts and %d log lines", queue[0].Attempts, lines)
		}
		stop()
		<-done
	})
}
