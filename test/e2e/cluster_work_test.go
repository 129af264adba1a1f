package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// loadedMachine is what the tests allow for a machine that does much else.
const loadedMachine = 5 * time.Second

// tokenOfOperator is the HTTP_TOKEN of the tests with services that share runs.
const tokenOfOperator = "token-of-the-operator"

// A gate holds the requests to a vendor until it is opened.
type gate struct {
	*vendorsim.Injection
	open func()
}

// newGate returns the closed gate of a vendor, which opens at the end of the test.
func newGate(t *testing.T, host *vendorsim.Host) gate {
	t.Helper()
	opened := make(chan struct{})
	hold := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-opened:
				next.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		})
	}
	g := gate{host.Inject(vendorsim.Fault{Times: vendorsim.Forever, Do: hold}), sync.OnceFunc(func() { close(opened) })}
	t.Cleanup(g.open)
	return g
}

// A workCluster is services that share a state and collect what they are asked for, from vendors
// with gates.
type workCluster struct {
	*sharedState
	conn  *pgx.Conn
	nodes []*clusterNode // node-a, which leads, node-b and so on
	gates map[string]gate
}

// newClusterWork returns n services that have started, with the changes that configure makes to
// their settings.
func newClusterWork(t *testing.T, n int, configure func(s *sharedState)) *workCluster {
	t.Helper()
	w := &workCluster{sharedState: newSharedState(t), gates: map[string]gate{}}
	w.Env["SCHEDULE"], w.Env["SCHEDULE_CATCHUP"], w.Env["CLUSTER_LEASE"] = "off", "false", clusterLease.String()
	w.Env["STORE_POSTGRES_URL"], w.Env["STORE_POSTGRES_SCHEMA"], w.Env["HTTP_TOKEN"] = w.storeURL, w.schema, tokenOfOperator
	configure(w.sharedState)
	for i := range n {
		node := w.newNode(t, fmt.Sprintf("node-%c", 'a'+i), testserver.StartPostgres(t).Address())
		node.startServing()
		if w.nodes = append(w.nodes, node); i == 0 {
			node.service.WaitForLog(`"ready"`)
		}
	}
	w.conn = w.connect(t, w.url)
	w.waitUntil("all services are ready for tasks", func() bool {
		return len(w.texts(w.conn, `SELECT id FROM nodes WHERE capacity > 0`)) == n
	})
	time.Sleep(clusterLease / 2) // the leader knows them
	return w
}

// newHeldWork returns n services with SHUTDOWN_GRACE that have the runs of collectors: one after the other, the first on
// node-a and so on. The vendors do not respond before their gates are opened.
func newHeldWork(t *testing.T, n int, grace string, collectors ...string) *workCluster {
	t.Helper()
	var sim *vendorsim.Server
	w := newClusterWork(t, n, func(s *sharedState) {
		s.Env["SHUTDOWN_GRACE"], s.Env["COLLECTORS"] = grace, "okta,crowdstrike_hosts,snyk_issues,tenable_assets"
		sim = s.useClusterVendors(t)
	})
	for _, name := range collectors {
		w.gates[name] = newGate(t, sim.Host(name))
	}
	for i, name := range collectors {
		w.requireRun(w.nodes[0], name, http.StatusAccepted)
		w.waitForTask(name, fmt.Sprintf("node-%c running 1 1", 'a'+i%n))
		w.waitUntil("the vendor "+name+" is asked", func() bool { return w.gates[name].Hits() > 0 })
	}
	return w
}

