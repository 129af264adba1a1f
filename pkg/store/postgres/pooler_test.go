package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// TestPostgresBehindPooler stores snapshots and checks the destination through
// PgBouncer in transaction mode, while four clients of another application
// keep the pool busy. None of collectord's statements fails, and none of the
// other application's statements is executed by collectord.
func TestPostgresBehindPooler(t *testing.T) {
	const deliveries, writers = 1000, 2
	p := newTest(t)
	p.exec(`CREATE SCHEMA $S; CREATE TABLE $S.victim (client int, note text)`)
	pooler := testserver.StartPgBouncer(t, p.server, 3)
	foreign := startForeignClients(p, pooler, 4)

	sample := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), storetest.Numbered(1, 3)...)
	s := p.sink(Options{URL: pooler.URL(testserver.Owner, testserver.Password)})
	var number atomic.Int64
	var wait sync.WaitGroup
	for range writers {
		wait.Go(func() {
			for {
				n := number.Add(1)
				if n > deliveries {
					return
				}
				if err := s.Write(t.Context(), numberedCopy(sample, n)); err != nil {
					t.Errorf("delivery %d: %v", n, err)
				}
				if n%20 == 0 {
					if err := s.Check(t.Context()); err != nil {
						t.Errorf("check: %v", err)
					}
				}
			}
		})
	}
	wait.Wait()
	executed := foreign.stop()
	p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, fmt.Sprint(deliveries))
	p.assertQuery(`SELECT sum(n)::text FROM (SELECT count(*) AS n FROM $S.okta_users UNION ALL SELECT count(*) FROM $S.okta_apps) AS tables`, fmt.Sprint(3*deliveries))
	p.assertQuery(`SELECT count(*)::text FROM $S.victim`, fmt.Sprint(executed))
	p.assertQuery(`SELECT DISTINCT note FROM $S.victim`, "theirs")
}

// numberedCopy returns the snapshot with another upload id and time, of one of
// two streams.
func numberedCopy(sample *snapshot.Snapshot, n int64) *snapshot.Snapshot {
	c := *sample
	c.UploadID = fmt.Sprintf("%s-%d", sample.UploadID, n)
	c.UploadTimestamp = sample.UploadTimestamp.Add(time.Duration(n) * time.Minute)
	c.Stream = []string{"okta_users", "okta_apps"}[n%2]
	return &c
}

// foreignClients are clients of another application.
type foreignClients struct {
	end      context.CancelFunc
	wait     sync.WaitGroup
	executed atomic.Int64
}

// startForeignClients starts clients that execute statements of one, two and no
// parameters through the pooler, each in one round trip. Their statements must
// not fail.
func startForeignClients(p *pgTest, pooler *testserver.PgBouncer, n int) *foreignClients {
	p.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(p.Context()))
	f := &foreignClients{end: end}
	p.Cleanup(end)
	for client := range n {
		config, err := pgx.ParseConfig(pooler.URL(testserver.Owner, testserver.Password))
		if err != nil {
			p.Fatal(err)
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			p.Fatal(err)
		}
		f.wait.Go(func() {
			defer conn.Close(context.WithoutCancel(ctx))
			for i := 0; ctx.Err() == nil; i++ {
				if err := f.execute(conn, p.schema, client, i); err != nil {
					p.Errorf("client %d: %v", client, err)
					return
				}
			}
		})
	}
	return f
}

// execute executes one statement that adds a row.
func (f *foreignClients) execute(conn *pgx.Conn, schema string, client, i int) error {
	var sql string
	var args []any
	switch i % 3 {
	case 0:
		sql, args = `INSERT INTO $S.victim VALUES (1, $1) RETURNING client`, []any{"theirs"}
	case 1:
		sql, args = `INSERT INTO $S.victim SELECT $2, $1 RETURNING client`, []any{"theirs", client}
	case 2:
		sql = `INSERT INTO $S.victim VALUES (0, 'theirs') RETURNING client`
	}
	rows, err := conn.Query(context.Background(), strings.ReplaceAll(sql, "$S", schema), args...)
	if err != nil {
		return err
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	f.executed.Add(1)
	return nil
}

// stop ends the clients and returns the number of statements that they
// executed.
func (f *foreignClients) stop() int64 {
	f.end()
	f.wait.Wait()
	return f.executed.Load()
}

// TestPostgresPoolerRefuses has connections that the pooler refuses: the error
// says what to change.
func TestPostgresPoolerRefuses(t *testing.T) {
	p := newTest(t)
	pooler := testserver.StartPgBouncer(t, p.server, 1)
	snap := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one)
	url := pooler.URL(testserver.Owner, testserver.Password)
	p.assertRefused(p.sink(Options{URL: url + "&statement_timeout=1000"}), snap, "statement_timeout", "ignore_startup_parameters", "STORE_POSTGRES_URL")
	p.assertRefused(p.sink(Options{URL: pooler.URL("stranger", "pw-1")}), snap, "STORE_POSTGRES_USER")
	p.assertRefused(p.sink(Options{URL: pooler.URL(testserver.Owner, "pw-wrong")}), snap, "STORE_POSTGRES_PASSWORD")
	p.assertRefused(p.sink(Options{URL: strings.Replace(url, "/postgres?", "/nowhere?", 1)}), snap, "STORE_POSTGRES_DBNAME")
	statements := testserver.StartPgBouncer(t, p.server, 1, "pool_mode = statement")
	p.assertRefused(p.sink(Options{URL: statements.URL(testserver.Owner, testserver.Password)}), snap, "pool_mode = transaction")
	// A mode of the driver that keeps statements in the session is not used.
	s := p.sink(Options{URL: url + "&default_query_exec_mode=cache_statement"})
	for i := range int64(5) {
		p.write(s, numberedCopy(snap, i))
	}
	// The pool has one connection, so a lock or a transaction that is left open
	// would stop the next delivery.
	p.write(p.sink(Options{URL: url, Retention: store.Retention{Newest: 1}}), numberedCopy(snap, 10))
}
