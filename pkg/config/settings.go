package config

import (
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/calendar"
)

// Settings are those of the program itself.
type Settings struct {
	Tenancy    string        `env:"TENANCY" envDefault:"default" want:"a name such as default or acme-eu" reload:"restart" doc:"The name of the organisation that owns the data; it is _tenancy in every record and %TENANCY in paths."`
	Collectors []string      `env:"COLLECTORS" want:"names of collectors and streams, such as tenable,-tenable_was" doc:"Which collectors and streams are on: those that are named, without those with - before the name. If unset, or if every name has a -, all whose required settings are set. The order does not matter. See [selecting streams](../guide/schedules.md#select-collectors-and-streams)."`
	Tenancies  string        `env:"TENANCIES_DIR" want:"a directory" example:"/etc/collectord/tenancies" reload:"restart" scope:"program" doc:"The directory with a file NAME.env for each of [many tenancies](../guide/tenancies.md), whose credentials and collectors it has. If unset, there is one tenancy, TENANCY."`
	ExecDir    string        `env:"EXEC_DIR" want:"a directory" example:"/etc/collectord/exec" scope:"program" doc:"The directory of the files of [collectors of your own](../guide/your-own-collector.md), which are programs. If unset, there are none."`
	StateDir   string        `env:"STATE_DIR" envDefault:"../data/state" systemd:"." want:"a directory" reload:"restart" scope:"program" doc:"The directory of last-known snapshots, undelivered snapshots and the history of runs; under systemd the default is $STATE_DIRECTORY."`
	StateKeep  time.Duration `env:"STATE_KEEP" envDefault:"90d" min:"1s" scope:"program" doc:"How long the history of runs is kept."`

	Log      Log      `title:"Log"`
	Cluster  Cluster  `title:"Shared state"`
	Store    Store    `title:"Destinations"`
	Run      Run      `title:"Runs"`
	Schedule Schedule `title:"Schedule"`
	Data     Data     `title:"Age of the data"`
	Restore  Restore  `title:"Restore"`
	Guard    Guard    `title:"Guard"`
	HTTP     HTTP     `title:"HTTP and metrics"`
	Controls Controls `title:"Controls"`
	Notify   Notify   `title:"Notifications"`
}

// normalize replaces values with several spellings by one.
func (s *Settings) normalize() {
	s.Collectors = normalizeSelection(s.Collectors)
	if strings.EqualFold(strings.TrimSpace(s.HTTP.Listen), "off") {
		s.HTTP.Listen = ""
	}
	// HTTP removes whitespace around the value of a header.
	s.HTTP.Token = Secret(strings.TrimSpace(s.HTTP.Token.Reveal()))
	s.HTTP.Prefix = strings.TrimRight(strings.TrimSpace(s.HTTP.Prefix), "/")
}

// Log configures the log.
type Log struct {
	Level  string `env:"LOG_LEVEL" envDefault:"info" oneof:"debug,info,warn,error" scope:"program" doc:"The least severe messages to log."`
	Format string `env:"LOG_FORMAT" envDefault:"auto" oneof:"auto,console,json" reload:"restart" scope:"program" doc:"The format of the log; auto is console on a terminal and json elsewhere."`
}

