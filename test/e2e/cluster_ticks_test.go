package e2e_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

var (
	clusterKills      = flag.Int("cluster-kills", 5, "how often TestClusterTicks kills one of three services")
	clusterStops      = flag.Int("cluster-stops", 1, "how often TestClusterTicks stops one of three services for longer than its lease")
	clusterPartitions = flag.Int("cluster-partitions", 1, "how often TestClusterTicks cuts one of three services off from the database")
)

// clusterLease is the CLUSTER_LEASE of the tests with three services.
const clusterLease = 2 * time.Second

// useClusterVendors simulates and returns four vendors whose runs take some hundred milliseconds.
func (s *sharedState) useClusterVendors(t *testing.T) *vendorsim.Server {
	t.Helper()
	plenty := vendorsim.LimitNumbers{Max: 1 << 30}
	tenable := vendorsim.NewTenable()
	sim, err := vendorsim.Start(vendorsim.Options{
		Vendors: []vendorsim.Vendor{vendorsim.NewOkta(), vendorsim.NewCrowdStrike(), vendorsim.NewSnyk(), tenable}, Latency: 20 * time.Millisecond,
		Counts: map[string]int{
			vendorsim.OktaUsers: s.users, vendorsim.CrowdStrikeHosts: 20, vendorsim.CrowdStrikeVulns: 20, vendorsim.CrowdStrikeZTA: 20,
			vendorsim.SnykOrganizations: 2, vendorsim.SnykIssues: 10, vendorsim.TenableVulns: 20, vendorsim.TenableAssets: 20, vendorsim.TenableFindings: 20,
		},
		PageLimits: map[string]int{vendorsim.OktaUsers: 3},
		Limits:     map[string]vendorsim.LimitNumbers{"okta": plenty, "crowdstrike_token": plenty, "crowdstrike": plenty, "snyk-minute": plenty},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	for _, stream := range []string{vendorsim.TenableVulns, vendorsim.TenableAssets, vendorsim.TenableFindings} {
		tenable.ConfigureStream(stream, func(s *vendorsim.TenableStream) { s.QueuedPolls, s.GrowPolls, s.ChunkRecords = -1, 0, 30 })
	}
	s.UseVendors(sim)
	return sim
}

// newServices returns a state that three services share, which have started.
func newServices(t *testing.T, schedule string) (*sharedState, []*clusterNode) {
	t.Helper()
	return newServicesAt(t, schedule, testserver.StartPostgres(t).Address())
}

// newServicesAt is newServices with another address of the database.
func newServicesAt(t *testing.T, schedule, address string) (*sharedState, []*clusterNode) {
	t.Helper()
	s := newSharedState(t)
	return s, s.startServices(t, schedule, address)
}

// startServices starts three services that share the state. Each has a network of its own to the
// database at the address.
func (s *sharedState) startServices(t *testing.T, schedule, address string) []*clusterNode {
	t.Helper()
	s.useClusterVendors(t)
	for name, value := range map[string]string{
		"SCHEDULE": schedule, "SCHEDULE_CATCHUP": "false", "CLUSTER_LEASE": clusterLease.String(), "SHUTDOWN_GRACE": "1s",
		"STORE_POSTGRES_URL": s.storeURL, "STORE_POSTGRES_SCHEMA": s.schema, "COLLECTORS": "okta,crowdstrike,snyk_issues,tenable_vulnerabilities,tenable_assets",
	} {
		s.Env[name] = value
	}
	var nodes []*clusterNode
	for _, name := range []string{"node-a", "node-b", "node-c"} {
		n := s.newNode(t, name, address)
		n.start()
		if nodes = append(nodes, n); len(nodes) == 1 {
			n.service.WaitForLog(`"ready"`) // the tables are there
		}
	}
	return nodes
}

// TestClusterTicks disturbs three services that share the runs of four vendors, at random: kills,
// stops for longer than the lease, partitions from the database. Every tick has exactly one task,
// every snapshot that was committed is in every destination once, and the newest is the last.
func TestClusterTicks(t *testing.T) {
	t.Parallel()
	faults := *clusterKills + *clusterStops + *clusterPartitions
	random := randomFaults(t, "faults", faults)
	s, nodes := newServices(t, "@every 2s")
	kinds := make([]func(*clusterNode, *rand.Rand), 0, faults)
	for range *clusterKills {
		kinds = append(kinds, (*clusterNode).killAndStart)
	}
	for range *clusterStops {
		kinds = append(kinds, (*clusterNode).stopForLong)
	}
	for range *clusterPartitions {
		kinds = append(kinds, (*clusterNode).partitionForLong)
	}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	nodes[0].waitForTasks("done", 1)
	for _, disturb := range kinds {
		time.Sleep(upTo3s(random))
		disturb(nodes[random.IntN(len(nodes))], random)
		for _, n := range nodes {
			n.startIfEnded()
		}
	}
	nodes[0].waitForTasks("done", nodes[0].countTasks("done")+4) // all works again
	s.endServices(t, nodes)
	s.assertEachTickOnce(t, 2*time.Second)
	s.assertAllStored(t)
}

func (c *clusterNode) killAndStart(*rand.Rand) {
	c.Helper()
	c.kill()
	c.start()
}

func (c *clusterNode) stopForLong(random *rand.Rand) {
	c.Helper()
	c.stop()
	time.Sleep(clusterLease + upTo3s(random))
	c.resume()
}

func (c *clusterNode) partitionForLong(random *rand.Rand) {
	c.Helper()
	c.partition()
	time.Sleep(clusterLease + upTo3s(random))
	c.rejoin()
}

// countTasks returns the number of tasks in a state.
func (c *clusterNode) countTasks(in string) int {
	c.Helper()
	return len(c.tasks(`SELECT id FROM tasks WHERE state = '` + in + `'`))
}

// tasks returns the first column of a query.
func (c *clusterNode) tasks(query string) []string {
	c.Helper()
	conn, err := pgx.Connect(c.Context(), c.url)
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close(c.Context())
	if _, err := conn.Exec(c.Context(), "SET search_path = "+pgx.Identifier{c.schema}.Sanitize()); err != nil {
		c.Fatal(err)
	}
	return c.texts(conn, query)
}

// waitForTasks waits until n tasks are in a state.
func (c *clusterNode) waitForTasks(in string, n int) {
	c.Helper()
	for limit := time.Now().Add(2 * time.Minute); c.countTasks(in) < n; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(limit) {
			c.Fatalf("%d tasks are %s, want %d: %q", c.countTasks(in), in, n, c.tasks(`SELECT tasks::text FROM tasks ORDER BY tick DESC LIMIT 10`))
		}
	}
}

// endServices ends the services: two at once, and the last when it has nothing to do any more.
func (s *sharedState) endServices(t *testing.T, nodes []*clusterNode) {
	t.Helper()
	for _, n := range nodes[1:] {
		n.terminate()
	}
	nodes[0].Env["SHUTDOWN_GRACE"] = "30s"
	nodes[0].startIfEnded()
	nodes[0].waitForTasks("done", nodes[0].countTasks("done")+4)
	nodes[0].terminate()
	time.Sleep(clusterLease + time.Second) // for leases of killed processes
	s.Env["SCHEDULE"] = "off"
	s.AssertResult(s.Run("deliver"), harness.ExitOK)
}

// assertEachTickOnce checks that the ticks of each collector have no gaps, and that each has one
// task, which has ended unless it is the newest.
func (s *sharedState) assertEachTickOnce(t *testing.T, interval time.Duration) {
	t.Helper()
	conn := s.connect(t, s.url)
	for what, query := range map[string]string{
		"gaps": fmt.Sprintf(`SELECT collector || ' ' || tick FROM (SELECT collector, tick, lag(tick) OVER (PARTITION BY collector, schedule ORDER BY tick) AS before
			FROM tasks WHERE schedule <> '') t WHERE tick - before <> %d`, interval.Milliseconds()),
		"ticks with several tasks": `SELECT collector || ' ' || tick FROM tasks WHERE schedule <> '' GROUP BY collector, schedule, tick HAVING count(*) > 1`,
		"tasks without an end": `SELECT t::text FROM tasks t WHERE state IN ('requested', 'due', 'running')
			AND EXISTS (SELECT 1 FROM tasks n WHERE n.collector = t.collector AND n.schedule = t.schedule AND n.tick > t.tick)`,
		"streams with more successes than tasks": `SELECT r.stream || ' ' || count(*) FROM runs r WHERE r.outcome = 'success' GROUP BY r.collector, r.stream
			HAVING count(*) > (SELECT count(*) FROM tasks t WHERE t.collector = r.collector AND t.state IN ('done', 'failed', 'running', 'due'))`,
		"tasks that failed for another reason": `SELECT t::text FROM tasks t WHERE state = 'failed' AND reason NOT LIKE '%died%' AND reason NOT LIKE '%lost%' AND reason NOT LIKE '%interrupted%'`,
	} {
		if found := s.texts(conn, query); len(found) > 0 {
			t.Errorf("%s: %s", what, strings.Join(found, "\n"))
		}
	}
	t.Logf("tasks: %v; on nodes: %v; attempts: %v", s.texts(conn, `SELECT state || ' ' || count(*) FROM tasks GROUP BY state`),
		s.texts(conn, `SELECT count(*)::text FROM tasks WHERE state = 'done' GROUP BY node`), s.texts(conn, `SELECT attempt || ': ' || count(*) FROM tasks GROUP BY attempt`))
}

// assertAllStored checks that each successful run is in Postgres once, with all of its records, that
// nothing else is there, and that the objects are those of the last-known snapshots.
func (s *sharedState) assertAllStored(t *testing.T) {
	t.Helper()
	conn, stored := s.connect(t, s.url), s.connect(t, s.storeURL)
	streams := s.texts(conn, `SELECT DISTINCT stream FROM runs WHERE outcome = 'success'`)
	if len(streams) < 6 {
		t.Errorf("only the streams %q were collected", streams)
	}
	for _, stream := range streams {
		rows := map[string]bool{}
		for _, line := range s.texts(stored, `SELECT json_data->>'_upload_id' || ' ' || count(*) FROM `+stream+` GROUP BY json_data->>'_upload_id'`) {
			rows[line] = true
		}
		successes := s.texts(conn, `SELECT upload_id || ' ' || records FROM runs WHERE outcome = 'success' AND stream = '`+stream+`'`)
		for _, line := range successes {
			if !rows[line] {
				t.Errorf("%s: the run %s is not in the table", stream, line)
			}
			delete(rows, line)
		}
		if len(rows) > 0 {
			t.Errorf("%s: rows that are of no successful run, or not as many as it has: %v", stream, rows)
		}
		last := s.texts(conn, `SELECT s.upload_id FROM last_known l JOIN snapshots s ON s.id = l.snapshot WHERE l.stream = '`+stream+`'`)
		newest := s.texts(conn, `SELECT upload_id FROM runs WHERE outcome = 'success' AND stream = '`+stream+`' ORDER BY ended DESC LIMIT 1`)
		content := s.Content(s.object("data/" + stream + ".json"))
		if len(last) != 1 || len(newest) != 1 || last[0] != newest[0] || !strings.Contains(content, last[0]) || strings.Count(content, `"_upload_id"`) != strings.Count(content, last[0]) {
			t.Errorf("%s: the last-known snapshot is %q, the newest run %q, and the object has %d records of it among %d", stream, last, newest,
				strings.Count(content, last[0]), strings.Count(content, `"_upload_id"`))
		}
		t.Logf("%s: %d successful runs", stream, len(successes))
	}
	for what, query := range map[string]string{
		"queued deliveries":   `SELECT id::text FROM deliveries`,
		"runs without an end": `SELECT id::text FROM runs r WHERE outcome = '' AND EXISTS (SELECT 1 FROM runs n WHERE n.stream = r.stream AND n.id > r.id)`,
		"runs that failed":    `SELECT stream || ': ' || error FROM runs WHERE outcome IN ('failed', 'timeout') AND error NOT LIKE '%lock was lost%'`,
	} {
		if found := s.texts(conn, query); len(found) > 0 {
			t.Errorf("%s: %s", what, strings.Join(found, "\n"))
		}
	}
}
