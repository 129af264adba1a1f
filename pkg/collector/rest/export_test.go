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

// jobVendor is a vendor of export jobs. Each job has a life: the states that
// polling returns one after the other. The last state does not change.
type jobVendor struct {
	mu        sync.Mutex
	lives     [][]JobStatus
	chunk     func(ctx context.Context, job, chunk string, n int) (string, error) // nil for one record with the name of the chunk
	start     func(attempt int) error
	statusErr error

	attempts   []int
	polls      map[string]int
	fetches    map[string]int
	cancelled  []string
	running    int
	maxRunning int
}

func (j *jobVendor) export() Export {
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
			return errors.New("cannot cancel") // must have no effect
		},
	}
}

func (j *jobVendor) fetch(ctx context.Context, id, chunk string, out collector.Output) error {
	j.mu.Lock()
	j.running++
	j.maxRunning = max(j.maxRunning, j.running)
	j.fetches[id+"/"+chunk]++
	n := j.fetches[id+"/"+chunk]
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.running--
		j.mu.Unlock()
	}()
	text := id + "/" + chunk
	if j.chunk != nil {
		var err error
		if text, err = j.chunk(ctx, id, chunk, n); err != nil {
			return err
		}
	}
	p := out.NewBatch()
	if err := p.Append([]byte(text)); err != nil {
		return err
	}
	return p.Commit()
}

// runExport runs e and returns the fetched chunks, sorted, and the time it took.
func runExport(t *testing.T, ctx context.Context, e Export) (string, time.Duration, error) {
	t.Helper()
	var out MemoryOutput
	start := time.Now()
	err := e.Run(collector.WithRetryTime(ctx, 15*time.Minute), &out)
	all := strings.Split(recordTexts(&out), ",")
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
		{name: "at once", lives: [][]JobStatus{{done("1", "2")}}, want: "job0/1 job0/2", attempts: 1},
		{name: "empty", lives: [][]JobStatus{{{}, {}, done()}}, attempts: 1},
		{
			name:  "grows out of order, with gaps and repeats",
			lives: [][]JobStatus{{{}, ready("7"), ready("7", "3"), ready("12", "3", "7"), done("7", "1")}}, want: "job0/1 job0/12 job0/3 job0/7",
			attempts: 1,
		},
		{
			name: "fails once", lives: [][]JobStatus{{ready("1"), {Failed: "ERROR: backend"}}, {done("1", "2")}}, want: "job1/1 job1/2",
			attempts: 2, cancelled: []string{"job0"},
		},
		{
			name:  "is incomplete once",
			lives: [][]JobStatus{{ready("1"), {Done: true, Ready: []string{"1"}, Missing: "1 of 2 chunks failed"}}, {done("1", "2")}},
			want:  "job1/1 job1/2", attempts: 2, cancelled: []string{"job0"},
		},
		{name: "is incomplete before it is done", lives: [][]JobStatus{{{Missing: "1 of 2 chunks"}, done("1")}}, want: "job0/1", attempts: 1},
		{
			name: "fails in all attempts", lives: [][]JobStatus{{{}, {Failed: "ERROR: backend"}}}, attempts: 3,
			cancelled: []string{"job0", "job1", "job2"}, fails: []string{"incomplete: export job job2: ERROR: backend: gave up after 3 jobs"},
		},
		{
			name: "brings the same chunks and fails in all attempts", lives: [][]JobStatus{{ready("1"), {Failed: "ERROR: backend"}}}, want: "job2/1", attempts: 3,
			cancelled: []string{"job0", "job1", "job2"}, fails: []string{"incomplete: export job job2: ERROR: backend: gave up after 3 jobs"},
		},
		{
			name: "jobs that bring more chunks do not count",
			lives: [][]JobStatus{
				{{}, {Failed: "ERROR"}}, {ready("1"), {Failed: "ERROR"}}, {{}, {Failed: "ERROR"}}, {ready("1", "2"), {Failed: "ERROR"}}, {done("1", "2", "3")},
			},
			want: "job4/1 job4/2 job4/3", attempts: 5, cancelled: []string{"job0", "job1", "job2", "job3"},
		},
		{
			name: "each job brings more chunks and fails",
			lives: [][]JobStatus{
				{ready("1"), {Failed: "ERROR"}}, {ready("1", "2"), {Failed: "ERROR"}}, {ready("1", "2", "3"), {Failed: "ERROR"}},
				{ready("1", "2", "3", "4"), {Failed: "ERROR"}}, {ready("1", "2", "3", "4", "5"), {Failed: "ERROR"}}, {ready("1", "2", "3", "4", "5", "6"), {Failed: "ERROR"}},
			},
			want: "job5/1 job5/2 job5/3 job5/4 job5/5 job5/6", attempts: 6, cancelled: []string{"job0", "job1", "job2", "job3", "job4", "job5"},
			fails: []string{"incomplete: export job job5: ERROR: gave up after 6 jobs"},
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobVendor{lives: f.lives}
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
					assertError(t, err, f.fails...)
					if !errors.Is(err, collector.ErrIncomplete) {
						t.Errorf("%v is not ErrIncomplete", err)
					}
				}
			})
		})
	}
}

