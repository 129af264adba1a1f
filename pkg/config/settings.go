package config

import (
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// Settings are those of the program itself.
type Settings struct {
	Tenancy    string        `env:"TENANCY" envDefault:"default" want:"a name such as default or acme-eu" doc:"The name of the organisation that the data belongs to; it stands in every record as _tenancy and in paths as %TENANCY."`
	Collectors []string      `env:"COLLECTORS" want:"the names of collectors, such as crowdstrike,tenable" doc:"The only collectors that may be on; if unset, all that have what they require."`
	StateDir   string        `env:"STATE_DIR" envDefault:"../data/state" want:"a folder" doc:"Where the last-known snapshots, undelivered snapshots and the history of runs are kept; under systemd the default is $STATE_DIRECTORY."`
	StateKeep  time.Duration `env:"STATE_KEEP" envDefault:"90d" min:"1s" doc:"How long the history of runs is kept."`

	Log      Log      `title:"Log"`
	Store    Store    `title:"Destinations"`
	Run      Run      `title:"Runs"`
	Schedule Schedule `title:"Schedule"`
	Restore  Restore  `title:"Restore"`
	Guard    Guard    `title:"Guard"`
	HTTP     HTTP     `title:"HTTP and metrics"`
	Notify   Notify   `title:"Notifications"`
}

// normalize gives values with more than one spelling a single one.
func (s *Settings) normalize() {
	s.Collectors = lowered(s.Collectors)
	if strings.EqualFold(strings.TrimSpace(s.HTTP.Listen), "off") {
		s.HTTP.Listen = ""
	}
	if strings.EqualFold(strings.TrimSpace(s.Store.File), "off") {
		s.Store.File = ""
	}
}

// Log is how the program reports.
type Log struct {
	Level  string `env:"LOG_LEVEL" envDefault:"info" oneof:"debug,info,warn,error" doc:"The least severe messages to log."`
	Format string `env:"LOG_FORMAT" envDefault:"auto" oneof:"auto,console,json" doc:"The format of the log; auto is console on a terminal and json elsewhere."`
}

// Store is where snapshots go.
type Store struct {
	// File is a path template, or empty when STORE_FILE is off.
	File  string `env:"STORE_FILE" envDefault:"../data/source/%TAG/%TENANCY.json" want:"a path with variables such as %TAG, or off" doc:"The file of each stream's newest snapshot."`
	Empty bool   `env:"STORE_EMPTY" envDefault:"false" doc:"Whether a snapshot without records replaces one that has some."`

	RetryMaxWait time.Duration `env:"STORE_RETRY_MAX_WAIT" envDefault:"15m" min:"1s" doc:"The longest pause between two attempts to deliver a snapshot."`
	OnceTimeout  time.Duration `env:"STORE_ONCE_TIMEOUT" envDefault:"5m" min:"1s" doc:"How long a single run (--once) goes on trying to deliver."`
	WriteTimeout time.Duration `env:"STORE_WRITE_TIMEOUT" envDefault:"1h" min:"1s" doc:"The longest that one attempt to store a snapshot in one destination may take; then it is given up and tried again."`
	SpoolMax     Bytes         `env:"STORE_SPOOL_MAX" envDefault:"10GiB" doc:"The most disk space that undelivered snapshots may take; beyond it runs fail and nothing is dropped."`

	DuckDB   DuckDB   `title:"DuckDB"`
	Postgres Postgres `title:"Postgres"`
	S3       S3       `title:"Amazon S3"`
}

// DuckDB is a database file that takes snapshots as tables.
type DuckDB struct {
	Path     string        `env:"STORE_DUCKDB" want:"a path" example:"../data/collectord.duckdb" doc:"The database file; if unset, DuckDB is off."`
	Mode     string        `env:"STORE_DUCKDB_MODE" envDefault:"append" oneof:"append,replace" doc:"Whether a snapshot is added to the tenancy's earlier ones or takes their place."`
	Keep     Keep          `env:"STORE_DUCKDB_KEEP" doc:"How many snapshots of a tenancy to keep, or for how long."`
	Memory   Bytes         `env:"STORE_DUCKDB_MEMORY" envDefault:"768MiB" doc:"The most memory that DuckDB may use."`
	LockWait time.Duration `env:"STORE_DUCKDB_LOCK_WAIT" envDefault:"30s" doc:"How long to wait for another process that has the file open."`
}

// On reports whether snapshots go to DuckDB.
func (d DuckDB) On() bool { return d.Path != "" }

// Postgres is a server that takes snapshots as tables. It is given by URL or by
// Host, User and DBName.
type Postgres struct {
	URL      Secret `env:"STORE_POSTGRES_URL" want:"postgres://user:password@host:5432/dbname" doc:"The database as a URL, in place of host, user, password, database and port."`
	Host     string `env:"STORE_POSTGRES_HOST" want:"a host name, an address or the folder of a socket" example:"db.example.com" doc:"The server; if neither it nor the URL is set, Postgres is off."`
	User     string `env:"STORE_POSTGRES_USER" want:"the name of a role" doc:"The role to log in as."`
	Password Secret `env:"STORE_POSTGRES_PASSWORD" want:"a password" doc:"The password of the role, if the server asks for one."`
	DBName   string `env:"STORE_POSTGRES_DBNAME" want:"the name of a database" doc:"The database."`
	Port     int    `env:"STORE_POSTGRES_PORT" envDefault:"5432" min:"1" max:"65535" doc:"The port of the server."`
	Schema   string `env:"STORE_POSTGRES_SCHEMA" envDefault:"public" want:"1 to 63 bytes" doc:"The schema that holds the tables."`
	JSON     string `env:"STORE_POSTGRES_JSON" envDefault:"json" oneof:"json,jsonb" doc:"The type of the column json_data in tables that are made; jsonb can be indexed, json keeps the vendor's spelling."`
	Mode     string `env:"STORE_POSTGRES_MODE" envDefault:"append" oneof:"append,replace" doc:"Whether a snapshot is added to the tenancy's earlier ones or takes their place."`
	Keep     Keep   `env:"STORE_POSTGRES_KEEP" doc:"How many snapshots of a tenancy to keep, or for how long."`
}

// On reports whether snapshots go to Postgres.
func (p Postgres) On() bool { return p.URL.IsSet() || p.Host != "" }

// S3 is a bucket that takes snapshots as objects, and backups of the last-known
// ones.
type S3 struct {
	Bucket   string `env:"STORE_AWS_S3_BUCKET" want:"the name of a bucket" example:"acme-security-data" doc:"The bucket; if unset, S3 is off. Region and credentials are those of the AWS SDK."`
	Key      string `env:"STORE_AWS_S3_KEY" want:"a key with variables such as %TAG" example:"source/%TAG/%TENANCY.json" doc:"The object of each stream's newest snapshot; if unset, only backups go to the bucket."`
	Backup   string `env:"STORE_AWS_S3_BACKUP" envDefault:"backup/%TAG/%TENANCY.json" want:"a key with variables such as %TAG" doc:"The object that backs up each stream's last-known snapshot, from which a new machine restores it."`
	SSE      string `env:"STORE_AWS_S3_SSE" oneof:"AES256,aws:kms" doc:"The encryption on the server; if unset, the bucket's own."`
	KMSKeyID string `env:"STORE_AWS_S3_KMS_KEY_ID" want:"the ID, ARN or alias of a key" doc:"The KMS key for STORE_AWS_S3_SSE=aws:kms; if unset, the account's own."`
}

// On reports whether anything goes to S3, be it backups only.
func (s S3) On() bool { return s.Bucket != "" }

// Run bounds the runs.
type Run struct {
	Timeout     time.Duration `env:"RUN_TIMEOUT" envDefault:"12h" min:"1s" doc:"The longest that one run may take."`
	IdleTimeout time.Duration `env:"RUN_IDLE_TIMEOUT" envDefault:"10m" min:"1s" doc:"The longest that a run may go on without anything new from the vendor."`
	MaxParallel int           `env:"MAX_PARALLEL_RUNS" envDefault:"8" min:"1" doc:"How many runs may go on at the same time."`
}

// Schedule says when the daemon runs collectors. A collector's own schedule is
// its section's.
type Schedule struct {
	All     calendar.Expression `env:"SCHEDULE" envDefault:"0 0 * * *" want:"five fields (minute hour day month weekday), @hourly, @daily, @weekly, @monthly, @every 6h, or off" doc:"When the daemon runs every collector that has no schedule of its own; off leaves running to SIGUSR1 and the API."`
	Zone    calendar.Zone       `env:"SCHEDULE_TZ" envDefault:"UTC" want:"a name such as UTC or Europe/Zurich" doc:"The time zone of all schedules."`
	Jitter  time.Duration       `env:"SCHEDULE_JITTER" envDefault:"0s" doc:"The most by which ticks are put off, so that not all collectors and hosts begin at once; the delay of each collector on each host stays the same."`
	CatchUp bool                `env:"SCHEDULE_CATCHUP" envDefault:"true" doc:"Whether a collector runs at the start when its last success is older than its last tick, or there is none."`
	Retry   int                 `env:"SCHEDULE_RETRY" envDefault:"3" min:"0" max:"100" doc:"How often the streams that failed are tried again before the next tick, after 5, 10, 20 minutes and so on."`
	Grace   time.Duration       `env:"SHUTDOWN_GRACE" envDefault:"30s" doc:"How long running work may go on after SIGTERM or SIGINT before it is cancelled."`
}

// Restore bounds what happens at the start.
type Restore struct {
	Timeout time.Duration `env:"RESTORE_TIMEOUT" envDefault:"60s" min:"1s" doc:"How long the start may wait for the restore of last-known snapshots."`
}

// Guard watches for answers that are complete by the vendor's word and still
// doubtful.
type Guard struct {
	Drop Percent `env:"GUARD_DROP" envDefault:"10" doc:"A new snapshot with fewer than this percentage of the last-known one's records is held back until it is accepted; off never holds one."`
}

// HTTP is what the daemon tells and takes over HTTP.
type HTTP struct {
	// Listen is an address, or empty when HTTP_LISTEN is off.
	Listen     string `env:"HTTP_LISTEN" envDefault:"127.0.0.1:19610" want:"an address such as 127.0.0.1:19610 or :19610, or off" doc:"Where the daemon serves metrics, health, the API and the status page; anything but loopback should have HTTP_WEB_CONFIG_FILE."`
	Token      Secret `env:"HTTP_TOKEN" want:"a long random text" doc:"The bearer token for whatever changes something over HTTP; if unset, nothing can be changed over HTTP."`
	ConfigFile string `env:"HTTP_WEB_CONFIG_FILE" want:"a path" doc:"A web configuration file of the Prometheus exporter toolkit, for TLS and basic auth."`
	Pprof      bool   `env:"HTTP_PPROF" envDefault:"false" doc:"Whether the daemon serves Go's profiles under /debug/pprof/."`
	ShowData   bool   `env:"HTTP_SHOW_DATA" envDefault:"true" doc:"Whether the status page shows the first records and the columns of each stream to whoever can reach it."`
	Query      bool   `env:"HTTP_QUERY" envDefault:"false" doc:"Whether the status page answers SQL over the last-known data, for those who have HTTP_TOKEN; without a token it stays off."`
	Textfile   string `env:"METRICS_TEXTFILE" want:"a path that ends in .prom" example:"/var/lib/node_exporter/collectord.prom" doc:"A file that gets the metrics after --once, for the node exporter's textfile collector."`
}

// Notify is who is told when a stream fails and when it works again.
type Notify struct {
	Slack Secret `env:"SLACK_WEBHOOK" want:"https://hooks.slack.com/services/..." doc:"An incoming webhook of Slack that is told when a stream has failed, after its retries, and when it works again."`
	URLs  Secret `env:"NOTIFY_URLS" want:"URLs of notification services, with blanks or commas between them" example:"generic+https://example.com/hook" doc:"Further services that are told the same, such as mail, Teams, Telegram, PagerDuty or any webhook; see [notifications](notifications.md)."`
}
