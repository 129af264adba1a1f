package e2e_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

var sharedKills = flag.Int("shared-kills", 4, "how often TestSharedStateKilled kills one of two services")

var sharedPartitions = flag.Int("shared-partitions", 2, "how often TestSharedStatePartitioned cuts off one of two services")

// randomFaults returns the random numbers of a test, and logs how to repeat it.
func randomFaults(t *testing.T, what string, count int) *rand.Rand {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d %s, -seed %d", count, what, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// upTo3s returns a random duration.
func upTo3s(random *rand.Rand) time.Duration {
	return time.Duration(random.Int64N(int64(3 * time.Second)))
}

// TestSharedStateKilled kills one of two services with SIGKILL, or stops it for longer than its
// lease, at random times while the one that is active collects each second and delivers to
// Postgres. Afterwards each successful run must be in the table exactly once, nothing else may
// be there, and no object may be without a row that is not garbage of a killed run.
func TestSharedStateKilled(t *testing.T) {
	t.Parallel()
	random := randomFaults(t, "kills", *sharedKills)
	s := newSharedState(t)
	nodes := newCluster(t, s, testserver.StartPostgres(t).Address())
	for range *sharedKills {
		n := nodes[random.IntN(2)]
		time.Sleep(upTo3s(random))
		if random.IntN(4) == 0 {
			n.stop()
			time.Sleep(upTo3s(random))
			n.resume()
			// One that has lost the service ends, so that it is started again.
			time.Sleep(2 * time.Second)
		}
		n.kill()
		n.start()
	}
	s.endCluster(t, nodes)
}

// TestSharedStatePartitioned cuts one of two services off from the database at random times, for
// less and for more than its lease. Afterwards the same holds as after kills.
func TestSharedStatePartitioned(t *testing.T) {
	t.Parallel()
	random := randomFaults(t, "partitions", *sharedPartitions)
	s := newSharedState(t)
	nodes := newCluster(t, s, testserver.StartPostgres(t).Address())
	for range *sharedPartitions {
		n := nodes[random.IntN(2)]
		time.Sleep(upTo3s(random))
		n.partition()
		time.Sleep(upTo3s(random))
		n.rejoin()
		time.Sleep(2 * time.Second) // one that has lost the service ends
		for _, n := range nodes {
			n.startIfEnded()
		}
	}
	s.endCluster(t, nodes)
}

// endCluster ends both services in good order, and compares what they have left.
func (s *sharedState) endCluster(t *testing.T, nodes [2]*clusterNode) {
	t.Helper()
	for _, n := range nodes {
		_ = n.service.Process().Signal(syscall.SIGTERM) // both at once
	}
	for _, n := range nodes {
		n.service.Wait()
	}
	time.Sleep(1500 * time.Millisecond) // for leases of killed processes
	s.AssertResult(s.Run("--once"), harness.ExitOK)
	s.assertNothingLost(t)
}

// connect connects to a Postgres server until the end of the test. Tables are those of the
// schema.
func (s *sharedState) connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "SET search_path = "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// assertNothingLost compares the history with the table and the bucket.
func (s *sharedState) assertNothingLost(t *testing.T) {
	t.Helper()
	conn := s.connect(t, s.url)
	successes := s.texts(conn, `SELECT upload_id FROM runs WHERE outcome = 'success'`)
	rows := map[string]int{}
	for _, line := range s.texts(s.connect(t, s.storeURL), `SELECT json_data->>'_upload_id' FROM okta_users`) {
		rows[line]++
	}
	for _, id := range successes {
		if rows[id] != s.users {
			t.Errorf("the run %s has %d rows, want %d", id, rows[id], s.users)
		}
		delete(rows, id)
	}
	for id, n := range rows {
		if !s.losesRuns || n != s.users {
			t.Errorf("%d rows of the run %s, which is no success", n, id)
		}
	}
	for what, query := range map[string]string{
		"queued deliveries":     `SELECT id::text FROM deliveries`,
		"runs without an end":   `SELECT id::text FROM runs WHERE outcome = ''`,
		"runs that failed":      `SELECT error FROM runs WHERE outcome IN ('failed', 'timeout') AND NOT ` + strconv.FormatBool(s.losesRuns),
		"snapshots not in need": `SELECT dir FROM snapshots WHERE id NOT IN (SELECT snapshot FROM last_known)`,
	} {
		if found := s.texts(conn, query); len(found) > 0 {
			t.Errorf("%s: %s", what, strings.Join(found, "\n"))
		}
	}
	last := s.texts(conn, `SELECT upload_id FROM snapshots`)
	if content := s.Content(s.object("data/okta_users.json")); len(last) != 1 || strings.Count(content, last[0]) != s.users {
		t.Errorf("the object is not that of the last-known snapshot %q", last)
	}
	t.Logf("%d successful runs, outcomes: %v", len(successes), s.texts(conn, `SELECT outcome || ' ' || count(*) FROM runs GROUP BY outcome`))
}

// texts returns the first column of a query.
func (s *sharedState) texts(conn *pgx.Conn, query string) []string {
	s.Helper()
	rows, err := conn.Query(s.Context(), query)
	if err != nil {
		s.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.Fatal(err)
	}
	return all
}

// A state directory becomes a shared state: nothing of it is lost.
func TestSharedStateImport(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	shared := map[string]string{}
	for _, name := range []string{"CLUSTER_POSTGRES_URL", "CLUSTER_SCHEMA", "CLUSTER_LEASE"} {
		shared[name] = s.Env[name]
		delete(s.Env, name)
	}
	s.Env["STORE_FILE"] = "off"
	s.AssertResult(s.Run("--once"), harness.ExitOK)
	before := s.Run("query", "--format", "csv", "SELECT * FROM okta_users ORDER BY id")
	for name, value := range shared {
		s.Env[name] = value
	}
	s.AssertResult(s.Run("tenancy", "import", s.Env["STATE_DIR"]), harness.ExitOK, vendorsim.OktaUsers)
	s.AssertResult(s.Run("status"), harness.ExitOK, vendorsim.OktaUsers, "collected")
	after := s.Run("query", "--format", "csv", "SELECT * FROM okta_users ORDER BY id")
	if before.Code != harness.ExitOK || after.Stdout != before.Stdout {
		t.Errorf("before, code %d:\n%.300s\nafter, code %d:\n%.300s%s", before.Code, before.Stdout, after.Code, after.Stdout, after.Stderr)
	}
}