// TestExportFetchesInParallel: chunks are fetched while the job is running, each
// once, and as many at once as configured.
func TestExportFetchesInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := make([]JobStatus, 40)
		for i := range life {
			life[i] = ready(fmt.Sprint(i*2), fmt.Sprint(i*2+1))
		}
		life = append(life, done())
		j := &jobVendor{lives: [][]JobStatus{life}, chunk: func(_ context.Context, job, chunk string, _ int) (string, error) {
			time.Sleep(7 * time.Second)
			return chunk, nil
		}}
		e := j.export()
		e.Parallel, e.firstPoll, e.maxPoll = 3, time.Second, 4*time.Second
		got, took, err := runExport(t, context.Background(), e)
		if n := len(strings.Fields(got)); err != nil || n != 80 || len(j.fetches) != 80 || j.maxRunning != 3 {
			t.Errorf("%v: %d chunks, %d fetched, %d at once", err, n, len(j.fetches), j.maxRunning)
		}
		// 27 times three chunks; one after the other they would take 560 s more than
		// the job itself.
		if took > 200*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestExportPollsWithGrowingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := make([]JobStatus, 20)
		life = append(life, done())
		j := &jobVendor{lives: [][]JobStatus{life}}
		stats := new(collector.Stats)
		// 2 s, 3 s, 4.5 s … 30 s
		_, took, err := runExport(t, collector.WithStats(context.Background(), stats), j.export())
		if err != nil || took < 400*time.Second || took > 600*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		if stats.Progress().Waited != 0 {
			t.Error("waiting for a job is counted as the vendor's limit")
		}
	})
}

func TestExportChunkNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobVendor{lives: [][]JobStatus{{done("1", "2")}}, chunk: func(_ context.Context, job, chunk string, n int) (string, error) {
			if chunk == "2" && n < 5 {
				return "", fmt.Errorf("%w: 400 Bad Request", ErrNotReady)
			}
			return job + "/" + chunk, nil
		}}
		got, took, err := runExport(t, context.Background(), j.export())
		if err != nil || got != "job0/1 job0/2" || took < 10*time.Second || took > time.Minute {
			t.Errorf("%q %v after %v", got, err, took)
		}
		j = &jobVendor{lives: [][]JobStatus{{done("1")}}, chunk: func(context.Context, string, string, int) (string, error) { return "", ErrNotReady }}
		_, took, err = runExport(t, context.Background(), j.export())
		assertError(t, err, "incomplete: export job job2: chunk 1: chunk is not ready yet: gave up after 3 jobs")
		// Each job is given up after 15 minutes.
		if len(j.attempts) != 3 || took < 45*time.Minute || took > 55*time.Minute || j.fetches["job0/1"] > 80 {
			t.Errorf("attempts %v in %v, fetches %v", j.attempts, took, j.fetches)
		}
	})
}

