package web

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/freshness"
	"github.com/collectord/collectord/pkg/operation"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/run"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
	"github.com/collectord/collectord/pkg/state/local"
)

// hostileText is a text of a vendor that would run a script if it were not escaped.
const hostileText = `<script>document.title="taken over"</script><img src=x onerror="document.title='taken over'">`

// shownAt is the time at which the status page is shown.
var shownAt = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// fakeDaemon is a Daemon with fixed statuses. It records what it is asked to do.
type fakeDaemon struct {
	mu        sync.Mutex
	statuses  []schedule.CollectorStatus
	disabled  []freshness.DisabledStream
	active    []*run.ActiveRun
	started   []string
	delivered int
	operator  *operation.Operator
	run       error // of RunNow and RunStreamNow
	alive     error
	ready     error
	reload    error
}

func (f *fakeDaemon) Statuses() []schedule.CollectorStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses
}

// setStatuses replaces the statuses while a server shows them.
func (f *fakeDaemon) setStatuses(statuses []schedule.CollectorStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = statuses
}

func (f *fakeDaemon) Disabled() []DisabledCollector {
	return []DisabledCollector{{Collector: "snyk", Title: "Snyk", Missing: []string{"SNYK_TOKEN"}, Why: "SNYK_TOKEN is not set"},
		{Collector: "knowbe4", Title: "KnowBe4", Why: "COLLECTORS does not name it"}}
}
func (f *fakeDaemon) DisabledStreams() []freshness.DisabledStream { return f.disabled }
func (f *fakeDaemon) ActiveRuns() []*run.ActiveRun                { return f.active }
func (f *fakeDaemon) MaxAge(string) time.Duration                 { return 0 }
func (f *fakeDaemon) Alive() error                                { return f.alive }
func (f *fakeDaemon) Ready() error                                { return f.ready }
func (f *fakeDaemon) RunNow(name string) ([]string, error) {
	f.started = append(f.started, "all of "+name)
	return []string{name + "_a", name + "_b"}, f.run
}
func (f *fakeDaemon) RunStreamNow(name string) error {
	f.started = append(f.started, name)
	return f.run
}
func (f *fakeDaemon) DeliverNow(context.Context) error { f.delivered++; return nil }
func (f *fakeDaemon) Reload(context.Context) error     { return f.reload }
func (f *fakeDaemon) LastReload() (time.Time, error)   { return shownAt, nil }
func (f *fakeDaemon) Operator() *operation.Operator    { return f.operator }

// fixture is a state directory with a history. Its server shows it at shownAt.
type fixture struct {
	testing.TB
	state  *state.State
	now    time.Time // the time of the state
	daemon *fakeDaemon
	dir    string
	// tenancy is that of what is added.
	tenancy string
}

