package web

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/schedule"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

const hostile = `<script>document.title="taken over"</script><img src=x onerror="document.title='taken over'">`

var pageNow = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// still is a daemon at one moment.
type still struct {
	standings []schedule.Standing
	live      []*schedule.Live
	started   []string
	delivered int
}

func (d *still) Standings() []schedule.Standing { return d.standings }
func (d *still) Off() []Off {
	return []Off{{Collector: "snyk", Title: "Snyk", Missing: []string{"SNYK_TOKEN"}, Why: "SNYK_TOKEN is not set"},
		{Collector: "knowbe4", Title: "KnowBe4", Why: "COLLECTORS does not name it"}}
}
func (d *still) Running() []*schedule.Live { return d.live }
func (d *still) Alive() error              { return nil }
func (d *still) Ready() error              { return nil }
func (d *still) RunNow(name string) error {
	d.started = append(d.started, name)
	return nil
}
func (d *still) DeliverNow(context.Context) error { d.delivered++; return nil }
func (d *still) Reload(context.Context) error     { return nil }
func (d *still) LastReload() (time.Time, error)   { return pageNow, nil }

// scene is a state folder with a history, and a server of it.
type scene struct {
	testing.TB
	state *state.State
	now   time.Time
	d     *still
	dir   string
}

func newScene(t testing.TB) *scene {
	s := &scene{TB: t, dir: t.TempDir(), d: &still{}, now: pageNow}
	st, err := state.Open(t.Context(), s.dir, state.Options{Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	s.state = st
	return s
}

func (s *scene) server(token string) *httptest.Server {
	o := query.Options{State: s.state, Tenancy: "acme", Dir: filepath.Join(s.dir, "query"), Memory: 256 << 20}
	server := httptest.NewServer(New(Options{
		State: s.state, Daemon: s.d, Tenancy: "acme", Token: token, Version: "v1.0.0", Now: func() time.Time { return pageNow },
		Metrics: http.NotFoundHandler(), ShowData: true, Profiles: query.New(o), Queries: query.New(o),
	}).Handler())
	s.Cleanup(server.Close)
	return server
}

// on puts a collector on the schedule.
func (s *scene) on(collector string, interval time.Duration, streams ...string) {
	standing := schedule.Standing{Collector: collector, Streams: streams, Schedule: "off", Zone: "UTC", Interval: interval}
	if interval > 0 {
		standing.Schedule, standing.Next = "15 */6 * * *", pageNow.Add(interval/3)
	}
	s.d.standings = append(s.d.standings, standing)
}

func headerOf(collector, stream string, at time.Time) snapshot.Header {
	return snapshot.Header{Collector: collector, Stream: stream, Tenancy: "acme", UploadID: fmt.Sprintf("8f14e45f-ceea-467f-a8c6-%012d", at.Unix()), UploadTimestamp: at}
}

// collected is a whole run with records.
func (s *scene) collected(collector, stream string, age time.Duration, sinks []string, records ...string) {
	s.Helper()
	at := pageNow.Add(-age)
	h := headerOf(collector, stream, at)
	id, err := s.state.Begin(s.Context(), state.Start{Header: h, Trigger: "schedule", Started: at})
	if err != nil {
		s.Fatal(err)
	}
	w, err := s.state.Spool(s.Context(), h, 1<<40)
	if err != nil {
		s.Fatal(err)
	}
	page := w.Page()
	for _, r := range records {
		if err := page.Append([]byte(r)); err != nil {
			s.Fatal(err)
		}
	}
	if err := page.Commit(); err != nil {
		s.Fatal(err)
	}
	s.now = at.Add(42 * time.Second)
	defer func() { s.now = pageNow }()
	if _, err := s.state.Commit(s.Context(), id, w, state.Figures{Records: int64(len(records)), Bytes: 60 << 20, Pages: 12, Requests: 14, Retries: 1}, state.Policy{Sinks: sinks}); err != nil {
		s.Fatal(err)
	}
}

// restored is data from a backup.
func (s *scene) restored(collector, stream string, age time.Duration, record string) {
	s.Helper()
	w, err := s.state.SpoolRestore(headerOf(collector, stream, pageNow.Add(-age)))
	if err != nil {
		s.Fatal(err)
	}
	page := w.Page()
	tail := fmt.Sprintf(`,"_tenancy":"acme","_upload_timestamp":%q,"_upload_id":%q}`, w.Read().UploadTimestamp.Format(snapshot.TimestampLayout), w.Read().UploadID)
	if err := page.Append([]byte(record[:len(record)-1] + tail)); err != nil {
		s.Fatal(err)
	}
	if err := page.Commit(); err != nil {
		s.Fatal(err)
	}
	if taken, err := s.state.Restore(s.Context(), w); err != nil || !taken {
		s.Fatal(taken, err)
	}
}

func (s *scene) failed(collector, stream string, age time.Duration, text string) {
	s.Helper()
	at := pageNow.Add(-age)
	id, err := s.state.Begin(s.Context(), state.Start{Header: headerOf(collector, stream, at), Trigger: "schedule", Started: at})
	if err != nil {
		s.Fatal(err)
	}
	s.now = at.Add(9 * time.Second)
	defer func() { s.now = pageNow }()
	if err := s.state.Fail(s.Context(), id, state.Failed, fmt.Errorf("%s", text), state.Figures{Requests: 6, Retries: 5}); err != nil {
		s.Fatal(err)
	}
}

// history writes n ended runs straight into the database: thousands of real
// ones take minutes.
func (s *scene) history(collector, stream string, n int, every time.Duration) {
	s.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "collectord.db"))
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		s.Fatal(err)
	}
	for i := range n {
		at := pageNow.Add(-time.Duration(n-i) * every)
		outcome, text := "success", ""
		records := 40000 + 80*i + int(3000*math.Sin(float64(i)/9))
		if i%37 == 11 || i%90 > 87 {
			outcome, text, records = "failed", "okta: GET /api/v1/users: 503 Service Unavailable after 6 tries", 0
		}
		if _, err := tx.Exec(`INSERT INTO runs (collector, stream, tenancy, upload_id, cause, started, ended, outcome, error, records, bytes, pages, requests, retries, limited)
			VALUES (?, ?, 'acme', ?, 'schedule', ?, ?, ?, ?, ?, ?, 12, 14, 1, 3000)`, collector, stream, fmt.Sprint(stream, i),
			at.UnixMilli(), at.Add(time.Duration(40+i%17)*time.Second).UnixMilli(), outcome, text, records, records*1600); err != nil {
			s.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		s.Fatal(err)
	}
}