// waitUntil waits until a condition holds, and returns how long that took.
func (w *workCluster) waitUntil(what string, holds func() bool) time.Duration {
	w.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > harness.HangLimit {
			w.Fatalf("not after %v: %s; tasks: %q", harness.HangLimit, what, w.texts(w.conn, `SELECT tasks::text FROM tasks ORDER BY tick DESC LIMIT 10`))
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

// task returns the node, the state, the attempt and the number of takes of a collector's newest task.
func (w *workCluster) task(collector string) string {
	w.Helper()
	rows := w.texts(w.conn, `SELECT coalesce(n.name, '-') || ' ' || t.state || ' ' || t.attempt || ' ' || t.takes FROM tasks t LEFT JOIN nodes n ON n.id = t.node
		WHERE t.collector = '`+collector+`' ORDER BY t.tick DESC, t.id LIMIT 1`)
	return strings.Join(rows, "")
}

// waitForTask waits until task returns want.
func (w *workCluster) waitForTask(collector, want string) {
	w.Helper()
	got := ""
	w.waitUntil(collector+": "+want, func() bool {
		got = w.task(collector)
		return got == want
	})
}

// requireTask checks what task returns.
func (w *workCluster) requireTask(collector, want string) {
	w.Helper()
	if got := w.task(collector); got != want {
		w.Errorf("the task of %s: %s, want %s", collector, got, want)
	}
}

// requireRun asks a service for a run of a collector, and checks the status of the response.
func (w *workCluster) requireRun(n *clusterNode, collector string, want int) {
	w.Helper()
	if status, body := n.service.Request("POST", n.base+"/api/v1/collectors/"+collector+"/run", tokenOfOperator); status != want {
		w.Errorf("run of %s: %d %s, want %d", collector, status, body, want)
	}
}

// openGates opens the gates, and waits until the tasks of all vendors are done.
func (w *workCluster) openGates() {
	w.Helper()
	for name, g := range w.gates {
		g.open()
		w.waitUntil(name+" is done", func() bool { return strings.Contains(w.task(name), " done ") })
	}
}

// terminateAll ends the services that have not ended, and checks that they end in good order.
func (w *workCluster) terminateAll() {
	w.Helper()
	for _, n := range w.nodes {
		if !n.service.HasEnded() {
			n.endWell()
		}
	}
}

// requireOnce checks that a stream has one successful run among others, that its records are in the
// table once, and that it is the last-known snapshot.
func (w *workCluster) requireOnce(stream string) {
	w.Helper()
	w.waitUntil(stream+" is stored", func() bool { return len(w.texts(w.conn, `SELECT id::text FROM deliveries`)) == 0 })
	success := w.texts(w.conn, `SELECT upload_id || ' ' || records FROM runs WHERE outcome = 'success' AND stream = '`+stream+`'`)
	stored := w.texts(w.conn, `SELECT json_data->>'_upload_id' || ' ' || count(*) FROM `+stream+` GROUP BY json_data->>'_upload_id'`)
	known := w.texts(w.conn, `SELECT s.upload_id || ' ' || s.records FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = '`+stream+`'`)
	if len(success) != 1 || fmt.Sprint(success) != fmt.Sprint(stored) || fmt.Sprint(success) != fmt.Sprint(known) {
		w.Errorf("%s: successful runs %q, stored %q, last-known %q; want one, the same", stream, success, stored, known)
	}
}

// A service is killed, or stopped like a machine that sleeps, in the middle of a run. Another one
// executes the task soon after its lease. Runs of others go on.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		victim int
		signal syscall.Signal
		heir   string
	}{
		"follower killed":  {1, syscall.SIGKILL, "node-a"},
		"follower stopped": {1, syscall.SIGSTOP, "node-a"},
		"leader killed":    {0, syscall.SIGKILL, "node-b"},
		"leader stopped":   {0, syscall.SIGSTOP, "node-b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collectors := []string{"crowdstrike", "okta", "snyk"}
			w := newHeldWork(t, 3, "1s", collectors...)
			victim, lost, other := w.nodes[c.victim], collectors[c.victim], collectors[1-c.victim]
			began := time.Now()
			victim.service.Signal(c.signal)
			w.waitForTask(lost, c.heir+" running 2 2")
			took := time.Since(began)
			if t.Logf("taken over after %v", took); took > 2*clusterLease+loadedMachine {
				t.Errorf("taken over after %v, want at most twice the lease, %v", took, clusterLease)
			}
			w.requireTask(other, w.nodes[1-c.victim].Env["CLUSTER_NODE"]+" running 1 1")
			w.requireTask("snyk", "node-c running 1 1")
			switch {
			case c.signal == syscall.SIGKILL:
				victim.service.Wait()
			case c.victim == 0:
				victim.resume()
				w.AssertResult(victim.service.Wait(), harness.ExitLocked)
			default:
				victim.resume()
				victim.service.WaitForLog("the results of a task do not count", `"collector":"`+lost)
			}
			w.openGates()
			w.requireTask(lost, c.heir+" done 2 2")
			for _, stream := range []string{"crowdstrike_hosts", "okta_users", "snyk_issues"} {
				w.requireOnce(stream)
			}
			w.terminateAll()
		})
	}
}

// A commitPoint is where a commit waits while the test has a lock in the database.
type commitPoint struct {
	lock string
	// isReached is a query that has a row when the commit waits there.
	isReached string
	// extractions counts those of the stream when the service is killed there.
	extractions int
}

