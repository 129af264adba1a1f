package metrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// A definition defines a metric of collectord. Its labels are those beside tenancy.
type definition struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	sorted     []sortedLabel
}

// A sortedLabel is a label of a metric, in the order of the names, in which clients of
// Prometheus expect them. at is its index in the labels of the definition; that of tenancy is
// their number.
type sortedLabel struct {
	name string
	at   int
}

// maxLabels is the largest number of labels of a metric.
const maxLabels = 4

// definitions are all metrics of collectord, in the order of their definition.
var definitions []*definition

func define(name string, kind prometheus.ValueType, help string, labels ...string) *definition {
	d := &definition{name: name, help: help, kind: kind, labels: labels}
	for at, label := range append(labels[:len(labels):len(labels)], "tenancy") {
		d.sorted = append(d.sorted, sortedLabel{label, at})
	}
	slices.SortFunc(d.sorted, func(a, b sortedLabel) int { return cmp.Compare(a.name, b.name) })
	definitions = append(definitions, d)
	return d
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// Metrics of a stream. A stream that is off has only streamEnabled, so that no alert
// about its data or its runs fires.
var (
	streamEnabled = define("collectord_stream_enabled", gauge,
		"Whether the stream is on; one that is off has none of the other metrics of a stream.",
		"collector", "stream")
	streamInterval = define("collectord_stream_schedule_interval_seconds", gauge,
		"Longest time between two consecutive ticks of the stream's schedule; 0 when it is off.",
		"collector", "stream")
	streamNextRun = define("collectord_stream_next_run_timestamp_seconds", gauge,
		"When the stream's next run starts; 0 when none is planned.",
		"collector", "stream")
	lastSuccess = define("collectord_last_success_timestamp_seconds", gauge,
		"When a run last ended with the vendor's complete response, an empty one and one without changes included; 0 for never.",
		"collector", "stream")
	lastFailure = define("collectord_last_failure_timestamp_seconds", gauge,
		"When a run last ended without a new snapshot; a later success does not reset it; 0 for never.",
		"collector", "stream")
	lastAttempt = define("collectord_last_attempt_timestamp_seconds", gauge,
		"When a run last started; 0 for never.",
		"collector", "stream")
	lastSucceeded = define("collectord_last_run_success", gauge,
		"Whether the last run that ended succeeded; 0 also when none has ended. A skipped tick is no run.",
		"collector", "stream")
	lastDuration = define("collectord_last_run_duration_seconds", gauge,
		"Duration of the last run that ended.",
		"collector", "stream")
	lastRecords = define("collectord_last_run_records", gauge,
		"Records of the last run that ended; those of the last-known data when the vendor said that it has not changed.",
		"collector", "stream")
	lastDoubts = define("collectord_last_run_doubts", gauge,
		"Doubts of the last successful run, the sum of their counts, such as records that the vendor declared and did not return; 0 when there are none.",
		"collector", "stream")
	dataTime = define("collectord_data_timestamp_seconds", gauge,
		"When the last-known data was read from the vendor, also when it was restored from a backup, or when the vendor last said that it has not changed; 0 when there is none.",
		"collector", "stream")
	dataRecords = define("collectord_data_records", gauge,
		"Records of the last-known data.",
		"collector", "stream")
	dataRestored = define("collectord_data_restored", gauge,
		"Whether the last-known data is from a backup.",
		"collector", "stream")
	dataDeadline = define("collectord_data_deadline_timestamp_seconds", gauge,
		"When the data is late unless a run succeeds before, by DATA_MAX_AGE or the schedule; 0 when it is never late.",
		"collector", "stream")
	dataLate = define("collectord_data_late", gauge,
		"Whether the deadline of the data has passed.",
		"collector", "stream")
	restored = define("collectord_restore_outcome", gauge,
		"Whether the restore of the stream at the last start, its later retries included, had this outcome; 0 for each outcome when there are no backups.",
		"collector", "stream", "outcome")
	held = define("collectord_held_snapshots", gauge,
		"Snapshots that wait to be accepted because they have far fewer records than the one before.",
		"collector", "stream")
	refused = define("collectord_credentials_refused", gauge,
		"Whether the vendor refused the credentials in the last run of this process.",
		"collector", "stream")
	runs = define("collectord_runs_total", counter,
		"Runs that ended, by outcome, over all time.",
		"collector", "stream", "outcome")
	running = define("collectord_running", gauge,
		"Whether a run is in progress.",
		"collector", "stream")
	runStart = define("collectord_run_start_timestamp_seconds", gauge,
		"When the run in progress started; 0 when there is none.",
		"collector", "stream")
	runRecords = define("collectord_run_records", gauge,
		"Records that the run in progress has read so far; 0 when there is none, or when it starts over.",
		"collector", "stream")
	runBytes = define("collectord_run_bytes", gauge,
		"Bytes of these records.",
		"collector", "stream")
	runPages = define("collectord_run_pages", gauge,
		"Pages that the run in progress has read so far.",
		"collector", "stream")
	runWaitEnd = define("collectord_run_wait_end_timestamp_seconds", gauge,
		"When the current wait of the run in progress ends, such as one for the vendor's rate limit; 0 when it does not wait.",
		"collector", "stream")
	requests = define("collectord_requests_total", counter,
		"HTTP requests to the vendor that ended, by the class of the response's status; none when there was no response.",
		"collector", "stream", "code")
	requestRetries = define("collectord_request_retries_total", counter,
		"HTTP requests to the vendor that were retries.",
		"collector", "stream")
	rateLimitWait = define("collectord_rate_limit_wait_seconds_total", counter,
		"Time that requests waited because of the vendor's rate limit.",
		"collector", "stream")
)

// Metrics of a collector.
var (
	interval = define("collectord_schedule_interval_seconds", gauge,
		"Longest time between two consecutive ticks of the schedules of its streams; 0 when all are off.",
		"collector")
	nextRun = define("collectord_next_run_timestamp_seconds", gauge,
		"When the next run of a stream starts; 0 when none is planned.",
		"collector")
	missedTicks = define("collectord_missed_ticks_total", counter,
		"Ticks of the schedules of its streams without a run; streams that have the same schedule count once.",
		"collector")
)

// Metrics of a destination.
var (
	sinkSuccess = define("collectord_sink_last_success_timestamp_seconds", gauge,
		"When a snapshot was last stored in the destination; 0 for never.",
		"sink")
	sinkFailure = define("collectord_sink_last_failure_timestamp_seconds", gauge,
		"When a delivery to the destination last failed; a later success does not reset it; 0 for never.",
		"sink")
	deliveries = define("collectord_deliveries_total", counter,
		"Attempts to store a snapshot in the destination that stored it or failed, and queued snapshots that were not delivered: superseded by a newer one that replaces them, skipped because the queue was full, dropped by a person, or kept out since the destination has one that must stay; over all time.",
		"sink", "outcome")
	queued = define("collectord_queued_snapshots", gauge,
		"Snapshots that wait for the destination.",
		"sink")
	queuedBytes = define("collectord_queued_bytes", gauge,
		"Disk space of the snapshots that wait for the destination.",
		"sink")
	queuedSince = define("collectord_oldest_queued_timestamp_seconds", gauge,
		"When the oldest snapshot was queued that waits for the destination; 0 when none waits.",
		"sink")
	sinkRefusing = define("collectord_refused_deliveries", gauge,
		"Snapshots that the destination refuses until its configuration or permissions change.",
		"sink")
)

// Metrics of a control. One whose file switches it off has none.
var (
	controlScore = define("collectord_control_score", gauge,
		"Score of the control, from 0 to 1; the last one when it failed since; missing while there is none.",
		"control", "category")
	controlTarget = define("collectord_control_target", gauge,
		"Score from which the control is green.",
		"control", "category")
	controlMinimum = define("collectord_control_minimum", gauge,
		"Score from which the control is amber; below it is red.",
		"control", "category")
	controlWeight = define("collectord_control_weight", gauge,
		"Share of the control in the scores of its category and of all controls.",
		"control", "category")
	controlOK = define("collectord_control_ok", gauge,
		"Sum of the compliance of the control's rows.",
		"control", "category")
	controlTotal = define("collectord_control_total", gauge,
		"Rows of the control that have a compliance; 0 when it is empty.",
		"control", "category")
	controlTime = define("collectord_control_timestamp_seconds", gauge,
		"When the control was last measured with success; 0 for never.",
		"control", "category")
	controlDataTime = define("collectord_control_data_timestamp_seconds", gauge,
		"When the oldest data of that measurement was read from the vendor; 0 for never.",
		"control", "category")
	controlFailed = define("collectord_control_failed", gauge,
		"Whether the last measurement of the control failed, or its file cannot be used.",
		"control", "category")
	categoryScore = define("collectord_category_score", gauge,
		"Mean of the scores of the category's controls by their weights; missing while none has a score.",
		"category")
	controlsScore = define("collectord_controls_score", gauge,
		"Mean of the scores of all controls by their weights; missing while none has a score.")
)

// Metrics of the services that share a state, missing without one. All services export the same
// values, except for those of this process.
var (
	clusterLeader = define("collectord_cluster_leader", gauge,
		"Whether this service leads: it plans the runs, delivers and notifies.")
	clusterNodes = define("collectord_cluster_nodes", gauge,
		"Services that share the state and respond.")
	clusterDatabase = define("collectord_cluster_database_up", gauge,
		"Whether the database of the state responded to this service when it last asked.")
	clusterTasks = define("collectord_cluster_tasks", gauge,
		"Runs of all tenancies that were requested by a person, are due and wait, or are running.",
		"state")
	clusterTakeovers = define("collectord_cluster_takeovers_total", counter,
		"Runs of services that died or were silent for CLUSTER_LEASE, which this service has given to others while it led, since its start.")
	clusterRefused = define("collectord_cluster_refused_total", counter,
		"Runs of this service whose results did not count, because it was silent and another one has taken them over, since its start.")
	clusterDiffering = define("collectord_cluster_settings_differ", gauge,
		"Services that receive no runs because their settings or their version are not those of the one that leads.")
	clusterPaused = define("collectord_cluster_paused", gauge,
		"Whether no run begins, by collectord cluster pause.")
)

// Metrics of the program.
var (
	ready = define("collectord_ready", gauge,
		"Whether the settings are loaded, the state is open and the restore is finished.")
	reloadGood = define("collectord_config_last_reload_successful", gauge,
		"Whether the last load of the settings put all of them in force; 0 also for a tenancy that cannot be used. With several tenancies, that without the label tenancy is of the settings that they share.")
	reloadTime = define("collectord_config_last_reload_timestamp_seconds", gauge,
		"When the settings were last loaded.")
	notifications = define("collectord_notifications_total", counter,
		"Notifications since the start of the program: sent to a service, failed attempts to send one, and dropped because no attempt succeeded for a week or too many waited.",
		"outcome")
	waitingNotifications = define("collectord_waiting_notifications", gauge,
		"Notifications that a service has not accepted yet, as of the last attempt; each counts once for each service.")
	stateRead = define("collectord_state_read_timestamp_seconds", gauge,
		"When the values of the metrics were read from the state directory; 0 for never. Without it, the metrics of streams and destinations are missing.")
	scrapeErrors = define("collectord_scrape_errors_total", counter,
		"Scrapes for which the state directory could not be read, so that they have the values of the last one before.")
	buildInfo = define("collectord_build_info", gauge,
		"Always 1; the labels describe the running program.",
		"version", "goversion")
)
