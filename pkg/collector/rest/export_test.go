package rest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/collectord/collectord/pkg/collector"
)

// jobs is a vendor of export jobs. Each job plays a life: the states that its
// owner sees one after the other, the last for ever.
type jobs struct {
	mu        sync.Mutex
	lives     [][]JobStatus
	chunk     func(ctx context.Context, job, chunk string, n int) (string, error) // nil: one record that names it
	start     func(attempt int) error
	statusErr error

	attempts  []int
	polls     map[string]int
	fetches   map[string]int
	cancelled []string
	under     int
	most      int
}

func (j *jobs) export() Export {
	j.polls, j.fetches = map[string]int{}, map[string]int{}
	return Export{
		Start: func(_ context.Context, attempt int) (string, error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.start != nil {
				if err := j.start(attempt); err != nil {
					return "", err
				}
			}
			j.attempts = append(j.attempts, attempt)
			return fmt.Sprintf("job%d", len(j.attempts)-1), nil
		},
		Status: func(_ context.Context, id string) (JobStatus, error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			if j.statusErr != nil {
				return JobStatus{}, j.statusErr
			}
			var n int
			_, _ = fmt.Sscanf(id, "job%d", &n)
			life := j.lives[min(n, len(j.lives)-1)]
			j.polls[id]++
			return life[min(j.polls[id], len(life))-1], nil
		},
		Fetch: j.fetch,
		Cancel: func(ctx context.Context, id string) error {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.cancelled = append(j.cancelled, id)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.New("cannot cancel") // nobody may mind
		},
	}
}

func (j *jobs) fetch(ctx context.Context, id, chunk string, out collector.Output) error {
	j.mu.Lock()
	j.under++
	j.most = max(j.most, j.under)
	j.fetches[id+"/"+chunk]++
	n := j.fetches[id+"/"+chunk]
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.under--
		j.mu.Unlock()
	}()
	text := id + "/" + chunk
	if j.chunk != nil {
		var err error
		if text, err = j.chunk(ctx, id, chunk, n); err != nil {
			return err
		}
	}
	p := out.Page()
	if err := p.Append([]byte(text)); err != nil {
		return err
	}
	return p.Commit()
}

// runExport runs e in a bubble and returns the chunks that came, sorted, and
// how long it took.
func runExport(t *testing.T, ctx context.Context, e Export) (string, time.Duration, error) {
	t.Helper()
	var out Gathered
	start := time.Now()
	err := e.Run(ctx, &out)
	all := strings.Split(texts(&out), ",")
	slices.Sort(all)
	return strings.Join(all, " "), time.Since(start), err
}

func ready(chunks ...string) JobStatus { return JobStatus{Ready: chunks} }

func done(chunks ...string) JobStatus { return JobStatus{Done: true, Ready: chunks} }

func TestExport(t *testing.T) {
	for _, f := range []struct {
		name      string
		lives     [][]JobStatus
		want      string
		attempts  int
		cancelled []string
		fails     []string
	}{
		{"at once", [][]JobStatus{{done("1", "2")}}, "job0/1 job0/2", 1, nil, nil},
		{"empty", [][]JobStatus{{{}, {}, done()}}, "", 1, nil, nil},
		{"grows out of order, with gaps and repeats", [][]JobStatus{{{}, ready("7"), ready("7", "3"), ready("12", "3", "7"), done("7", "1")}},
			"job0/1 job0/12 job0/3 job0/7", 1, nil, nil},
		{"dies and comes back", [][]JobStatus{{ready("1"), {Dead: "ERROR: backend"}}, {done("1", "2")}}, "job1/1 job1/2", 2, []string{"job0"}, nil},
		{"is not all", [][]JobStatus{{ready("1"), {Done: true, Ready: []string{"1"}, Missing: "1 of 2 chunks failed"}}, {done("1", "2")}}, "job1/1 job1/2", 2, []string{"job0"}, nil},
		{"is not all yet", [][]JobStatus{{{Missing: "1 of 2 chunks"}, done("1")}}, "job0/1", 1, nil, nil},
		{"dies for ever", [][]JobStatus{{ready("1"), {Dead: "ERROR: backend"}}}, "job2/1", 3, []string{"job0", "job1", "job2"},
			[]string{"incomplete: export job job2: ERROR: backend: gave up after 3 jobs"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobs{lives: f.lives}
				got, _, err := runExport(t, context.Background(), j.export())
				if got != f.want || len(j.attempts) != f.attempts || !slices.Equal(j.cancelled, f.cancelled) {
					t.Errorf("%q by attempts %v, cancelled %v", got, j.attempts, j.cancelled)
				}
				for i, attempt := range j.attempts {
					if attempt != i {
						t.Errorf("attempts %v", j.attempts)
					}
				}
				if f.fails == nil && err != nil {
					t.Error(err)
				} else if f.fails != nil {
					mustHold(t, err, f.fails...)
					if !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("%v is not ErrIncomplete", err)
					}
				}
			})
		})
	}
}