// waiting is a query for the processes of the server that wait for the lock of the test.
const waiting = `SELECT pid::text FROM pg_stat_activity WHERE (SELECT pid FROM pg_stat_activity WHERE application_name = 'holder of %S') = ANY (pg_blocking_pids(pid))`

var commitPoints = map[string]commitPoint{
	"sealed":     {`SELECT pg_advisory_xact_lock(hashtextextended('collectord state %S', 0))`, waiting, 2},
	"committing": {`SELECT id FROM runs WHERE stream = 'okta_users' AND outcome = '' FOR UPDATE`, waiting, 2},
	"committed":  {`SELECT id FROM tasks WHERE collector = 'okta' FOR UPDATE`, `SELECT id::text FROM runs WHERE stream = 'okta_users' AND outcome = 'success'`, 1},
}

// holdCommit lets the run of okta go on up to a point of its commit, calls there, and then lets the
// commit go on.
func (w *workCluster) holdCommit(p commitPoint, there func()) {
	w.Helper()
	holder := w.connect(w.T, w.url)
	w.execute(holder, `SET application_name = 'holder of `+w.schema+`'`)
	w.execute(holder, `BEGIN`)
	w.execute(holder, strings.ReplaceAll(p.lock, "%S", w.schema))
	w.gates["okta"].open()
	w.waitUntil("the commit waits", func() bool { return len(w.texts(w.conn, strings.ReplaceAll(p.isReached, "%S", w.schema))) > 0 })
	there()
	w.execute(holder, `ROLLBACK`)
}

// execute executes a statement.
func (w *workCluster) execute(conn *pgx.Conn, statement string) {
	w.Helper()
	if _, err := conn.Exec(w.Context(), statement); err != nil {
		w.Fatalf("%s: %v", statement, err)
	}
}

// A service is killed after it has sealed a snapshot, in the transaction that records it, and before
// it has recorded the end of the task. Another one completes the task, and collects again only if
// nothing was recorded.
func TestKilledAtCommit(t *testing.T) {
	t.Parallel()
	for name, point := range commitPoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHeldWork(t, 3, "1s", "crowdstrike", "okta")
			w.holdCommit(point, w.nodes[1].kill)
			began := time.Now()
			w.waitForTask("okta", "node-c done 2 2")
			if took := time.Since(began); took > 2*clusterLease+loadedMachine {
				t.Errorf("done after %v, want at most twice the lease, %v", took, clusterLease)
			}
			w.requireOnce("okta_users")
			if n := len(w.texts(w.conn, `SELECT id::text FROM runs WHERE stream = 'okta_users'`)); n != point.extractions {
				t.Errorf("%d extractions, want %d", n, point.extractions)
			}
			w.openGates()
			w.terminateAll()
		})
	}
}

// A service is stopped between sealing and commit for longer than twice its lease, and another one
// executes the task meanwhile. What the first one sealed is refused when it goes on.
func TestFencedCommit(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sealed", "committing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newHeldWork(t, 3, "1s", "crowdstrike", "okta")
			stopped := w.nodes[1]
			w.holdCommit(commitPoints[name], stopped.stop)
			began := time.Now()
			w.waitForTask("okta", "node-c done 2 2")
			w.requireOnce("okta_users")
			time.Sleep(2*clusterLease + time.Second - time.Since(began))
			stopped.resume()
			stopped.service.WaitForLog("the results of a task do not count", `"collector":"okta"`)
			w.requireOnce("okta_users")
			w.requireTask("okta", "node-c done 2 2")
			w.openGates()
			w.terminateAll()
		})
	}
}