// TestExportChunkFails: after a broken chunk or a lost job a new job is started;
// a refusal ends the run.
func TestExportChunkFails(t *testing.T) {
	for _, f := range []struct {
		name      string
		err       error
		attempts  int
		cancelled int
	}{
		{name: "broken", err: &BodyError{Err: errors.New("cut")}, attempts: 2, cancelled: 1},
		{name: "lost", err: fmt.Errorf("%w: 404", ErrJobLost), attempts: 2, cancelled: 1},
		{name: "refused", err: collector.ErrRefused, attempts: 1},
		{name: "disk full", err: errors.New("disk full"), attempts: 1, cancelled: 1},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobVendor{lives: [][]JobStatus{{ready("1"), ready("2"), done("3")}}, chunk: func(ctx context.Context, job, chunk string, _ int) (string, error) {
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

// TestExportLostJob: a job or chunk that is unknown for a while is requested
// again; a job that stays unknown is replaced after a wait.
func TestExportLostJob(t *testing.T) {
	lost := fmt.Errorf("%w: 404", ErrJobLost)
	for _, f := range []struct {
		name              string
		statusLost        int // number of times that the state of job0 is unknown
		chunkLost         int // number of times that chunk 2 of job0 is unknown
		attempts          int
		minTook, maxTook  time.Duration
		want              string
		wantChunkRequests int // for chunk 2 of job0; negative for any number
	}{
		{name: "state unknown after the start", statusLost: 3, attempts: 1, minTook: 30 * time.Second, maxTook: 40 * time.Second, want: "job0/1 job0/2", wantChunkRequests: 1},
		{name: "state unknown forever", statusLost: 1 << 30, attempts: 2, minTook: 90 * time.Second, maxTook: 100 * time.Second, want: "job1/1 job1/2"},
		{name: "chunk unknown for a while", chunkLost: 5, attempts: 1, minTook: 30 * time.Second, maxTook: 2 * time.Minute, want: "job0/1 job0/2", wantChunkRequests: 6},
		{name: "chunk unknown forever", chunkLost: 1 << 30, attempts: 2, minTook: 15 * time.Minute, maxTook: 17 * time.Minute, want: "job1/1 job1/2", wantChunkRequests: -1},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobVendor{lives: [][]JobStatus{{done("1", "2")}}, chunk: func(_ context.Context, job, chunk string, n int) (string, error) {
					if job == "job0" && chunk == "2" && n <= f.chunkLost {
						return "", lost
					}
					return job + "/" + chunk, nil
				}}
				e := j.export()
				status, polls := e.Status, 0
				e.Status = func(ctx context.Context, id string) (JobStatus, error) {
					if id == "job0" {
						if polls++; polls <= f.statusLost {
							return JobStatus{}, lost
						}
					}
					return status(ctx, id)
				}
				got, took, err := runExport(t, context.Background(), e)
				if err != nil || got != f.want || len(j.attempts) != f.attempts || f.wantChunkRequests >= 0 && j.fetches["job0/2"] != f.wantChunkRequests {
					t.Errorf("%q %v by attempts %v, fetches %v", got, err, j.attempts, j.fetches)
				}
				if took < f.minTook || took > f.maxTook {
					t.Errorf("took %v, want %v to %v", took, f.minTook, f.maxTook)
				}
			})
		})
	}
}

// TestExportDoubt: the doubt about a job counts once, and only if the job's
// result is used.
func TestExportDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doubtful := done("1")
		doubtful.Doubt = "exports in doubt"
		failed := doubtful
		failed.Missing = "1 of 2 chunks"
		j := &jobVendor{lives: [][]JobStatus{{failed}, {ready("1"), doubtful}}}
		stats := new(collector.Stats)
		got, _, err := runExport(t, collector.WithStats(context.Background(), stats), j.export())
		if want := []collector.Doubt{{Text: "exports in doubt", Count: 1}}; err != nil || got != "job1/1" || !slices.Equal(stats.Doubts(), want) {
			t.Errorf("%q %v, doubts %v, want %v", got, err, stats.Doubts(), want)
		}
	})
}

func TestExportDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &jobVendor{
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
		e.deadline, e.restarts = time.Hour, 1
		_, took, err := runExport(t, context.Background(), e)
		assertError(t, err, "incomplete: ", "export job job1: not finished within 1h0m0s", "gave up after 2 jobs")
		if took != 2*time.Hour+firstRestartWait || !slices.Equal(j.cancelled, []string{"job0", "job1"}) {
			t.Errorf("took %v, cancelled %v", took, j.cancelled)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error matches the end of the run: %v", err)
		}
	})
}