// Chunks are fetched while the job works, so many at once and no more, each
// once.
func TestExportFetchesInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := make([]JobStatus, 40)
		for i := range life {
			life[i] = ready(fmt.Sprint(i*2), fmt.Sprint(i*2+1))
		}
		life = append(life, done())
		j := &jobs{lives: [][]JobStatus{life}, chunk: func(_ context.Context, job, chunk string, _ int) (string, error) {
			time.Sleep(7 * time.Second)
			return chunk, nil
		}}
		e := j.export()
		e.Parallel, e.FirstPoll, e.LongestPoll = 3, time.Second, 4*time.Second
		got, took, err := runExport(t, context.Background(), e)
		if n := len(strings.Fields(got)); err != nil || n != 80 || len(j.fetches) != 80 || j.most != 3 {
			t.Errorf("%v: %d chunks, %d fetched, %d at once", err, n, len(j.fetches), j.most)
		}
		// 27 rounds of three; working one after the other would take 560 s
		// more than the job itself.
		if took > 200*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestExportPollsWithGrowingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := make([]JobStatus, 20)
		life = append(life, done())
		j := &jobs{lives: [][]JobStatus{life}}
		stats := new(collector.Stats)
		// 2 s, 3 s, 4.5 s … 30 s
		_, took, err := runExport(t, collector.WithStats(context.Background(), stats), j.export())
		if err != nil || took < 400*time.Second || took > 600*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		if stats.Read().Waited != 0 {
			t.Error("waiting for a job is counted as the vendor's limit")
		}
	})
}

func TestExportChunkNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{lives: [][]JobStatus{{done("1", "2")}}, chunk: func(_ context.Context, job, chunk string, n int) (string, error) {
			if chunk == "2" && n < 5 {
				return "", fmt.Errorf("%w: 400 Bad Request", ErrNotReady)
			}
			return job + "/" + chunk, nil
		}}
		got, took, err := runExport(t, context.Background(), j.export())
		if err != nil || got != "job0/1 job0/2" || took < 10*time.Second || took > time.Minute {
			t.Errorf("%q %v after %v", got, err, took)
		}
		j = &jobs{lives: [][]JobStatus{{done("1")}}, chunk: func(context.Context, string, string, int) (string, error) { return "", ErrNotReady }}
		_, _, err = runExport(t, context.Background(), j.export())
		mustHold(t, err, "incomplete: export job job2: chunk 1: chunk is not ready yet: gave up after 3 jobs")
		if len(j.attempts) != 3 || j.fetches["job0/1"] != 10 {
			t.Errorf("attempts %v, fetches %v", j.attempts, j.fetches)
		}
	})
}

