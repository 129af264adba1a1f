package shared

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/statetest"
)

// A testNode is one of several processes that use the same state.
type testNode struct {
	*statetest.Fixture
	*node
}

// openNode opens the state at a place on another machine with the given name.
func (p place) openNode(t *testing.T, name string) testNode {
	t.Helper()
	p.Dir, p.Node = filepath.Join(t.TempDir(), name), name
	f := harness.OpenState(t, p.text(t))
	return testNode{f, f.Backend.(*State).node}
}

// stopBeats lets a node be silent, as one whose process does not run.
func (t testNode) stopBeats() {
	t.end()
	<-t.ended
}

// waitUntil waits until a condition holds.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// lockUsers locks okta_users.
func (t testNode) lockUsers() state.Lock {
	t.T.Helper()
	lock, err := t.Locks.LockStream("okta_users", "acme")
	t.RequireNoError(err)
	return lock
}

// takeUsers locks okta_users when another node has lost it.
func (t testNode) takeUsers() (lock state.Lock) {
	t.T.Helper()
	t.AfterOwnerDied(func() (err error) {
		lock, err = t.Locks.LockStream("okta_users", "acme")
		return err
	})
	return lock
}

// beginUsers begins the nth run of okta_users with two records.
func (t testNode) beginUsers(number int) (state.RunID, *snapshot.Writer) {
	t.T.Helper()
	id := t.BeginRun(number)
	w, err := t.Snapshots.Spool(statetest.NewHeader("okta_users", "acme", number))
	t.RequireNoError(err)
	t.RequireNoError(statetest.FillWriter(w, 2))
	return id, w
}

// commitUsers commits the nth run of okta_users.
func (t testNode) commitUsers(id state.RunID, w *snapshot.Writer) error {
	_, err := t.Runs.Commit(t.T.Context(), id, w, state.RunStats{}, statetest.TwoSinks)
	return err
}

// A lock of one process refuses the others, which see what it has stored.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	lock := a.lockUsers()
	_, err := b.Locks.LockStream("okta_users", "acme")
	if want := fmt.Sprintf("okta_users is being collected by process %d on node-a since ", os.Getpid()); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want ErrLocked and %q", err, want)
	}
	a.RequireNoError(a.commitUsers(a.beginUsers(1)))
	a.RequireNoError(lock.Unlock())
	statetest.AssertEqual(t, "last on the other node", b.LastKnown(), "id-001/2/collected")
	statetest.AssertEqual(t, "queue on the other node", b.QueuedDeliveries(), "id-001>file id-001>s3")
	b.CollectUsers(2, 3, statetest.TwoSinks)
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-002/3/collected")
	b.RequireNoError(b.Close())
	a.CollectUsers(3, 3, statetest.TwoSinks)
}

// Close releases the locks at once.
func TestCloseReleases(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	a.lockUsers()
	a.RequireNoError(a.Close())
	b.RequireNoError(b.lockUsers().Unlock())
	statetest.AssertEqual(t, "nodes", len(b.QueryTexts(`SELECT name FROM `+b.engine.name("nodes"))), 1)
}

// A process that does not say that it is alive loses its locks, and what it commits then is
// refused and changes nothing.
func TestSilentNodeIsFenced(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a, b := p.openNode(t, "node-a"), p.openNode(t, "node-b")
	b.CollectUsers(1, 2, statetest.TwoSinks)
	lock := a.lockUsers()
	other, err := a.Locks.LockDelivery("file", "okta_users", "acme")
	a.RequireNoError(err)
	last, _, err := a.Snapshots.LastKnown(t.Context(), "okta_users", "acme")
	a.RequireNoError(err)
	id, w := a.beginUsers(2)
	unchanged := a.BeginRun(3)
	a.stopBeats()
	taken := b.takeUsers()
	before := b.content()
	if err := a.commitUsers(id, w); !errors.Is(err, state.ErrLost) || !strings.Contains(err.Error(), "another process has taken over") {
		t.Errorf("commit: error %v, want ErrLost", err)
	}
	if err := a.Runs.ConfirmUnchanged(t.Context(), unchanged, last.Info, statetest.Day, state.RunStats{}); !errors.Is(err, state.ErrLost) {
		t.Errorf("confirm: error %v, want ErrLost", err)
	}
	statetest.AssertEqual(t, "content after the refused calls", b.content(), before)
	a.files().EmptyTrash()
	b.CheckStored()
	select {
	case <-lock.Lost():
		t.Error("the lock was declared lost before the node looked for it")
	default:
	}
	a.RequireNoError(a.start(t.Context()))
	<-lock.Lost()
	if err := a.commitUsers(id, w); err == nil {
		t.Error("an aborted writer was committed")
	}
	// What no other node has taken over is not lost.
	select {
	case <-other.Lost():
		t.Error("the lock of the delivery was lost")
	default:
	}
	a.RequireNoError(errors.Join(lock.Unlock(), other.Unlock()))
	if _, err := a.Locks.LockStream("okta_users", "acme"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("Unlock has released the lock of the other node: %v", err)
	}
	b.RequireNoError(b.commitUsers(b.beginUsers(4)))
	b.RequireNoError(taken.Unlock())
	statetest.AssertEqual(t, "last", a.LastKnown(), "id-004/2/collected")
}

