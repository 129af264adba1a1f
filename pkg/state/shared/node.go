package shared

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/state/database"
)

// A node is this process among those that use the state. It says that it is alive by beats,
// and holds leases while it does. It implements [database.Locker].
type node struct {
	engine  *engine
	id      string
	name    string
	lease   time.Duration
	service bool // see Options.Service
	log     *zap.Logger
	about   NodeInfo // guarded by mu

	end   context.CancelFunc
	ended chan struct{}

	mu sync.Mutex
	// offset is the server's clock minus this machine's.
	offset time.Duration
	// began is when the first of the beats came back that have succeeded without a pause
	// since, and last when the last of them was sent; zero for never.
	began, last time.Time
	// expires is that of the row of this node after the last beat, by the server's clock.
	expires time.Time
	// held are the leases of this process by their names.
	held map[string]*held
	// unreleased are the names of leases whose release failed, by their tokens: a later
	// attempt to acquire the same one must not forget an earlier one.
	unreleased map[string]string
}

// newNode returns a node that has not started.
func newNode(e *engine, o Options) *node {
	return &node{engine: e, id: uuid.NewString(), name: o.Node, lease: o.Lease, service: o.Service, log: o.Log, held: map[string]*held{}, unreleased: map[string]string{}}
}

// start says that the process is alive, and goes on to say so.
func (n *node) start(ctx context.Context) error {
	if err := n.beat(ctx); err != nil {
		return err
	}
	loop, cancel := context.WithCancel(context.Background())
	n.end, n.ended = cancel, make(chan struct{})
	go n.beatRegularly(loop)
	return nil
}

// isStarted reports whether start has succeeded.
func (n *node) isStarted() bool { return n.end != nil }

// stop ends the beats and releases all leases.
func (n *node) stop() {
	n.end()
	<-n.ended
	ctx, cancel := context.WithTimeout(context.Background(), n.engine.limits.command)
	defer cancel()
	// What remains expires.
	_, err := n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("leases")+` WHERE node = $1`, n.id)
	if err == nil {
		_, err = n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("nodes")+` WHERE id = $1`, n.id)
	}
	if err != nil {
		n.log.Warn("the locks of this process were not released; they expire", zap.Duration("after", n.lease), zap.Error(err))
	}
}

// beatRegularly beats four times per lease.
func (n *node) beatRegularly(ctx context.Context) {
	defer close(n.ended)
	tick := time.NewTicker(n.lease / 4)
	defer tick.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := n.beatInTime(ctx)
		if err == nil {
			if failures > 0 {
				n.log.Info("the database responds again", zap.Int("failed_beats", failures))
			}
			failures = 0
			n.releaseRest(ctx)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			n.log.Warn("the database did not note that this process is alive; it tries again", zap.Duration("in", n.lease/4), zap.Error(n.engine.Explain(err)))
		}
		n.giveUpLate()
	}
}

// beatInTime is beat within the time until the next one.
func (n *node) beatInTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.lease/4)
	defer cancel()
	return n.beat(ctx)
}

// beat says that this process is alive, and declares the leases lost that the database does not
// have any more: other processes have taken them over while this one did not beat, or the
// database has lost them.
func (n *node) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.engine.limits.command)
	defer cancel()
	held := n.listHeld() // those that are acquired meanwhile may not be in the result
	about := n.info()
	var b beat
	var before sql.NullTime
	var tokens string
	b.sent = time.Now()
	err := n.engine.db.QueryRowContext(ctx,
		`WITH beat AS (INSERT INTO `+n.engine.name("nodes")+` AS n (id, name, pid, command, service, started, expires, version, settings, capacity, draining)
			VALUES ($1, $2, $3, $4, $6, clock_timestamp(), clock_timestamp() + $5::bigint * interval '1 millisecond', $7, $8, $9, $10)
			ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, version = excluded.version, settings = excluded.settings,
				capacity = excluded.capacity, draining = excluded.draining
			RETURNING expires)
		 SELECT clock_timestamp(), beat.expires,
			(SELECT expires FROM `+n.engine.name("nodes")+` WHERE id = $1),
			(SELECT coalesce(string_agg(token, ' '), '') FROM `+n.engine.name("leases")+` WHERE node = $1)
		 FROM beat`,
		n.id, n.name, os.Getpid(), database.ShortCommand(os.Args), n.lease.Milliseconds(), n.service,
		about.Version, about.Settings, about.Capacity, about.Draining).Scan(&b.server, &b.expires, &before, &tokens)
	if err != nil {
		n.interrupt()
		return err
	}
	b.received, b.before = time.Now(), before.Time
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noteBeat(b)
	n.loseMissing(held, strings.Fields(tokens))
	return nil
}

