package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/test/harness"
)

// Three services share runs through a connection pooler in transaction mode, which has fewer
// connections than they: nothing is lost when one of them is killed.
func TestClusterThroughPgBouncer(t *testing.T) {
	t.Parallel()
	pooler := testserver.StartPgBouncer(t, testserver.StartPostgres(t), 5)
	s, nodes := newServicesAt(t, "@every 2s", fmt.Sprintf("127.0.0.1:%d", pooler.Port))
	nodes[1].waitForTasks("done", 4)
	nodes[0].kill() // it had all of them, since it was the first to use the credentials
	nodes[1].waitForTasks("done", nodes[1].countTasks("done")+8)
	executing := s.texts(s.connect(t, s.url), `SELECT DISTINCT node FROM tasks WHERE state = 'done'`)
	if len(executing) < 2 {
		t.Errorf("only the services %q have executed tasks", executing)
	}
	s.endServices(t, nodes[1:])
	s.assertEachTickOnce(t, 2*time.Second)
	s.assertAllStored(t)
}

// idleMost is the largest number of statements a second of three services without work, and
// idleMemory the most memory that each has of its own; the kernel shares the pages of the program.
const (
	idleMost   = 5
	idleMemory = 45 << 20
	idleTime   = 10 * time.Second
)

// Three services without work cost the database few statements, and little memory each.
func TestClusterIdleCost(t *testing.T) {
	t.Parallel()
	server := newLoggingPostgres(t)
	s := newSharedState(t)
	s.url = server.URL(testserver.Owner, testserver.Password)
	s.useClusterVendors(t)
	s.Env["SCHEDULE"], s.Env["SCHEDULE_CATCHUP"], s.Env["CLUSTER_LEASE"] = "0 4 1 1 *", "false", "20s"
	program := harness.BuildWithoutRaceDetector(t, "cmd/collectord")
	var nodes []*clusterNode
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		n := s.newNode(t, name, server.Address())
		n.service = n.StartProgram(program)
		n.service.WaitForLog("serving HTTP")
		nodes = append(nodes, n)
	}
	nodes[2].service.WaitForLog("another service leads")
	time.Sleep(5 * time.Second) // the start is over
	before := server.countStatements(t)
	time.Sleep(idleTime)
	total := 0
	counts := server.countStatements(t)
	for _, statement := range sortedKeys(counts) {
		if n := counts[statement] - before[statement]; n > 0 {
			t.Logf("%3d %s", n, statement)
			total += n
		}
	}
	rate := float64(total) / idleTime.Seconds()
	t.Logf("%.1f statements a second", rate)
	if rate == 0 || rate > idleMost {
		t.Errorf("%.1f statements a second, want at most %d", rate, idleMost)
	}
	for _, n := range nodes {
		memory := ownMemory(t, n.service.Process().Pid)
		t.Logf("%d MiB of memory of its own", memory>>20)
		if memory > idleMemory {
			t.Errorf("%d MiB of memory of its own, want at most %d", memory>>20, idleMemory>>20)
		}
	}
}