// TestExportCancel: a canceled run cancels its job and ends within seconds, even
// if the vendor does not respond to the request.
func TestExportCancel(t *testing.T) {
	cause := errors.New("shutting down")
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint(hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobVendor{lives: [][]JobStatus{{ready("1", "2", "3")}}, chunk: func(ctx context.Context, job, chunk string, _ int) (string, error) {
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

// resumableMemory is a ResumableOutput in memory.
type resumableMemory struct {
	MemoryOutput
	mu        sync.Mutex
	selection string
	job       string
	chunks    map[string][]byte
	dropped   []string // jobs
}

func (r *resumableMemory) FindJob(selection string) (string, error) {
	if selection != r.selection {
		return "", nil
	}
	return r.job, nil
}

func (r *resumableMemory) OtherJobs(selection string) ([]string, error) {
	if r.job == "" || selection == r.selection {
		return nil, nil
	}
	return []string{r.job}, nil
}

func (r *resumableMemory) BeginJob(selection, job string) error {
	if job != r.job || selection != r.selection {
		r.chunks = map[string][]byte{}
	}
	r.selection, r.job = selection, job
	return nil
}

func (r *resumableMemory) DropJob() error {
	r.dropped = append(r.dropped, r.job)
	r.job, r.chunks = "", nil
	return nil
}

func (r *resumableMemory) ReuseChunk(_ context.Context, key string) (bool, error) {
	r.mu.Lock()
	record := r.chunks[key]
	r.mu.Unlock()
	if record == nil {
		return false, nil
	}
	b := r.NewBatch()
	if err := b.Append(record); err != nil {
		return false, err
	}
	return true, b.Commit()
}

func (r *resumableMemory) SaveChunk(key string) collector.Output { return savedChunk{r, key} }

type savedChunk struct {
	*resumableMemory
	key string
}

func (s savedChunk) NewBatch() collector.Batch {
	return &savedBatch{Batch: s.resumableMemory.NewBatch(), chunk: s}
}

type savedBatch struct {
	collector.Batch
	chunk  savedChunk
	record []byte
}

func (s *savedBatch) Append(record []byte) error {
	s.record = slices.Clone(record)
	return s.Batch.Append(record)
}

func (s *savedBatch) Commit() error {
	s.chunk.mu.Lock()
	s.chunk.chunks[s.chunk.key] = s.record
	s.chunk.mu.Unlock()
	return s.Batch.Commit()
}

// TestExportIsKept: a job whose run fails for a reason that may pass is neither
// cancelled nor dropped, and the next run fetches only the chunks that are
// missing. A job whose result cannot be used is cancelled and dropped.
func TestExportIsKept(t *testing.T) {
	unavailable := &StatusError{Status: 503, verdict: Transient}
	for _, f := range []struct {
		name   string
		err    error // of chunk 2, forever
		status error // of the state after the first
		stop   bool  // the run is stopped while chunk 2 is fetched
		cancel bool  // the jobs are cancelled and dropped
	}{
		{name: "503", err: unavailable},
		{name: "network", err: transportError(errors.New("connection reset"))},
		{name: "state unavailable", status: unavailable},
		{name: "refused after it was accepted", err: &StatusError{Status: 401, verdict: Unauthorized, accepted: true}},
		{name: "refused", err: collector.ErrRefused},
		{name: "forbidden", err: &StatusError{Status: 403, verdict: Fatal}},
		{name: "stopped", stop: true},
		{name: "local", err: errors.New("disk full")},
		{name: "chunk broken", err: &BodyError{Err: errors.New("cut")}, cancel: true},
		{name: "chunk not ready", err: ErrNotReady, cancel: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				fails := true
				j := &jobVendor{lives: [][]JobStatus{{ready("1"), ready("1", "2"), done("1", "2", "3")}}}
				j.chunk = func(ctx context.Context, job, chunk string, _ int) (string, error) {
					if !fails || chunk != "2" || f.err == nil && !f.stop {
						return job + "/" + chunk, nil
					}
					if f.stop {
						stop()
						<-ctx.Done()
						return "", context.Cause(ctx)
					}
					return "", f.err
				}
				e := j.export()
				e.Selection = "filters"
				status := e.Status
				polls := 0
				e.Status = func(ctx context.Context, id string) (JobStatus, error) {
					if polls++; fails && polls > 1 && f.status != nil {
						return JobStatus{}, f.status
					}
					return status(ctx, id)
				}
				out := &resumableMemory{}
				if err := e.Run(ctx, out); err == nil {
					t.Fatal("no error")
				}
				if got := len(j.cancelled) > 0 && len(out.dropped) == len(j.cancelled); got != f.cancel {
					t.Fatalf("cancelled %v, dropped %v, want that: %v", j.cancelled, out.dropped, f.cancel)
				}
				if f.cancel {
					return
				}
				fails = false
				out.MemoryOutput = MemoryOutput{}
				if err := e.Run(t.Context(), out); err != nil {
					t.Fatal(err)
				}
				if len(j.attempts) != 1 || j.fetches["job0/1"] != 1 {
					t.Errorf("%d jobs, fetches %v, want one job and chunk 1 once", len(j.attempts), j.fetches)
				}
				got := strings.Split(recordTexts(&out.MemoryOutput), ",")
				slices.Sort(got)
				if !slices.Equal(got, []string{"job0/1", "job0/2", "job0/3"}) {
					t.Errorf("records %v", got)
				}
			})
		})
	}
}

// TestExportOfAnEarlierRun: a job that cannot be continued does not fail the run,
// and one with another selection is cancelled.
func TestExportOfAnEarlierRun(t *testing.T) {
	for _, f := range []struct {
		name      string
		selection string
		status    error
		wantJobs  int
		cancelled []string
	}{
		{name: "the state is refused", selection: "filters", status: &StatusError{Status: 403, verdict: Fatal}, wantJobs: 2},
		{name: "it is lost", selection: "filters", status: ErrJobLost, wantJobs: 2},
		{name: "other filters", selection: "other filters", wantJobs: 2, cancelled: []string{"job0"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &jobVendor{lives: [][]JobStatus{{done("1")}}}
				e := j.export()
				j.attempts = []int{0} // job0 is of the earlier run
				e.Selection = f.selection
				status := e.Status
				e.Status = func(ctx context.Context, id string) (JobStatus, error) {
					if id == "job0" && f.status != nil {
						return JobStatus{}, f.status
					}
					return status(ctx, id)
				}
				out := &resumableMemory{selection: "filters", job: "job0", chunks: map[string][]byte{"1": []byte("old")}}
				if err := e.Run(t.Context(), out); err != nil {
					t.Fatal(err)
				}
				if got := recordTexts(&out.MemoryOutput); got != "job1/1" || len(j.attempts) != f.wantJobs || !slices.Equal(j.cancelled, f.cancelled) {
					t.Errorf("records %s of %d jobs, cancelled %v", got, len(j.attempts), j.cancelled)
				}
			})
		})
	}
}

func TestExportStartAndStatusFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		j := &jobVendor{start: func(int) error { return broken }}
		if _, _, err := runExport(t, context.Background(), j.export()); !errors.Is(err, broken) || len(j.cancelled) != 0 {
			t.Errorf("%v, cancelled %v", err, j.cancelled)
		}
		j = &jobVendor{statusErr: broken}
		if _, _, err := runExport(t, context.Background(), j.export()); !errors.Is(err, broken) || len(j.cancelled) != 1 {
			t.Errorf("%v, cancelled %v", err, j.cancelled)
		}
		j = &jobVendor{lives: [][]JobStatus{{{Failed: "dead"}}}}
		e := j.export()
		e.Cancel = nil
		if _, _, err := runExport(t, context.Background(), e); err == nil {
			t.Error("no error")
		}
	})
}

// TestExportCancelAtTheEnd: a run that is canceled while the vendor reports that
// the job is done is not complete.
func TestExportCancelAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(context.Background())
		j := &jobVendor{lives: [][]JobStatus{{done("1", "2")}}}
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