// info returns what the process says about itself.
func (n *node) info() NodeInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.about
}

// A beat is when a beat was sent and when the response came back, the server's clock in
// between, and when the row of the node expires, before the beat and after it; before is zero
// when there was none.
type beat struct{ sent, received, server, before, expires time.Time }

// noteBeat notes a beat that has succeeded. A database that does not have the last one has
// failed over to a standby that did not have it either, nor those of other nodes: all leases
// look as if they had expired. The caller holds mu.
func (n *node) noteBeat(b beat) {
	n.offset = b.server.Sub(b.sent.Add(b.received.Sub(b.sent) / 2))
	hasGoneBack := b.before.Before(n.expires)
	if hasGoneBack {
		n.log.Warn("the database does not have what it had confirmed, as after a failover to a standby that was behind: make the replication synchronous")
	}
	if n.began.IsZero() || b.received.Sub(n.last) > n.lease || hasGoneBack {
		n.began = b.received
	}
	n.last, n.expires = b.sent, b.expires
}

// listHeld returns the leases of this process.
func (n *node) listHeld() []*held {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.held))
}

// loseMissing declares those leases lost whose tokens the database does not have. The caller
// holds mu.
func (n *node) loseMissing(leases []*held, tokens []string) {
	for _, h := range leases {
		if n.held[h.name] != h || slices.Contains(tokens, h.token) {
			continue
		}
		n.log.Warn("a lock of this process is not in the database any more: another process has taken over its work, or may do so",
			zap.String("lock", strings.ReplaceAll(h.name, "~", " ")))
		n.loseLocked(h.name)
	}
}

// interrupt notes that a beat failed: the beats without a pause begin again.
func (n *node) interrupt() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.began = time.Time{}
}

// silentLeases is how many leases long a node goes on without a beat. Others may take over its
// leases after one. But most outages of a database end soon, and then none has: a run that
// has taken hours goes on, and is recorded if its lease is still there, see Fence.
const silentLeases = 15

// giveUpLate declares the leases lost when no beat has succeeded for long.
func (n *node) giveUpLate() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.last) < silentLeases*n.lease {
		return
	}
	for name := range n.held {
		n.loseLocked(name)
	}
}

// loseLocked declares a lease lost. The caller holds mu.
func (n *node) loseLocked(name string) {
	h := n.held[name]
	delete(n.held, name)
	n.unreleased[h.token] = name // the row may still be there
	close(h.lost)
}

// isSteady reports whether the beats of this node have succeeded for a whole lease. Before, it
// takes over nothing: after an outage of the database all leases look as if they had expired.
func (n *node) isSteady() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.began.IsZero() && time.Since(n.began) >= n.lease
}

// now returns the time of the server's clock, so that the clocks of several machines do not
// matter.
func (n *node) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(n.offset)
}

// releaseRest releases the leases whose release failed.
func (n *node) releaseRest(ctx context.Context) {
	n.mu.Lock()
	rest := maps.Clone(n.unreleased)
	n.mu.Unlock()
	for token, name := range rest {
		if n.deleteLease(ctx, name, token) == nil {
			n.mu.Lock()
			delete(n.unreleased, token)
			n.mu.Unlock()
		}
	}
}

// deleteLease deletes the row of a lease, if it is still that of the token.
func (n *node) deleteLease(ctx context.Context, name, token string) error {
	ctx, cancel := context.WithTimeout(ctx, n.engine.limits.command)
	defer cancel()
	_, err := n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("leases")+` WHERE name = $1 AND token = $2`, name, token)
	return err
}

// deadAge is how long the row of a node stays that does not respond any more.
const deadAge = 24 * time.Hour

// forgetDead removes what nodes have left that ended without stopping: their leases, which
// nothing may need any more, and after a day their rows.
func (n *node) forgetDead(ctx context.Context) error {
	if !n.isSteady() {
		return nil
	}
	_, err := n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("leases")+` l WHERE `+n.engine.isDead(`l.node`))
	if err == nil {
		_, err = n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("nodes")+` WHERE expires < clock_timestamp() - $1::bigint * interval '1 millisecond'`,
			deadAge.Milliseconds())
	}
	if err == nil {
		_, err = n.engine.db.ExecContext(ctx, `DELETE FROM `+n.engine.name("commits")+` WHERE at < clock_timestamp() - $1::bigint * interval '1 millisecond'`,
			deadAge.Milliseconds())
	}
	if err != nil {
		return fmt.Errorf("remove the locks of processes that have ended: %w", n.engine.Explain(err))
	}
	return nil
}

// isNoRow reports whether err means that a query has no rows.
func isNoRow(err error) bool { return errors.Is(err, sql.ErrNoRows) }
