package delivery

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
	"github.com/collectord/collectord/pkg/store"
	duckdbsink "github.com/collectord/collectord/pkg/store/duckdb"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
	s3sink "github.com/collectord/collectord/pkg/store/s3"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.Stop()
	os.Exit(code)
}

// outageTest collects and delivers to all kinds of destinations under its own clock.
type outageTest struct {
	*testing.T
	clock     time.Time
	runner    *run.Runner
	deliverer *Deliverer
	job       run.Job
	pg        *testserver.Postgres
	// stored has the time, the destination and the tick of each stored snapshot, such as
	// "12:10 postgres 12:00".
	stored []string
}

func newOutageTest(t *testing.T) *outageTest {
	t.Helper()
	dir := t.TempDir()
	o := &outageTest{T: t, clock: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), pg: testserver.StartPostgres(t)}
	bucket := testserver.StartS3(t)
	for name, value := range bucket.Env() {
		t.Setenv(name, value)
	}
	client := s3.New(s3.Options{BaseEndpoint: aws.String("http://" + bucket.Addr()), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(testserver.S3Key, testserver.S3Secret, "")})
	name := "outage-" + uuid.NewString()
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return o.clock }
	st, err := local.Open(t.Context(), filepath.Join(dir, "state"), local.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	sinks := openSinks(t, dir, name, o.pg.URL(testserver.Owner, testserver.Password))
	o.deliverer = New(st, "acme", sinks, 15*time.Minute, time.Minute, zap.NewNop())
	o.deliverer.Now = now
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name())
	}
	o.runner = &run.Runner{State: st, Tenancy: "acme", Policy: state.Policy{Sinks: names},
		Timeout: time.Hour, IdleTimeout: time.Hour, Parallel: 1, Now: now, Active: &run.ActiveRuns{}, Log: zap.NewNop(), OnSealed: func() {}}
	o.job = run.Job{Collector: &collector.Collector{Name: "okta", Streams: []collector.Stream{{Name: "okta_users", Extract: o.extractTick}}}}
	return o
}

