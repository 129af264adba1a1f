package state

import (
	"path/filepath"
	"testing"
	"time"
)

// TestKeptChunks: they belong to one job, asked for the same, for a day.
func TestKeptChunks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		asked string
		later time.Duration
		job   string
		pages int
	}{
		"the same":     {"filters", time.Hour, "job 1", 1},
		"at once":      {"filters", 0, "job 1", 1},
		"almost a day": {"filters", 24*time.Hour - time.Second, "job 1", 1},
		"a day":        {"filters", 24 * time.Hour, "", 0},
		"clock back":   {"filters", -time.Second, "", 0},
		"others":       {"other filters", time.Hour, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			h := header("tenable_assets", "acme", 1)
			w, err := f.Spool(t.Context(), h, 1<<30)
			f.must(err)
			k := f.Kept(h)
			_, err = k.Begin("filters", "job 1")
			f.must(err)
			p := w.Page()
			f.must(p.Append([]byte(`{"id":1}`)))
			f.must(p.CommitAs(k.Path("7")))
			f.must(w.Abort())

			h.UploadTimestamp = h.UploadTimestamp.Add(c.later)
			k = f.Kept(h)
			job, err := k.Find(c.asked)
			f.must(err)
			want(t, "the job found", job, c.job)
			pages, err := k.Begin(c.asked, "job 1")
			f.must(err)
			want(t, "chunks", pages, c.pages)
			// Another job drops them all.
			pages, err = k.Begin(c.asked, "job 2")
			f.must(err)
			want(t, "another job's chunks", pages, 0)
			job, err = k.Find(c.asked)
			f.must(err)
			want(t, "the job found then", job, "job 2")
			f.must(f.Sweep(t.Context(), time.Hour))
			job, err = k.Find(c.asked)
			f.must(err)
			want(t, "the job found after sweeping", job, "job 2")
			f.must(k.Drop())
			left, err := filepath.Glob(filepath.Join(f.dir, "kept", "*", "*"))
			f.must(err)
			want(t, "folders left", len(left), 0)
		})
	}
}