// A service is stopped by a signal while it has several runs. The others have them soon after
// SHUTDOWN_GRACE, and this is no attempt. Runs of others go on.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		victim int
		grace  time.Duration
	}{
		"follower": {1, 0}, "follower with grace": {1, time.Second}, "leader": {0, 0}, "leader with grace": {0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collectors := []string{"crowdstrike", "okta", "snyk", "tenable"}
			w := newHeldWork(t, 2, c.grace.String(), collectors...)
			heir := w.nodes[1-c.victim].Env["CLUSTER_NODE"]
			began := time.Now()
			w.nodes[c.victim].service.Signal(syscall.SIGTERM)
			for _, i := range []int{c.victim, c.victim + 2} {
				w.waitForTask(collectors[i], heir+" running 1 2")
				w.requireTask(collectors[1-c.victim], heir+" running 1 1")
			}
			took := time.Since(began)
			if t.Logf("taken over after %v", took); took > c.grace+2*time.Second+loadedMachine || took < c.grace {
				t.Errorf("taken over after %v, want %v and at most 2 seconds", took, c.grace)
			}
			w.AssertResult(w.nodes[c.victim].service.Wait(), harness.ExitOK)
			w.openGates()
			for i, name := range collectors {
				w.requireTask(name, fmt.Sprintf("%s done 1 %d", heir, 1+(i+1-c.victim+2)%2))
			}
			for _, stream := range []string{"crowdstrike_hosts", "okta_users", "snyk_issues", "tenable_assets"} {
				w.requireOnce(stream)
			}
			w.terminateAll()
		})
	}
}

// A person asks a service that does not lead for a run.
func TestRunNowOnFollower(t *testing.T) {
	t.Parallel()
	w := newHeldWork(t, 2, "1s", "crowdstrike")
	okta := w.nodes[1]
	w.requireRun(okta, "okta", http.StatusAccepted)
	w.requireRun(okta, "okta", http.StatusConflict)
	w.requireRun(okta, "crowdstrike", http.StatusConflict)
	w.requireRun(w.nodes[0], "crowdstrike", http.StatusConflict)
	w.requireRun(okta, "none", http.StatusNotFound)
	w.waitForTask("okta", "node-b done 1 1")
	w.waitUntil("the follower knows", func() bool {
		status, _ := okta.service.Request("POST", okta.base+"/api/v1/streams/okta_users/run", tokenOfOperator)
		return status == http.StatusAccepted
	})
	w.waitUntil("both runs are done", func() bool {
		return len(w.texts(w.conn, `SELECT id FROM tasks WHERE collector = 'okta' AND state = 'done'`)) == 2
	})
	for query, want := range map[string]string{
		`SELECT cause || ' ' || state FROM tasks WHERE collector = 'okta'`:        "[manual done manual done]",
		`SELECT cause || ' ' || outcome FROM runs WHERE stream = 'okta_users'`:    "[manual success manual success]",
		`SELECT cause || ' ' || state FROM tasks WHERE collector = 'crowdstrike'`: "[manual running]",
	} {
		if got := fmt.Sprint(w.texts(w.conn, query)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	w.openGates()
	w.terminateAll()
}

// The service that leads is killed during an export of Tenable. Another one continues the same job.
func TestExportContinuesElsewhere(t *testing.T) {
	t.Parallel()
	vendor := harness.NewSmallTenable()
	sim := harness.StartVendors(t, harness.SmallCounts, vendor)
	w := newClusterWork(t, 2, func(s *sharedState) {
		s.UseVendors(sim)
		s.Env["COLLECTORS"], s.Env["TIO_PARALLEL"] = "tenable_vulnerabilities", "1"
	})
	fault, requested := hangChunk(sim)
	w.requireRun(w.nodes[0], "tenable", http.StatusAccepted)
	<-requested // chunk 1 has been received
	w.nodes[0].kill()
	fault.Remove()
	w.waitForTask("tenable", "node-b done 2 2")
	w.requireOnce("tenable_vulnerabilities")
	jobs := vendor.Jobs(vendorsim.TenableVulns)
	if len(jobs) != 1 || jobs[0].Reads[1] != 2 || jobs[0].Reads[4] != 1 {
		t.Errorf("export jobs %+v, want one whose chunk 1 was read twice", jobs)
	}
	w.terminateAll()
}

// A stream fails in one service, and recovers in another one, while three lead one after the other.
// There is one message about each.
func TestToldOnce(t *testing.T) {
	t.Parallel()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: 30}, vendorsim.NewOkta())
	url, bodies := startWebhook(t)
	w := newClusterWork(t, 3, func(s *sharedState) {
		s.UseVendors(sim)
		s.Env["COLLECTORS"], s.Env["NOTIFY_URLS"] = "okta", "generic+"+url
	})
	a, b, c := w.nodes[0], w.nodes[1], w.nodes[2]
	w.requireRun(a, "okta", http.StatusAccepted)
	w.waitForTask("okta", "node-a done 1 1")
	fault := refuseCredentials(sim)
	w.requireRun(a, "okta", http.StatusAccepted)
	w.waitForTask("okta", "node-a failed 1 1")
	w.waitUntil("the problem is noted", func() bool {
		return len(w.texts(w.conn, `SELECT text FROM notes WHERE key LIKE 'notif%' AND text LIKE '%okta_users%'`)) > 0
	})
	a.kill() // before it tells it
	b.service.WaitForLog("this process leads now")
	assertNotified(w.Workspace, bodies, "okta_users failed", "401")
	w.requireRun(c, "okta", http.StatusAccepted) // fails again
	w.waitUntil("it has failed twice", func() bool { return len(w.texts(w.conn, `SELECT id FROM tasks WHERE state = 'failed'`)) == 2 })
	b.endWell()
	c.service.WaitForLog("this process leads now")
	c.service.WaitForLog(`"ready"`)
	fault.Remove()
	w.requireRun(c, "okta", http.StatusAccepted)
	w.waitForTask("okta", "node-c done 1 1")
	assertNotified(w.Workspace, bodies, "okta_users works again: 30 records")
	c.endWell() // which sends what is left
	if len(bodies) > 0 {
		t.Errorf("unexpected notification: %s", <-bodies)
	}
}

