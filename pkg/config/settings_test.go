package config_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/collectord/collectord/pkg/calendar"
	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store/duckdb"
	"github.com/collectord/collectord/pkg/store/file"
	"github.com/collectord/collectord/pkg/store/postgres"
	"github.com/collectord/collectord/pkg/store/s3"
)

func TestDefaults(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{})
	want := config.Settings{
		Tenancy: "default", StateDir: "../data/state", StateKeep: 90 * 24 * time.Hour,
		Log:     config.Log{Level: "info", Format: "auto"},
		Cluster: config.Cluster{Schema: "collectord", Prefix: "collectord/", Lease: 20 * time.Second, Cache: 2 << 30},
		Store: config.Store{
			RetryMaxWait: 15 * time.Minute, OnceTimeout: 5 * time.Minute, WriteTimeout: time.Hour, SpoolMax: 10 << 30,
			DuckDBMemory: 768 << 20,
			Destinations: destinations(
				&file.Settings{Path: "../data/source/%TAG/%TENANCY.json"},
				&duckdb.Settings{Mode: "append", Views: "on", LockWait: 30 * time.Second},
				&postgres.Settings{Schema: "public", JSON: "json", Mode: "append", Views: "on"},
				&s3.Settings{Backup: "backup/%TAG/%TENANCY.json"},
			),
		},
		Run:      config.Run{Timeout: 12 * time.Hour, IdleTimeout: 10 * time.Minute, Patience: 15 * time.Minute, MaxParallel: 8},
		Restore:  config.Restore{Timeout: time.Minute},
		Schedule: config.Schedule{All: parseExpression(t, "0 0 * * *"), CatchUp: true, Retry: config.Limit{Unlimited: true}, Grace: 30 * time.Second},
		Guard:    config.Guard{Drop: config.Percent{Value: 10}},
		HTTP:     config.HTTP{ShowData: true, Listen: "127.0.0.1:19610", QueryMemory: 1 << 30, QueryParallel: 2},
		Controls: config.Controls{Timeout: 10 * time.Minute, Memory: 1 << 30, Detail: true, Keep: 400 * 24 * time.Hour},
	}
	if diff := cmp.Diff(want, l.Settings); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if len(l.warnings) > 0 {
		t.Errorf("warnings: %q", l.warnings)
	}
	if l.duckdb.Path != "" || l.postgres.On() || l.s3.Bucket != "" {
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
	l := loadWithoutProblems(t, config.Source{Environ: []string{
		"TENANCY=acme eu (Zürich)", "COLLECTORS= Okta,,crowdstrike , okta", "STATE_DIR=/var/lib/x", "STATE_KEEP=1d12h",
		"LOG_LEVEL=WARN", "LOG_FORMAT=json",
		"CLUSTER_POSTGRES_URL=postgres://u:p@db/x", "CLUSTER_SCHEMA=state", "CLUSTER_S3_PREFIX=p/", "CLUSTER_NODE=vm-1", "CLUSTER_LEASE=5s",
		"CLUSTER_CACHE=1MiB", "CLUSTER_FILES=shared",
		"STORE_FILE=/data/$TAG/${TENANCY}.json", "STORE_EMPTY=yes",
		"STORE_RETRY_MAX_WAIT=90s", "STORE_ONCE_TIMEOUT=1m", "STORE_WRITE_TIMEOUT=2h", "STORE_SPOOL_MAX=512MB",
		"STORE_DUCKDB=/data/x.duckdb", "STORE_DUCKDB_MODE=Replace", "STORE_DUCKDB_VIEWS=typed", "STORE_DUCKDB_KEEP=10",
		"STORE_DUCKDB_MEMORY=1GiB", "STORE_DUCKDB_LOCK_WAIT=0s",
		"STORE_POSTGRES_HOST=/run/postgresql", "STORE_POSTGRES_USER=me", "STORE_POSTGRES_PASSWORD= pass word ",
		"STORE_POSTGRES_DBNAME=security", "STORE_POSTGRES_PORT= 5433 ", "STORE_POSTGRES_SCHEMA=my \"schema\"",
		"STORE_POSTGRES_JSON=jsonb", "STORE_POSTGRES_MODE=replace", "STORE_POSTGRES_VIEWS=off", "STORE_POSTGRES_KEEP=30d",
		"STORE_AWS_S3_BUCKET=b", "STORE_AWS_S3_KEY=k", "STORE_AWS_S3_BACKUP=bk", "STORE_AWS_S3_SSE=aws:KMS",
		"STORE_AWS_S3_KMS_KEY_ID=alias/x", "STORE_AWS_S3_ACL=None", "STORE_AWS_S3_CHECKSUM=md5", "STORE_AWS_S3_PATH_STYLE=false",
		"STORE_AWS_S3_REQUEST_PAYER=requester",
		"OKTA_DOMAIN=d", "OKTA_ID=i", "OKTA_TOKEN=t", "FALCON_CLIENT_ID=i", "FALCON_SECRET=s",
		"RUN_TIMEOUT=6h", "RUN_IDLE_TIMEOUT=15m", "RUN_PATIENCE=5m", "MAX_PARALLEL_RUNS=1", "RESTORE_TIMEOUT=2m", "GUARD_DROP=OFF",
		"SCHEDULE=15  */6 * * *", "SCHEDULE_TZ=Europe/Zurich", "SCHEDULE_JITTER=5m", "SCHEDULE_CATCHUP=no", "SCHEDULE_RETRY=1", "SHUTDOWN_GRACE=1m", "SCHEDULE_OKTA=@hourly", "DATA_MAX_AGE=2d",
		"HTTP_LISTEN=Off", "HTTP_TOKEN= 0123456789abcdef\r", "HTTP_HOSTS=a.example,b.example", "HTTP_PREFIX=/security/collectord/", "HTTP_WEB_CONFIG_FILE=/etc/web.yml", "HTTP_PPROF=yes", "HTTP_SHOW_DATA=no", "HTTP_QUERY=on", "HTTP_QUERY_MEMORY=2GiB", "HTTP_QUERY_PARALLEL=3", "HTTP_QUERIES=/etc/queries", "METRICS_TEXTFILE=/m.prom",
		"SLACK_WEBHOOK=https://hooks.example.com/s", "NOTIFY_URLS=generic://x",
		"CONTROLS=/etc/controls", "CONTROLS_TIMEOUT=1m", "CONTROLS_MEMORY=2GiB", "CONTROLS_DETAIL=no", "CONTROLS_KEEP=30d", "CONTROLS_RESOURCES=/etc/r.csv",
	}})
	want := config.Settings{
		Tenancy: "acme eu (Zürich)", Collectors: []string{"okta", "crowdstrike"},
		StateDir: "/var/lib/x", StateKeep: 36 * time.Hour,
		Log:     config.Log{Level: "warn", Format: "json"},
		Cluster: config.Cluster{URL: "postgres://u:p@db/x", Schema: "state", Prefix: "p/", Node: "vm-1", Lease: 5 * time.Second, Cache: 1 << 20, Files: "shared"},
		Store: config.Store{
			Empty:        true,
			RetryMaxWait: 90 * time.Second, OnceTimeout: time.Minute, WriteTimeout: 2 * time.Hour, SpoolMax: 512e6,
			DuckDBMemory: 1 << 30,
			Destinations: destinations(
				&file.Settings{Path: "/data/$TAG/${TENANCY}.json"},
				&duckdb.Settings{Path: "/data/x.duckdb", Mode: "replace", Views: "typed", Keep: config.Keep{Newest: 10}},
				&postgres.Settings{
					Host: "/run/postgresql", User: "me", Password: " pass word ", DBName: "security", Port: 5433,
					Schema: `my "schema"`, JSON: "jsonb", Mode: "replace", Views: "off", Keep: config.Keep{Age: 30 * 24 * time.Hour},
				},
				&s3.Settings{Bucket: "b", Key: "k", Backup: "bk", SSE: "aws:kms", KMSKeyID: "alias/x", ACL: "none", Checksum: "md5", PathStyle: "false", RequestPayer: "requester"},
			),
		},
		Run:      config.Run{Timeout: 6 * time.Hour, IdleTimeout: 15 * time.Minute, Patience: 5 * time.Minute, MaxParallel: 1},
		Restore:  config.Restore{Timeout: 2 * time.Minute},
		Schedule: config.Schedule{All: parseExpression(t, "15 */6 * * *"), Zone: parseZone(t, "Europe/Zurich"), Jitter: 5 * time.Minute, Retry: config.Limit{Value: 1}, Grace: time.Minute},
		Data:     config.Data{MaxAge: 48 * time.Hour},
		Guard:    config.Guard{Drop: config.Percent{Off: true}},
		HTTP:     config.HTTP{Token: "0123456789abcdef", Hosts: []string{"a.example", "b.example"}, Prefix: "/security/collectord", ConfigFile: "/etc/web.yml", Pprof: true, Query: true, QueryMemory: 2 << 30, QueryParallel: 3, Queries: "/etc/queries", Textfile: "/m.prom"},
		Controls: config.Controls{Dir: "/etc/controls", Timeout: time.Minute, Memory: 2 << 30, Keep: 30 * 24 * time.Hour, Resources: "/etc/r.csv"},
		Notify:   config.Notify{Slack: "https://hooks.example.com/s", URLs: "generic://x"},
	}
	reveal := cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() })
	if diff := cmp.Diff(want, l.Settings, reveal); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got := l.sections["okta"].Schedule.String() + l.sections["tenable"].Schedule.String(); got != "@hourly" {
		t.Errorf("the schedules of the collectors are %q", got)
	}
	if l.duckdb.Path == "" || !l.postgres.On() || l.s3.Bucket == "" {
		t.Error("a destination is off")
	}
}

