package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
)

// commit is how the end of a transaction looks on the wire.
const commit = "commit\x00"

// throughProxy returns a sink whose connections pass the proxy.
func (p *pgTest) throughProxy(opts PostgresOptions) (*Postgres, *faultproxy.Proxy) {
	p.Helper()
	proxy, err := faultproxy.New("tcp", fmt.Sprintf("127.0.0.1:%d", p.server.Port))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { proxy.Close() })
	opts.URL = strings.Replace(p.server.URL(testserver.Quick, testserver.Password), strconv.Itoa(p.server.Port), strconv.Itoa(proxy.Port()), 1)
	return p.sink(opts), proxy
}

// retriable checks that an error is worth repeating and holds no secret.
func retriable(t testing.TB, err error) {
	t.Helper()
	if err == nil || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "pw-") || strings.Contains(err.Error(), testserver.S3Secret) {
		t.Fatalf("err = %v, want one that is worth repeating, without a secret", err)
	}
}

// numbered makes a snapshot of n records of some size.
func numberedSnapshot(t testing.TB, h snapshot.Header, n, size int) *snapshot.Snapshot {
	filler := strings.Repeat("0123456789abcdef", size/16+1)[:size]
	return sealEach(t, h, n, func(i int) string { return fmt.Sprintf(`{"i":%d,"filler":%q}`, i, filler) })
}

// TestPostgresCutAnywhere cuts connections at random points of more than two
// hundred deliveries: each snapshot is there once in the end.
func TestPostgresCutAnywhere(t *testing.T) {
	testserver.StartPostgres(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := newPgTest(t)
	s, proxy := p.throughProxy(PostgresOptions{})
	defer proxy.Close()
	random := rand.New(rand.NewPCG(1, 2026))
	p.write(s, numberedSnapshot(t, headerOf("okta_users", "acme", noon), 100, 1000))
	up, down := proxy.Passed()
	const deliveries = 220
	failed, fired := 0, 0
	for i := range deliveries {
		snap := numberedSnapshot(t, headerOf("okta_users", "t"+strconv.Itoa(i%3), noon.Add(time.Duration(i)*time.Second)), i%100, 1000)
		for attempt := 0; ; attempt++ {
			fault := faultproxy.Fault{}
			if attempt < 3 {
				switch random.IntN(8) {
				case 0:
					fault.CutReplyTo = commit
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
			retriable(t, err)
			failed++
			p.wholeOrNothing(snap)
		}
		p.once(snap)
	}
	t.Logf("%d deliveries, %d faults met, %d attempts failed", deliveries, fired, failed)
	if failed < deliveries/2 {
		t.Errorf("only %d of the attempts failed", failed)
	}
	p.holds(`SELECT count(*)::text FROM $S._collectord_snapshots`, strconv.Itoa(deliveries+1))
}

func (p *pgTest) stored(snap *snapshot.Snapshot) int64 {
	p.Helper()
	n, err := strconv.ParseInt(p.texts(fmt.Sprintf(`SELECT count(DISTINCT json_data->>'i') || '' FROM $S.%s WHERE tenancy = '%s' AND upload_timestamp = '%s' HAVING count(*) = count(DISTINCT json_data->>'i')`,
		snap.Stream, snap.Tenancy, snap.UploadTimestamp.Format(snapshot.TimestampLayout)))[0], 10, 64)
	if err != nil {
		p.Fatal(err)
	}
	return n
}

func (p *pgTest) once(snap *snapshot.Snapshot) {
	p.Helper()
	if n := p.stored(snap); n != snap.Records {
		p.Fatalf("%d records are stored of %d", n, snap.Records)
	}
}

func (p *pgTest) wholeOrNothing(snap *snapshot.Snapshot) {
	p.Helper()
	if n := p.stored(snap); n != 0 && n != snap.Records {
		p.Fatalf("%d records are stored of %d", n, snap.Records)
	}
}

// TestPostgresServerDies stops the server while a snapshot is half copied.
func TestPostgresServerDies(t *testing.T) {
	p := newPgTest(t)
	s, proxy := p.throughProxy(PostgresOptions{})
	p.write(s, numberedSnapshot(t, headerOf("okta_users", "acme", noon), 10, 10))
	snap := numberedSnapshot(t, headerOf("okta_users", "acme", noon.Add(time.Hour)), 2000, 1000)
	proxy.Set(faultproxy.Fault{StallUp: 500_000})
	failed := make(chan error)
	go func() { failed <- s.Write(context.WithoutCancel(t.Context()), snap) }()
	<-proxy.Met()
	p.server.Crash()
	retriable(t, <-failed)
	retriable(t, s.Write(t.Context(), snap)) // nobody is there
	if err := s.Check(t.Context()); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("Check: %v", err)
	}
	if err := p.server.Start(); err != nil {
		t.Fatal(err)
	}
	p.reconnect()
	proxy.Set(faultproxy.Fault{})
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "10")
	p.write(s, snap)
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "2010")
}