// Cluster says where the state is, instead of in the state directory, when machines share it.
type Cluster struct {
	URL    Secret        `env:"CLUSTER_POSTGRES_URL" want:"postgres://user:password@host:5432/dbname" reload:"restart" scope:"program" doc:"The Postgres database that has the state, and with it STORE_AWS_S3_BUCKET the bucket that has the snapshots: for containers without a disk, and for [a machine that takes over](../guide/shared-state.md) when another one dies. If unset, the state is in STATE_DIR."`
	Schema string        `env:"CLUSTER_SCHEMA" envDefault:"collectord" want:"1 to 46 letters, digits and underscores" reload:"restart" scope:"program" doc:"The schema of the state's tables, which is created when it is missing."`
	Prefix string        `env:"CLUSTER_S3_PREFIX" envDefault:"collectord/" want:"the beginning of keys, such as collectord/" reload:"restart" scope:"program" doc:"The beginning of the keys of the snapshots in the bucket."`
	Node   string        `env:"CLUSTER_NODE" want:"a name" example:"vm-1" reload:"restart" scope:"program" doc:"The name of this machine in messages; if unset, its host name."`
	Lease  time.Duration `env:"CLUSTER_LEASE" envDefault:"20s" min:"1s" reload:"restart" scope:"program" doc:"How long a process that does not respond keeps its work; then another one takes over. All processes that share a state must have the same."`
	Cache  Bytes         `env:"CLUSTER_CACHE" envDefault:"2GiB" reload:"restart" scope:"program" doc:"The disk space in STATE_DIR for copies of snapshots that are delivered or queried; those of the last ten minutes stay in any case."`
	Files  string        `env:"CLUSTER_FILES" oneof:"shared" reload:"restart" scope:"program" doc:"With shared, STORE_FILE and STORE_DUCKDB are on a file system that all machines have mounted. Without it they are refused, since each machine would have files of its own."`
}

// Store is the settings that all destinations share, and those of each.
type Store struct {
	Empty bool `env:"STORE_EMPTY" envDefault:"false" doc:"Whether a snapshot without records replaces one that has some."`

	RetryMaxWait time.Duration `env:"STORE_RETRY_MAX_WAIT" envDefault:"15m" min:"1s" doc:"The longest pause between two attempts to deliver a snapshot."`
	OnceTimeout  time.Duration `env:"STORE_ONCE_TIMEOUT" envDefault:"5m" min:"1s" doc:"How long --once continues to attempt deliveries after its runs."`
	WriteTimeout time.Duration `env:"STORE_WRITE_TIMEOUT" envDefault:"1h" min:"1s" doc:"The longest duration of an attempt to store a snapshot in a destination; after that it is cancelled and retried."`
	SpoolMax     Bytes         `env:"STORE_SPOOL_MAX" envDefault:"10GiB" doc:"The most disk space that the snapshots queued for one destination may use; beyond it that destination misses snapshots between its oldest queued ones and the newest, and runs continue."`

	// DuckDBMemory limits the memory of DuckDB wherever destinations use it.
	DuckDBMemory Bytes `env:"STORE_DUCKDB_MEMORY" envDefault:"768MiB" doc:"The most memory that DuckDB may use: for the DuckDB file, and where files and objects are written as Parquet."`

	// FileRepair changes files and objects that other programs read.
	FileRepair bool `env:"STORE_FILE_REPAIR" envDefault:"false" doc:"Whether files and objects have U+FFFD in place of \\u0000 and of half surrogate pairs, which JSON allows and many programs refuse. Backups always keep the vendor's bytes."`

	// Destinations is the settings of the destinations themselves.
	Destinations Groups
}

// Run limits the runs.
type Run struct {
	Timeout     time.Duration `env:"RUN_TIMEOUT" envDefault:"12h" min:"1s" doc:"The longest duration of a run."`
	IdleTimeout time.Duration `env:"RUN_IDLE_TIMEOUT" envDefault:"10m" min:"1s" doc:"The longest time that a run may wait for new data from the vendor."`
	Patience    time.Duration `env:"RUN_PATIENCE" envDefault:"15m" min:"1s" doc:"How long a request is repeated that fails because of the network or the vendor's servers, from its first failure and never beyond RUN_TIMEOUT; 30s at most while no request of the stream has succeeded and the vendor cannot be reached. Then the run fails; the next one continues a Tenable export where it stopped."`
	MaxParallel int           `env:"MAX_PARALLEL_RUNS" envDefault:"8" min:"1" scope:"program" doc:"How many runs may be running at the same time. Runs that are expected to take more than 15 minutes, or whose duration is unknown, have at most three quarters of them, but at least one."`
}

