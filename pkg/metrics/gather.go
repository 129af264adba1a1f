package metrics

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A collection collects the values of all metrics for one response. It makes the messages
// that are encoded without the checks of a prometheus.Registry, which take most of the time of
// a scrape when there are many tenancies.
type collection struct {
	samples map[*definition][]sample
	// pairs has the labels, of which most values share some.
	pairs map[[2]string]*dto.LabelPair
}

func newCollection() *collection {
	return &collection{samples: map[*definition][]sample{}, pairs: map[[2]string]*dto.LabelPair{}}
}

// A sample is one value of a metric with its labels. The messages of the same value have six
// times the size.
type sample struct {
	value  float64
	labels [maxLabels]*dto.LabelPair
}

// addValue adds a value. labels are those of d; the last one is the tenancy.
func (c *collection) addValue(d *definition, value float64, tenancy string, labels []string) {
	s := sample{value: value}
	for i, l := range d.sorted {
		text := tenancy
		if l.at < len(labels) {
			text = labels[l.at]
		}
		s.labels[i] = c.labelPair(l.name, text)
	}
	c.samples[d] = append(c.samples[d], s)
}

// labelPair returns a label with a value.
func (c *collection) labelPair(name, value string) *dto.LabelPair {
	key := [2]string{name, value}
	pair := c.pairs[key]
	if pair == nil {
		pair = &dto.LabelPair{Name: &key[0], Value: &key[1]}
		c.pairs[key] = pair
	}
	return pair
}

// eachFamily calls do with each metric that has values, ordered by name. The messages of a
// metric are made for its call.
func (c *collection) eachFamily(do func(*dto.MetricFamily)) {
	byName := func(a, b *definition) int { return cmp.Compare(a.name, b.name) }
	for _, d := range slices.SortedFunc(slices.Values(definitions), byName) {
		if samples := c.samples[d]; len(samples) > 0 {
			do(newFamily(d, samples))
		}
	}
}

// A message has what the message of one value consists of, in one allocation.
type message struct {
	metric  dto.Metric
	gauge   dto.Gauge
	counter dto.Counter
}

// newFamily returns the message of a metric. It has pointers into samples.
func newFamily(d *definition, samples []sample) *dto.MetricFamily {
	kind := dto.MetricType_GAUGE
	if d.kind == prometheus.CounterValue {
		kind = dto.MetricType_COUNTER
	}
	family := &dto.MetricFamily{Name: &d.name, Help: &d.help, Type: &kind, Metric: make([]*dto.Metric, len(samples))}
	messages := make([]message, len(samples))
	for i := range samples {
		s, m := &samples[i], &messages[i]
		m.metric.Label = s.labels[:len(d.sorted)]
		if d.kind == prometheus.CounterValue {
			m.counter.Value, m.metric.Counter = &s.value, &m.counter
		} else {
			m.gauge.Value, m.metric.Gauge = &s.value, &m.gauge
		}
		family.Metric[i] = &m.metric
	}
	return family
}