func parseExpression(t *testing.T, text string) calendar.Expression {
	t.Helper()
	var e calendar.Expression
	if err := e.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return e
}

func parseZone(t *testing.T, name string) (z calendar.Zone) {
	t.Helper()
	if err := z.UnmarshalText([]byte(name)); err != nil {
		t.Fatal(err)
	}
	return z
}

func TestSchedulesThatAreRefused(t *testing.T) {
	l := loadSource(t, config.Source{Environ: []string{"SCHEDULE=0 0 30 2 *", "SCHEDULE_OKTA=TZ=0", "SCHEDULE_TZ=Mars", "SCHEDULE_TENABLE=0 0 0 * * *"}})
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
		if l := loadWithoutProblems(t, config.Source{Environ: []string{"STORE_EMPTY=" + text}}); !l.Store.Empty {
			t.Errorf("%q is not true", text)
		}
	}
	for _, text := range []string{"false", "0", "no", "off", "False", "NO", ""} {
		if l := loadWithoutProblems(t, config.Source{Environ: []string{"STORE_EMPTY=" + text}}); l.Store.Empty {
			t.Errorf("%q is not false", text)
		}
	}
}

// TestWhitespaceIsUnset for all types but texts, which may consist of whitespace.
func TestWhitespaceIsUnset(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{Environ: []string{"RUN_TIMEOUT= ", "LOG_LEVEL=\t", "COLLECTORS= ", "STORE_DUCKDB_KEEP=  "}})
	if l.Run.Timeout != 12*time.Hour || l.Log.Level != "info" || l.Collectors != nil || !l.duckdb.Keep.All() {
		t.Errorf("got %+v", l.Settings)
	}
	if got := l.found.Origin("RUN_TIMEOUT"); got != "default" {
		t.Errorf("the origin is %q", got)
	}
}