// newFixture opens an empty state directory.
func newFixture(t testing.TB) *fixture {
	f := &fixture{TB: t, dir: t.TempDir(), daemon: &fakeDaemon{}, now: shownAt, tenancy: "acme"}
	st, err := local.Open(t.Context(), f.dir, local.Options{Now: func() time.Time { return f.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	f.state = st
	f.daemon.operator = &operation.Operator{
		State: st, Tenancy: "acme", Streams: []string{"okta_users", "snyk_issues"}, Destinations: []string{"file", "duckdb", "postgres", "s3", "backup"},
		Policy: state.Policy{Sinks: []string{"duckdb", "postgres"}}, Log: zap.NewNop(),
	}
	return f
}

// startServer starts a server with queries and data switched on.
func (f *fixture) startServer(token string) *httptest.Server {
	f.Helper()
	return f.startServerWith(func(o *Options) { o.Token = token })
}

// startServerWith is startServer with other options.
func (f *fixture) startServerWith(change func(*Options)) *httptest.Server {
	server := httptest.NewServer(f.newHandler(change))
	f.Cleanup(server.Close)
	return server
}

// newHandler returns the handler of a server with queries and data switched on.
func (f *fixture) newHandler(change func(*Options)) http.Handler {
	engine := query.New(query.Options{State: f.state, Tenancy: "acme", Dir: filepath.Join(f.dir, "query"), Memory: 1 << 30, Parallel: 2})
	f.Cleanup(engine.Close)
	options := Options{
		State: f.state, Daemon: f.daemon, Tenancy: "acme", Access: Access{Loopback: true}, Version: "v1.0.0", Now: func() time.Time { return shownAt },
		Metrics: http.NotFoundHandler(), ShowData: true, Profiles: engine, Queries: engine, QueryTime: time.Hour,
	}
	change(&options)
	return New(options).Handler()
}

// addCollector adds a collector that is on; an interval of 0 means that it has no schedule.
func (f *fixture) addCollector(collector string, interval time.Duration, streams ...string) {
	status := schedule.CollectorStatus{Collector: collector}
	for _, stream := range streams {
		plan := schedule.StreamStatus{Stream: stream, Schedule: "off", Zone: "UTC", Interval: interval, FirstDue: shownAt}
		if interval > 0 {
			var e calendar.Expression
			if err := e.UnmarshalText([]byte("@every " + interval.String())); err != nil {
				f.Fatal(err)
			}
			plan.Calendar = e.In(time.UTC)
			plan.Schedule, plan.Next = "15 */6 * * *", shownAt.Add(interval/3)
		}
		status.Streams = append(status.Streams, plan)
	}
	f.daemon.statuses = append(f.daemon.statuses, status)
}

// newHeader returns the header of a snapshot that was taken at a time.
func newHeader(collector, stream string, at time.Time) snapshot.Header {
	return snapshot.Header{
		Collector: collector, Stream: stream, Tenancy: "acme",
		UploadID: fmt.Sprintf("8f14e45f-ceea-467f-a8c6-%012d", at.Unix()), UploadTimestamp: at,
	}
}

// header is newHeader for the tenancy of the fixture.
func (f *fixture) header(collector, stream string, at time.Time) snapshot.Header {
	h := newHeader(collector, stream, at)
	h.Tenancy = f.tenancy
	return h
}

// addSuccess adds a successful run that ended about age ago. Its snapshot is queued for sinks.
func (f *fixture) addSuccess(collector, stream string, age time.Duration, sinks []string, records ...string) {
	f.Helper()
	f.addSuccessWithDoubts(collector, stream, age, nil, sinks, records...)
}

// addSuccessWithDoubts is addSuccess for a run that accepted doubts.
func (f *fixture) addSuccessWithDoubts(
	collector, stream string, age time.Duration, doubts snapshot.Doubts, sinks []string, records ...string,
) {
	f.Helper()
	at := shownAt.Add(-age)
	h := f.header(collector, stream, at)
	id, err := f.state.Runs.Begin(f.Context(), state.RunStart{Header: h, Trigger: "schedule", Started: at})
	if err != nil {
		f.Fatal(err)
	}
	w, err := f.state.Snapshots.Spool(h)
	if err != nil {
		f.Fatal(err)
	}
	batch := w.NewBatch()
	for _, r := range records {
		if err := batch.Append([]byte(r)); err != nil {
			f.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		f.Fatal(err)
	}
	f.now = at.Add(42 * time.Second)
	defer func() { f.now = shownAt }()
	stats := state.RunStats{Records: int64(len(records)), Bytes: 60 << 20, Pages: 12, Requests: 14, Retries: 1, Doubts: doubts}
	if _, err := f.state.Runs.Commit(f.Context(), id, w, stats, state.Policy{Sinks: sinks}); err != nil {
		f.Fatal(err)
	}
}

// addRestored adds data from a backup that was taken age ago.
func (f *fixture) addRestored(collector, stream string, age time.Duration, record string) {
	f.Helper()
	w, err := f.state.Snapshots.SpoolRestore(f.header(collector, stream, shownAt.Add(-age)))
	if err != nil {
		f.Fatal(err)
	}
	batch := w.NewBatch()
	tail := fmt.Sprintf(`,"_tenancy":%q,"_upload_timestamp":%q,"_upload_id":%q}`,
		f.tenancy, w.Info().UploadTimestamp.Format(snapshot.TimestampLayout), w.Info().UploadID)
	if err := batch.Append([]byte(record[:len(record)-1] + tail)); err != nil {
		f.Fatal(err)
	}
	if err := batch.Commit(); err != nil {
		f.Fatal(err)
	}
	if outcome, err := f.state.Snapshots.Restore(f.Context(), w, state.Policy{}); err != nil || outcome != state.RestoreDone {
		f.Fatal(outcome, err)
	}
}

// addFailure adds a run that started age ago and failed with an error text.
func (f *fixture) addFailure(collector, stream string, age time.Duration, text string) {
	f.Helper()
	at := shownAt.Add(-age)
	id, err := f.state.Runs.Begin(f.Context(), state.RunStart{Header: f.header(collector, stream, at), Trigger: "schedule", Started: at})
	if err != nil {
		f.Fatal(err)
	}
	f.now = at.Add(9 * time.Second)
	defer func() { f.now = shownAt }()
	if err := f.state.Runs.Fail(f.Context(), id, state.Failed, fmt.Errorf("%s", text), state.RunStats{Requests: 6, Retries: 5}); err != nil {
		f.Fatal(err)
	}
}

// addSkipped adds a tick that was skipped age ago.
func (f *fixture) addSkipped(collector, stream string, age time.Duration) {
	f.Helper()
	at := shownAt.Add(-age)
	f.now = at
	defer func() { f.now = shownAt }()
	start := state.RunStart{Header: newHeader(collector, stream, at), Trigger: "schedule", Started: at}
	if err := f.state.Runs.Skip(f.Context(), start, errors.New("the previous run is still in progress")); err != nil {
		f.Fatal(err)
	}
}

// addHistory writes n ended runs directly into the database, since thousands of real runs would
// take minutes.
func (f *fixture) addHistory(collector, stream string, n int, every time.Duration) {
	f.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, "collectord.db"))
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		f.Fatal(err)
	}
	for i := range n {
		at := shownAt.Add(-time.Duration(n-i) * every)
		outcome, text := "success", ""
		records := 40000 + 80*i + int(3000*math.Sin(float64(i)/9))
		if i%37 == 11 || i%90 > 87 {
			outcome, text, records = "failed", "okta: GET /api/v1/users: 503 Service Unavailable after 6 attempts", 0
		}
		if _, err := tx.Exec(`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, error,
				records, bytes, pages, requests, retries, limited)
			VALUES (?, ?, ?, ?, 'schedule', ?, ?, ?, ?, ?, ?, 12, 14, 1, 3000)`, collector, stream, f.tenancy, fmt.Sprint(stream, i),
			at.UnixMilli(), at.Add(time.Duration(40+i%17)*time.Second).UnixMilli(), outcome, text, records, records*1600); err != nil {
			f.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		f.Fatal(err)
	}
}

// newFullFixture returns a fixture with a stream for each freshness label.
func newFullFixture(t testing.TB) *fixture {
	f := newFixture(t)
	const interval = 6 * time.Hour
	f.addHistory("okta", "okta_users", 360, interval)
	f.addHistory("crowdstrike", "crowdstrike_hosts", 90, interval)
	f.addHistory("crowdstrike", "crowdstrike_vulnerabilities", 60, interval)
	f.addHistory("tenable", "tenable_assets", 60, interval)
	f.addCollector("crowdstrike", interval, "crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zta")
	f.addCollector("okta", interval, "okta_users")
	f.addCollector("tenable", interval, "tenable_assets", "tenable_was")
	f.addCollector("manual", 0, "manual_stream")
	f.addSuccess("crowdstrike", "crowdstrike_hosts", 2*time.Hour, []string{"duckdb", "postgres"},
		`{"device_id":"h1","hostname":"web-01"}`, `{"device_id":"h2","hostname":"web-02"}`)
	f.addSuccess("crowdstrike", "crowdstrike_vulnerabilities", 30*time.Hour, nil, `{"aid":"h1","status":"open"}`)
	f.addFailure("crowdstrike", "crowdstrike_vulnerabilities", time.Hour,
		"crowdstrike: GET /spotlight/combined/vulnerabilities/v1: 403 Forbidden: access denied, authorization failed: "+
			"give the API client FALCON_CLIENT_ID the scope \"Vulnerabilities: read\"")
	f.addSuccess("okta", "okta_users", 5*time.Hour, []string{"file"},
		fmt.Sprintf(`{"id":"00u1","status":"ACTIVE","profile":{"login":%q,"email":"ada@example.com"}}`, hostileText),
		`{"id":"00u2","status":"SUSPENDED","profile":{"login":"bob","email":null}}`)
	f.addFailure("okta", "okta_users", time.Hour, "okta: the response is not JSON but begins with: "+hostileText)
	f.addSuccess("tenable", "tenable_assets", 9*time.Hour, nil, `{"id":"a1"}`)
	f.addSuccess("manual", "manual_stream", 200*time.Hour, nil, `{"id":1}`)
	f.addRestored("tenable", "tenable_was", 4*time.Hour, `{"id":1}`)
	f.addSuccess("tenable", "tenable_findings", 900*time.Hour, nil, `{"id":1}`)
	f.addFailure("tenable", "tenable_findings", 800*time.Hour, "tenable: POST /compliance/export: 403 Forbidden")
	f.daemon.disabled = append(f.daemon.disabled, freshness.DisabledStream{
		Collector: "tenable", Stream: "tenable_findings", Why: "COLLECTORS excludes it",
	})
	active := &run.ActiveRun{
		Collector: "tenable", Stream: "tenable_assets", Started: shownAt.Add(-73 * time.Second), Stats: &collector.Stats{},
	}
	active.Stats.CountRequest("GET /assets/v2/export/{uuid}/chunks/7", 1)
	active.Stats.CountBatch(18250, 30<<20)
	f.daemon.active = append(f.daemon.active, active)
	queue, err := f.state.Queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range queue {
		switch d.Sink {
		case "duckdb", "file":
			f.now = shownAt.Add(-time.Hour)
			err = f.state.Queue.MarkDelivered(t.Context(), d)
			f.now = shownAt
		case "postgres":
			cause := errors.New("postgres: connect to db.example.com:5432: connection refused: is the server up? STORE_POSTGRES_HOST names it")
			err = f.state.Queue.ScheduleRetry(t.Context(), d, cause, state.Transient, shownAt.Add(7*time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}