// useTenancies makes the services work for the tenancies of a directory, which it returns.
func (s *sharedState) useTenancies(t *testing.T) *tenancies {
	t.Helper()
	for name := range s.Env {
		if prefix, _, _ := strings.Cut(name, "_"); slices.Contains([]string{"OKTA", "FALCON", "SNYK", "TIO"}, prefix) {
			delete(s.Env, name)
		}
	}
	all := newTenancies(t)
	s.Env["TENANCIES_DIR"], s.Env["STORE_AWS_S3_KEY"] = all.dir, "data/%TENANCY/%TAG.json"
	delete(s.Env, "SCHEDULE")
	return all
}

// oktaOf returns the settings of a tenancy with a number of users that are collected each second,
// and the vendor.
func oktaOf(t *testing.T, users int) []string {
	t.Helper()
	sim := harness.StartVendors(t, map[string]int{vendorsim.OktaUsers: users}, vendorsim.NewOkta())
	return append(sim.Hosts()[0].Env(), "COLLECTORS=okta", "SCHEDULE=@every 1s")
}

// Collectors of two tenancies have a credential in common: one service alone uses it, also after
// another one leads.
func TestOneCredentialOneService(t *testing.T) {
	t.Parallel()
	var dir *tenancies
	var held gate
	w := newClusterWork(t, 3, func(s *sharedState) {
		sim := s.useClusterVendors(t)
		dir = s.useTenancies(t)
		held = newGate(t, sim.Host("crowdstrike"))
		dir.write("held", append(sim.Host("crowdstrike").Env(), "COLLECTORS=crowdstrike_hosts", "SCHEDULE=@every 1s")...)
	})
	w.waitForTenancy("held", "running", 1) // on node-a
	same := oktaOf(t, 30)
	dir.write("one", same...)
	dir.write("two", same...)
	for _, n := range w.nodes {
		n.service.Signal(syscall.SIGHUP)
	}
	w.waitForTenancy("one", "done", 2)
	w.waitForTenancy("two", "done", 2)
	w.nodes[0].endWell()
	w.waitUntil("the held run is elsewhere", func() bool {
		return len(w.texts(w.conn, `SELECT id FROM tasks WHERE tenancy = 'held' AND takes = 2`)) > 0
	})
	w.waitForTenancy("one", "done", w.countOf("one", "done")+3)
	w.waitForTenancy("two", "done", w.countOf("two", "done")+3)
	if used := w.texts(w.conn, `SELECT DISTINCT node FROM tasks WHERE collector = 'okta' AND node <> ''`); len(used) != 1 {
		t.Errorf("the credential was used by %d services: %q", len(used), w.texts(w.conn, `SELECT node || ' ' || tenancy || ' ' || started FROM tasks WHERE collector = 'okta' AND node <> '' ORDER BY started`))
	}
	held.open()
	w.terminateAll()
}

// countOf returns the number of tasks of a tenancy in a state.
func (w *workCluster) countOf(tenancy, in string) int {
	w.Helper()
	return len(w.texts(w.conn, `SELECT id FROM tasks WHERE tenancy = '`+tenancy+`' AND state = '`+in+`'`))
}

// waitForTenancy waits until n tasks of a tenancy are in a state.
func (w *workCluster) waitForTenancy(tenancy, in string, n int) {
	w.Helper()
	w.waitUntil(fmt.Sprintf("%d tasks of %s are %s", n, tenancy, in), func() bool { return w.countOf(tenancy, in) >= n })
}

