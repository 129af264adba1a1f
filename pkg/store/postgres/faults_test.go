package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/collectord/collectord/internal/testserver"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/collectord/collectord/internal/faultproxy"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
	"github.com/collectord/collectord/pkg/store/storetest"
)

// commitText is in the message that ends a transaction.
const commitText = "commit\x00"

// throughProxy returns a sink that connects through a new proxy.
func (p *pgTest) throughProxy(opts Options) (*Sink, *faultproxy.Proxy) {
	p.Helper()
	proxy, err := faultproxy.New("tcp", fmt.Sprintf("127.0.0.1:%d", p.server.Port))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { proxy.Close() })
	opts.URL = strings.Replace(p.server.URL(testserver.Quick, testserver.Password), strconv.Itoa(p.server.Port), strconv.Itoa(proxy.Port()), 1)
	return p.sink(opts), proxy
}

// TestPostgresCutAnywhere cuts connections at random points of more than two
// hundred deliveries: each snapshot is stored once in the end.
func TestPostgresCutAnywhere(t *testing.T) {
	testserver.StartPostgres(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := newTest(t)
	s, proxy := p.throughProxy(Options{})
	defer proxy.Close()
	random := rand.New(rand.NewPCG(1, 2026))
	p.write(s, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 100, 1000))
	up, down := proxy.Passed()
	const deliveries = 220
	failed, fired := 0, 0
	for i := range deliveries {
		snap := storetest.SealFilled(t, storetest.NewHeader("okta_users", "t"+strconv.Itoa(i%3), storetest.Noon.Add(time.Duration(i)*time.Second)), i%100, 1000)
		for attempt := 0; ; attempt++ {
			fault := faultproxy.Fault{}
			if attempt < 3 {
				switch random.IntN(8) {
				case 0:
					fault.CutReplyTo = commitText
				case 1:
					fault.Refuse = true
				case 2, 3, 4:
					fault.CutUp = 1 + random.Int64N(up)
				case 5, 6:
					fault.CutDown = 1 + random.Int64N(down)
				}
			}
			proxy.Set(fault)
			err := s.Write(t.Context(), snap)
			fired += proxy.Fired()
			if err == nil {
				break
			}
			storetest.AssertRetriable(t, err)
			failed++
			p.assertWholeOrNothing(snap)
		}
		p.assertStoredOnce(snap)
	}
	t.Logf("%d deliveries, %d faults met, %d attempts failed", deliveries, fired, failed)
	if failed < deliveries/2 {
		t.Errorf("only %d of the attempts failed", failed)
	}
	p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, strconv.Itoa(deliveries+1))
}

func (p *pgTest) stored(snap *snapshot.Snapshot) int64 {
	p.Helper()
	n, err := strconv.ParseInt(p.queryTexts(fmt.Sprintf(`SELECT count(DISTINCT json_data->>'i') || '' FROM $S.%s WHERE tenancy = '%s' AND upload_timestamp = '%s' HAVING count(*) = count(DISTINCT json_data->>'i')`,
		snap.Stream, snap.Tenancy, snap.UploadTimestamp.Format(snapshot.TimestampLayout)))[0], 10, 64)
	if err != nil {
		p.Fatal(err)
	}
	return n
}

func (p *pgTest) assertStoredOnce(snap *snapshot.Snapshot) {
	p.Helper()
	if n := p.stored(snap); n != snap.Records {
		p.Fatalf("%d records are stored of %d", n, snap.Records)
	}
}

func (p *pgTest) assertWholeOrNothing(snap *snapshot.Snapshot) {
	p.Helper()
	if n := p.stored(snap); n != 0 && n != snap.Records {
		p.Fatalf("%d records are stored of %d", n, snap.Records)
	}
}

// TestPostgresServerDies stops the server during the COPY of a snapshot.
func TestPostgresServerDies(t *testing.T) {
	p := newTest(t)
	s, proxy := p.throughProxy(Options{})
	p.write(s, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 10, 10))
	snap := storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), 2000, 1000)
	proxy.Set(faultproxy.Fault{StallUp: 500_000})
	failed := make(chan error)
	go func() { failed <- s.Write(context.WithoutCancel(t.Context()), snap) }()
	<-proxy.Met()
	p.server.Crash()
	storetest.AssertRetriable(t, <-failed)
	storetest.AssertRetriable(t, s.Write(t.Context(), snap)) // the server is down
	if err := s.Check(t.Context()); err == nil || errors.Is(err, store.ErrRefused) {
		t.Errorf("Check: %v", err)
	}
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	p.reconnect()
	proxy.Set(faultproxy.Fault{})
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "10")
	p.write(s, snap)
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "2010")
}

