package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/internal/testserver"
)

const (
	bucket = "soak"
	schema = "soak"
)

// poolSize is the number of server connections of the pooler.
const poolSize = 4

// destinations are real servers, each behind a proxy that injects faults. Between
// the proxy and Postgres is a connection pooler in transaction mode.
type destinations struct {
	s             *soak
	postgres      *testserver.Postgres
	pooler        *testserver.PgBouncer
	s3            *testserver.S3
	postgresProxy *faultproxy.Proxy
	s3Proxy       *faultproxy.Proxy
	password      string

	mu   sync.Mutex // locked while Postgres is down
	s3Mu sync.Mutex // locked while S3 has a fault
}

// destinationFaultKind is a kind of fault of a destination. strike injects it
// and returns how often it has hit.
type destinationFaultKind struct {
	name   string
	strike func(*destinations, context.Context) (int, error)
}

var destinationFaultKinds = []destinationFaultKind{
	{"Postgres: connection refused", postgresFault(faultproxy.Fault{Refuse: true})},
	{"Postgres: cut while sending", postgresFault(faultproxy.Fault{CutUp: 30_000})},
	{"Postgres: response to COMMIT lost", postgresFault(faultproxy.Fault{CutReplyTo: "commit\x00"})},
	{"Postgres: stall", postgresFault(faultproxy.Fault{StallUp: 20_000})},
	{"Postgres: server killed", (*destinations).crashPostgres},
	{"S3: connection refused", s3Fault(faultproxy.Fault{Refuse: true})},
	{"S3: cut while sending", s3Fault(faultproxy.Fault{CutUp: 200_000})},
	{"S3: response to PUT lost", s3Fault(faultproxy.Fault{CutReplyTo: "PUT /"})},
	{"S3: stall", s3Fault(faultproxy.Fault{StallUp: 100_000})},
	{"DuckDB: file locked by another program", (*destinations).holdDuckDB},
}

func newDestinations(ctx context.Context, s *soak) (_ *destinations, err error) {
	// The directories of the servers are part of the evidence.
	if err := os.Setenv("TMPDIR", s.file("servers")); err != nil {
		return nil, err
	}
	d := &destinations{s: s, password: testserver.Password}
	if d.postgres, err = testserver.OpenPostgres(); err != nil {
		return nil, err
	}
	if d.s3, err = testserver.OpenS3(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(d.s3.Object(bucket, ""), 0o700); err != nil {
		return nil, err
	}
	// After a crash of the server the pooler connects again soon.
	if d.pooler, err = testserver.OpenPgBouncer(d.postgres, poolSize, "server_login_retry = 1"); err != nil {
		return nil, err
	}
	if d.postgresProxy, err = faultproxy.New("tcp", fmt.Sprintf("127.0.0.1:%d", d.pooler.Port)); err != nil {
		return nil, err
	}
	if d.s3Proxy, err = faultproxy.New("tcp", d.s3.Addr()); err != nil {
		return nil, err
	}
	conn, err := d.connectDirectly(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema)
	return d, err
}

// connectDirectly connects to Postgres without the proxy, in a role that the
// daemon does not use.
func (d *destinations) connectDirectly(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, d.postgres.URL(testserver.Quick, "none"))
}

// settingsEnv returns the settings of the destinations.
func (d *destinations) settingsEnv() []string {
	env := []string{
		"STORE_DUCKDB=" + d.duckdbPath(), "STORE_DUCKDB_LOCK_WAIT=1s",
		fmt.Sprintf("STORE_POSTGRES_URL=postgres://%s:%s@%s/postgres?sslmode=disable", testserver.Owner, testserver.Password,
			d.postgresProxy.Addr()),
		"STORE_POSTGRES_SCHEMA=" + schema,
	}
	return append(env, d.s3Settings(d.s3Proxy.Addr())...)
}

// s3Settings returns the settings of the bucket at an address.
func (d *destinations) s3Settings(addr string) []string {
	env := []string{"STORE_AWS_S3_BUCKET=" + bucket, "STORE_AWS_S3_KEY=source/%TAG/%TENANCY.json"}
	for name, value := range d.s3.Env() {
		env = append(env, name+"="+strings.Replace(value, d.s3.Addr(), addr, 1))
	}
	return env
}

func (d *destinations) duckdbPath() string { return d.s.file("security.duckdb") }