// Schedule is when the daemon runs collectors. The own schedules of collectors
// and streams are in their [Section] and [Stream].
type Schedule struct {
	All     calendar.Expression `env:"SCHEDULE" envDefault:"0 0 * * *" want:"five fields (minute hour day month weekday), @hourly, @daily, @weekly, @monthly, @every 6h, or off" doc:"When the daemon runs every collector and stream that has no schedule of its own; with off, only SIGUSR1 and the API start runs."`
	Zone    calendar.Zone       `env:"SCHEDULE_TZ" envDefault:"UTC" want:"a name such as UTC or Europe/Zurich" doc:"The time zone of all schedules."`
	Jitter  time.Duration       `env:"SCHEDULE_JITTER" envDefault:"0s" doc:"The longest delay of ticks, so that collectors and instances do not all start at once; the delay of a collector is constant for a state directory. If unset, it is 30m with TENANCIES_DIR; 0s switches it off."`
	CatchUp bool                `env:"SCHEDULE_CATCHUP" envDefault:"true" doc:"Whether a stream runs at the start, and after a reload that switches it on or changes its settings, if its last success is older than its last tick, or if it has none."`
	Retry   Limit               `env:"SCHEDULE_RETRY" envDefault:"unlimited" doc:"How often failed streams are retried before the next tick, after 5, 10, 20 and 40 minutes and then every hour. Refused credentials and missing permissions are retried every hour."`
	Grace   time.Duration       `env:"SHUTDOWN_GRACE" envDefault:"30s" scope:"program" doc:"How long runs and deliveries may continue after SIGTERM or SIGINT before they are cancelled."`
}

// Data is when data is late. The ages of collectors and streams are in their [Section]
// and [Stream].
type Data struct {
	MaxAge time.Duration `env:"DATA_MAX_AGE" min:"1s" example:"26h" doc:"The age at which data is late; if unset, it follows from the schedule. See [late data](../guide/schedules.md#late-data)."`
}

// Restore limits the restore at the start.
type Restore struct {
	Timeout time.Duration `env:"RESTORE_TIMEOUT" envDefault:"60s" min:"1s" doc:"How long the start may wait for the restore of last-known snapshots."`
}

// Guard holds snapshots that the vendor declared complete but that are doubtful.
type Guard struct {
	Drop Percent `env:"GUARD_DROP" envDefault:"10" doc:"A new snapshot with fewer than this percentage of the last-known one's records is held until it is accepted; off never holds one."`
}

// HTTP configures the daemon's HTTP server and the metrics.
type HTTP struct {
	// Listen is an address, or empty when HTTP_LISTEN is off.
	Listen        string   `env:"HTTP_LISTEN" envDefault:"127.0.0.1:19610" want:"an address such as 127.0.0.1:19610 or :19610, a socket such as unix:/run/collectord/http.sock, or off" reload:"restart" scope:"program" doc:"The address of the daemon's HTTP server: metrics, health, the API and the status page; any but loopback and a socket should have HTTP_WEB_CONFIG_FILE. The umask decides who may use a socket."`
	Token         Secret   `env:"HTTP_TOKEN" want:"a random text of 16 or more characters" reload:"restart" scope:"program" doc:"The bearer token of HTTP requests that change something; if unset, these are refused. When other machines can send requests without authentication, records, columns, queries and profiles need it as well."`
	TokensFile    string   `env:"HTTP_TOKENS_FILE" want:"a path" example:"/etc/collectord/tokens.yaml" scope:"program" doc:"With TENANCIES_DIR, a file of [tokens that are limited](../guide/tenancies.md#who-sees-what) to tenancies and rights. With it, all requests but health checks need one, or HTTP_TOKEN, which has all rights over all tenancies."`
	Hosts         []string `env:"HTTP_HOSTS" want:"host names" example:"collectord.example.com" reload:"restart" scope:"program" doc:"Further names by which a server that listens on loopback may be requested, such as that of a proxy; requests with other Host headers are refused."`
	Prefix        string   `env:"HTTP_PREFIX" want:"a path such as /collectord" example:"/collectord" reload:"restart" scope:"program" doc:"The path below which a proxy serves the page and the API. Links begin with it, and the server responds below it as well as without it, so that the proxy may remove it or not."`
	ConfigFile    string   `env:"HTTP_WEB_CONFIG_FILE" want:"a path" reload:"restart" scope:"program" doc:"A web configuration file of the Prometheus exporter toolkit, for TLS and basic auth."`
	Pprof         bool     `env:"HTTP_PPROF" envDefault:"false" reload:"restart" scope:"program" doc:"Whether the daemon serves Go's profiles under /debug/pprof/."`
	ShowData      bool     `env:"HTTP_SHOW_DATA" envDefault:"true" reload:"restart" scope:"program" doc:"Whether the status page shows the first records and the columns of each stream to everyone who can reach it."`
	Query         bool     `env:"HTTP_QUERY" envDefault:"false" reload:"restart" scope:"program" doc:"Whether the status page runs SQL queries over the last-known data for those who have HTTP_TOKEN; without a token it is off."`
	QueryMemory   Bytes    `env:"HTTP_QUERY_MEMORY" envDefault:"1GiB" min:"256MiB" reload:"restart" scope:"program" doc:"The most memory that one query of the status page may use. A query runs in a process of its own, which ends when it needs more."`
	QueryParallel int      `env:"HTTP_QUERY_PARALLEL" envDefault:"2" min:"1" max:"16" reload:"restart" scope:"program" doc:"The number of queries of the status page that run at once. With several tenancies, one of them has at most all but one."`
	Queries       string   `env:"HTTP_QUERIES" want:"the path of a directory" example:"/etc/collectord/queries" reload:"restart" scope:"program" doc:"A directory with files *.sql whose queries the status page offers to those who have HTTP_TOKEN. The first line of a file is a comment with the title of the query. New files need no restart."`
	Textfile      string   `env:"METRICS_TEXTFILE" want:"a path that ends in .prom" example:"/var/lib/node_exporter/collectord.prom" scope:"program" doc:"The file to which --once writes the metrics, for the node exporter's textfile collector."`
}