// everyState makes a stream in each state.
func everyState(t testing.TB) *scene {
	s := newScene(t)
	day := 6 * time.Hour
	s.history("okta", "okta_users", 360, day)
	s.history("crowdstrike", "crowdstrike_hosts", 90, day)
	s.history("crowdstrike", "crowdstrike_vulnerabilities", 60, day)
	s.history("tenable", "tenable_assets", 60, day)
	s.on("crowdstrike", day, "crowdstrike_hosts", "crowdstrike_vulnerabilities", "crowdstrike_zta")
	s.on("okta", day, "okta_users")
	s.on("tenable", day, "tenable_assets", "tenable_was")
	s.on("manual", 0, "manual_stream")
	s.collected("crowdstrike", "crowdstrike_hosts", 2*time.Hour, []string{"duckdb", "postgres"}, `{"device_id":"h1","hostname":"web-01"}`, `{"device_id":"h2","hostname":"web-02"}`)
	s.collected("crowdstrike", "crowdstrike_vulnerabilities", 30*time.Hour, nil, `{"aid":"h1","status":"open"}`)
	s.failed("crowdstrike", "crowdstrike_vulnerabilities", time.Hour, "crowdstrike: GET /spotlight/combined/vulnerabilities/v1: 403 Forbidden: access denied, authorization failed: give the API client FALCON_CLIENT_ID the scope \"Vulnerabilities: read\"")
	s.collected("okta", "okta_users", 5*time.Hour, []string{"file"}, fmt.Sprintf(`{"id":"00u1","status":"ACTIVE","profile":{"login":%q,"email":"ada@example.com"}}`, hostile), `{"id":"00u2","status":"SUSPENDED","profile":{"login":"bob","email":null}}`)
	s.failed("okta", "okta_users", time.Hour, "okta: the answer is no JSON but begins with: "+hostile)
	s.collected("tenable", "tenable_assets", 9*time.Hour, nil, `{"id":"a1"}`)
	s.collected("manual", "manual_stream", 200*time.Hour, nil, `{"id":1}`)
	s.restored("tenable", "tenable_was", 4*time.Hour, `{"id":1}`)
	live := &schedule.Live{Collector: "tenable", Stream: "tenable_assets", Started: pageNow.Add(-73 * time.Second), Stats: &collector.Stats{}}
	live.Stats.Request("GET /assets/v2/export/{uuid}/chunks/7", false)
	live.Stats.Keep(18250, 30<<20)
	s.d.live = append(s.d.live, live)
	queue, err := s.state.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range queue {
		switch d.Sink {
		case "duckdb", "file":
			s.now = pageNow.Add(-time.Hour)
			err = s.state.Delivered(t.Context(), d.ID)
			s.now = pageNow
		case "postgres":
			err = s.state.Retry(t.Context(), d.ID, fmt.Errorf("postgres: connect to db.example.com:5432: connection refused: is the server up? STORE_POSTGRES_HOST names it"), state.Transient, pageNow.Add(7*time.Minute))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}
