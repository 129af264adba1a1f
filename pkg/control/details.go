package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// ErrEnough ends the calls of visit by EachNonCompliant, which then returns no error.
var ErrEnough = errors.New("enough")

// EachNonCompliant calls visit with each resource of a control whose compliance is below
// 1, from the last-known snapshot of DetailStream. It returns the time of the snapshot.
// The error wraps state.ErrNoSnapshot when there is none.
func EachNonCompliant(ctx context.Context, st *state.State, tenancy, id string, visit func(Detail) error) (taken time.Time, err error) {
	sealed, _, err := st.Snapshots.LastKnown(ctx, DetailStream, tenancy)
	if err != nil {
		return time.Time{}, err
	}
	r, err := sealed.Reader(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	member := []byte(`"metric_id":"` + id + `"`) // most records are those of other controls
	for {
		text, err := r.Next()
		if err == io.EOF {
			return sealed.UploadTimestamp, nil
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("%s: %w", DetailStream, err)
		}
		if !bytes.Contains(text, member) {
			continue
		}
		var record detailRecord
		if err := json.Unmarshal(text, &record); err != nil {
			return time.Time{}, fmt.Errorf("%s: %w", DetailStream, err)
		}
		if record.MetricID != id || record.Compliance == nil || *record.Compliance >= 1 {
			continue
		}
		err = visit(Detail{
			record.Resource, record.ResourceType, *record.Compliance, record.Detail, record.BusinessUnit, record.Team, record.Location,
		})
		if errors.Is(err, ErrEnough) {
			return sealed.UploadTimestamp, nil
		}
		if err != nil {
			return time.Time{}, err
		}
	}
}
