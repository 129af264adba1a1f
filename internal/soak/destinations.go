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

// destinations are the real servers, each behind a proxy that fails.
type destinations struct {
	s        *soak
	postgres *testserver.Postgres
	s3       *testserver.S3
	toPG     *faultproxy.Proxy
	toS3     *faultproxy.Proxy
	password string

	mu sync.Mutex // held while Postgres is down
}

// destinationKind is a way in which a destination fails; it returns how often
// it has struck.
type destinationKind struct {
	name   string
	strike func(*destinations, context.Context) (int, error)
}

var destinationKinds = []destinationKind{
	{"Postgres: connection refused", pgFault(faultproxy.Fault{Refuse: true})},
	{"Postgres: cut on the way in", pgFault(faultproxy.Fault{CutUp: 30_000})},
	{"Postgres: answer to COMMIT lost", pgFault(faultproxy.Fault{CutReplyTo: "commit\x00"})},
	{"Postgres: stall", pgFault(faultproxy.Fault{StallUp: 20_000})},
	{"Postgres: server killed", (*destinations).crash},
	{"S3: connection refused", s3Fault(faultproxy.Fault{Refuse: true})},
	{"S3: cut on the way in", s3Fault(faultproxy.Fault{CutUp: 200_000})},
	{"S3: answer to PUT lost", s3Fault(faultproxy.Fault{CutReplyTo: "PUT /"})},
	{"S3: stall", s3Fault(faultproxy.Fault{StallUp: 100_000})},
	{"DuckDB: file held by another program", (*destinations).holdDuckDB},
}

func newDestinations(ctx context.Context, s *soak) (_ *destinations, err error) {
	// The servers' folders are part of the evidence.
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
	if d.toPG, err = faultproxy.New("tcp", fmt.Sprintf("127.0.0.1:%d", d.postgres.Port)); err != nil {
		return nil, err
	}
	if d.toS3, err = faultproxy.New("tcp", d.s3.Addr()); err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema)
	return d, err
}

// connect leads to Postgres past the proxy, in a role that the daemon has not.
func (d *destinations) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, d.postgres.URL(testserver.Quick, "none"))
}

// env leads the daemon to the destinations.
func (d *destinations) env() []string {
	env := []string{
		"STORE_DUCKDB=" + d.duckdb(), "STORE_DUCKDB_LOCK_WAIT=1s",
		fmt.Sprintf("STORE_POSTGRES_URL=postgres://%s:%s@%s/postgres?sslmode=disable", testserver.Owner, testserver.Password, d.toPG.Addr()),
		"STORE_POSTGRES_SCHEMA=" + schema,
	}
	return append(env, d.s3env(d.toS3.Addr())...)
}

// s3env leads to the bucket by an address.
func (d *destinations) s3env(addr string) []string {
	env := []string{"STORE_AWS_S3_BUCKET=" + bucket, "STORE_AWS_S3_KEY=source/%TAG/%TENANCY.json"}
	for name, value := range d.s3.Env() {
		env = append(env, name+"="+strings.Replace(value, d.s3.Addr(), addr, 1))
	}
	return env
}

func (d *destinations) duckdb() string { return d.s.file("security.duckdb") }

// misbehave lets destinations fail until ctx ends, each kind in turn, in an
// order left to chance, with peace between.
func (d *destinations) misbehave(ctx context.Context) {
	random := d.s.chance(3)
	pace := min(4*time.Second, d.s.opts.time/40)
	for {
		for _, k := range random.Perm(len(destinationKinds)) {
			if !pause(ctx, pace/2+time.Duration(random.Int64N(int64(pace)))) {
				return
			}
			n, err := destinationKinds[k].strike(d, ctx)
			if err != nil && ctx.Err() == nil {
				d.s.seen.add("%s: the soak's own part failed: %v", destinationKinds[k].name, err)
			}
			d.s.faults.add(destinationKinds[k].name, n)
		}
	}
}

func pgFault(f faultproxy.Fault) func(*destinations, context.Context) (int, error) {
	return func(d *destinations, ctx context.Context) (int, error) { return through(ctx, d.toPG, f), nil }
}

func s3Fault(f faultproxy.Fault) func(*destinations, context.Context) (int, error) {
	return func(d *destinations, ctx context.Context) (int, error) { return through(ctx, d.toS3, f), nil }
}

// through breaks connections until one has met the fault, and a little more.
func through(ctx context.Context, p *faultproxy.Proxy, f faultproxy.Fault) int {
	p.Set(f)
	p.Cut() // those that idle would not meet it
	met := p.Met()
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case <-met:
		pause(ctx, time.Second)
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

// crash ends Postgres as a failure would, and starts it anew.
func (d *destinations) crash(ctx context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.postgres.Crash()
	pause(ctx, time.Second)
	return 1, d.postgres.Start()
}

// holdDuckDB opens the file, as somebody does who looks at it.
func (d *destinations) holdDuckDB(ctx context.Context) (int, error) {
	for range 200 {
		db, err := duckdb.Open(ctx, d.duckdb(), duckdb.Options{ReadOnly: true})
		if err != nil { // the daemon has it, or nobody has made it yet
			if !pause(ctx, 50*time.Millisecond) {
				return 0, nil
			}
			continue
		}
		pause(ctx, 2*time.Second)
		return 1, db.Close()
	}
	return 0, nil
}

// behave ends all faults.
func (d *destinations) behave() {
	for _, p := range []*faultproxy.Proxy{d.toPG, d.toS3} {
		p.Set(faultproxy.Fault{})
		p.Cut()
	}
}

func (d *destinations) close() {
	for _, p := range []*faultproxy.Proxy{d.toPG, d.toS3} {
		if p != nil {
			_ = p.Close()
		}
	}
}