func openSinks(t *testing.T, dir, bucketName, postgresURL string) []store.Sink {
	t.Helper()
	path := func(text string) *store.Path {
		p, err := store.ParsePath("STORE", text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	files, err := file.New(file.Options{Path: path(filepath.Join(dir, "%TAG-%hh%mm.json"))})
	if err != nil {
		t.Fatal(err)
	}
	pg, err := postgres.New(postgres.Options{URL: postgresURL, Schema: "outage"})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := s3sink.New(s3sink.Options{Bucket: bucketName, Key: path("%TAG-%hh%mm.json").Render})
	if err != nil {
		t.Fatal(err)
	}
	db, err := duckdbsink.New(duckdbsink.Options{Path: path(filepath.Join(dir, "x.duckdb"))})
	if err != nil {
		t.Fatal(err)
	}
	sinks := []store.Sink{files, db, bucket, pg}
	t.Cleanup(func() {
		for _, s := range sinks {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return sinks
}

// extractTick produces three records that contain the time of the tick.
func (o *outageTest) extractTick(_ context.Context, out collector.Output) error {
	p := out.NewBatch()
	defer p.Discard()
	for i := range 3 {
		if err := p.Append(fmt.Appendf(nil, `{"tick":%q,"i":%d}`, o.clock.Format("15:04"), i)); err != nil {
			return err
		}
	}
	return p.Commit()
}

// runCollector runs the collector once.
func (o *outageTest) runCollector() {
	o.Helper()
	for _, r := range o.runner.Run(o.Context(), o.job, "test") {
		if r.Err != nil {
			o.Fatal(r.Err)
		}
	}
}

// deliverDue makes all deliveries that are due and records those that were stored.
func (o *outageTest) deliverDue() {
	o.Helper()
	for {
		before, err := o.deliverer.State.Queue.List(o.Context())
		if err != nil {
			o.Fatal(err)
		}
		var all sync.WaitGroup
		o.deliverer.startDue(o.Context(), o.Context(), &all)
		all.Wait()
		stored := false
		for _, q := range before {
			queued, err := o.deliverer.State.Queue.Contains(o.Context(), q)
			if err != nil {
				o.Fatal(err)
			}
			if !queued {
				tick := o.tickOf(q)
				o.stored = append(o.stored, fmt.Sprintf("%s %s %s", o.clock.Format("15:04"), q.Sink, tick))
				stored = true
			}
		}
		if !stored {
			return
		}
	}
}

// tickOf returns the time of the tick that a delivery belongs to. It uses the run history,
// since the directory of the snapshot may be removed by now.
func (o *outageTest) tickOf(q state.Delivery) string {
	o.Helper()
	runs, err := o.deliverer.State.Runs.List(o.Context(), q.Stream, 100)
	if err != nil {
		o.Fatal(err)
	}
	i := slices.IndexFunc(runs, func(r state.Run) bool { return r.UploadID == q.UploadID })
	return runs[i].Started.Format("15:04")
}

// TestPostgresDownForAnHour checks that an outage of Postgres does not delay the other
// destinations, and that Postgres receives all snapshots in order when it is back.
func TestPostgresDownForAnHour(t *testing.T) {
	o := newOutageTest(t)
	o.runCollector()
	o.deliverDue() // all destinations work
	o.pg.Crash()
	for minute := 1; minute <= 60; minute++ {
		o.clock = o.clock.Add(time.Minute)
		if minute%20 == 0 {
			o.runCollector()
		}
		o.deliverDue()
	}
	if err := o.pg.Start(); err != nil {
		t.Fatal(err)
	}
	for minute := 1; minute <= 16; minute++ {
		o.clock = o.clock.Add(time.Minute)
		o.deliverDue()
	}

	var elsewhere, postgres []string
	for _, line := range o.stored {
		when, where, tick := line[:5], strings.Fields(line)[1], line[len(line)-5:]
		if where == "postgres" {
			postgres = append(postgres, tick)
		} else if elsewhere = append(elsewhere, where+" "+tick); when != tick {
			t.Errorf("%s: stored late", line)
		}
	}
	slices.Sort(elsewhere)
	want := []string{"duckdb 12:00", "duckdb 12:20", "duckdb 12:40", "duckdb 13:00", "file 12:00", "file 12:20", "file 12:40", "file 13:00",
		"s3 12:00", "s3 12:20", "s3 12:40", "s3 13:00"}
	if !slices.Equal(elsewhere, want) {
		t.Errorf("stored %v", elsewhere)
	}
	if !slices.Equal(postgres, []string{"12:00", "12:20", "12:40", "13:00"}) {
		t.Errorf("postgres has %v, all destinations have %v", postgres, o.stored)
	}
	o.checkDatabases()
}

// checkDatabases checks that Postgres and DuckDB have three records of each tick, and that
// Postgres stored the ticks in order.
func (o *outageTest) checkDatabases() {
	o.Helper()
	ctx := o.Context()
	conn, err := pgx.Connect(ctx, o.pg.URL(testserver.Owner, testserver.Password))
	if err != nil {
		o.Fatal(err)
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT to_char(s.upload_timestamp, 'HH24:MI') || ' ' || count(t.tenancy)
		FROM outage._collectord_snapshots s JOIN outage.okta_users t USING (upload_timestamp)
		GROUP BY s.upload_timestamp, s.stored_at ORDER BY s.stored_at`)
	if err != nil {
		o.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if want := []string{"12:00 3", "12:20 3", "12:40 3", "13:00 3"}; err != nil || !slices.Equal(got, want) {
		o.Errorf("postgres has %v, want %v; error: %v", got, want, err)
	}
	path := filepath.Join(filepath.Dir(o.deliverer.State.Dir()), "x.duckdb")
	db, err := duckdb.Open(ctx, path, duckdb.Options{ReadOnly: true})
	if err != nil {
		o.Fatal(err)
	}
	defer db.Close()
	var n, ticks int
	err = db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT json_data->>'tick') FROM okta_users`).Scan(&n, &ticks)
	if err != nil || n != 12 || ticks != 4 {
		o.Errorf("duckdb has %d records of %d ticks, want 12 of 4; error: %v", n, ticks, err)
	}
}

// TestDestinationsThatRefuseForDays checks that a database that refuses the login and a bucket
// that does not exist are attempted about four times an hour, however many snapshots are
// collected, and that the log reports few of the attempts.
func TestDestinationsThatRefuseForDays(t *testing.T) {
	const days = 2
	o := newOutageTest(t)
	core, logs := observer.New(zap.InfoLevel)
	pg, err := postgres.New(postgres.Options{URL: o.pg.URL(testserver.Owner, "not-the-password"), Schema: "outage"})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := s3sink.New(s3sink.Options{Bucket: "no-such-bucket", Key: func(snapshot.Header) string { return "okta_users.json" }, OneObject: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bucket.Close() })
	o.deliverer = New(o.deliverer.State, "acme", []store.Sink{pg, bucket}, 15*time.Minute, time.Minute, zap.New(core))
	o.deliverer.Now = func() time.Time { return o.clock }
	o.runner.Policy = state.Policy{Sinks: []string{"postgres", "s3"}, NewestOnly: []string{"s3"}, SpoolMax: 1}
	for minute := range days * 24 * 60 {
		if minute%60 == 0 {
			o.runCollector()
		}
		if minute%5 == 0 {
			o.deliverDue()
		}
		o.clock = o.clock.Add(time.Minute)
	}
	statuses, err := o.deliverer.State.Queue.SinkStatuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		if s.Failures < days*24*2 || s.Failures > days*24*4+1 {
			t.Errorf("%s: %d attempts in %d days", s.Sink, s.Failures, days)
		}
		if s.Superseded+s.Skipped < days*24-3 {
			t.Errorf("%s: %d superseded and %d skipped", s.Sink, s.Superseded, s.Skipped)
		}
	}
	if n := logs.FilterMessage("not stored; it stays queued").Len(); n < 8 || n > 20 {
		t.Errorf("%d log lines about failed attempts, want 8 to 20", n)
	}
	queue, err := o.deliverer.State.Queue.List(t.Context())
	if err != nil || len(queue) != 2 {
		t.Errorf("%d deliveries are queued, want 2; error %v", len(queue), err)
	}
}
