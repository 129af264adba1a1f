package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Reference is docs/metrics.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Metrics

The daemon serves these at ` + "`/metrics`" + ` on ` + "`HTTP_LISTEN`" + `, beside those of Go (` + "`go_`" + `) and of the process (` + "`process_`" + `). After ` + "`--once`" + ` the same, without those two, are written to ` + "`METRICS_TEXTFILE`" + `.

They are read from the state folder when they are asked for, so they survive restarts and show restored data's true age. Those that say "in runs that ended" begin at 0 with the process, as do missed ticks and refused credentials.

` + "`stream`" + ` is the table's name. One process serves one tenancy, so it is a label of ` + "`collectord_build_info`" + ` alone; join with it on ` + "`instance`" + ` where you need it.

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
`)
	for _, m := range Own {
		kind := "gauge"
		if m.Type == prometheus.CounterValue {
			kind = "counter"
		}
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, kind, labels, m.Help)
	}
	b.WriteString(`
Alert on the age of the last success, not on the time of the last failure, which never clears: ` + "`collectord_data_late == 1`" + ` means that data are missing or older than ` + "`collectord_data_max_age_seconds`" + `. The same rule decides what ` + "`/-/data`" + ` answers.

Rules for Prometheus are in ` + "[deploy/prometheus/alerts.yml](../deploy/prometheus/alerts.yml)" + `; they expect the job name ` + "`collectord`" + `, and [operations](operations.md#alerts) tells what to do about each. A dashboard for Grafana is in ` + "[deploy/grafana/collectord.json](../deploy/grafana/collectord.json)" + `.

Outcomes of runs: ` + "`success`, `empty`, `held`, `failed`, `timeout`, `cancelled`, `skipped`, `interrupted`" + `. Outcomes of deliveries: ` + "`stored`, `failed`" + `. Outcomes of restores: ` + "`restored`, `current`, `no_backup`, `refused`, `failed`" + `. Classes of answers: ` + "`1xx` to `5xx`, `none`" + `.
`)
	return b.String()
}
