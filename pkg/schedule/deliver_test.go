package schedule_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

// TestLastingFailuresDoNotFloodTheLog: a destination that is down for days is
// tried all the time and told of a few times.
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
	sink, err := store.NewFile(path, store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inWorld(t, "2026-11-24 09:30", "UTC", func(w *world) {
		d := schedule.NewDeliverer(w.state, []store.Sink{sink}, 15*time.Minute, 0, w.settings.Runner.Log)
		d.Now = w.now
		w.settings.Runner.Policy = state.Policy{Sinks: []string{sink.Name()}}
		w.settings.Runner.Sealed = d.Wake
		w.start(w.plan("once", "0 0 1 1 *", nil))
		ctx, stop := context.WithCancel(w.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		w.until("2026-11-26 09:30")
		queue, err := w.state.Queue(w.Context())
		if err != nil || len(queue) != 1 {
			t.Fatalf("%v %v", queue, err)
		}
		told := w.logs.FilterMessage("not stored; it stays queued").Len()
		if queue[0].Attempts < 150 || told < 5 || told > 10 {
			t.Errorf("%d tries, %d lines", queue[0].Attempts, told)
		}
		stop()
		<-done
	})
}
