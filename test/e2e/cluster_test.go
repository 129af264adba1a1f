package e2e_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/test/harness"
)

// A clusterNode is a machine whose service shares a state with others. It has a network of its
// own to each Postgres server of the state.
type clusterNode struct {
	*sharedState
	networks []*faultproxy.Proxy
	service  *harness.Service // nil before start
	base     string           // the URL of its HTTP server, after startServing
}

// newNode returns another machine with the settings of a workspace and the given name, which
// connects to the Postgres servers of the state at the given addresses.
func (s *sharedState) newNode(t *testing.T, name string, servers ...string) *clusterNode {
	t.Helper()
	n := &clusterNode{sharedState: s.onOtherMachine(t)}
	var addresses []string
	for _, server := range servers {
		network, err := faultproxy.New("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { network.Close() })
		n.networks, addresses = append(n.networks, network), append(addresses, network.Addr())
	}
	n.Env["CLUSTER_NODE"] = name
	n.Env["CLUSTER_POSTGRES_URL"] = testserver.ReadWriteURL(testserver.Owner, testserver.Password, addresses...)
	return n
}

// start starts the service of the machine.
func (c *clusterNode) start() {
	c.Helper()
	c.service = c.StartService()
}

// startServing starts the service of the machine, and waits until it serves HTTP.
func (c *clusterNode) startServing() {
	c.Helper()
	c.start()
	c.base = c.service.BaseURL()
}

// kill ends the service with SIGKILL, if it has not ended.
func (c *clusterNode) kill() {
	c.Helper()
	_ = c.service.Process().Signal(syscall.SIGKILL) // it may have ended
	c.service.Wait()
}

// stop stops the service like a machine that sleeps, and resume ends that.
func (c *clusterNode) stop()   { c.Helper(); c.service.Signal(syscall.SIGSTOP) }
func (c *clusterNode) resume() { c.Helper(); c.service.Signal(syscall.SIGCONT) }

// terminate ends the service in good order, if it has not ended, and returns its result.
func (c *clusterNode) terminate() harness.Result {
	c.Helper()
	_ = c.service.Process().Signal(syscall.SIGTERM) // it may have ended
	return c.service.Wait()
}

// endWell ends the service in good order. It may have ended before, because a busy machine did not
// let it say that it is alive.
func (c *clusterNode) endWell() {
	c.Helper()
	if r := c.terminate(); r.Code != harness.ExitLocked {
		c.AssertResult(r, harness.ExitOK)
	}
}

// partition cuts the machine off from the database, without the end of a connection: packets
// do not arrive, in both directions. rejoin ends that.
func (c *clusterNode) partition() {
	for _, network := range c.networks {
		network.Partition()
	}
}

func (c *clusterNode) rejoin() {
	for _, network := range c.networks {
		network.Heal()
	}
}

// startIfEnded starts the service again if it has ended, as systemd does.
func (c *clusterNode) startIfEnded() {
	c.Helper()
	if c.service.HasEnded() {
		c.service.Wait()
		c.start()
	}
}

// useSlowUsers makes each run take about half a second, so that faults often hit one.
func (s *sharedState) useSlowUsers(t *testing.T) {
	t.Helper()
	slow, err := vendorsim.Start(vendorsim.Options{Vendors: []vendorsim.Vendor{vendorsim.NewOkta()}, Latency: 50 * time.Millisecond,
		Counts: map[string]int{vendorsim.OktaUsers: s.users}, PageLimits: map[string]int{vendorsim.OktaUsers: 3},
		Limits: map[string]vendorsim.LimitNumbers{"okta": {Max: 1e6}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slow.Close)
	s.UseVendors(slow)
}

// newCluster returns a state whose users are collected each second and stored in Postgres, and
// two machines for it that have started. The first is the active one.
func newCluster(t *testing.T, s *sharedState, servers ...string) [2]*clusterNode {
	t.Helper()
	s.useSlowUsers(t)
	s.Env["SCHEDULE"], s.Env["STORE_POSTGRES_URL"], s.Env["STORE_POSTGRES_SCHEMA"] = "@every 1s", s.storeURL, s.schema
	s.Env["SHUTDOWN_GRACE"] = "1s"
	nodes := [2]*clusterNode{s.newNode(t, "node-a", servers...), s.newNode(t, "node-b", servers...)}
	nodes[0].start()
	nodes[0].service.WaitForLog(`"ready"`)
	nodes[1].start()
	nodes[1].service.WaitForLog("another service leads")
	return nodes
}

// The packets of the active service do not arrive any more: another one takes over when its
// lease has ended, and it gives up its work by itself.
func TestSharedStateBlackHole(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	nodes := newCluster(t, s, testserver.StartPostgres(t).Address())
	nodes[0].service.WaitForLog(`"run starts"`)
	nodes[0].partition()
	began := time.Now()
	nodes[1].service.WaitForLog("this process leads now")
	t.Logf("taken over after %v", time.Since(began))
	if nodes[0].service.HasEnded() {
		t.Error("taken over only when the first one had given up")
	}
	s.AssertResult(nodes[0].service.Wait(), harness.ExitLocked)
	t.Logf("ended after %v", time.Since(began))
	nodes[0].rejoin()
	nodes[1].service.WaitForLog(`"stored"`)
	nodes[1].endWell()
	s.AssertResult(s.Run("--once"), harness.ExitOK)
	s.assertNothingLost(t)
}

// A service that is stopped while its packets do not arrive ends in time, and does not wait for
// the database as it does otherwise.
func TestStopInBlackHole(t *testing.T) {
	t.Parallel()
	s := newSharedState(t)
	s.Env["CLUSTER_LEASE"] = "1m"
	n := s.newNode(t, "node-a", testserver.StartPostgres(t).Address())
	n.Env["SHUTDOWN_GRACE"] = "1s"
	n.useSlowUsers(t)
	n.start()
	n.service.WaitForLog(`"run starts"`)
	n.partition()
	began := time.Now()
	time.Sleep(2 * time.Second) // the extraction ends
	n.terminate()
	// The read of a response alone would take half a minute, and transactions are repeated.
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it ended after %v", took)
	} else {
		t.Logf("it ended after %v", took)
	}
}

// The primary of the database dies while two services run, and its standby is promoted: both go
// on. With a synchronous standby nothing is lost; with another one the last runs are, whose data
// was delivered.
func TestSharedStateFailover(t *testing.T) {
	t.Parallel()
	for name, synchronous := range map[string]bool{"synchronous": true, "asynchronous": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pair := newSharedState(t), testserver.StartPostgresPair(t)
			s.url = pair.FailoverURL(testserver.Owner, testserver.Password)
			s.Env["CLUSTER_POSTGRES_URL"] = s.url
			nodes := newCluster(t, s, pair.Primary.Address(), pair.Standby.Address())
			if synchronous {
				pair.SetSynchronous(t)
			}
			nodes[0].service.WaitForLog(`"stored"`)
			if !synchronous {
				pair.HoldReplication(t)
				nodes[0].service.WaitForLog(`"stored"`)
			}
			nodes[0].service.WaitForLog(`"run starts"`)
			pair.FailOver(t)
			s.waitForSuccess(t)
			for _, n := range nodes {
				n.startIfEnded()
			}
			for _, n := range nodes {
				n.terminate()
			}
			time.Sleep(1500 * time.Millisecond) // for leases of which the database has lost the end
			s.AssertResult(s.Run("--once"), harness.ExitOK)
			s.losesRuns = !synchronous
			s.assertNothingLost(t)
		})
	}
}

// waitForSuccess waits until a run has ended as success that has not begun yet.
func (s *sharedState) waitForSuccess(t *testing.T) {
	t.Helper()
	conn := s.connect(t, s.url)
	began := time.Now()
	query := fmt.Sprintf(`SELECT upload_id FROM runs WHERE outcome = 'success' AND started > %d`, began.UnixMilli())
	for time.Since(began) < time.Minute {
		if len(s.texts(conn, query)) > 0 {
			t.Logf("a run succeeded %v after the promotion", time.Since(began))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("no run has succeeded for a minute")
}
