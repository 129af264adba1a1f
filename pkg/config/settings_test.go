package config_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/config"
)

func TestDefaults(t *testing.T) {
	l := clean(t, config.Source{})
	want := config.Settings{
		Tenancy: "default", StateDir: "../data/state", StateKeep: 90 * 24 * time.Hour,
		Log: config.Log{Level: "info", Format: "auto"},
		Store: config.Store{
			File:         "../data/source/%TAG/%TENANCY.json",
			RetryMaxWait: 15 * time.Minute, OnceTimeout: 5 * time.Minute, WriteTimeout: time.Hour, SpoolMax: 10 << 30,
			DuckDB:   config.DuckDB{Mode: "append", Memory: 768 << 20, LockWait: 30 * time.Second},
			Postgres: config.Postgres{Port: 5432, Schema: "public", JSON: "json", Mode: "append"},
			S3:       config.S3{Backup: "backup/%TAG/%TENANCY.json"},
		},
		Run:      config.Run{Timeout: 12 * time.Hour, IdleTimeout: 10 * time.Minute, MaxParallel: 8},
		Restore:  config.Restore{Timeout: time.Minute},
		Schedule: config.Schedule{All: expression(t, "0 0 * * *"), CatchUp: true, Retry: 3, Grace: 30 * time.Second},
		Guard:    config.Guard{Drop: config.Percent{Value: 10}},
		HTTP:     config.HTTP{ShowData: true, Listen: "127.0.0.1:19610"},
	}
	if diff := cmp.Diff(want, l.Settings); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if len(l.warnings) > 0 {
		t.Errorf("warnings: %q", l.warnings)
	}
	if l.Store.DuckDB.On() || l.Store.Postgres.On() || l.Store.S3.On() {
		t.Error("a destination other than the file is on")
	}
	if got := l.found.Origin("TENANCY"); got != "default" {
		t.Errorf("the origin of TENANCY is %q", got)
	}
	if got := l.found.Origin("NO_SUCH"); got != "" {
		t.Errorf("the origin of an unknown variable is %q", got)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	l := clean(t, config.Source{Environ: []string{
		"TENANCY=acme eu (Zürich)", "COLLECTORS= Okta,,crowdstrike , okta", "STATE_DIR=/var/lib/x", "STATE_KEEP=1d12h",
		"LOG_LEVEL=WARN", "LOG_FORMAT=json",
		"STORE_FILE=/data/$TAG/${TENANCY}.json", "STORE_EMPTY=yes",
		"STORE_RETRY_MAX_WAIT=90s", "STORE_ONCE_TIMEOUT=1m", "STORE_WRITE_TIMEOUT=2h", "STORE_SPOOL_MAX=512MB",
		"STORE_DUCKDB=/data/x.duckdb", "STORE_DUCKDB_MODE=Replace", "STORE_DUCKDB_KEEP=10",
		"STORE_DUCKDB_MEMORY=1GiB", "STORE_DUCKDB_LOCK_WAIT=0s",
		"STORE_POSTGRES_HOST=/run/postgresql", "STORE_POSTGRES_USER=me", "STORE_POSTGRES_PASSWORD= pass word ",
		"STORE_POSTGRES_DBNAME=security", "STORE_POSTGRES_PORT= 5433 ", "STORE_POSTGRES_SCHEMA=my \"schema\"",
		"STORE_POSTGRES_JSON=jsonb", "STORE_POSTGRES_MODE=replace", "STORE_POSTGRES_KEEP=30d",
		"STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=k", "STORE_AWS_S3_BACKUP=bk", "STORE_AWS_S3_SSE=aws:KMS",
		"STORE_AWS_S3_KMS_KEY_ID=alias/x",
		"OKTA_DOMAIN=d", "OKTA_ID=i", "OKTA_TOKEN=t", "FALCON_CLIENT_ID=i", "FALCON_SECRET=s",
		"RUN_TIMEOUT=6h", "RUN_IDLE_TIMEOUT=15m", "MAX_PARALLEL_RUNS=1", "RESTORE_TIMEOUT=2m", "GUARD_DROP=OFF",
		"SCHEDULE=15  */6 * * *", "SCHEDULE_TZ=Europe/Zurich", "SCHEDULE_JITTER=5m", "SCHEDULE_CATCHUP=no", "SCHEDULE_RETRY=1", "SHUTDOWN_GRACE=1m", "SCHEDULE_OKTA=@hourly",
		"HTTP_LISTEN=Off", "HTTP_TOKEN=tok", "HTTP_WEB_CONFIG_FILE=/etc/web.yml", "HTTP_PPROF=yes", "HTTP_SHOW_DATA=no", "HTTP_QUERY=on", "METRICS_TEXTFILE=/m.prom",
		"SLACK_WEBHOOK=https://hooks.example.com/s", "NOTIFY_URLS=generic://x",
	}})
	want := config.Settings{
		Tenancy: "acme eu (Zürich)", Collectors: []string{"okta", "crowdstrike"},
		StateDir: "/var/lib/x", StateKeep: 36 * time.Hour,
		Log: config.Log{Level: "warn", Format: "json"},
		Store: config.Store{
			File: "/data/$TAG/${TENANCY}.json", Empty: true,
			RetryMaxWait: 90 * time.Second, OnceTimeout: time.Minute, WriteTimeout: 2 * time.Hour, SpoolMax: 512e6,
			DuckDB: config.DuckDB{Path: "/data/x.duckdb", Mode: "replace", Keep: config.Keep{Newest: 10}, Memory: 1 << 30},
			Postgres: config.Postgres{
				Host: "/run/postgresql", User: "me", Password: " pass word ", DBName: "security", Port: 5433,
				Schema: `my "schema"`, JSON: "jsonb", Mode: "replace", Keep: config.Keep{Age: 30 * 24 * time.Hour},
			},
			S3: config.S3{Bucket: "b", Key: "k", Backup: "bk", SSE: "aws:kms", KMSKeyID: "alias/x"},
		},
		Run:      config.Run{Timeout: 6 * time.Hour, IdleTimeout: 15 * time.Minute, MaxParallel: 1},
		Restore:  config.Restore{Timeout: 2 * time.Minute},
		Schedule: config.Schedule{All: expression(t, "15 */6 * * *"), Zone: zone(t, "Europe/Zurich"), Jitter: 5 * time.Minute, Retry: 1, Grace: time.Minute},
		Guard:    config.Guard{Drop: config.Percent{Off: true}},
		HTTP:     config.HTTP{Token: "tok", ConfigFile: "/etc/web.yml", Pprof: true, Query: true, Textfile: "/m.prom"},
		Notify:   config.Notify{Slack: "https://hooks.example.com/s", URLs: "generic://x"},
	}
	reveal := cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() })
	if diff := cmp.Diff(want, l.Settings, reveal); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got := l.sections["okta"].Schedule.String() + l.sections["tenable"].Schedule.String(); got != "@hourly" {
		t.Errorf("the schedules of the collectors are %q", got)
	}
	if !l.Store.DuckDB.On() || !l.Store.Postgres.On() || !l.Store.S3.On() {
		t.Error("a destination is off")
	}
}