// files returns the files of a node's state.
func (t testNode) files() *files { return t.Backend.(*State).files }

// content returns the rows that a run may change.
func (t testNode) content() string {
	t.T.Helper()
	var all []string
	for _, table := range []string{"runs", "counters", "snapshots", "last_known", "deliveries", "stored"} {
		all = append(all, t.QueryTexts(`SELECT CAST(r.* AS TEXT) FROM `+table+` r ORDER BY 1`)...)
	}
	return strings.Join(all, "\n")
}

// A process that was silent goes on when no other has taken over meanwhile.
func TestSilentNodeGoesOn(t *testing.T) {
	t.Parallel()
	p := newTestPlace(t)
	a := p.openNode(t, "node-a")
	lock := a.lockUsers()
	id, w := a.beginUsers(1)
	a.stopBeats()
	waitUntil(t, "the node has expired", func() bool {
		return a.QueryTexts(`SELECT CAST(expires < clock_timestamp() AS TEXT) FROM ` + a.engine.name("nodes"))[0] == "true"
	})
	a.RequireNoError(a.start(t.Context()))
	a.RequireNoError(a.commitUsers(id, w))
	select {
	case <-lock.Lost():
		t.Error("the lock was lost")
	default:
	}
	a.RequireNoError(lock.Unlock())
}

// A process that cannot reach the database for long gives its locks up.
func TestLongOutageLosesLocks(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.Lease = 40 * time.Millisecond
	a := p.openNode(t, "node-a")
	lock := a.lockUsers()
	interruptProxy(proxy)
	<-lock.Lost()
	if err := a.commitUsers(1, func() *snapshot.Writer {
		w, _ := a.Snapshots.Spool(statetest.NewHeader("okta_users", "acme", 1))
		return w
	}()); err == nil {
		t.Error("a commit during the outage succeeded")
	}
	proxy.Set(faultproxy.Fault{})
	a.RequireNoError(lock.Unlock())
	waitUntil(t, "the lease is released", func() bool {
		return a.engine.db.Ping() == nil && len(a.QueryTexts(`SELECT name FROM `+a.engine.name("leases"))) == 0
	})
	p.Lease = testLease
	p.openNode(t, "node-b").CollectUsers(2, 5, statetest.TwoSinks)
}

