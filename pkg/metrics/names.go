package metrics

import "github.com/prometheus/client_golang/prometheus"

// A Metric is one that collectord publishes.
type Metric struct {
	Name, Help string
	Type       prometheus.ValueType
	Labels     []string
	desc       *prometheus.Desc
}

// Own are all metrics of collectord's own, in the order of their making.
var Own []*Metric

func define(name string, kind prometheus.ValueType, help string, labels ...string) *Metric {
	m := &Metric{name, help, kind, labels, prometheus.NewDesc(name, help, labels, nil)}
	Own = append(Own, m)
	return m
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// Those of a stream. Timestamps are 0 for never.
var (
	lastSuccess   = define("collectord_last_success_timestamp_seconds", gauge, "When a run last ended with the vendor's whole answer, an empty one included; 0 for never.", "collector", "stream")
	lastFailure   = define("collectord_last_failure_timestamp_seconds", gauge, "When a run last ended without a new snapshot; it stays after a success; 0 for never.", "collector", "stream")
	lastAttempt   = define("collectord_last_attempt_timestamp_seconds", gauge, "When a run last began; 0 for never.", "collector", "stream")
	lastSucceeded = define("collectord_last_run_success", gauge, "Whether the last run that ended succeeded; 0 also when none has ended.", "collector", "stream")
	lastDuration  = define("collectord_last_run_duration_seconds", gauge, "How long the last run that ended took.", "collector", "stream")
	lastRecords   = define("collectord_last_run_records", gauge, "Records that the last run that ended brought.", "collector", "stream")
	dataTime      = define("collectord_data_timestamp_seconds", gauge, "When the last-known data were taken from the vendor, also when they were restored from a backup; 0 when there are none.", "collector", "stream")
	dataRecords   = define("collectord_data_records", gauge, "Records of the last-known data.", "collector", "stream")
	dataRestored  = define("collectord_data_restored", gauge, "Whether the last-known data came from a backup.", "collector", "stream")
	dataMaxAge    = define("collectord_data_max_age_seconds", gauge, "The age at which the data are late: two schedule intervals, and one hour or one interval, whichever is less; 0 when the collector has no schedule.", "collector", "stream")
	dataLate      = define("collectord_data_late", gauge, "Whether the data are missing or older than their schedule allows.", "collector", "stream")
	restored      = define("collectord_restore_outcome", gauge, "Whether the restore at the last start ended so for the stream, its later retries included; 0 for each outcome when there are no backups.", "collector", "stream", "outcome")
	held          = define("collectord_held_snapshots", gauge, "Snapshots that wait to be accepted because they have far fewer records than the one before.", "collector", "stream")
	refused       = define("collectord_credentials_refused", gauge, "Whether the vendor refused the credentials in the last run of this process.", "collector", "stream")
	runs          = define("collectord_runs_total", counter, "Runs that ended, by outcome, over all time.", "collector", "stream", "outcome")
	running       = define("collectord_running", gauge, "Whether a run is under way.", "collector", "stream")
	runStart      = define("collectord_run_start_timestamp_seconds", gauge, "When the run that is under way began; 0 when there is none.", "collector", "stream")
)

// Those of a collector.
var (
	interval = define("collectord_schedule_interval_seconds", gauge, "The longest time between two ticks of the schedule that follow each other; 0 when it is off.", "collector")
	next     = define("collectord_next_run_timestamp_seconds", gauge, "When the next run begins; 0 when none will.", "collector")
	missed   = define("collectord_missed_ticks_total", counter, "Ticks of the schedule for which no run began.", "collector")
	requests = define("collectord_requests_total", counter, "HTTP requests to the vendor in runs that ended, by the class of the answer's status; none when there was no answer.", "collector", "code")
	retries  = define("collectord_request_retries_total", counter, "HTTP requests to the vendor that were made again, in runs that ended.", "collector")
	waited   = define("collectord_rate_limit_wait_seconds_total", counter, "Time that requests waited because the vendor limits its rate, in runs that ended.", "collector")
)

// Those of a destination.
var (
	sinkSuccess  = define("collectord_sink_last_success_timestamp_seconds", gauge, "When a snapshot was last stored in the destination; 0 for never.", "sink")
	sinkFailure  = define("collectord_sink_last_failure_timestamp_seconds", gauge, "When a delivery to the destination last failed; it stays after a success; 0 for never.", "sink")
	deliveries   = define("collectord_deliveries_total", counter, "Tries to store a snapshot in the destination, by outcome, over all time.", "sink", "outcome")
	queued       = define("collectord_queued_snapshots", gauge, "Snapshots that wait for the destination.", "sink")
	queuedBytes  = define("collectord_queued_bytes", gauge, "Disk space of the snapshots that wait for the destination.", "sink")
	queuedAge    = define("collectord_oldest_queued_age_seconds", gauge, "How long the oldest snapshot has waited for the destination; 0 when none does.", "sink")
	sinkRefusing = define("collectord_refused_deliveries", gauge, "Snapshots that the destination refuses until somebody changes something.", "sink")
)

// Those of the program.
var (
	ready      = define("collectord_ready", gauge, "Whether settings are loaded, the state is open and the restore is over.")
	reloadGood = define("collectord_config_last_reload_successful", gauge, "Whether the settings were good when they were last read.")
	reloadTime = define("collectord_config_last_reload_timestamp_seconds", gauge, "When the settings were last read.")
	buildInfo  = define("collectord_build_info", gauge, "Always 1; the labels tell what runs.", "version", "goversion", "tenancy")
)
