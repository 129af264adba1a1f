package e2e_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

var sharedKills = flag.Int("shared-kills", 4, "how often TestSharedStateKilled kills one of two services")

// A sharedKilling are two services with a shared state that are killed or stopped in turn.
type sharedKilling struct {
	*sharedState
	machines [2]*sharedState
	running  [2]*harness.Service
	random   *rand.Rand
}

// TestSharedStateKilled kills one of two services with SIGKILL, or stops it for longer than its
// lease, at random times while the one that is active collects each second and delivers to
// Postgres. Afterwards each successful run must be in the table exactly once, nothing else may
// be there, and no object may be without a row that is not garbage of a killed run.
func TestSharedStateKilled(t *testing.T) {
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d kills, -seed %d", *sharedKills, seed)
	k := newSharedKilling(t, rand.New(rand.NewPCG(seed, 0)))
	for range *sharedKills {
		k.disturb(k.random.IntN(2))
	}
	k.stopAll()
	k.AssertResult(k.Run("--once"), harness.ExitOK)
	k.assertNothingLost()
}

func newSharedKilling(t *testing.T, random *rand.Rand) *sharedKilling {
	t.Helper()
	k := &sharedKilling{sharedState: newSharedState(t), random: random}
	// Each run takes half a second, so that kills often hit one.
	slow, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta()}, Latency: 50 * time.Millisecond,
		Counts: map[string]int{vendorsim.OktaUsers: k.users}, PageLimits: map[string]int{vendorsim.OktaUsers: 3},
		Limits: map[string]vendorsim.LimitNumbers{"okta": {Max: 1e6}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	k.UseVendors(slow)
	k.Env["SCHEDULE"], k.Env["STORE_POSTGRES_URL"], k.Env["STORE_POSTGRES_SCHEMA"] = "@every 1s", k.url, k.schema
	k.machines = [2]*sharedState{k.sharedState, k.onOtherMachine(t)}
	for i, machine := range k.machines {
		k.running[i] = machine.StartService()
	}
	k.running[0].WaitForLog(`"serving HTTP"`)
	return k
}

// disturb kills a service and starts it again, or stops it for a while.
func (s *sharedKilling) disturb(i int) {
	s.Helper()
	time.Sleep(time.Duration(s.random.Int64N(int64(3 * time.Second))))
	service := s.running[i]
	if s.random.IntN(4) == 0 {
		service.Signal(syscall.SIGSTOP)
		time.Sleep(time.Duration(s.random.Int64N(int64(3 * time.Second))))
		service.Signal(syscall.SIGCONT)
		// One that has lost the service ends, so that it is started again.
		time.Sleep(2 * time.Second)
	}
	_ = service.Process().Signal(syscall.SIGKILL) // it may have ended
	service.Wait()
	s.running[i] = s.machines[i].StartService()
}

// stopAll ends both services in good order.
func (s *sharedKilling) stopAll() {
	s.Helper()
	for _, service := range s.running {
		_ = service.Process().Signal(syscall.SIGTERM)
	}
	for _, service := range s.running {
		service.Wait()
	}
	time.Sleep(1500 * time.Millisecond) // for leases of killed processes
}

// assertNothingLost compares the history with the table and the bucket.
func (s *sharedKilling) assertNothingLost() {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(s.Context())
	if _, err := conn.Exec(s.Context(), "SET search_path = "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
		s.Fatal(err)
	}
	successes := s.texts(conn, `SELECT upload_id FROM runs WHERE outcome = 'success'`)
	rows := map[string]int{}
	for _, line := range s.texts(conn, `SELECT json_data->>'_upload_id' FROM okta_users`) {
		rows[line]++
	}
	for _, id := range successes {
		if rows[id] != s.users {
			s.Errorf("the run %s has %d rows, want %d", id, rows[id], s.users)
		}
		delete(rows, id)
	}
	if len(rows) > 0 {
		s.Errorf("rows of runs that are no success: %v", rows)
	}
	for what, query := range map[string]string{
		"queued deliveries":     `SELECT id::text FROM deliveries`,
		"runs without an end":   `SELECT id::text FROM runs WHERE outcome = ''`,
		"runs that failed":      `SELECT error FROM runs WHERE outcome IN ('failed', 'timeout')`,
		"snapshots not in need": `SELECT dir FROM snapshots WHERE id NOT IN (SELECT snapshot FROM last_known)`,
	} {
		if found := s.texts(conn, query); len(found) > 0 {
			s.Errorf("%s: %s", what, strings.Join(found, "\n"))
		}
	}
	last := s.texts(conn, `SELECT upload_id FROM snapshots`)
	if content := s.Content(s.object("data/okta_users.json")); len(last) != 1 || strings.Count(content, last[0]) != s.users {
		s.Errorf("the object is not that of the last-known snapshot %q", last)
	}
	s.Logf("%d successful runs, outcomes: %v", len(successes), s.texts(conn, `SELECT outcome || ' ' || count(*) FROM runs GROUP BY outcome`))
}

// texts returns the first column of a query.
func (s *sharedKilling) texts(conn *pgx.Conn, query string) []string {
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