func TestStoreFileOff(t *testing.T) {
	for _, text := range []string{"off", "OFF", " off "} {
		if l := loadWithoutProblems(t, config.Source{Environ: []string{"STORE_FILE=" + text}}); l.file.On() {
			t.Errorf("STORE_FILE=%q gives the file %q", text, l.file.Path)
		}
	}
}

func TestPostgresByURL(t *testing.T) {
	for _, url := range []string{
		"postgres://me:pw@db.example.com:5432/security",
		"postgresql://me@db.example.com/security?sslmode=require",
		"postgres:///security?host=/run/postgresql",
	} {
		if l := loadWithoutProblems(t, config.Source{Environ: []string{"STORE_POSTGRES_URL=" + url}}); !l.postgres.On() {
			t.Errorf("%s does not switch Postgres on", url)
		}
	}
}

func TestStateDirectory(t *testing.T) {
	tests := []struct {
		name, dir, file, origin string
		environ                 []string
	}{
		{
			name:    "systemd's",
			dir:     "/var/lib/collectord",
			origin:  "STATE_DIRECTORY",
			environ: []string{"STATE_DIRECTORY=/var/lib/collectord"},
		},
		{
			name:    "first of several",
			dir:     "/var/lib/a",
			origin:  "STATE_DIRECTORY",
			environ: []string{"STATE_DIRECTORY=/var/lib/a:/var/lib/b"},
		},
		{
			name:    "own beats systemd's",
			dir:     "/srv",
			origin:  "environment",
			environ: []string{"STATE_DIRECTORY=/var/lib/a", "STATE_DIR=/srv"},
		},
		{name: "empty", dir: "../data/state", origin: "default", environ: []string{"STATE_DIRECTORY="}},
		{
			name:    "files beside it",
			dir:     "/var/lib/collectord",
			file:    "/var/lib/collectord/source/%TAG/%TENANCY.json",
			origin:  "STATE_DIRECTORY",
			environ: []string{"STATE_DIRECTORY=/var/lib/collectord"},
		},
		{
			name:    "name with signs of variables",
			dir:     "/var/lib/a%TAG$b",
			file:    "/var/lib/a%%TAG$$b/source/%TAG/%TENANCY.json",
			origin:  "STATE_DIRECTORY",
			environ: []string{"STATE_DIRECTORY=/var/lib/a%TAG$b"},
		},
		{
			name:    "own files",
			dir:     "/var/lib/a",
			file:    "/srv/%TAG.json",
			origin:  "STATE_DIRECTORY",
			environ: []string{"STATE_DIRECTORY=/var/lib/a", "STORE_FILE=/srv/%TAG.json"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := loadWithoutProblems(t, config.Source{Environ: tt.environ})
			if l.StateDir != tt.dir || l.found.Origin("STATE_DIR") != tt.origin {
				t.Errorf("got %q by %q, want %q by %q", l.StateDir, l.found.Origin("STATE_DIR"), tt.dir, tt.origin)
			}
			if tt.file != "" && l.file.Path != tt.file {
				t.Errorf("STORE_FILE is %q, want %q", l.file.Path, tt.file)
			}
		})
	}
}

