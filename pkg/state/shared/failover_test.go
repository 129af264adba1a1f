package shared

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// newFailoverPlace returns a place whose database is a pair of servers.
func newFailoverPlace(t *testing.T) (place, *testserver.PostgresPair) {
	t.Helper()
	p, pair := newTestPlace(t), testserver.StartPostgresPair(t)
	p.URL = pair.FailoverURL(testserver.Quick, "")
	return p, pair
}

// A state that is open when the primary dies goes on with the standby: a run is committed, and
// no lock is lost, when the standby has all transactions.
func TestFailover(t *testing.T) {
	t.Parallel()
	p, pair := newFailoverPlace(t)
	p.Lease = 2 * time.Second
	pair.SetSynchronous(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	lock := a.lockUsers()
	id, w := a.beginUsers(1)
	waitUntil(t, "the other node is steady", b.isSteady)
	pair.Primary.Crash()
	committed := make(chan error, 1)
	go func() { committed <- a.commitUsers(id, w) }()
	waitUntil(t, "a beat has failed", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.began.IsZero() })
	pair.Promote(t)
	promoted := time.Now()
	a.RequireNoError(<-committed)
	t.Logf("committed %v after the promotion", time.Since(promoted))
	waitUntil(t, "both nodes are steady again", func() bool {
		if lock, err := b.Locks.LockStream("okta_users", "acme"); err == nil {
			t.Fatal("the lock of a living node was taken over", lock.Unlock())
		}
		return a.isSteady() && b.isSteady()
	})
	assertHeld(t, lock)
	statetest.AssertEqual(t, "last on the other node", b.LastKnown(), "id-001/2/collected")
	a.RequireNoError(lock.Unlock())
	b.CollectUsers(2, 3, statetest.TwoSinks)
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-002/3/collected")
	for _, n := range []testNode{a, b} {
		if open := n.engine.db.Stats().OpenConnections; open > maxConnections {
			t.Errorf("%d connections, want at most %d", open, maxConnections)
		}
	}
}

// assertHeld checks that a lock was not declared lost.
func assertHeld(t *testing.T, lock state.Lock) {
	t.Helper()
	select {
	case <-lock.Lost():
		t.Error("the lock was lost")
	default:
	}
}

// What an asynchronous standby does not have is lost: the last-known snapshot is the one before,
// a run that began then cannot be recorded, and its lock counts as lost.
func TestFailoverLosesTransactions(t *testing.T) {
	t.Parallel()
	p, pair := newFailoverPlace(t)
	a := p.openNode(t, "node-a")
	a.CollectUsers(1, 2, statetest.TwoSinks)
	pair.HoldReplication(t)
	late := p.openNode(t, "node-b") // its row is lost
	a.CollectUsers(2, 3, statetest.TwoSinks)
	lock, lateLock := a.lockUsers(), late.lockUsersOf("globex")
	id, w := a.beginUsers(3)
	pair.FailOver(t)
	if err := a.commitUsers(id, w); !errors.Is(err, state.ErrLost) {
		t.Errorf("commit: error %v, want ErrLost", err)
	}
	<-lock.Lost()
	<-lateLock.Lost()
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-001/2/collected")
	a.RequireNoError(errors.Join(lock.Unlock(), lateLock.Unlock()))
	waitUntil(t, "the lost node is registered again", func() bool {
		return len(a.QueryTexts(`SELECT name FROM `+a.engine.name("nodes")+` WHERE name = 'node-b'`)) == 1
	})
	late.CollectUsers(4, 5, statetest.TwoSinks)
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-004/5/collected")
	a.files().EmptyTrash()
	late.RemoveGarbage()
	late.CheckStored()
}