// A broken chunk spoils its job; a lost job is started anew; a refusal ends
// the run.
func TestExportChunkFails(t *testing.T) {
	for _, f := range []struct {
		name      string
		err       error
		attempts  int
		cancelled int
	}{
		{"broken", &BodyError{Err: errors.New("cut")}, 2, 1},
		{"lost", fmt.Errorf("%w: 404", ErrJobLost), 2, 1},
		{"refused", collector.ErrRefused, 1, 0},
		{"disk full", errors.New("disk full"), 1, 1},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobs{lives: [][]JobStatus{{ready("1"), ready("2"), done("3")}}, chunk: func(ctx context.Context, job, chunk string, _ int) (string, error) {
					if job == "job0" && chunk == "2" {
						return "", f.err
					}
					return job + "/" + chunk, nil
				}}
				e := j.export()
				e.Parallel = 2
				got, _, err := runExport(t, context.Background(), e)
				if len(j.attempts) != f.attempts || len(j.cancelled) != f.cancelled {
					t.Errorf("attempts %v, cancelled %v", j.attempts, j.cancelled)
				}
				if f.attempts == 2 && (err != nil || got != "job1/1 job1/2 job1/3") || f.attempts == 1 && !errors.Is(err, f.err) {
					t.Errorf("%q %v", got, err)
				}
			})
		})
	}
}

func TestExportDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobs{
			lives: [][]JobStatus{{ready("1", "2")}}, // never done
			chunk: func(ctx context.Context, job, chunk string, _ int) (string, error) {
				if chunk == "2" { // hangs
					<-ctx.Done()
					return "", fmt.Errorf("GET chunk: %w", context.Cause(ctx))
				}
				return chunk, nil
			},
		}
		e := j.export()
		e.Deadline, e.Restarts = time.Hour, 1
		_, took, err := runExport(t, context.Background(), e)
		mustHold(t, err, "incomplete: ", "export job job1: not finished within 1h0m0s", "gave up after 2 jobs")
		if took != 2*time.Hour || !slices.Equal(j.cancelled, []string{"job0", "job1"}) {
			t.Errorf("took %v, cancelled %v", took, j.cancelled)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("passes for the end of the run: %v", err)
		}
	})
}

// A cancelled run cancels its job and ends within seconds, even when the
// vendor does not answer the cancelling.
func TestExportCancel(t *testing.T) {
	cause := errors.New("shutting down")
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint(hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobs{lives: [][]JobStatus{{ready("1", "2", "3")}}, chunk: func(ctx context.Context, job, chunk string, _ int) (string, error) {
					if chunk == "1" {
						return chunk, nil
					}
					<-ctx.Done()
					return "", context.Cause(ctx)
				}}
				e := j.export()
				e.Parallel = 4
				if hangs {
					cancel := e.Cancel
					e.Cancel = func(ctx context.Context, id string) error {
						<-ctx.Done()
						return cancel(ctx, id)
					}
				}
				ctx, cancel := context.WithCancelCause(context.Background())
				time.AfterFunc(time.Minute, func() { cancel(cause) })
				_, took, err := runExport(t, ctx, e)
				if !errors.Is(err, cause) || len(j.attempts) != 1 || !slices.Equal(j.cancelled, []string{"job0"}) {
					t.Errorf("%v, attempts %v, cancelled %v", err, j.attempts, j.cancelled)
				}
				if took > time.Minute+5*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestExportStartAndStatusFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		j := &jobs{start: func(int) error { return broken }}
		if _, _, err := runExport(t, context.Background(), j.export()); !errors.Is(err, broken) || len(j.cancelled) != 0 {
			t.Errorf("%v, cancelled %v", err, j.cancelled)
		}
		j = &jobs{statusErr: broken}
		if _, _, err := runExport(t, context.Background(), j.export()); !errors.Is(err, broken) || len(j.cancelled) != 1 {
			t.Errorf("%v, cancelled %v", err, j.cancelled)
		}
		j = &jobs{lives: [][]JobStatus{{{Dead: "dead"}}}}
		e := j.export()
		e.Cancel = nil
		if _, _, err := runExport(t, context.Background(), e); err == nil {
			t.Error("no error")
		}
	})
}

// A run that ends while the vendor says that the job is done does not pass
// for complete.
func TestExportCancelAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(context.Background())
		j := &jobs{lives: [][]JobStatus{{done("1", "2")}}}
		e := j.export()
		status := e.Status
		e.Status = func(ctx context.Context, id string) (JobStatus, error) {
			cancel(cause)
			synctest.Wait() // the workers have seen it
			return status(ctx, id)
		}
		if got, _, err := runExport(t, ctx, e); !errors.Is(err, cause) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
