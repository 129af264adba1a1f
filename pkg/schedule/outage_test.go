package schedule

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
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	testserver.Stop()
	os.Exit(code)
}

// outage is a run of all destinations under a clock of its own.
type outage struct {
	*testing.T
	clock  time.Time
	runner *Runner
	d      *Deliverer
	job    Job
	pg     *testserver.Postgres
	stored []string // "12:10 postgres 12:00": when, where, of which tick
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	dir := t.TempDir()
	o := &outage{T: t, clock: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC), pg: testserver.StartPostgres(t)}
	bucket := testserver.StartS3(t)
	for name, value := range bucket.Env() {
		t.Setenv(name, value)
	}
	client := s3.New(s3.Options{BaseEndpoint: aws.String("http://" + bucket.Addr()), UsePathStyle: true, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(testserver.S3Key, testserver.S3Secret, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("outage")}); err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return o.clock }
	st, err := state.Open(t.Context(), filepath.Join(dir, "state"), state.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	sinks := openSinks(t, dir, o.pg.URL(testserver.Owner, testserver.Password))
	o.d = NewDeliverer(st, sinks, 15*time.Minute, time.Minute, zap.NewNop())
	o.d.Now = now
	var names []string
	for _, s := range sinks {
		names = append(names, s.Name())
	}
	o.runner = &Runner{State: st, Tenancy: "acme", Policy: state.Policy{Sinks: names}, SpoolMax: 1 << 30,
		Timeout: time.Hour, IdleTimeout: time.Hour, Parallel: 1, Now: now, Lives: &Lives{}, Log: zap.NewNop(), Sealed: func() {}}
	o.job = Job{Collector: &collector.Collector{Name: "okta", Streams: []collector.Stream{{Name: "okta_users", Extract: o.extract}}}}
	return o
}

func openSinks(t *testing.T, dir, postgres string) []store.Sink {
	t.Helper()
	path := func(text string) *store.Path {
		p, err := store.ParsePath("STORE", text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	file, err := store.NewFile(path(filepath.Join(dir, "%TAG-%hh%mm.json")), store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pg, err := store.NewPostgres(store.PostgresOptions{URL: postgres, Schema: "outage"})
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := store.NewS3(store.S3Options{Bucket: "outage", Key: path("%TAG-%hh%mm.json").Render})
	if err != nil {
		t.Fatal(err)
	}
	sinks := []store.Sink{file, store.NewDuckDB(path(filepath.Join(dir, "x.duckdb")), store.DuckDBOptions{}), bucket, pg}
	t.Cleanup(func() {
		for _, s := range sinks {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return sinks
}

// extract makes three records that tell the tick.
func (o *outage) extract(_ context.Context, out collector.Output) error {
	p := out.Page()
	defer p.Discard()
	for i := range 3 {
		if err := p.Append(fmt.Appendf(nil, `{"tick":%q,"i":%d}`, o.clock.Format("15:04"), i)); err != nil {
			return err
		}
	}
	return p.Commit()
}

// tick collects once.
func (o *outage) tick() {
	o.Helper()
	for _, r := range o.runner.Run(o.Context(), o.job, "test") {
		if r.Err != nil {
			o.Fatal(r.Err)
		}
	}
}

// deliver carries out all that is due, and notes what was stored.
func (o *outage) deliver() {
	o.Helper()
	for {
		before, err := o.d.State.Queue(o.Context())
		if err != nil {
			o.Fatal(err)
		}
		var all sync.WaitGroup
		o.d.dispatch(o.Context(), o.Context(), &all)
		all.Wait()
		tried := false
		for _, q := range before {
			queued, err := o.d.State.Queued(o.Context(), q.ID)
			if err != nil {
				o.Fatal(err)
			}
			if !queued {
				s := o.snapshotTime(q)
				o.stored = append(o.stored, fmt.Sprintf("%s %s %s", o.clock.Format("15:04"), q.Sink, s))
				tried = true
			}
		}
		if !tried {
			return
		}
	}
}

// snapshotTime is the tick of a delivery: its folder may be gone by now.
func (o *outage) snapshotTime(q state.Delivery) string {
	o.Helper()
	runs, err := o.d.State.Runs(o.Context(), q.Stream, 100)
	if err != nil {
		o.Fatal(err)
	}
	i := slices.IndexFunc(runs, func(r state.Run) bool { return r.UploadID == q.UploadID })
	return runs[i].Started.Format("15:04")
}

// TestPostgresDownForAnHour: the other destinations have each tick at its
// time, and Postgres all of them, in order, when it is back.
func TestPostgresDownForAnHour(t *testing.T) {
	o := newOutage(t)
	o.tick()
	o.deliver() // all are well
	o.pg.Crash()
	for minute := 1; minute <= 60; minute++ {
		o.clock = o.clock.Add(time.Minute)
		if minute%20 == 0 {
			o.tick()
		}
		o.deliver()
	}
	if err := o.pg.Start(); err != nil {
		t.Fatal(err)
	}
	for minute := 1; minute <= 16; minute++ {
		o.clock = o.clock.Add(time.Minute)
		o.deliver()
	}

	var elsewhere, postgres []string
	for _, line := range o.stored {
		when, where, tick := line[:5], strings.Fields(line)[1], line[len(line)-5:]
		if where == "postgres" {
			postgres = append(postgres, tick)
		} else if elsewhere = append(elsewhere, where+" "+tick); when != tick {
			t.Errorf("%s: not at its time", line)
		}
	}
	slices.Sort(elsewhere)
	want := []string{"duckdb 12:00", "duckdb 12:20", "duckdb 12:40", "duckdb 13:00", "file 12:00", "file 12:20", "file 12:40", "file 13:00",
		"s3 12:00", "s3 12:20", "s3 12:40", "s3 13:00"}
	if !slices.Equal(elsewhere, want) {
		t.Errorf("stored %v", elsewhere)
	}
	if !slices.Equal(postgres, []string{"12:00", "12:20", "12:40", "13:00"}) {
		t.Errorf("postgres has %v, of %v", postgres, o.stored)
	}
	o.readBack()
}

// readBack looks into the two databases: three records of each tick, stored in
// order.
func (o *outage) readBack() {
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
		o.Errorf("postgres holds %v, %v", got, err)
	}
	path := filepath.Join(filepath.Dir(o.d.State.Dir()), "x.duckdb")
	db, err := duckdb.Open(ctx, path, duckdb.Options{ReadOnly: true})
	if err != nil {
		o.Fatal(err)
	}
	defer db.Close()
	var n, ticks int
	if err := db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT json_data->>'tick') FROM okta_users`).Scan(&n, &ticks); err != nil || n != 12 || ticks != 4 {
		o.Errorf("duckdb holds %d records of %d ticks, %v", n, ticks, err)
	}
}
