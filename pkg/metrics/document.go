package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Reference returns the text of docs/reference/metrics.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

The daemon serves these metrics at ` + "`/metrics`" + ` on ` + "`HTTP_LISTEN`" + `, together with those of Go (` + "`go_`" + `) and of the process (` + "`process_`" + `). After ` + "`--once`" + `, collectord writes its own metrics to ` + "`METRICS_TEXTFILE`" + `: see [monitoring a timer](../guide/monitoring.md#a-timer-or-cron).

They are read from the state directory on each scrape, so they survive restarts and show the true age of restored data. When it cannot be read, the values of the last scrape are shown again; ` + "`collectord_scrape_errors_total`" + ` counts that. Requests, retries, rate limit waits, missed ticks, scrape errors and refused credentials start at 0 with each process.

Every metric also has the label ` + "`tenancy`" + `, the value of ` + "`TENANCY`" + `. ` + "`stream`" + ` is the name of the table, ` + "`sink`" + ` that of a destination.

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
`)
	for _, d := range definitions {
		kind := "gauge"
		if d.kind == prometheus.CounterValue {
			kind = "counter"
		}
		labels := ""
		if len(d.labels) > 0 {
			labels = "`" + strings.Join(d.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", d.name, kind, labels, d.help)
	}
	b.WriteString(`
Alert on the age of the data, not on the time of the last failure, which is never reset: ` + "`collectord_data_late == 1`" + ` means that no run has succeeded before ` + "`collectord_data_deadline_timestamp_seconds`" + `. ` + "`/-/data`" + `, the API and the status page use the [same rule](../guide/schedules.md#late-data). In a text file, ` + "`collectord_data_late`" + ` has the value of the time at which it was written: compare the deadline with ` + "`time()`" + ` there.

[Monitoring](../guide/monitoring.md) describes the alert rules and the dashboard.

Outcomes of runs: ` + "`success`, `empty`, `held`, `failed`, `timeout`, `cancelled`, `skipped`, `interrupted`" + `. Outcomes of deliveries: ` + "`stored`, `failed`, `superseded`, `skipped`, `dropped`, `kept_out`" + `. Outcomes of restores: ` + "`restored`, `current`, `no_backup`, `held`, `refused`, `failed`" + `. Classes of responses: ` + "`1xx` to `5xx`, `none`" + `.
`)
	return b.String()
}
