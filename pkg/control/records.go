package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/query"
	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/state"
)

// CollectorName is the name of the collector in the snapshots of results.
const CollectorName = collector.ControlsName

// The streams of results.
const (
	// DetailStream has the rows of the newest result of each control.
	DetailStream = "control_detail"
	// SummaryStream has the sums of each day by unit.
	SummaryStream = "control_summary"
)

// A detailRecord is a record of DetailStream.
type detailRecord struct {
	MetricID     string   `json:"metric_id"`
	Title        string   `json:"title"`
	Category     string   `json:"category"`
	Type         string   `json:"type"`
	Description  string   `json:"description"`
	How          string   `json:"how"`
	Resource     string   `json:"resource"`
	ResourceType string   `json:"resource_type"`
	Compliance   *float64 `json:"compliance"`
	Detail       string   `json:"detail"`
	Target       float64  `json:"slo"`
	Minimum      float64  `json:"slo_min"`
	Weight       float64  `json:"weight"`
	Indicator    bool     `json:"indicator"`
	Day          string   `json:"datestamp"`
	BusinessUnit string   `json:"business_unit"`
	Team         string   `json:"team"`
	Location     string   `json:"location"`
}

// A detailTemplate is what the records of one control have in common, as JSON: what is
// before the members of the resource, and before those of its unit.
type detailTemplate struct{ start, middle []byte }

func newDetailTemplate(c Control, day string) (t detailTemplate, err error) {
	text, err := json.Marshal(detailRecord{
		MetricID: c.ID, Title: c.Title, Category: c.Category, Type: c.Type, Description: c.Description, How: c.How,
		Target: c.Target, Minimum: c.Minimum, Weight: c.Weight, Indicator: c.Indicator, Day: day,
	})
	if err != nil {
		return t, err
	}
	// In a string, a quote has a backslash before it.
	var rest []byte
	t.start, rest, _ = bytes.Cut(text, []byte(`"resource":`))
	_, rest, _ = bytes.Cut(rest, []byte(`"detail":"",`))
	t.middle, _, _ = bytes.Cut(rest, []byte(`"business_unit":`))
	return t, nil
}

// appendDetail appends the record of a row to dst.
func (d detailTemplate) appendDetail(dst []byte, row query.MeasureRow) []byte {
	dst = append(append(dst, d.start...), row.Resource...)
	dst = append(append(append(dst, ','), d.middle...), row.Unit...)
	return append(dst, '}')
}

// A summaryRecord is a record of SummaryStream. The weight and the sums of a control
// without a score are null, so that they do not count in weighted means.
type summaryRecord struct {
	Day          string   `json:"datestamp"`
	MetricID     string   `json:"metric_id"`
	Title        string   `json:"title"`
	Category     string   `json:"category"`
	Target       float64  `json:"slo"`
	Minimum      float64  `json:"slo_min"`
	Weight       *float64 `json:"weight"`
	Indicator    bool     `json:"indicator"`
	BusinessUnit string   `json:"business_unit"`
	Team         string   `json:"team"`
	Location     string   `json:"location"`
	OK           *float64 `json:"totalok"`
	Total        *int64   `json:"total"`
	State        string   `json:"state"`
}

func newSummaryRecord(d state.ControlDay) summaryRecord {
	r := summaryRecord{
		Day: d.Day, MetricID: d.ID, Title: d.Title, Category: d.Category, Target: d.Target, Minimum: d.Minimum, Indicator: d.Indicator,
		BusinessUnit: d.BusinessUnit, Team: d.Team, Location: d.Location, State: d.State,
	}
	if d.Total > 0 {
		r.Weight, r.OK, r.Total = &d.Weight, &d.OK, &d.Total
	}
	return r
}

// appendResult appends a value as JSON to a batch.
func appendResult(b collector.Batch, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return b.Append(text)
}

// writeSummary writes all days to out.
func writeSummary(ctx context.Context, st state.Controls, out collector.Output) error {
	b := out.NewBatch()
	defer b.Discard()
	if err := st.EachDay(ctx, "", func(d state.ControlDay) error { return appendResult(b, newSummaryRecord(d)) }); err != nil {
		return err
	}
	return b.Commit()
}

// withoutOrigin returns a stored record without the members that were added to it, which are
// its last ones.
func withoutOrigin(record []byte) []byte {
	at := bytes.LastIndex(record, []byte(`,"`+snapshot.MemberTenancy+`":`))
	if at < 0 {
		return record
	}
	return append(record[:at:at], '}')
}

// keepDetails copies the records of controls, by their ids, from the last-known snapshot
// of DetailStream to out.
func keepDetails(ctx context.Context, st *state.State, tenancy string, ids map[string]bool, out collector.Output) error {
	if len(ids) == 0 {
		return nil
	}
	b := out.NewBatch()
	defer b.Discard()
	_, err := st.Snapshots.EachRecord(ctx, DetailStream, tenancy, func(text []byte) error {
		var record struct {
			MetricID string `json:"metric_id"`
		}
		if err := json.Unmarshal(text, &record); err != nil {
			return fmt.Errorf("%s: %w", DetailStream, err)
		}
		if !ids[record.MetricID] {
			return nil
		}
		return b.Append(withoutOrigin(text))
	})
	if errors.Is(err, state.ErrNoSnapshot) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep the details of controls that were not measured: %w", err)
	}
	return b.Commit()
}