func expression(t *testing.T, text string) calendar.Expression {
	t.Helper()
	e, err := calendar.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func zone(t *testing.T, name string) (z calendar.Zone) {
	t.Helper()
	if err := z.UnmarshalText([]byte(name)); err != nil {
		t.Fatal(err)
	}
	return z
}

func TestSchedulesThatAreRefused(t *testing.T) {
	l := load(t, config.Source{Environ: []string{"SCHEDULE=0 0 30 2 *", "SCHEDULE_OKTA=TZ=0", "SCHEDULE_TZ=Mars", "SCHEDULE_TENABLE=0 0 0 * * *"}})
	want := []string{
		`SCHEDULE: "0 0 30 2 *": never comes: there is no such day in any year`,
		`SCHEDULE_TZ: "Mars": is not a time zone: want a name such as UTC, Europe/Zurich or America/New_York`,
		`SCHEDULE_TENABLE: "0 0 0 * * *": has 6 fields: want five, minute hour day month weekday (there is none for seconds)`,
		`SCHEDULE_OKTA: "TZ=0": names a time zone: set SCHEDULE_TZ instead, which holds for all schedules`,
	}
	if diff := cmp.Diff(want, l.problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestBooleans(t *testing.T) {
	for _, text := range []string{"true", "1", "yes", "on", "TRUE", "Yes", " on "} {
		if l := clean(t, config.Source{Environ: []string{"STORE_EMPTY=" + text}}); !l.Store.Empty {
			t.Errorf("%q is not true", text)
		}
	}
	for _, text := range []string{"false", "0", "no", "off", "False", "NO", ""} {
		if l := clean(t, config.Source{Environ: []string{"STORE_EMPTY=" + text}}); l.Store.Empty {
			t.Errorf("%q is not false", text)
		}
	}
}

// TestBlankIsUnset for everything but texts, which may consist of blanks.
func TestBlankIsUnset(t *testing.T) {
	l := clean(t, config.Source{Environ: []string{"RUN_TIMEOUT= ", "LOG_LEVEL=\t", "COLLECTORS= ", "STORE_DUCKDB_KEEP=  "}})
	if l.Run.Timeout != 12*time.Hour || l.Log.Level != "info" || l.Collectors != nil || !l.Store.DuckDB.Keep.All() {
		t.Errorf("got %+v", l.Settings)
	}
	if got := l.found.Origin("RUN_TIMEOUT"); got != "default" {
		t.Errorf("the origin is %q", got)
	}
}

func TestStoreFileOff(t *testing.T) {
	for _, text := range []string{"off", "OFF", " off "} {
		if l := clean(t, config.Source{Environ: []string{"STORE_FILE=" + text}}); l.Store.File != "" {
			t.Errorf("STORE_FILE=%q gives the file %q", text, l.Store.File)
		}
	}
}

func TestPostgresByURL(t *testing.T) {
	for _, url := range []string{
		"postgres://me:pw@db.example.com:5432/security",
		"postgresql://me@db.example.com/security?sslmode=require",
		"postgres:///security?host=/run/postgresql",
	} {
		if l := clean(t, config.Source{Environ: []string{"STORE_POSTGRES_URL=" + url}}); !l.Store.Postgres.On() {
			t.Errorf("%s does not switch Postgres on", url)
		}
	}
}

func TestStateDirectory(t *testing.T) {
	tests := []struct {
		name, dir, origin string
		environ           []string
	}{
		{"systemd's", "/var/lib/collectord", "STATE_DIRECTORY", []string{"STATE_DIRECTORY=/var/lib/collectord"}},
		{"first of several", "/var/lib/a", "STATE_DIRECTORY", []string{"STATE_DIRECTORY=/var/lib/a:/var/lib/b"}},
		{"own beats systemd's", "/srv", "environment", []string{"STATE_DIRECTORY=/var/lib/a", "STATE_DIR=/srv"}},
		{"empty", "../data/state", "default", []string{"STATE_DIRECTORY="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := clean(t, config.Source{Environ: tt.environ})
			if l.StateDir != tt.dir || l.found.Origin("STATE_DIR") != tt.origin {
				t.Errorf("got %q by %q, want %q by %q", l.StateDir, l.found.Origin("STATE_DIR"), tt.dir, tt.origin)
			}
		})
	}
}

func TestLoadAgainStartsAnew(t *testing.T) {
	l := clean(t, config.Source{Environ: []string{"STORE_DUCKDB=x", "TIO_ACCESS_KEY=canary-a", "TIO_SECRET_KEY=canary-s"}})
	l.Settings.Store.S3.Bucket = "left over"
	if _, err := l.found.Load(&l.Settings); err != nil {
		t.Fatal(err)
	}
	if l.Store.S3.Bucket != "" || l.Store.DuckDB.Path != "x" {
		t.Errorf("after a second Load: %+v", l.Store)
	}
	if secrets := l.found.Secrets(); len(secrets) > 0 {
		t.Errorf("secrets of a section that is not loaded: %q", secrets)
	}
}

func TestTheProcessIsLeftAlone(t *testing.T) {
	before := os.Environ()
	dir := t.TempDir()
	write(t, dir, ".env", "TENANCY=from-file\nSOMETHING_NEW=1\n")
	if l := clean(t, config.Source{Dir: dir, Environ: before}); l.Tenancy != "from-file" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
	if after := os.Environ(); !slices.Equal(before, after) {
		t.Errorf("the process environment changed: %q", after)
	}
}

func TestSectionTypes(t *testing.T) {
	l := clean(t, config.Source{Environ: []string{
		"TIO_ACCESS_KEY=a", "TIO_SECRET_KEY=s", "TIO_URL=http://127.0.0.1:8080/x",
		"TIO_RATE=2.5", "TIO_TIMEOUT=7d", "TIO_BUFFER=2KiB", "TIO_TAGS=a, b",
	}})
	got := l.sections["tenable"].Into.(*tenable)
	if got.URL.String() != "http://127.0.0.1:8080/x" || got.Export.Rate != 2.5 || got.Export.Timeout != 168*time.Hour ||
		got.Export.Buffer != 2048 || !slices.Equal(got.Export.Tags, []string{"a", "b"}) || got.Export.Chunk != 1000 {
		t.Errorf("got %+v", got)
	}
	if l = clean(t, config.Source{}); l.sections["tenable"].Into.(*tenable).URL.Host != "cloud.tenable.com" {
		t.Error("the default of a URL is not set")
	}
}