// newProxiedPlace returns a place whose database is behind a proxy.
func newProxiedPlace(t *testing.T) (place, *faultproxy.Proxy) {
	t.Helper()
	p := newTestPlace(t)
	postgres := testserver.StartPostgres(t)
	proxy, err := faultproxy.New("tcp", fmt.Sprintf("127.0.0.1:%d", postgres.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	p.URL = fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", testserver.Quick, proxy.Addr())
	return p, proxy
}

// interruptProxy resets all connections and refuses new ones.
func interruptProxy(proxy *faultproxy.Proxy) {
	proxy.Set(faultproxy.Fault{Refuse: true})
	proxy.Cut()
}

// After an outage of the database all locks look as if their owners had died. No process takes over
// before the owners could say that they are alive.
func TestNoTakeOverAfterAnOutage(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.Lease = time.Second
	a, b, dead := p.openNode(t, "node-a"), p.openNode(t, "node-b"), p.openNode(t, "node-c")
	lock := a.lockUsers()
	id, w := a.beginUsers(1)
	_, err := dead.Locks.LockStream("okta_groups", "acme")
	a.RequireNoError(err)
	dead.stopBeats()
	waitUntil(t, "the other node is steady", b.isSteady)
	interruptProxy(proxy)
	if _, err := b.Locks.LockStream("okta_users", "acme"); err == nil || errors.Is(err, state.ErrLocked) {
		t.Errorf("during the outage: error %v, want that of the connection", err)
	}
	waitUntil(t, "all nodes have expired", func() bool {
		var living int
		direct := newDirectEngine(t, p)
		err := direct.db.QueryRow(`SELECT count(*) FROM ` + direct.name("nodes") + ` WHERE expires > clock_timestamp()`).Scan(&living)
		return errors.Join(err, direct.db.Close()) == nil && living == 0
	})
	restored := time.Now()
	proxy.Set(faultproxy.Fault{})
	waitUntil(t, "the lock of the dead node is taken over", func() bool {
		if lock, err := b.Locks.LockStream("okta_users", "acme"); err == nil {
			t.Fatal("the lock of a living node was taken over", lock.Unlock())
		}
		lock, err := b.Locks.LockStream("okta_groups", "acme")
		if err != nil {
			return false
		}
		b.RequireNoError(lock.Unlock())
		return true
	})
	if took := time.Since(restored); took < p.Lease {
		t.Errorf("the lock was taken over %v after the outage, want not before %v", took, p.Lease)
	}
	a.RequireNoError(a.commitUsers(id, w))
	a.RequireNoError(lock.Unlock())
	statetest.AssertEqual(t, "last", b.LastKnown(), "id-001/2/collected")
}

// newDirectEngine returns an engine of the schema at a place without its proxy.
func newDirectEngine(t *testing.T, p place) *engine {
	t.Helper()
	p.URL = testserver.StartPostgres(t).URL(testserver.Quick, "")
	options, err := p.options(statetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEngine(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A lock that is released during an outage is free afterwards.
func TestUnlockDuringAnOutage(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.Lease = time.Minute // it does not expire
	a := p.openNode(t, "node-a")
	first, second := a.lockUsers(), a.lockUsersOf("globex")
	interruptProxy(proxy)
	a.RequireNoError(errors.Join(first.Unlock(), second.Unlock()))
	proxy.Set(faultproxy.Fault{})
	a.RequireNoError(a.lockUsers().Unlock())
	statetest.AssertEqual(t, "leases", len(a.QueryTexts(`SELECT name FROM `+a.engine.name("leases"))), 0)
}

// A lock that was acquired without a response is free for the same process, also when a later
// attempt has failed.
func TestLockWithoutResponse(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.Lease = time.Minute // it does not expire
	a := p.openNode(t, "node-a")
	a.engine.db.SetMaxIdleConns(0) // each statement has a new connection
	proxy.Set(faultproxy.Fault{CutReplyTo: "AS l (name, node, token"})
	if _, err := a.Locks.LockStream("okta_users", "acme"); err == nil || proxy.Fired() != 1+lockRepeats {
		t.Fatalf("error %v after %d lost responses, want %d", err, proxy.Fired(), 1+lockRepeats)
	}
	interruptProxy(proxy)
	if _, err := a.Locks.LockStream("okta_users", "acme"); err == nil {
		t.Fatal("the database was not away")
	}
	proxy.Set(faultproxy.Fault{})
	a.RequireNoError(a.lockUsers().Unlock())
}

// lockUsersOf locks okta_users of a tenancy.
func (t testNode) lockUsersOf(tenancy string) state.Lock {
	t.T.Helper()
	lock, err := t.Locks.LockStream("okta_users", tenancy)
	t.RequireNoError(err)
	return lock
}

// A network that swallows everything ends in errors, not in waiting.
func TestNetworkThatSwallows(t *testing.T) {
	t.Parallel()
	p, proxy := newProxiedPlace(t)
	p.URL += "&connect_timeout=1"
	p.Limits = &testLimits{Response: 200 * time.Millisecond, Lock: 100 * time.Millisecond, Idle: time.Second, Command: 200 * time.Millisecond}
	a := p.openNode(t, "node-a")
	lock := a.lockUsers()
	for name, do := range map[string]func() error{
		"read":     func() error { _, err := a.Streams(t.Context()); return err },
		"write":    func() error { return a.Notes("acme").SetNote(t.Context(), "key", "text") },
		"transact": func() error { _, err := a.Notes("acme").SwapNote(t.Context(), "key", "a", "b"); return err },
		"lock": func() error {
			lock, err := a.Locks.LockRestore("okta_users", "acme")
			if err == nil {
				err = lock.Unlock()
			}
			return err
		},
	} {
		proxy.Set(faultproxy.Fault{StallUp: 1500}) // after the connection was established
		proxy.Cut()
		var err error
		waitUntil(t, name+" fails", func() bool { err = do(); return err != nil })
		t.Logf("%s: %v", name, err)
		proxy.Set(faultproxy.Fault{})
		proxy.Cut()
		waitUntil(t, name+" succeeds again", func() bool { return do() == nil })
	}
	a.RequireNoError(lock.Unlock())
}

// The state works through a connection pooler in transaction mode with few connections.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pooler := testserver.StartPgBouncer(t, testserver.StartPostgres(t), 2)
	pooled := harness
	pooled.New = func(t *testing.T) string {
		p := newTestPlace(t)
		p.URL = pooler.URL(testserver.Owner, testserver.Password)
		return p.text(t)
	}
	statetest.Run(t, pooled, "Accept", "QueueOrder", "RestoreGuard", "LockOfAnotherProcess", "LockWithinProcess", "ForgetTenancy", "NewDestinationIsFilled")
}