// TestPostgresRoleSettings has defaults of the role that must not matter, and
// those that pass.
func TestPostgresRoleSettings(t *testing.T) {
	p := newPgTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-1'; CREATE SCHEMA $S AUTHORIZATION ` + role)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(PostgresOptions{URL: p.server.URL(role, "pw-role-1"), Replace: true})
	p.write(s, seal(t, headerOf("okta_users", "acme", noon), one))
	set := func(setting string) { t.Helper(); p.exec(`ALTER ROLE ` + role + ` SET ` + setting) }

	set(`default_transaction_isolation = 'serializable'`)
	set(`statement_timeout = '150ms'`)
	set(`TimeZone = 'Asia/Tokyo'`)
	set(`DateStyle = 'German'`)
	set(`synchronous_commit = off`)
	p.write(s, numberedSnapshot(t, headerOf("okta_users", "acme", noon.Add(time.Hour)), 60_000, 100))
	p.holds(`SELECT DISTINCT upload_timestamp::text FROM $S.okta_users_latest`, "2026-03-01 13:00:00")

	set(`default_transaction_read_only = on`)
	later := seal(t, headerOf("okta_users", "acme", noon.Add(2*time.Hour)), one)
	retriable(t, s.Write(t.Context(), later))
	err := s.Check(t.Context())
	retriable(t, err)
	if !strings.Contains(err.Error(), "takes no writes") {
		t.Errorf("Check: %v", err)
	}
	set(`default_transaction_read_only = off`)

	// A table that somebody has locked is not waited for without end.
	set(`lock_timeout = '50ms'`)
	tx, err := p.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE `+p.schema+`.okta_users`); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), later)
	retriable(t, err)
	if !strings.Contains(err.Error(), "55P03") {
		t.Errorf("err = %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.write(s, later)
	p.holds(`SELECT count(*)::text FROM $S.okta_users`, "1")
}

// TestPostgresCompression has long records: LZ4 where nobody has chosen.
func TestPostgresCompression(t *testing.T) {
	p := newPgTest(t)
	role := "r_" + p.schema
	p.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'pw-role-1'; CREATE SCHEMA $S AUTHORIZATION ` + role)
	t.Cleanup(func() { p.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role) })
	s := p.sink(PostgresOptions{URL: p.server.URL(role, "pw-role-1"), Replace: true})
	long := func(at time.Time) *snapshot.Snapshot {
		return seal(t, headerOf("okta_users", "acme", at), `{"long":"`+strings.Repeat("abcdefgh", 1000)+`"}`)
	}
	const how = `SELECT pg_column_compression(json_data) FROM $S.okta_users`
	p.write(s, long(noon))
	p.holds(how, "lz4")
	p.exec(`ALTER ROLE ` + role + ` SET default_toast_compression = 'pglz'`)
	p.write(s, long(noon.Add(time.Hour)))
	p.holds(how, "pglz")
}

// TestPostgresWritersAtOnce has processes that deliver the same snapshots,
// from the first, which finds no schema, on.
func TestPostgresWritersAtOnce(t *testing.T) {
	p := newPgTest(t)
	var snaps []*snapshot.Snapshot
	for i := range 5 {
		snaps = append(snaps, numberedSnapshot(t, headerOf("okta_users", "acme", noon.Add(time.Duration(i)*time.Second)), 50, 100))
	}
	var writers sync.WaitGroup
	for range 6 {
		s := p.sink(PostgresOptions{URL: p.server.URL(testserver.Owner, testserver.Password) + "&default_transaction_isolation=repeatable%20read"})
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
		p.once(snap)
	}
}

// TestPostgresReadersSeeOldOrNew reads while snapshots replace each other.
func TestPostgresReadersSeeOldOrNew(t *testing.T) {
	p := newPgTest(t)
	s := p.sink(PostgresOptions{Replace: true})
	p.write(s, numberedSnapshot(t, headerOf("okta_users", "acme", noon), 100, 100))
	ctx, cancel := context.WithCancel(t.Context())
	reads := make(chan int)
	go func() {
		n := 0
		defer func() { reads <- n }()
		conn, err := pgx.Connect(ctx, p.server.URL(testserver.Owner, testserver.Password))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.WithoutCancel(ctx))
		for ; ctx.Err() == nil; n++ {
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
		p.write(s, numberedSnapshot(t, headerOf("okta_users", "acme", noon.Add(time.Duration(i/2)*time.Second)), 100*(1+i%3), 100))
	}
	cancel()
	if n := <-reads; n < 10 {
		t.Errorf("only %d reads", n)
	}
}

// damage changes the last byte of a snapshot's records.
func damage(t *testing.T, snap *snapshot.Snapshot) {
	t.Helper()
	b, err := os.ReadFile(snap.Path())
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(snap.Path(), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPostgresFullDisk has a server whose files may grow no further than a
// segment of its log.
func TestPostgresFullDisk(t *testing.T) {
	server, err := testserver.NewPostgres(16 << 10)
	if err != nil {
		t.Fatal(err)
	}
	p := pgTestOn(t, server)
	s := p.sink(PostgresOptions{})
	p.write(s, seal(t, headerOf("okta_users", "acme", noon), one))
	retriable(t, s.Write(t.Context(), noise(t, headerOf("okta_users", "acme", noon.Add(time.Hour)), 20_000)))
	p.holds(`SELECT count(*)::text FROM $S.okta_users_latest`, "1")
	p.holds(`SELECT count(*)::text FROM $S._collectord_snapshots`, "1")
	p.write(s, seal(t, headerOf("okta_users", "acme", noon.Add(2*time.Hour)), one, one))
	p.holds(`SELECT count(*)::text FROM $S.okta_users_latest`, "2")
}
