package shared

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store/s3"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.Stop()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// newOptions returns the options of a state in a new schema and below a new prefix.
func newOptions(t *testing.T) Options {
	t.Helper()
	postgres := testserver.StartPostgres(t)
	server := testserver.StartS3(t)
	for name, value := range server.Env() {
		t.Setenv(name, value)
	}
	id := uuid.NewString()[:8]
	if err := os.MkdirAll(filepath.Dir(server.Object("state-"+id, "x")), 0o700); err != nil {
		t.Fatal(err)
	}
	bucket, err := s3.New(s3.Options{Bucket: "state-" + id, Key: func(snapshot.Header) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	return Options{URL: postgres.URL(testserver.Quick, ""), Schema: "state_" + id, Bucket: bucket, Prefix: id + "/", Node: "node-1",
		Lease: 3 * time.Second, Cache: 1 << 30, Log: zaptest.NewLogger(t)}
}

func TestSmoke(t *testing.T) {
	o := newOptions(t)
	s, err := openShared(t.Context(), filepath.Join(t.TempDir(), "state"), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	lock, err := s.Locks.LockStream("okta_users", "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Locks.LockStream("okta_users", "acme"); err == nil {
		t.Fatal("locked twice")
	} else {
		t.Log(err)
	}
	h := snapshot.Header{Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "id-1", UploadTimestamp: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	id, err := s.Runs.Begin(ctx, state.RunStart{Header: h, Trigger: "once", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Snapshots.Spool(h)
	if err != nil {
		t.Fatal(err)
	}
	b := w.NewBatch()
	if err := b.Append([]byte(`{"id":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	done, err := s.Runs.Commit(ctx, id, w, state.RunStats{Records: 1}, state.Policy{Sinks: []string{"postgres"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", done)
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	queue, err := s.Queue.List(ctx)
	if err != nil || len(queue) != 1 {
		t.Fatal(queue, err)
	}
	streams, err := s.Streams(ctx)
	t.Logf("%+v %v", streams, err)
	if err := os.RemoveAll(cacheDir(s.Dir())); err != nil {
		t.Fatal(err)
	}
	last, info, err := s.Snapshots.LastKnown(ctx, "okta_users", "acme")
	t.Logf("%+v %+v %v", last, info, err)
	if err := s.Queue.MarkDelivered(ctx, queue[0].ID); err != nil {
		t.Fatal(err)
	}
}