// Controls configures the controls that are measured with SQL.
type Controls struct {
	Dir       string        `env:"CONTROLS" want:"a directory" example:"/etc/collectord/controls" doc:"The directory of the files of [controls](../guide/controls.md), which are measured after each run that brings new data of theirs, and once a day. If unset, there are none."`
	Timeout   time.Duration `env:"CONTROLS_TIMEOUT" envDefault:"10m" min:"1s" doc:"The longest duration of the queries of one control; after that they are ended, and the control keeps its last score."`
	Memory    Bytes         `env:"CONTROLS_MEMORY" envDefault:"1GiB" min:"256MiB" doc:"The most memory that the queries of a control may use. They run in a process of their own, which ends when they need more."`
	Detail    bool          `env:"CONTROLS_DETAIL" envDefault:"true" doc:"Whether the resources of each control are the stream control_detail, which every destination receives. The scores are the stream control_summary in any case."`
	Keep      time.Duration `env:"CONTROLS_KEEP" envDefault:"400d" min:"1d" doc:"How long the score of each day is kept."`
	Resources string        `env:"CONTROLS_RESOURCES" want:"a path" example:"/etc/collectord/resources.csv" doc:"A CSV file with the columns resource, resource_type, business_unit, team and location, which says where resources belong that a query does not say it of."`
}

// Notify is where notifications about problems go.
type Notify struct {
	Slack  Secret   `env:"SLACK_WEBHOOK" want:"https://hooks.slack.com/services/..." doc:"An incoming webhook of Slack for a message when a problem begins, once a day while it lasts, and when it ends: a stream that fails, late data, a destination that receives nothing."`
	URLs   Secret   `env:"NOTIFY_URLS" want:"URLs of notification services, separated by spaces or commas" example:"generic+https://example.com/hook" doc:"Further services for the same messages, such as mail, Teams, Telegram, PagerDuty or any webhook; see [notifications](../guide/notifications.md)."`
	Events []string `env:"NOTIFY_EVENTS" want:"some of failure, late, destination, restore, reload, doubt, control" example:"failure,destination" doc:"The kinds of events that are reported; if unset, all."`
	Page   string   `env:"NOTIFY_PAGE_URL" want:"the URL of the status page" example:"https://collectord.example.com/" doc:"The address at which people open the status page, for a link in each message."`
}
