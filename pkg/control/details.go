package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/state"
)

// A Detail is a resource in the newest result of a control.
type Detail struct {
	Resource     string  `json:"resource"`
	ResourceType string  `json:"resource_type"`
	Compliance   float64 `json:"compliance"`
	Detail       string  `json:"detail"`
	BusinessUnit string  `json:"business_unit"`
	Team         string  `json:"team"`
	Location     string  `json:"location"`
}

// EachNonCompliant calls visit with each resource of a control whose compliance is below
// 1, from the last-known snapshot of DetailStream, until visit returns state.ErrEnough. It
// returns the time of the snapshot. The error wraps state.ErrNoSnapshot when there is none.
func EachNonCompliant(ctx context.Context, st *state.State, tenancy, id string, visit func(Detail) error) (taken time.Time, err error) {
	member := []byte(`"metric_id":"` + id + `"`) // most records are those of other controls
	sealed, err := st.Snapshots.EachRecord(ctx, DetailStream, tenancy, func(text []byte) error {
		if !bytes.Contains(text, member) {
			return nil
		}
		var record detailRecord
		if err := json.Unmarshal(text, &record); err != nil {
			return fmt.Errorf("%s: %w", DetailStream, err)
		}
		if record.MetricID != id || record.Compliance == nil || *record.Compliance >= 1 {
			return nil
		}
		return visit(Detail{
			record.Resource, record.ResourceType, *record.Compliance, record.Detail, record.BusinessUnit, record.Team, record.Location,
		})
	})
	if err != nil {
		return time.Time{}, err
	}
	return sealed.UploadTimestamp, nil
}