// The row of a run is lost, but not the lock: the run is no success, and the history has it as
// a failure. No other run is ended in its place that has its number.
func TestLostRun(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]string{
		"deleted":  `DELETE FROM runs`,
		"replaced": `UPDATE runs SET stream = 'okta_groups', upload_id = 'another'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTestPlace(t).openNode(t, "node-a")
			lock := a.lockUsers()
			id, w := a.beginUsers(1)
			_, err := a.engine.tables(a.engine.db).ExecContext(t.Context(), replace)
			a.RequireNoError(err)
			if err := a.commitUsers(id, w); !errors.Is(err, state.ErrLost) {
				t.Errorf("commit: error %v, want ErrLost", err)
			}
			statetest.AssertEqual(t, "last", a.LastKnown(), "none")
			a.RequireNoError(a.Runs.Fail(t.Context(), id, state.Failed, errors.New("lost"), state.RunStats{}))
			runs, err := a.Runs.List(t.Context(), "okta_users", 10)
			a.RequireNoError(err)
			if len(runs) != 1 || runs[0].Outcome != state.Failed || runs[0].Err != "lost" {
				t.Errorf("the history has %+v, want the failed run", runs)
			}
			others := strings.Join(a.QueryTexts(`SELECT upload_id || outcome FROM runs WHERE stream = 'okta_groups'`), " ")
			if want := map[string]string{"replaced": "another"}[name]; others != want {
				t.Errorf("other runs: %q, want %q", others, want)
			}
			a.RequireNoError(lock.Unlock())
		})
	}
}

// After a failover that lost beats, the locks of living nodes look as if these had died. A node
// that notices it takes nothing over before they could say that they are alive.
func TestNoTakeOverAfterLostBeats(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	lock := a.lockUsers()
	waitUntil(t, "the other node is steady", b.isSteady)
	a.stopBeats()
	b.stopBeats()
	for name, statement := range map[string]string{
		"older":   `UPDATE ` + a.engine.name("nodes") + ` SET expires = expires - interval '1 hour'`,
		"missing": `DELETE FROM ` + a.engine.name("nodes"),
	} {
		_, err := a.engine.db.ExecContext(t.Context(), statement)
		a.RequireNoError(err)
		lost := time.Now()
		b.RequireNoError(b.beat(t.Context()))
		if b.began.Before(lost) {
			t.Errorf("%s: the node still counts its beats from %v before", name, lost.Sub(b.began))
		}
	}
	a.RequireNoError(errors.Join(a.start(t.Context()), b.start(t.Context())))
	assertHeld(t, lock)
	a.RequireNoError(lock.Unlock())
}

// The first server of the URL does not respond, as a machine that is off: each connection is
// made to the other one, within the time of a beat.
func TestServerThatIsOff(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.URL = testserver.ReadWriteURL(testserver.Quick, "", proxy.Addr(), testserver.StartPostgres(t).Address())
	p.Limits = &testLimits{Response: time.Second, Lock: time.Second, Idle: time.Second, Command: time.Second}
	p.Lease = 4 * time.Second
	a := p.openNode(t, "node-a")
	lock := a.lockUsers()
	proxy.Partition()
	id, w := a.beginUsers(1)
	waitUntil(t, "a beat has succeeded", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !a.began.IsZero()
	})
	a.RequireNoError(a.commitUsers(id, w))
	a.engine.db.SetMaxIdleConns(0) // each statement has a new connection
	for range 5 {
		a.RequireNoError(a.beat(t.Context()))
	}
	assertHeld(t, lock)
	a.RequireNoError(lock.Unlock())
}

// A primary that refuses to write keeps its connections: they are not used again.
func TestPrimaryThatRefusesToWrite(t *testing.T) {
	t.Parallel()
	p, pair := newFailoverPlace(t)
	a := p.openNode(t, "node-a")
	a.CollectUsers(1, 2, statetest.TwoSinks)
	pair.Promote(t)
	pair.Primary.RefuseWrites(t)
	a.CollectUsers(2, 3, statetest.TwoSinks)
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-002/3/collected")
}

// A primary that comes back as a standby receives nothing, although the URL names it first.
func TestOldPrimaryComesBack(t *testing.T) {
	t.Parallel()
	p, pair := newFailoverPlace(t)
	a := p.openNode(t, "node-a")
	pair.FailOver(t)
	a.CollectUsers(1, 2, statetest.TwoSinks)
	pair.Primary.StartAsStandby(t)
	b := p.openNode(t, "node-b")
	b.CollectUsers(2, 3, statetest.TwoSinks)
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-002/3/collected")
}

// After Interrupt nothing waits for a database that does not respond.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.Lease = time.Minute
	a := p.openNode(t, "node-a")
	a.lockUsers()
	id, w := a.beginUsers(1)
	proxy.Partition()
	committed := make(chan error, 1)
	go func() { committed <- a.commitUsers(id, w) }()
	select {
	case err := <-committed:
		t.Fatalf("the commit has ended without the database: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	began := time.Now()
	a.Interrupt()
	if err := <-committed; !errors.Is(err, errInterrupted) {
		t.Errorf("commit: error %v, want %v", err, errInterrupted)
	}
	a.RequireNoError(a.Close())
	if took := time.Since(began); took > defaultLimits.response/2 {
		t.Errorf("it took %v", took)
	}
}

// A synchronous standby that does not respond holds up commits. No connections pile up in the
// primary, and all goes on with the standby.
func TestSynchronousStandbyThatIsOff(t *testing.T) {
	t.Parallel()
	p, pair := newFailoverPlace(t)
	p.Limits = &testLimits{Response: time.Second, Lock: 500 * time.Millisecond, Idle: time.Second, Command: 200 * time.Millisecond}
	pair.SetSynchronous(t)
	a := p.openNode(t, "node-a")
	lock := a.lockUsers()
	id, w := a.beginUsers(1)
	pair.Standby.Crash()
	committed := make(chan error, 1)
	go func() { committed <- a.commitUsers(id, w) }()
	time.Sleep(4 * time.Second)
	select {
	case err := <-committed:
		t.Fatalf("the commit has ended without the standby: %v", err)
	default:
	}
	if n := pair.Primary.CountConnections(t); n > 2*maxConnections {
		t.Errorf("%d connections after %d beats without the standby", n, 4*int(time.Second/p.Lease)*4)
	}
	if err := pair.Standby.Start(); err != nil {
		t.Fatal(err)
	}
	a.RequireNoError(<-committed)
	a.RequireNoError(lock.Unlock())
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-001/2/collected")
}
