package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/shared"
	"github.com/collectord/collectord/pkg/store/s3"
)

const bucketName = "cluster"

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	defer testserver.Stop()
	server, err := testserver.OpenS3()
	if err == nil {
		err = os.Mkdir(filepath.Dir(server.Object(bucketName, "x")), 0o700)
	}
	if err == nil {
		for name, value := range server.Env() {
			err = errors.Join(err, os.Setenv(name, value))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// lease is the CLUSTER_LEASE of the tests.
const lease = 400 * time.Millisecond

// A testCluster is a new shared state, and the services that use it.
type testCluster struct {
	*testing.T
	url, schema string
	mu          sync.Mutex
	executions  []string // "node collector" of each, in the order of their beginnings
}

func newTestCluster(t *testing.T) *testCluster {
	return &testCluster{T: t, url: testserver.StartPostgres(t).URL(testserver.Quick, ""), schema: "cluster_" + uuid.NewString()[:8]}
}

// A testService is one of the services.
type testService struct {
	*testCluster
	*Cluster
	name string
	// execute replaces the execution of tasks; nil for success at once.
	execute func(ctx context.Context, task state.Task) []run.Result
	lock    state.Lock
	end     context.CancelFunc
	wait    func()
	slots   chan int // the last capacity
}

// join starts a service with a name and a capacity. change changes its options before.
func (t *testCluster) join(name string, capacity int, change ...func(*testService, *Options)) *testService {
	t.Helper()
	bucket, err := s3.New(s3.Options{Bucket: bucketName, Key: func(snapshot.Header) string { return "" }})
	t.require(err)
	opened, err := shared.Open(t.Context(), filepath.Join(t.TempDir(), name), shared.Options{
		URL: t.url, Schema: t.schema, Bucket: bucket, Prefix: t.schema + "/", Node: name, Lease: lease, Cache: 1 << 20, Service: true, Log: zap.NewNop(),
	})
	t.require(err)
	s := &testService{testCluster: t, name: name, slots: make(chan int, 1)}
	o := Options{
		State: opened.Backend.(*shared.State), Lease: lease, Log: zap.NewNop(), Redact: func(text string) string { return text },
		Execute: s.run, Progress: func(task state.Task) []StreamProgress {
			return []StreamProgress{{Stream: task.Streams[0], Progress: collector.Progress{Records: 7}}}
		},
		HasTenancy: func(name string) bool { return name == "acme" },
		Requested:  func(state.Task) bool { return false }, Credentials: func(string, string) []string { return nil },
		Capacity: func(n int, paused bool) {
			if paused {
				n = -1
			}
			select {
			case <-s.slots:
			default:
			}
			s.slots <- n
		},
	}
	for _, f := range change {
		f(s, &o)
	}
	s.Cluster, err = Open(t.Context(), o)
	t.require(err)
	t.require(s.Start(t.Context(), shared.NodeInfo{Version: "1", Settings: "sum", Capacity: capacity}))
	t.Cleanup(func() {
		s.resign()
		stopped, cancel := context.WithCancel(context.Background())
		cancel()
		s.Stop(stopped)
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (t *testCluster) require(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lead lets the service lead.
func (t *testService) lead() {
	t.Helper()
	t.waitFor("the lock of the service", func() bool {
		if t.lock == nil {
			t.lock, _ = t.State.Locks.LockService()
		}
		return t.lock != nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	t.end, t.wait = cancel, t.Lead(ctx)
}

// resign ends leading.
func (t *testService) resign() {
	if t.lock == nil {
		return
	}
	t.end()
	t.wait()
	t.require(t.lock.Unlock())
	t.lock = nil
}

// run is the Execute of the service.
func (t *testService) run(ctx context.Context, task state.Task) []run.Result {
	t.testCluster.mu.Lock()
	t.executions = append(t.executions, t.name+" "+task.Collector)
	t.testCluster.mu.Unlock()
	if t.execute != nil {
		return t.execute(ctx, task)
	}
	return resultsOf(task, state.Success, nil)
}

// resultsOf returns the same result for each stream of a task.
func resultsOf(task state.Task, outcome state.Outcome, err error) (results []run.Result) {
	for _, stream := range task.Streams {
		results = append(results, run.Result{Collector: task.Collector, Stream: stream, Outcome: outcome, Err: err, Records: 5})
	}
	return results
}

// untilCancelled is an execute that runs until its context ends.
func untilCancelled(ctx context.Context, task state.Task) []run.Result {
	<-ctx.Done()
	return resultsOf(task, state.Cancelled, context.Cause(ctx))
}

// list returns the executions so far.
func (t *testCluster) list() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.executions)
}

// waitFor waits until a condition holds.
func (t *testCluster) waitFor(what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within a minute; executions %q", what, t.list())
		}
	}
}

// newTask returns a due task of a collector.
func newTask(collectorName string) state.Task {
	return state.Task{ID: uuid.NewString(), Tenancy: "acme", Collector: collectorName, Streams: []string{collectorName + "_users"}, Trigger: "schedule",
		Schedule: "@hourly", Tick: time.Now().Truncate(time.Millisecond), State: state.TaskDue}
}

// An execution is an ExecuteTask in progress.
type execution struct {
	task    state.Task
	results []run.Result
	ended   bool
	done    chan struct{}
}

// begin records tasks of collectors and has them executed.
func (t *testService) begin(ctx context.Context, collectors ...string) (all []*execution) {
	t.Helper()
	for _, name := range collectors {
		e := &execution{task: newTask(name), done: make(chan struct{})}
		t.require(t.Record(t.Context(), []state.Task{e.task}))
		go func() {
			defer close(e.done)
			e.results, e.ended = t.ExecuteTask(ctx, e.task)
		}()
		all = append(all, e)
	}
	return all
}

// outcome waits for the end and returns the outcome of the first stream.
func (t *testService) outcome(e *execution) (state.Outcome, error) {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(time.Minute):
		t.Fatalf("the task of %s has not ended", e.task.Collector)
	}
	if !e.ended || len(e.results) == 0 {
		return "", fmt.Errorf("ended %v, %d results", e.ended, len(e.results))
	}
	return e.results[0].Outcome, e.results[0].Err
}

// assertOutcome waits for the end of an execution and checks its outcome.
func (t *testService) assertOutcome(e *execution, want state.Outcome) {
	t.Helper()
	if got, err := t.outcome(e); got != want {
		t.Errorf("%s: outcome %q, want %q: %v", e.task.Collector, got, want, err)
	}
}

// Tasks go to the services by their capacity, and the leader has the results.
func TestTasksAreShared(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	b := c.join("b", 2)
	hold := make(chan struct{})
	wait := func(_ context.Context, task state.Task) []run.Result {
		<-hold
		return resultsOf(task, state.Success, nil)
	}
	a.execute, b.execute = wait, wait
	a.lead()
	all := a.begin(t.Context(), "okta", "snyk", "tenable", "knowbe4")
	c.waitFor("three tasks run", func() bool { return len(c.list()) == 3 })
	if n := <-a.slots; n != 3 {
		t.Errorf("capacity %d, want 3", n)
	}
	c.waitFor("the progress is seen", func() bool {
		if b.Follow(t.Context()) != nil {
			return false
		}
		n := 0
		for _, task := range b.View().Tasks {
			if p := ReadProgress(task, zap.NewNop()); len(p) == 1 && p[0].Progress.Records == 7 {
				n++
			}
		}
		return n == 3
	})
	close(hold)
	for _, e := range all {
		a.assertOutcome(e, state.Success)
	}
	load := map[string]int{}
	for _, execution := range c.list()[:3] {
		load[execution[:1]]++
	}
	if load["a"] != 1 || load["b"] != 2 {
		t.Errorf("the first three run on %v, want 1 on a and 2 on b", load)
	}
}

// Collectors with one credential run in one service, also a while later.
func TestCredentialStaysInOneService(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	credentials := func(_ *testService, o *Options) {
		o.Credentials = func(_, name string) []string {
			if name == "snyk" {
				return []string{"other"}
			}
			return []string{"one"}
		}
	}
	a, b := c.join("a", 2, credentials), c.join("b", 2, credentials)
	hold := make(chan struct{})
	b.execute = func(_ context.Context, task state.Task) []run.Result {
		<-hold
		return resultsOf(task, state.Success, nil)
	}
	a.execute = b.execute
	a.lead()
	first := a.begin(t.Context(), "tenable")
	c.waitFor("the first runs", func() bool { return len(c.list()) == 1 })
	more := a.begin(t.Context(), "tenable_was", "tenable_cs")
	c.waitFor("all run", func() bool { return len(c.list()) == 3 })
	close(hold)
	for _, e := range append(first, more...) {
		a.assertOutcome(e, state.Success)
	}
	a.assertOutcome(a.begin(t.Context(), "tenable_later")[0], state.Success)
	nodes := map[string]bool{}
	for _, execution := range c.list() {
		nodes[execution[:1]] = true
	}
	if len(nodes) != 1 {
		t.Errorf("executions %q, want all in one service", c.list())
	}
}

// A service that stops returns its tasks, which others run at once; this is no attempt.
func TestStopReturnsTasks(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	b := c.join("b", 4)
	b.execute = untilCancelled
	a.lead()
	all := a.begin(t.Context(), "okta")
	more := a.begin(t.Context(), "snyk", "tenable")
	c.waitFor("all run", func() bool { return len(c.list()) == 3 })
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	b.Stop(stopped)
	for _, e := range append(all, more...) {
		a.assertOutcome(e, state.Success)
		if task := c.read(a, e.task.ID); task.Attempt != 1 || task.State != state.TaskDone {
			t.Errorf("%+v", task)
		}
	}
}

// A service that has lost the lock of a stream, and is the task's still, returns it.
func TestLostLockReturnsTask(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	lost := true
	a.execute = func(_ context.Context, task state.Task) []run.Result {
		if lost {
			lost = false
			return resultsOf(task, state.Failed, fmt.Errorf("record the run: %w", state.ErrLost))
		}
		return resultsOf(task, state.Success, nil)
	}
	a.lead()
	e := a.begin(t.Context(), "okta")[0]
	a.assertOutcome(e, state.Success)
	if task := c.read(a, e.task.ID); task.Takes != 2 || len(c.list()) != 2 {
		t.Errorf("%+v, executions %q", task, c.list())
	}
}

// read returns a task.
func (t *testCluster) read(s *testService, id string) state.Task {
	t.Helper()
	all, err := s.tasks.Read(t.Context(), []string{id})
	t.require(err)
	i := slices.IndexFunc(all, func(task state.Task) bool { return task.ID == id })
	if i < 0 {
		t.Fatalf("the task %s is missing", id)
	}
	return all[i]
}

// A new leader continues the tasks of the one before: those that run, and those that wait.
func TestNewLeaderContinues(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	b := c.join("b", 1)
	hold := make(chan struct{})
	b.execute = func(_ context.Context, task state.Task) []run.Result {
		<-hold
		return resultsOf(task, state.Success, nil)
	}
	a.execute = b.execute
	a.lead()
	ctx, cancel := context.WithCancel(t.Context())
	all := a.begin(ctx, "okta", "snyk", "tenable")
	c.waitFor("two run", func() bool { return len(c.list()) == 2 })
	a.resign()
	cancel()
	for _, e := range all {
		<-e.done
		if e.ended {
			t.Errorf("%s ended for the leader that resigned", e.task.Collector)
		}
	}
	b.lead()
	open, err := b.Unfinished(t.Context(), "acme")
	if err != nil || len(open) != 3 {
		t.Fatalf("unfinished %+v, %v", open, err)
	}
	var again []*execution
	for _, task := range open {
		e := &execution{task: task, done: make(chan struct{})}
		go func() {
			defer close(e.done)
			e.results, e.ended = b.ExecuteTask(t.Context(), task)
		}()
		again = append(again, e)
	}
	close(hold)
	for _, e := range again {
		b.assertOutcome(e, state.Success)
	}
	if n := len(c.list()); n != 3 {
		t.Errorf("%d executions, want 3: %q", n, c.list())
	}
}

// A person cancels tasks: one that runs, and one that waits.
func TestCancel(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	a.execute = untilCancelled
	a.lead()
	first := a.begin(t.Context(), "okta")
	c.waitFor("the first runs", func() bool { return len(c.list()) == 1 })
	second := newTask("okta")
	second.Schedule = "@daily"
	a.require(a.Record(t.Context(), []state.Task{second}))
	n, err := a.tasks.Cancel(t.Context(), "acme", "okta", "a person asked for it")
	if n != 2 || err != nil {
		t.Errorf("cancelled %d, %v", n, err)
	}
	got, err := a.outcome(first[0])
	if got != state.Cancelled || err == nil || err.Error() != "cancelled: a person asked for it" {
		t.Errorf("outcome %q, %v", got, err)
	}
	c.waitFor("the second has ended", func() bool { return c.read(a, second.ID).State == state.TaskFailed })
	if n := len(c.list()); n != 1 {
		t.Errorf("executions %q", c.list())
	}
}

// While all are paused, the leader knows.
func TestPauseIsSeen(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 3)
	a.lead()
	c.waitFor("capacity", func() bool { return <-a.slots == 3 })
	a.require(a.State.Pause(t.Context(), "a person"))
	c.waitFor("pause", func() bool { return <-a.slots == -1 })
	if a.View().Pause.By != "a person" {
		t.Errorf("view %+v", a.View())
	}
	a.require(a.State.Resume(t.Context()))
	c.waitFor("resumed", func() bool { return <-a.slots == 3 })
}

// A service with other settings gets no tasks, and shows this.
func TestOtherSettings(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	b := c.join("b", 8)
	b.require(b.Describe(t.Context(), shared.NodeInfo{Version: "1", Settings: "other", Capacity: 8}))
	a.lead()
	for _, e := range a.begin(t.Context(), "okta", "snyk", "tenable") {
		a.assertOutcome(e, state.Success)
	}
	for _, execution := range c.list() {
		if execution[:1] != "a" {
			t.Errorf("executions %q", c.list())
		}
	}
}

// A task that a failover has lost, or whose tick another leader has recorded, ends without results.
func TestLostTask(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	a.lead()
	results, ended := a.ExecuteTask(t.Context(), newTask("okta"))
	if !ended || len(results) > 0 || len(c.list()) > 0 {
		t.Errorf("ended %v, results %v, executions %q", ended, results, c.list())
	}
}

// What waits for a tenancy that has ended is no one's, and ends.
func TestTaskOfUnknownTenancy(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	a.lead()
	task := newTask("okta")
	task.Tenancy = "gone"
	a.require(a.Record(t.Context(), []state.Task{task}))
	c.waitFor("the end", func() bool { return c.read(a, task.ID).State == state.TaskFailed })
}

// A request of a person in another process reaches the scheduler of the leader, once.
func TestRequest(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	requests := make(chan state.Task, 10)
	a := c.join("a", 1, func(s *testService, o *Options) {
		o.Requested = func(task state.Task) bool {
			requests <- task
			if task.Collector == "unknown" {
				return false
			}
			go s.ExecuteTask(context.Background(), task)
			return true
		}
	})
	b := c.join("b", 1)
	a.lead()
	wanted, unknown := newTask("okta"), newTask("unknown")
	wanted.Schedule, unknown.Schedule = "", ""
	b.require(b.Request(t.Context(), wanted))
	b.require(b.Request(t.Context(), unknown))
	c.waitFor("the run", func() bool { return c.read(b, wanted.ID).State == state.TaskDone })
	c.waitFor("the refusal", func() bool { return c.read(b, unknown.ID).State == state.TaskFailed })
	if len(requests) != 2 {
		t.Errorf("%d calls of Requested, want 2", len(requests))
	}
}

// When the disk of a machine is full, another one collects the vendor's data, also while the
// credential was last used on the first one. When all are full, the run fails.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	shareCredential := func(_ *testService, o *Options) {
		o.Credentials = func(string, string) []string { return []string{"one"} }
	}
	a, b := c.join("a", 1, shareCredential), c.join("b", 1, shareCredential)
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	var firstFull sync.Once
	for _, s := range []*testService{a, b} {
		isFull := false
		s.execute = func(_ context.Context, task state.Task) []run.Result {
			firstFull.Do(func() { isFull = true })
			if isFull || task.Collector == "snyk" {
				return resultsOf(task, state.Failed, full)
			}
			return resultsOf(task, state.Success, nil)
		}
	}
	a.lead()
	c.waitFor("both are known", func() bool { return b.Follow(t.Context()) == nil && a.hasOthers() && b.hasOthers() })
	e := a.begin(t.Context(), "okta")[0]
	a.assertOutcome(e, state.Success)
	if task := c.read(a, e.task.ID); task.Attempt != 1 || task.Takes != 2 {
		t.Errorf("%+v", task)
	}
	e = a.begin(t.Context(), "snyk")[0]
	if got, err := a.outcome(e); got != state.Failed || err == nil || err.Error() != full.Error() {
		t.Errorf("outcome %q, error %v, want %v", got, err, full)
	}
}

