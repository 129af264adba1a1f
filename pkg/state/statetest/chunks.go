package statetest

import (
	"path/filepath"
	"testing"
	"time"
)

// Chunks belong to one job. They are found with the same request for a day.
func testExportChunks(t *testing.T, harness Harness) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		request string        // the first run's is "filters"
		later   time.Duration // between the two runs
		job     string
		chunks  int
	}{
		{name: "same request", request: "filters", later: time.Hour, job: "job 1", chunks: 1},
		{name: "same time", request: "filters", job: "job 1", chunks: 1},
		{name: "almost a day later", request: "filters", later: 24*time.Hour - time.Second, job: "job 1", chunks: 1},
		{name: "a day later", request: "filters", later: 24 * time.Hour},
		{name: "clock set back", request: "filters", later: -time.Second},
		{name: "other request", request: "other filters", later: time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := harness.NewState(t)
			h := NewHeader("tenable_assets", "acme", 1)
			lock, err := f.Locks.LockStream(h.Stream, h.Tenancy)
			f.RequireNoError(err)
			defer lock.Unlock() //nolint:errcheck // the state is closed next
			w, err := f.Snapshots.Spool(h)
			f.RequireNoError(err)
			chunks := f.Snapshots.ExportChunks(h)
			_, err = chunks.Begin("filters", "job 1")
			f.RequireNoError(err)
			batch := w.NewBatch()
			f.RequireNoError(batch.Append([]byte(`{"id":1}`)))
			f.RequireNoError(batch.CommitTo(chunks.ChunkDir("7")))
			f.RequireNoError(w.Abort())

			h.UploadTimestamp = h.UploadTimestamp.Add(tc.later)
			chunks = f.Snapshots.ExportChunks(h)
			job, err := chunks.Find(tc.request)
			f.RequireNoError(err)
			AssertEqual(t, "job found", job, tc.job)
			others, err := chunks.Others(tc.request)
			f.RequireNoError(err)
			if wantOther := tc.request != "filters"; (len(others) == 1 && others[0] == "job 1") != wantOther {
				t.Errorf("jobs of other requests: %q, want job 1: %v", others, wantOther)
			}
			n, err := chunks.Begin(tc.request, "job 1")
			f.RequireNoError(err)
			AssertEqual(t, "chunks", n, tc.chunks)
			// Begin with another job drops all chunks.
			n, err = chunks.Begin(tc.request, "job 2")
			f.RequireNoError(err)
			AssertEqual(t, "chunks of another job", n, 0)
			job, err = chunks.Find(tc.request)
			f.RequireNoError(err)
			AssertEqual(t, "job found after Begin with another", job, "job 2")
			f.RequireNoError(f.Sweep(t.Context(), time.Hour))
			job, err = chunks.Find(tc.request)
			f.RequireNoError(err)
			AssertEqual(t, "job found after Sweep", job, "job 2")
			f.RequireNoError(chunks.Drop())
			left, err := filepath.Glob(filepath.Join(f.Dir(), "kept", "*", "*"))
			f.RequireNoError(err)
			AssertEqual(t, "directories left", len(left), 0)
		})
	}
}