func TestSecondLoadReplacesTheFirst(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{Environ: []string{"STORE_DUCKDB=x", "TIO_ACCESS_KEY=canary-a", "TIO_SECRET_KEY=canary-s"}})
	l.s3.Bucket = "left over"
	if _, err := l.found.Load(&l.Settings); err != nil {
		t.Fatal(err)
	}
	if l.s3.Bucket != "" || l.duckdb.Path != "x" {
		t.Errorf("after a second Load: %+v, %+v", l.s3, l.duckdb)
	}
	if secrets := l.found.Secrets(); len(secrets) > 0 {
		t.Errorf("secrets of a section that is not loaded: %q", secrets)
	}
}

func TestProcessEnvironmentIsUnchanged(t *testing.T) {
	before := os.Environ()
	dir := t.TempDir()
	writeFile(t, dir, ".env", "TENANCY=from-file\nSOMETHING_NEW=1\n")
	if l := loadWithoutProblems(t, config.Source{Dir: dir, Environ: before}); l.Tenancy != "from-file" {
		t.Errorf("the tenancy is %q", l.Tenancy)
	}
	if after := os.Environ(); !slices.Equal(before, after) {
		t.Errorf("the process environment changed: %q", after)
	}
}

func TestSectionTypes(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{Environ: []string{
		"TIO_ACCESS_KEY=a", "TIO_SECRET_KEY=s", "TIO_URL=http://127.0.0.1:8080/x",
		"TIO_RATE=2.5", "TIO_TIMEOUT=7d", "TIO_BUFFER=2KiB", "TIO_TAGS=a, b",
	}})
	got := l.sections["tenable"].Into.(*tenable)
	if got.URL.String() != "http://127.0.0.1:8080/x" || got.Export.Rate != 2.5 || got.Export.Timeout != 168*time.Hour ||
		got.Export.Buffer != 2048 || !slices.Equal(got.Export.Tags, []string{"a", "b"}) || got.Export.Chunk != 1000 {
		t.Errorf("got %+v", got)
	}
	if l = loadWithoutProblems(t, config.Source{}); l.sections["tenable"].Into.(*tenable).URL.Host != "cloud.tenable.com" {
		t.Error("the default of a URL is not set")
	}
}

// TestEmptyIsOff: a setting with the tag empty has that value when a source sets it
// to nothing and none sets it to something.
func TestEmptyIsOff(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		dotenv  string
		want    string
		origin  string
	}{
		{name: "unset", want: "backup/%TAG/%TENANCY.json", origin: "default"},
		{name: "empty in the environment", environ: []string{"STORE_AWS_S3_BACKUP="}, want: "off", origin: "environment"},
		{name: "empty in .env", dotenv: "STORE_AWS_S3_BACKUP=\n", want: "off", origin: ".env"},
		{name: "empty quotes in .env", dotenv: "STORE_AWS_S3_BACKUP=''\n", want: "off", origin: ".env"},
		{name: "off", environ: []string{"STORE_AWS_S3_BACKUP=off"}, want: "off", origin: "environment"},
		{name: "empty, and set in .env", environ: []string{"STORE_AWS_S3_BACKUP="}, dotenv: "STORE_AWS_S3_BACKUP=b/%TAG.json\n", want: "b/%TAG.json", origin: ".env"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, dir, ".env", tt.dotenv)
			l := loadSource(t, config.Source{Dir: dir, Environ: tt.environ})
			if l.s3.Backup != tt.want || l.found.Origin("STORE_AWS_S3_BACKUP") != tt.origin || l.s3.HasBackup() {
				t.Errorf("got %q by %q, want %q by %q; on without a bucket: %v", l.s3.Backup, l.found.Origin("STORE_AWS_S3_BACKUP"), tt.want, tt.origin, l.s3.HasBackup())
			}
		})
	}
}
