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
	families map[*definition]*dto.MetricFamily
	// pairs has the labels, of which most values share some.
	pairs map[[2]string]*dto.LabelPair
}

func newCollection() *collection {
	return &collection{families: map[*definition]*dto.MetricFamily{}, pairs: map[[2]string]*dto.LabelPair{}}
}

// A sample has what one value of a metric consists of, in one allocation.
type sample struct {
	metric  dto.Metric
	gauge   dto.Gauge
	counter dto.Counter
	value   float64
	labels  [maxLabels]*dto.LabelPair
}

// addValue adds a value. labels are those of d; the last one is the tenancy.
func (c *collection) addValue(d *definition, value float64, tenancy string, labels []string) {
	s := &sample{value: value}
	if d.kind == prometheus.CounterValue {
		s.counter.Value, s.metric.Counter = &s.value, &s.counter
	} else {
		s.gauge.Value, s.metric.Gauge = &s.value, &s.gauge
	}
	s.metric.Label = s.labels[:0]
	for _, l := range d.sorted {
		text := tenancy
		if l.at < len(labels) {
			text = labels[l.at]
		}
		s.metric.Label = append(s.metric.Label, c.labelPair(l.name, text))
	}
	family := c.families[d]
	if family == nil {
		kind := dto.MetricType_GAUGE
		if d.kind == prometheus.CounterValue {
			kind = dto.MetricType_COUNTER
		}
		family = &dto.MetricFamily{Name: &d.name, Help: &d.help, Type: &kind}
		c.families[d] = family
	}
	family.Metric = append(family.Metric, &s.metric)
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

// listFamilies returns the metrics that have values, ordered by name.
func (c *collection) listFamilies() (families []*dto.MetricFamily) {
	for _, d := range definitions {
		if family := c.families[d]; family != nil {
			families = append(families, family)
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families
}