// A service without another one does not repeat a run for which its disk has no space.
func TestFullDiskAlone(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	a.execute = func(_ context.Context, task state.Task) []run.Result {
		return resultsOf(task, state.Failed, syscall.ENOSPC)
	}
	a.lead()
	a.assertOutcome(a.begin(t.Context(), "okta")[0], state.Failed)
	if n := len(c.list()); n != 1 {
		t.Errorf("%d executions, want 1", n)
	}
}

// Jobs of River do not stay, not even those of a service that died before it fetched them, nor
// its queue.
func TestJobsAreRemoved(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t)
	a := c.join("a", 1)
	river := `"` + c.schema + `".river_`
	count := func(what string) (n int) {
		c.require(a.State.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM `+river+what).Scan(&n))
		return n
	}
	for _, statement := range []string{
		`INSERT INTO ` + river + `queue (name, metadata, created_at, updated_at) VALUES ('dead', '{}', now(), now() - interval '25 hours')`,
		`INSERT INTO ` + river + `job (kind, queue, args, max_attempts, created_at) VALUES ('collectord_task', 'dead', '{}', 1, now() - interval '61 minutes'),
			('collectord_task', 'dead', '{}', 1, now() - interval '50 minutes')`,
	} {
		_, err := a.State.DB().ExecContext(t.Context(), statement)
		c.require(err)
	}
	a.lead()
	c.waitFor("the old job is removed", func() bool { return count(`job`) == 1 })
	c.waitFor("the old queue is removed", func() bool { return count(`queue`) == 1 })
}