// injectFaults injects one fault of a destination after the other in random
// order, with pauses, until ctx is done.
func (d *destinations) injectFaults(ctx context.Context) {
	random := d.s.newRandom(3)
	pace := min(4*time.Second, d.s.opts.time/40)
	for {
		for _, k := range random.Perm(len(destinationFaultKinds)) {
			if !sleepContext(ctx, pace/2+time.Duration(random.Int64N(int64(pace)))) {
				return
			}
			began := time.Now()
			n, err := destinationFaultKinds[k].strike(d, ctx)
			d.addEvent(destinationFaultKinds[k].name, began)
			if err != nil && ctx.Err() == nil {
				d.s.violations.addf("%s: the soak itself failed: %v", destinationFaultKinds[k].name, err)
			}
			d.s.faults.count(destinationFaultKinds[k].name, n)
		}
	}
}

func postgresFault(f faultproxy.Fault) func(*destinations, context.Context) (int, error) {
	return func(d *destinations, ctx context.Context) (int, error) {
		return breakConnections(ctx, d.postgresProxy, f), nil
	}
}

func s3Fault(f faultproxy.Fault) func(*destinations, context.Context) (int, error) {
	return func(d *destinations, ctx context.Context) (int, error) {
		if !d.s3Mu.TryLock() {
			return 0, nil // it is down
		}
		defer d.s3Mu.Unlock()
		return breakConnections(ctx, d.s3Proxy, f), nil
	}
}

// addEvent adds a fault that has ended to the events, for each destination that has it.
func (d *destinations) addEvent(kind string, began time.Time) {
	server, _, _ := strings.Cut(kind, ":")
	for _, sink := range map[string][]string{"Postgres": {"postgres"}, "S3": {"s3", "backup"}, "DuckDB": {"duckdb"}}[server] {
		d.s.events.record(kind, sink, began, time.Now())
	}
}

// stopS3UntilAlert refuses all connections to S3 until the alert about it fires.
func (d *destinations) stopS3UntilAlert(ctx context.Context) error {
	d.s3Mu.Lock()
	defer d.s3Mu.Unlock()
	began := time.Now()
	d.s3Proxy.Set(faultproxy.Fault{Refuse: true})
	d.s3Proxy.Cut()
	err := d.s.prometheus.requireFiring("CollectordSinkFailing", "s3")
	d.s3Proxy.Set(faultproxy.Fault{})
	d.addEvent(longS3Fault, began)
	d.s.faults.count(longS3Fault, 1)
	return err
}

// breakConnections sets a fault until a connection has met it, and for a short
// time after that. It returns the number of faults met.
func breakConnections(ctx context.Context, p *faultproxy.Proxy, f faultproxy.Fault) int {
	p.Set(f)
	p.Cut() // idle connections would not meet it
	met := p.Met()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case <-met:
		sleepContext(ctx, time.Second)
	case <-limit.C:
	case <-ctx.Done():
	}
	n := p.Fired()
	p.Set(faultproxy.Fault{})
	if f.StallUp > 0 {
		p.Cut()
	}
	return n
}

// crashPostgres stops Postgres like a crash and restarts it.
func (d *destinations) crashPostgres(ctx context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.postgres.Crash()
	sleepContext(ctx, time.Second)
	return 1, d.postgres.Start()
}

// holdDuckDB keeps the database file open, as another program may.
func (d *destinations) holdDuckDB(ctx context.Context) (int, error) {
	for range 200 {
		db, err := duckdb.Open(ctx, d.duckdbPath(), duckdb.Options{ReadOnly: true})
		if err != nil { // the daemon has it open, or it does not exist yet
			if !sleepContext(ctx, 50*time.Millisecond) {
				return 0, nil
			}
			continue
		}
		sleepContext(ctx, 2*time.Second)
		return 1, db.Close()
	}
	return 0, nil
}

// clearFaults removes all faults.
func (d *destinations) clearFaults() {
	for _, p := range []*faultproxy.Proxy{d.postgresProxy, d.s3Proxy} {
		p.Set(faultproxy.Fault{})
		p.Cut()
	}
}

func (d *destinations) closeProxies() {
	if d.pooler != nil {
		d.pooler.Stop()
	}
	for _, p := range []*faultproxy.Proxy{d.postgresProxy, d.s3Proxy} {
		if p != nil {
			_ = p.Close()
		}
	}
}