// sortedKeys returns the keys of counts in their order.
func sortedKeys(counts map[string]int) (keys []string) {
	for key := range counts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// ownMemory returns the anonymous resident memory of a process in bytes.
func ownMemory(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	var kib int64
	if err == nil {
		_, err = fmt.Sscan(rest, &kib)
	}
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// A postgresLog is a Postgres server of its own that logs each statement.
type postgresLog struct{ *testserver.Postgres }

func newLoggingPostgres(t *testing.T) postgresLog {
	t.Helper()
	server, err := testserver.NewPostgres(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Crash)
	p := postgresLog{server}
	p.set(t, "log_statement", "'all'")
	return p
}

// set changes a setting of the server.
func (p postgresLog) set(t *testing.T, name, value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL(testserver.Owner, testserver.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range []string{"SET default_transaction_read_only = off", "ALTER SYSTEM SET " + name + " = " + value, "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// loggedStatement matches the beginning of a statement in the log of the server.
var loggedStatement = regexp.MustCompile(`LOG:  (?:statement|execute [^:]*): (?:-- name: (\S+)|([^\n]{1,80}))`)

// countStatements returns how often each statement was executed, by its beginning.
func (p postgresLog) countStatements(t *testing.T) map[string]int {
	t.Helper()
	log, err := os.ReadFile(p.File("log"))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, found := range loggedStatement.FindAllSubmatch(log, -1) {
		counts[strings.TrimSpace(string(bytes.Join(found[1:], nil)))]++
	}
	return counts
}

// The database accepts no writes for longer than a lease: the services go on afterwards, and no
// tick is lost.
func TestClusterReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	server := newLoggingPostgres(t)
	s := newSharedState(t)
	s.url = server.URL(testserver.Owner, testserver.Password)
	s.Env["CLUSTER_POSTGRES_URL"] = s.url
	nodes := s.startServices(t, "@every 2s", server.Address())
	nodes[0].waitForTasks("done", 4)
	server.set(t, "default_transaction_read_only", "on")
	time.Sleep(clusterLease + 3*time.Second)
	server.set(t, "default_transaction_read_only", "off")
	nodes[0].waitForTasks("done", nodes[0].countTasks("done")+8)
	for _, n := range nodes {
		if n.service.HasEnded() {
			t.Errorf("%s ended: %s", n.Env["CLUSTER_NODE"], n.service.Wait().Output())
		}
	}
	s.endServices(t, nodes)
	s.assertEachTickOnce(t, 2*time.Second)
	s.assertAllStored(t)
}

// A role that may not create the tables of River is refused with the setting and the grant.
func TestClusterWithoutGrant(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	s.AssertResult(s.Run("--once"), harness.ExitOK) // creates the tables of the state
	role, conn := "limited_"+uuid.NewString()[:8], s.connect(t, s.url)
	const secret = "pw-limited-5512"
	for _, statement := range []string{
		`CREATE ROLE ` + role + ` LOGIN PASSWORD '` + secret + `'`, `GRANT USAGE ON SCHEMA ` + s.schema + ` TO ` + role,
		`GRANT ALL ON ALL TABLES IN SCHEMA ` + s.schema + ` TO ` + role, `GRANT ALL ON ALL SEQUENCES IN SCHEMA ` + s.schema + ` TO ` + role,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	s.Env["CLUSTER_POSTGRES_URL"] = testserver.StartPostgres(t).URL(role, secret)
	r := s.StartService().Wait()
	s.AssertResult(r, harness.ExitSettings, "CLUSTER_POSTGRES_URL", "River", "grant the role of CLUSTER_POSTGRES_URL CREATE and USAGE on the schema CLUSTER_SCHEMA")
	if strings.Contains(r.Output(), secret) {
		t.Errorf("the password is shown: %s", r.Output())
	}
}

// Upper case is a part of the name of a schema. What River does not accept is refused.
func TestClusterSchemaNames(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	s.schema = "State_" + uuid.NewString()[:8]
	s.Env["CLUSTER_SCHEMA"] = s.schema
	s.Env["SCHEDULE"], s.Env["SCHEDULE_CATCHUP"] = "@every 1s", "false"
	service := s.StartService()
	service.WaitForLog(`"stored"`)
	service.Signal(syscall.SIGTERM)
	s.AssertResult(service.Wait(), harness.ExitOK)
	for _, name := range []string{`my "schema"`, "my-schema", "it's", "1st", "pg_x", strings.Repeat("x", 47), "größe"} {
		s.Env["CLUSTER_SCHEMA"] = name
		s.AssertResult(s.Run("check"), harness.ExitSettings, "CLUSTER_SCHEMA")
	}
	s.Env["CLUSTER_SCHEMA"] = strings.Repeat("x", 38) + uuid.NewString()[:8]
	service = s.StartService()
	service.WaitForLog(`"stored"`)
	service.Signal(syscall.SIGTERM)
	s.AssertResult(service.Wait(), harness.ExitOK)
}

// A service with another CLUSTER_LEASE executes no tasks, and leads when the others have ended.
func TestClusterLeaseDiffers(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	nodes := s.startServices(t, "@every 2s", testserver.StartPostgres(t).Address())
	other := s.newNode(t, "other", testserver.StartPostgres(t).Address())
	other.Env["CLUSTER_LEASE"] = "3s"
	other.start()
	other.service.WaitForLog("another service leads")
	nodes[0].waitForTasks("done", nodes[0].countTasks("done")+8)
	query := `SELECT t.id FROM tasks t JOIN nodes n ON n.id = t.node WHERE n.name = 'other' AND t.takes > 0`
	if found := nodes[0].tasks(query); len(found) > 0 {
		t.Errorf("the service with another lease has executed %d tasks", len(found))
	}
	for _, n := range nodes {
		n.terminate()
	}
	other.service.WaitForLog("this process leads now")
	n := len(other.tasks(query))
	for len(other.tasks(query)) == n {
		time.Sleep(200 * time.Millisecond)
	}
	s.Env["CLUSTER_LEASE"] = "3s"
	other.terminate()
}

// A run by hand beside three services: each snapshot is stored once.
func TestOnceBesideCluster(t *testing.T) {
	t.Parallel()
	s, nodes := newServicesAt(t, "@every 2s", testserver.StartPostgres(t).Address())
	nodes[0].waitForTasks("done", 4)
	for range 3 {
		r := s.Run("--once")
		if r.Code != harness.ExitOK && r.Code != harness.ExitLocked {
			t.Errorf("--once: exit code %d: %s", r.Code, r.Output())
		}
	}
	if n := len(nodes[0].tasks(`SELECT upload_id FROM runs WHERE outcome = 'success' AND cause = 'once'`)); n == 0 {
		t.Error("--once has collected nothing")
	}
	s.endServices(t, nodes)
	s.assertAllStored(t)
}

// A service whose STATE_DIR cannot be used ends with the name of the setting, before it has a task.
func TestClusterStateDirUnusable(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	nodes := s.startServices(t, "@every 2s", testserver.StartPostgres(t).Address())
	other := s.newNode(t, "other", testserver.StartPostgres(t).Address())
	other.Env["STATE_DIR"] = "/proc/collectord"
	other.start()
	s.AssertResult(other.service.Wait(), harness.ExitFailed, "STATE_DIR", "/proc/collectord")
	nodes[0].waitForTasks("done", nodes[0].countTasks("done")+4)
	if found := nodes[0].tasks(`SELECT id FROM nodes WHERE name = 'other'`); len(found) > 0 {
		t.Errorf("the service that did not start is among the processes: %q", found)
	}
	s.endServices(t, nodes)
	s.assertAllStored(t)
}