// Five tenancies share three services: long runs of one do not keep the others from theirs, each has
// its own data, and a reload of all services ends and adds tenancies. A service with other settings
// has no tasks until it is reloaded.
func TestClusterTenancies(t *testing.T) {
	t.Parallel()
	var dir *tenancies
	users := map[string]int{"globex": 11, "hooli": 12, "initech": 13, "umbrella": 14}
	w := newClusterWork(t, 3, func(s *sharedState) {
		dir = s.useTenancies(t)
		s.Env["MAX_PARALLEL_RUNS"] = "1"
		for tenancy, n := range users {
			dir.write(tenancy, oktaOf(t, n)...)
		}
		dir.write("acme", slowLines(t)...)
	})
	for tenancy := range users {
		w.waitForTenancy(tenancy, "done", 3)
	}
	w.waitForTenancy("acme", "done", 2)
	if n := w.countOf("acme", "done"); n > 8 {
		t.Errorf("the others have waited until %d long runs were done", n)
	}
	a, b, c := w.nodes[0], w.nodes[1], w.nodes[2]
	reload := func(nodes ...*clusterNode) {
		for _, n := range nodes {
			n.service.Signal(syscall.SIGHUP)
		}
	}

	dir.remove("umbrella")
	reload(a, b, c)
	for _, n := range w.nodes {
		n.service.WaitForLog("the tenancy has ended", `"tenancy":"umbrella"`)
	}
	w.waitUntil("the tasks of the tenancy that was removed have ended", func() bool {
		return len(w.texts(w.conn, `SELECT state FROM tasks WHERE tenancy = 'umbrella' AND state IN ('requested', 'due', 'running')`)) == 0
	})
	ended := w.texts(w.conn, `SELECT count(*)::text || ' ' || max(tick) FROM tasks WHERE tenancy = 'umbrella'`)

	dir.write("vandelay", oktaOf(t, 15)...)
	users["vandelay"] = 15
	reload(b)
	b.service.WaitForLog("a tenancy begins", `"tenancy":"vandelay"`)
	time.Sleep(clusterLease) // the leader knows, and what b had has ended
	began := w.texts(w.conn, `SELECT clock_timestamp()::text`)[0]
	w.waitForTenancy("hooli", "done", w.countOf("hooli", "done")+2)
	onB := func() []string {
		return w.texts(w.conn, `SELECT tenancy || ' ' || t.assigned FROM tasks t JOIN nodes n ON n.id = t.node WHERE n.name = 'node-b' AND t.assigned > '`+began+`'`)
	}
	if tasks := onB(); len(tasks) > 0 {
		t.Errorf("a service with other settings has tasks: %q", tasks)
	}
	reload(a, c)
	w.waitForTenancy("vandelay", "done", 2)
	c.endWell()
	w.waitUntil("the other follower has tasks again", func() bool { return len(onB()) > 0 })

	if now := w.texts(w.conn, `SELECT count(*)::text || ' ' || max(tick) FROM tasks WHERE tenancy = 'umbrella'`); now[0] != ended[0] {
		t.Errorf("tasks of the tenancy that has ended: %q, before %q", now, ended)
	}
	for tenancy, n := range users {
		got := w.texts(w.conn, `SELECT DISTINCT count(*)::text FROM okta_users WHERE json_data->>'_tenancy' = '`+tenancy+`' GROUP BY json_data->>'_upload_id'`)
		if len(got) != 1 || got[0] != fmt.Sprint(n) {
			t.Errorf("%s has %q records in each snapshot, want %d", tenancy, got, n)
		}
	}
	w.terminateAll()
}

// slowLines returns the settings of a tenancy with three collectors whose runs take seconds.
func slowLines(t *testing.T) (lines []string) {
	t.Helper()
	slow, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewCrowdStrike(), vendorsim.NewSnyk()}, Latency: time.Second,
		Counts: map[string]int{vendorsim.OktaUsers: 400, vendorsim.CrowdStrikeHosts: 20, vendorsim.CrowdStrikeVulns: 20, vendorsim.CrowdStrikeZTA: 20, vendorsim.SnykOrganizations: 2, vendorsim.SnykIssues: 10}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	for _, h := range slow.Hosts() {
		lines = append(lines, h.Env()...)
	}
	return append(lines, "COLLECTORS=okta,crowdstrike_hosts,snyk_issues", "SCHEDULE=@every 1s")
}
