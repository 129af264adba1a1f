package metrics

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/zap"
)

// Handler returns a handler that serves m, the metrics of Go and those of the process. A metric
// that fails does not take the others down. It encodes one metric after the other: the messages
// of all take much memory when there are many tenancies.
func (m *Metrics) Handler() http.Handler {
	process := m.processRegistry()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all := m.collect()
		more, gatherErr := process.Gather() // those that do not fail
		err := writeMetrics(w, r, func(do func(*dto.MetricFamily)) {
			all.eachFamily(do)
			for _, family := range more {
				do(family)
			}
		})
		if err := cmp.Or(gatherErr, err); err != nil {
			m.Log.Warn("some metrics could not be sent", zap.Error(err))
		}
	})
}

// writeMetrics writes the metrics that each passes on as the response to r, in the format that
// it accepts, all or those whose names it gives as name[]. It returns the first error.
func writeMetrics(w http.ResponseWriter, r *http.Request, each func(do func(*dto.MetricFamily))) (first error) {
	format, names := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...), r.URL.Query()["name[]"]
	w.Header().Set("Content-Type", string(format))
	w.Header().Add("Vary", "Accept")
	encoder := expfmt.NewEncoder(w, format)
	each(func(family *dto.MetricFamily) {
		if len(names) == 0 || slices.Contains(names, family.GetName()) {
			first = cmp.Or(first, encoder.Encode(family))
		}
	})
	if closer, ok := encoder.(expfmt.Closer); ok { // of a format that has an end
		first = cmp.Or(first, closer.Close())
	}
	return first
}

// processRegistry returns a registry of the metrics of Go and of the process.
func (m *Metrics) processRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	labels := prometheus.Labels{}
	if m.Tenancy != "" {
		labels["tenancy"] = m.Tenancy
	}
	prometheus.WrapRegistererWith(labels, r).MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