// TestPostgresRoleSettings has defaults of the role that must have no effect, and
// some that are temporary.
func TestPostgresRoleSettings(t *testing.T) {
	p := newTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-1'; CREATE SCHEMA $S AUTHORIZATION ` + role)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(Options{URL: p.server.URL(role, "pw-role-1"), Retention: store.Retention{Newest: 1}})
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	set := func(setting string) { t.Helper(); p.exec(`ALTER ROLE ` + role + ` SET ` + setting) }

	set(`default_transaction_isolation = 'serializable'`)
	set(`statement_timeout = '150ms'`)
	set(`TimeZone = 'Asia/Tokyo'`)
	set(`DateStyle = 'German'`)
	set(`synchronous_commit = off`)
	p.write(s, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), 60_000, 100))
	p.assertQuery(`SELECT DISTINCT upload_timestamp::text FROM $S.okta_users_latest`, "2026-03-01 13:00:00")

	set(`default_transaction_read_only = on`)
	later := storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(2*time.Hour)), one)
	storetest.AssertRetriable(t, s.Write(t.Context(), later))
	err := s.Check(t.Context())
	storetest.AssertRetriable(t, err)
	if !strings.Contains(err.Error(), "accepts no writes") {
		t.Errorf("Check: %v", err)
	}
	set(`default_transaction_read_only = off`)

	// The wait for a locked table is bounded.
	set(`lock_timeout = '50ms'`)
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE `+p.schema+`.okta_users`); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), later)
	storetest.AssertRetriable(t, err)
	if !strings.Contains(err.Error(), "55P03") {
		t.Errorf("err = %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.write(s, later)
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users`, "1")
}

// TestPostgresCompression has long records: they are compressed by LZ4, unless
// another method is configured.
func TestPostgresCompression(t *testing.T) {
	p := newTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-1'; CREATE SCHEMA $S AUTHORIZATION ` + role)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(Options{URL: p.server.URL(role, "pw-role-1"), Retention: store.Retention{Newest: 1}})
	long := func(at time.Time) *snapshot.Snapshot {
		return storetest.Seal(t, storetest.NewHeader("okta_users", "acme", at), `{"long":"`+strings.Repeat("abcdefgh", 1000)+`"}`)
	}
	const how = `SELECT pg_column_compression(json_data) FROM $S.okta_users`
	p.write(s, long(storetest.Noon))
	p.assertQuery(how, "lz4")
	p.exec(`ALTER ROLE ` + role + ` SET default_toast_compression = 'pglz'`)
	p.write(s, long(storetest.Noon.Add(time.Hour)))
	p.assertQuery(how, "pglz")
}

// TestPostgresWritersAtOnce has several writers that store the same snapshots at the
// same time. At first there is no schema.
func TestPostgresWritersAtOnce(t *testing.T) {
	p := newTest(t)
	var snaps []*snapshot.Snapshot
	for i := range 5 {
		snaps = append(snaps, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i)*time.Second)), 50, 100))
	}
	var writers sync.WaitGroup
	for range 6 {
		s := p.sink(Options{URL: p.server.URL(testserver.Owner, testserver.Password) + "&default_transaction_isolation=repeatable%20read"})
		writers.Go(func() {
			for _, snap := range snaps {
				if err := s.Write(t.Context(), snap); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	for _, snap := range snaps {
		p.assertStoredOnce(snap)
	}
}

// TestPostgresReadersSeeOldOrNew reads while snapshots replace each other.
func TestPostgresReadersSeeOldOrNew(t *testing.T) {
	p := newTest(t)
	s := p.sink(Options{Retention: store.Retention{Newest: 1}})
	p.write(s, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), 100, 100))
	ctx, cancel := context.WithCancel(t.Context())
	// enough is closed after ten reads, or when the reader fails.
	enough, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		endWait := sync.OnceFunc(func() { close(enough) })
		defer endWait()
		conn, err := pgx.Connect(ctx, p.server.URL(testserver.Owner, testserver.Password))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		for reads := 0; ctx.Err() == nil; reads++ {
			if reads == 10 {
				endWait()
			}
			for _, table := range []string{"okta_users", "okta_users_latest"} {
				var count, snapshots int
				err := conn.QueryRow(context.WithoutCancel(ctx), `SELECT count(*), count(DISTINCT json_data->>'_upload_id') FROM `+p.schema+`.`+table).Scan(&count, &snapshots)
				if err != nil || count%100 != 0 || count == 0 || snapshots != 1 {
					t.Errorf("%s: %d records of %d snapshots, %v", table, count, snapshots, err)
					return
				}
			}
		}
	}()
	for i := range 30 {
		p.write(s, storetest.SealFilled(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Duration(i/2)*time.Second)), 100*(1+i%3), 100))
	}
	<-enough
	cancel()
	<-done
}

// TestPostgresFullDisk has a server whose files are limited to the size of a segment
// of its log.
func TestPostgresFullDisk(t *testing.T) {
	server, err := testserver.NewPostgres(16 << 10)
	if err != nil {
		t.Fatal(err)
	}
	p := newTestOn(t, server)
	s := p.sink(Options{})
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon), one))
	storetest.AssertRetriable(t, s.Write(t.Context(), storetest.SealNoise(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(time.Hour)), 20_000)))
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest`, "1")
	p.assertQuery(`SELECT count(*)::text FROM $S._collectord_snapshots`, "1")
	p.write(s, storetest.Seal(t, storetest.NewHeader("okta_users", "acme", storetest.Noon.Add(2*time.Hour)), one, one))
	p.assertQuery(`SELECT count(*)::text FROM $S.okta_users_latest`, "2")
}
